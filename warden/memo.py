"""What one warden leaves to the next: which actors are wanted, disabled or degraded, and their crashes.

It counts for one process tree only: a new supervisord begins with nothing disabled and every budget full.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from warden.charge import Charge
from warden.deeds import Phase


@dataclass(frozen=True, slots=True)
class Remembered:
    """One actor."""

    phase: Phase = Phase.STOPPED
    why: str = ""
    slot: int | None = None
    crashes: int = 0
    times: list[float] = field(default_factory=list)


def write_memo(path: Path, tree: str, charges: Iterable[Charge]) -> None:
    """Leaves the present to the next warden. Raises OSError; what was there before is whole then."""
    actors = {
        charge.name: {
            "phase": charge.memory.value,
            "why": charge.why,
            "slot": charge.slot,
            "crashes": charge.crashes,
            "times": charge.budget.times,
        }
        for charge in charges
    }
    beside = path.with_suffix(".new")
    beside.write_text(json.dumps({"tree": tree, "actors": actors}), encoding="utf-8")
    beside.replace(path)


def read_memo(path: Path, tree: str) -> dict[str, Remembered] | None:
    """What the warden before left for the same tree; None when there was none, or when it cannot be read."""
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        if data["tree"] != tree:
            return None
        return {name: _remembered(entry) for name, entry in data["actors"].items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def tree_of(pid: int) -> str:
    """Tells one supervisord from every other: its process id, start time and boot."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace")
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return ""
    return f"{pid} {stat.rpartition(') ')[2].split()[19]} {boot}"


def present_tree() -> str:
    """The tree that this process belongs to."""
    return tree_of(os.getppid())


def _remembered(entry: dict[str, Any]) -> Remembered:
    slot = entry["slot"]
    return Remembered(
        Phase(entry["phase"]),
        str(entry["why"]),
        None if slot is None else int(slot),
        int(entry["crashes"]),
        [float(time) for time in entry["times"]],
    )
