"""How much memory an actor holds, for hosts where no cgroup limits it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

_PAGE_KIB: Final = os.sysconf("SC_PAGE_SIZE") // 1024


def rss_kib(pid: int) -> int:
    """Resident memory of a process; 0 when it is gone."""
    try:
        return int(Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1]) * _PAGE_KIB
    except (OSError, IndexError, ValueError):
        return 0


def excess(kib: int, limit_mib: int) -> str | None:
    """What to say about an actor that holds more than it may; None when it does not."""
    if kib <= limit_mib * 1024:
        return None
    return f"it held {kib // 1024} MiB of memory, {limit_mib} are allowed"
