"""What helpers say: each has a log, which is never longer than a limit for long."""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from actors.qemu.host import QemuHost

LOG_MAX: Final = 1 << 20
LOG_KEPT: Final = 1 << 16
SAID_MAX: Final = 1000


@dataclass(frozen=True, slots=True)
class LogMark:
    """A place in a log, from where on the words are a helper's."""

    path: Path
    offset: int

    @classmethod
    def at_end(cls, path: Path) -> LogMark:
        """The place where the next words go."""
        try:
            return cls(path, path.stat().st_size)
        except OSError:
            return cls(path, 0)

    def said(self) -> str:
        """The last words since then; empty when there are none."""
        try:
            with self.path.open("rb") as file:
                size = file.seek(0, os.SEEK_END)
                start = self.offset if self.offset <= size else 0
                file.seek(max(start, size - SAID_MAX))
                return file.read(SAID_MAX).decode(errors="replace").strip()
        except OSError:
            return ""


def log_of(host: QemuHost, name: str, program: str) -> Path:
    """Where the words of a guest's helper go."""
    return host.paths.log / "qemu" / f"{name.replace('/', '_')}-{program}.log"


def trim(path: Path) -> None:
    """Drops the oldest words of a log that has become too long; whoever writes it goes on at its end."""
    with contextlib.suppress(OSError):
        if path.stat().st_size <= LOG_MAX:
            return
        descriptor = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW)
        try:
            tail = os.pread(descriptor, LOG_KEPT, os.fstat(descriptor).st_size - LOG_KEPT)
            os.ftruncate(descriptor, 0)
            os.write(descriptor, tail[tail.find(b"\n") + 1 :])
        finally:
            os.close(descriptor)
