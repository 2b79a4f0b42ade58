"""The process of each running guest by its name, for scripts: a file as libvirt's driver keeps it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from pathlib import Path


def pid_file(folder: Path, name: str) -> Path:
    """Where a guest's process is noted."""
    return folder / f"{name.replace('/', '_')}.pid"


def note_pid(folder: Path, name: str, pid: int) -> None:
    """Notes a guest's process. Nothing of ours reads it, so a disk that refuses it keeps no guest from starting."""
    with contextlib.suppress(OSError):
        pid_file(folder, name).write_text(str(pid), encoding="ascii")


def sweep_pids(folder: Path, names: Iterable[str]) -> None:
    """Only these guests run."""
    known = {pid_file(folder, name) for name in names}
    for path in folder.glob("*.pid"):
        if path not in known:
            with contextlib.suppress(OSError):
                path.unlink(missing_ok=True)


def forget_pid(folder: Path, name: str) -> None:
    """The guest is off."""
    with contextlib.suppress(OSError):
        pid_file(folder, name).unlink(missing_ok=True)
