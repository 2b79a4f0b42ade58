"""Which group a process is in, and which of the groups above it is the scope of a guest."""

from __future__ import annotations

from pathlib import Path
from typing import Final

SCOPE: Final = ".scope"
_THREADS: Final = ("emulator", "vcpu", "iothread")
_OF_SYSTEMD: Final = "name=systemd"


def group_of_process(pid: int) -> str:
    """The path of the group in which systemd has a process; empty when there is no such process."""
    try:
        lines = Path(f"/proc/{pid}/cgroup").read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    except OSError:
        return ""
    found = {names: path for _, names, path in (line.split(":", 2) for line in lines)}
    return (found.get(_OF_SYSTEMD) or found.get("", "")).strip("/")


def group_that_runs(pid: int) -> str:
    """The path of the groups of a guest that somebody else started and that has a scope; empty where it has none."""
    words = group_of_process(pid).split("/")
    scopes = [place for place, word in enumerate(words) if word.startswith("machine-") and word.endswith(SCOPE)]
    if not scopes:
        return ""
    below = words[scopes[0] + 1 :]
    if below and below[-1].startswith(_THREADS):
        below.pop()
    return "/".join((*words[: scopes[0] + 1], *below))


def find_scope(group: str) -> str:
    """The path of the scope in which a group is; empty where it is in none."""
    above = group.rpartition("/")[0]
    for path in (group, above):
        if path.endswith(SCOPE):
            return path
    return ""
