"""The devices that a guest may open at all, as its control group lists them (kernel: cgroup-v1/devices)."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from actors.qemu.confining.devices import ALWAYS, ROOT, Node

_PTYS: Final = "c 136:* rw"
"""The ends of its consoles: numbers of Unix98 terminals."""


def device_rules(nodes: Iterable[Node]) -> list[str]:
    """The lines for these nodes and for those that every guest needs; names that are no devices have none."""
    rules = [_PTYS]
    for path in (*(ROOT + name for name in ALWAYS), *(node.path for node in nodes)):
        try:
            facts = Path(path).stat()
        except OSError:
            continue
        kind = "b" if stat.S_ISBLK(facts.st_mode) else "c" if stat.S_ISCHR(facts.st_mode) else None
        if kind is not None:
            rules.append(f"{kind} {os.major(facts.st_rdev)}:{os.minor(facts.st_rdev)} rw")
    return list(dict.fromkeys(rules))
