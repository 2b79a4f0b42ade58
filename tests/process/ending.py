"""Ends what a test left running: processes whose command line names its folder, each by its id."""

from __future__ import annotations

import contextlib
import os
import signal
from pathlib import Path


def processes_below(folder: Path, *, word: bytes = b"") -> list[int]:
    """The processes that name something below a folder, and the word, on their command lines; never this one."""
    sign, found = f"{folder}/".encode(), []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            with contextlib.suppress(OSError):
                line = (entry / "cmdline").read_bytes()
                if sign in line and word in line:
                    found.append(int(entry.name))
    return found


def end_processes_below(folder: Path) -> None:
    """Kills them."""
    for pid in processes_below(folder):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
