"""The log of a guest's QEMU: how it was started, and what it says itself."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Final

from actors.qemu.command.line import CommandLine
from actors.qemu.host import QemuHost
from schema.errors import HostSystemError

LOG_TAIL: Final = 2000


def log_of(host: QemuHost, name: str) -> Path:
    """Where QEMU's own words go."""
    return host.paths.log / "qemu" / f"{name.replace('/', '_')}.log"


def open_log(host: QemuHost, name: str, line: CommandLine) -> Path:
    """Notes a start, and gives the log. Raises HostSystemError."""
    path = log_of(host, name)
    words = [f"{key}={value}" for key, value in line.environment.items()] + line.words
    stamp = time.strftime("%Y-%m-%d %H:%M:%S%z")
    text = f"{stamp}: starting up\n" + " \\\n".join(words) + "\n"
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with path.open("a", encoding="utf-8") as out:
            out.write(text)
    except OSError as exc:
        raise HostSystemError(exc.errno or 0, f"cannot write '{path}'") from exc
    return path


def last_words(log: Path) -> str:
    """What QEMU wrote since its last start."""
    try:
        with log.open("rb") as file:
            file.seek(0, os.SEEK_END)
            file.seek(max(0, file.tell() - LOG_TAIL))
            text = file.read().decode(errors="replace")
    except OSError:
        return ""
    lines = text.splitlines()
    for place in range(len(lines) - 1, -1, -1):
        if lines[place].endswith(("-msg timestamp=on", "timestamp=on")):
            lines = lines[place + 1 :]
            break
    return "\n".join(lines).strip()
