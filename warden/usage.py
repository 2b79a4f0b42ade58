"""What an actor holds, and how much it may hold: memory, for hosts where no cgroup limits it, and open files."""

from __future__ import annotations

import os
import resource
from pathlib import Path
from typing import Final

_PAGE_KIB: Final = os.sysconf("SC_PAGE_SIZE") // 1024


def rss_kib(pid: int) -> int:
    """Resident memory of a process; 0 when it is gone."""
    try:
        return int(Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1]) * _PAGE_KIB
    except (OSError, IndexError, ValueError):
        return 0


def open_files_limit(pid: int, configured: int) -> int:
    """How many files a process may have open: the host's own limit may be lower than the configured one.

    For an actor that does not run, what it will get.
    """
    try:
        soft, hard = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    except (OSError, ValueError):
        soft, hard = resource.RLIM_INFINITY, resource.RLIM_INFINITY
    most = [limit for limit in (soft if pid else hard, configured) if limit != resource.RLIM_INFINITY]
    return min(most)


def excess(kib: int, limit_mib: int) -> str | None:
    """What to say about an actor that holds more than it may; None when it does not."""
    if kib <= limit_mib * 1024:
        return None
    return f"it held {kib // 1024} MiB of memory, {limit_mib} are allowed"
