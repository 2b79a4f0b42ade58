"""What an unmodified libvirt client gets: cached reads and forwarded calls, beside a real libvirtd in the same run."""

from __future__ import annotations

import json
import subprocess
import tempfile
from pathlib import Path
from typing import Any

from tests.bench.libvirtd import peer_where_possible
from tests.bench.report import CannotRun, Measure, median, percentile
from tests.process.agent import Agent

SYSTEM_PYTHON = "/usr/bin/python3"
CLIENT = Path(__file__).parent / "libvirt_client.py"
FORWARDED = ("info (forwarded)", "max vcpus (forwarded)")


def run_client(*words: object) -> Any:
    """What the libvirt client printed. Raises CannotRun when the binding is not installed."""
    done = subprocess.run(
        [SYSTEM_PYTHON, str(CLIENT), *map(str, words)], capture_output=True, text=True, timeout=300, check=False
    )
    if "No module named 'libvirt'" in done.stderr:
        raise CannotRun("the system's Python has no libvirt (Debian: python3-libvirt)")
    if done.returncode:
        raise RuntimeError(done.stderr[-1000:])
    return json.loads(done.stdout)


def measure() -> list[Measure]:
    """The test driver's guest on both sides; microseconds and calls per second."""
    rows: list[Measure] = []
    with Agent() as agent, tempfile.TemporaryDirectory(prefix="vtb") as base:
        ours = agent.libvirt_uri("test:///default")
        with peer_where_possible(Path(base)) as peer:
            theirs = peer.uri("test:///default") if peer else None
            rows += _latency(ours, theirs)
            rows += _throughput(ours, theirs)
    return rows


def _latency(ours: str, theirs: str | None) -> list[Measure]:
    found = run_client("latency", ours, 3000)
    peer = run_client("latency", theirs, 3000) if theirs else {}
    rows = []
    for what, values in found.items():
        other = peer.get(what)
        rows.append(
            Measure(
                f"{what} p50",
                median(values) * 1e6,
                "us",
                goal=2.5 if what in FORWARDED else 0.5,
                of_ratio=True,
                peer=median(other) * 1e6 if other else None,
                against="us libvirtd",
                note=f"p99 {percentile(values, 0.99) * 1e6:.0f} us",
            )
        )
    return rows


def _throughput(ours: str, theirs: str | None) -> list[Measure]:
    rows = []
    for what, goals in (
        ("info", {1: None, 8: 0.6, 32: 0.9}),
        ("own info", {8: 0.6, 32: 0.9}),
        ("state", {1: None, 8: 1.5, 32: 1.5}),
    ):
        for clients, goal in goals.items():
            rows.append(
                Measure(
                    f"{what} x{clients}",
                    run_client("throughput", ours, what, clients, 3),
                    "calls/s",
                    goal=goal,
                    of_ratio=True,
                    higher_is_better=True,
                    peer=run_client("throughput", theirs, what, clients, 3) if theirs else None,
                    against="calls/s libvirtd",
                )
            )
    return rows
