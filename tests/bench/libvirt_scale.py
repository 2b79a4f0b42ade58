"""Large numbers by libvirt's own client, beside a real libvirtd in the same run: guests, subscribers, connections."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.bench.libvirt_calls import SYSTEM_PYTHON
from tests.bench.libvirtd import peer_where_possible
from tests.bench.report import CannotRun, Measure, median, percentile
from tests.process.agent import Agent

CLIENT = Path(__file__).parent / "libvirt_scale_client.py"
GUESTS = int(os.environ.get("VIRTROUPE_BENCH_GUESTS", "10000"))
SUBSCRIBERS = 100
CLIENTS = 50
CONNECTS = 10


def run_client(*words: object, client: Path = CLIENT) -> Any:
    """What the libvirt client printed. Raises CannotRun when the binding is not installed."""
    command = [SYSTEM_PYTHON, str(client), *map(str, words)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=900, check=False)
    if "No module named 'libvirt'" in done.stderr:
        raise CannotRun("the system's Python has no libvirt (Debian: python3-libvirt)")
    if done.returncode:
        raise RuntimeError(done.stderr[-1000:])
    return json.loads(done.stdout)


def measure() -> list[Measure]:
    """Seconds, milliseconds and calls per second, with the peer's where it can be had."""
    with (
        Agent() as agent,
        tempfile.TemporaryDirectory(prefix="vtb") as base,
        peer_where_possible(Path(base)) as peer,
    ):

        def theirs(uri: str) -> str | None:
            return peer.uri(uri) if peer is not None else None

        return [
            *_guests(agent.libvirt_uri, theirs),
            *_events(agent.libvirt_uri("test:///default"), theirs("test:///default")),
            *_connects(agent.libvirt_uri("test:///default"), theirs("test:///default")),
        ]


def _guests(ours: Callable[[str], str], theirs: Callable[[str], str | None]) -> list[Measure]:
    local, kind = ("qemu:///system", "qemu") if shutil.which("qemu-system-x86_64") else ("test:///default", "test")
    own = run_client("many", ours(local), kind, GUESTS)
    uri = theirs(local)
    other = run_client("many", uri, kind, GUESTS) if uri else {}
    goals = {"define": 1.0, "list": 0.5, "statistics": 0.5}
    return [
        Measure(
            f"{what} of {GUESTS} guests ({kind})",
            seconds * 1e3,
            "ms",
            goal=goals[what],
            of_ratio=True,
            peer=other[what] * 1e3 if other else None,
            against="ms libvirtd",
        )
        for what, seconds in own.items()
    ]


def _events(ours: str, theirs: str | None) -> list[Measure]:
    own = run_client("events", ours, SUBSCRIBERS)
    other = run_client("events", theirs, SUBSCRIBERS) if theirs else None
    return [
        Measure(
            f"event to the last of {SUBSCRIBERS} libvirt subscribers, p50",
            median(own["last"]) * 1e3,
            "ms",
            goal=0.8,
            of_ratio=True,
            peer=median(other["last"]) * 1e3 if other and other["last"] else None,
            against="ms libvirtd",
            note=f"p99 {percentile(own['last'], 0.99) * 1e3:.1f} ms, lost {own['lost']}"
            + (f", libvirtd lost {other['lost']}" if other else ""),
        ),
        *(
            Measure(
                f"{what} while {SUBSCRIBERS} subscribers are told",
                own[name],
                "calls/s",
                goal=goal,
                of_ratio=True,
                higher_is_better=True,
                peer=other[name] if other else None,
                against="calls/s libvirtd",
            )
            for name, what, goal in (
                ("reads", "reads of another client", 10.0),
                ("infos", "forwarded calls of another client", None),
                ("changes", "changes", None),
            )
        ),
    ]


def _connects(ours: str, theirs: str | None) -> list[Measure]:
    own = run_client("connects", ours, CLIENTS, CONNECTS)
    other = run_client("connects", theirs, CLIENTS, CONNECTS) if theirs else None
    one = run_client("connects", ours, 1, 200)
    other_one = run_client("connects", theirs, 1, 200) if theirs else None
    return [
        Measure(
            f"{CLIENTS * CONNECTS} connections of {CLIENTS} clients at once",
            own["all"] * 1e3,
            "ms",
            goal=1.0,
            of_ratio=True,
            peer=other["all"] * 1e3 if other else None,
            against="ms libvirtd",
            note=f"p99 of one {percentile(own['times'], 0.99) * 1e3:.0f} ms",
        ),
        Measure(
            "one connection after the other, p50",
            median(one["times"]) * 1e3,
            "ms",
            goal=1.0,
            of_ratio=True,
            peer=median(other_one["times"]) * 1e3 if other_one else None,
            against="ms libvirtd",
        ),
    ]
