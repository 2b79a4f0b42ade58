"""What the kernel knows of the resources of a process and its threads."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_TICK_NS: Final = 1_000_000_000 // os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class ThreadUse:
    """What a thread has used, and where it ran last."""

    cpu_ns: int
    processor: int
    is_running: bool
    delay_ns: int
    """How long it was ready to run and had no processor."""
    wait_ns: int
    """How long it waited in line, by the scheduler's own account."""


def resident_kib(pid: int) -> int | None:
    """The host memory of a process; None when it is gone."""
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_bytes().split()[1])
    except (OSError, IndexError, ValueError):
        return None
    return pages * os.sysconf("SC_PAGE_SIZE") // 1024


def thread_use(pid: int, thread: int) -> ThreadUse | None:
    """What a thread of a process has used; None when it is gone."""
    try:
        text = Path(f"/proc/{pid}/task/{thread}/stat").read_bytes()
    except OSError:
        return None
    fields = text[text.rindex(b")") + 2 :].split()
    used_ns = (int(fields[11]) + int(fields[12])) * _TICK_NS
    return ThreadUse(used_ns, int(fields[36]), fields[0] == b"R", _delay_ns(pid, thread), _wait_ns(pid, thread))


def _wait_ns(pid: int, thread: int) -> int:
    try:
        text = Path(f"/proc/{pid}/task/{thread}/sched").read_text(encoding="ascii", errors="replace")
    except OSError:
        return 0
    for line in text.splitlines():
        name, _, value = line.partition(":")
        if name.strip() in ("se.statistics.wait_sum", "wait_sum"):
            return int(float(value) * 1_000_000)
    return 0  # a kernel that keeps no such account


def _delay_ns(pid: int, thread: int) -> int:
    try:
        return int(Path(f"/proc/{pid}/task/{thread}/schedstat").read_bytes().split()[1])
    except (OSError, IndexError, ValueError):
        return 0  # a kernel without scheduler statistics
