"""Real guests by libvirt's own client, beside a real libvirtd in the same run: started, asked, ended, one frozen."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from tests.bench.libvirt_scale import run_client
from tests.bench.libvirtd import peer_where_possible
from tests.bench.report import CannotRun, Measure, median, percentile
from tests.process.agent import Agent

CLIENT: Final = Path(__file__).parent / "qemu_beside_client.py"
LOCAL: Final = "qemu:///system"
ROUNDS: Final = 10
TOGETHER: Final = 20
ROUNDS_TOGETHER: Final = 3
ASKED: Final = 50
STUCK: Final = 19
"""One less than the worker threads that libvirt's daemon has by default: with as many it serves nobody any more."""
WINDOW_S: Final = 6.0


def measure() -> list[Measure]:
    """Milliseconds, with the peer's where it can be had."""
    if shutil.which("qemu-system-x86_64") is None:
        raise CannotRun("qemu-system-x86_64 is not installed")
    with (
        Agent() as agent,
        tempfile.TemporaryDirectory(prefix="vtb") as base,
        peer_where_possible(Path(base)) as peer,
    ):
        sides = [agent.libvirt_uri(LOCAL), *([peer.uri(LOCAL)] if peer is not None else [])]

        def both(*words: object) -> list[Any]:
            return [run_client(words[0], uri, *words[1:], client=CLIENT) for uri in sides]

        return [
            *_times(both("one", ROUNDS), {"start": "define to running", "destroy": "destroy"}),
            *_times(
                both("together", TOGETHER, ROUNDS_TOGETHER),
                {"start": f"{TOGETHER} guests started at once", "destroy": f"{TOGETHER} guests destroyed at once"},
            ),
            _statistics(both("statistics", ASKED, 15)),
            *_isolation(both("isolation", STUCK, WINDOW_S)),
        ]


_GOALS: Final = {"define to running": 0.3, "destroy": 0.15, f"{TOGETHER} guests started at once": 0.35}


def _beside(name: str, values: Sequence[float], other: Sequence[float] | None, note: str = "") -> Measure:
    return Measure(
        name,
        median(values) * 1e3,
        "ms",
        goal=_GOALS.get(name),
        of_ratio=True,
        peer=median(other) * 1e3 if other else None,
        against="ms libvirtd",
        note=note or f"best {min(values) * 1e3:.1f} ms, worst {max(values) * 1e3:.1f} ms",
    )


def _times(found: Sequence[Mapping[str, Sequence[float]]], names: Mapping[str, str]) -> list[Measure]:
    ours, *theirs = found
    return [_beside(name, ours[key], theirs[0][key] if theirs else None) for key, name in names.items()]


def _statistics(found: Sequence[Mapping[str, Any]]) -> Measure:
    ours, *theirs = found
    return Measure(
        f"statistics of {ASKED} running guests",
        median(ours["times"]) * 1e3,
        "ms",
        goal=0.5,
        of_ratio=True,
        peer=median(theirs[0]["times"]) * 1e3 if theirs else None,
        against="ms libvirtd",
        note=f"the monitors of {ours['whole']} answered" + (f", libvirtd's {theirs[0]['whole']}" if theirs else ""),
    )


def _isolation(found: Sequence[Mapping[str, Any]]) -> list[Measure]:
    """The 99th percentile of each call for another guest while one is frozen, and what it was before."""
    ours, *theirs = found
    rows = []
    for call, idle in ours["before"].items():
        note = ""
        if theirs:
            was, now = (percentile(theirs[0][when][call], 0.99) * 1e3 for when in ("before", "during"))
            note = f"{STUCK} clients ask the frozen one; libvirtd {now:.2f} ms after {was:.2f} ms"
        rows.append(
            Measure(
                f"{call} of another guest beside a frozen one, p99",
                percentile(ours["during"][call], 0.99) * 1e3,
                "ms",
                goal=2.0,
                of_ratio=True,
                peer=percentile(idle, 0.99) * 1e3,
                against="ms idle",
                note=note,
            )
        )
    rows.append(
        Measure(
            "destroy of the frozen guest",
            ours["destroy"] * 1e3,
            "ms",
            peer=theirs[0]["destroy"] * 1e3 if theirs else None,
            against="ms libvirtd",
        )
    )
    return rows
