"""The log files of one role, read as one log: an actor has a file for each slot, and old parts are rotated away."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from settings.paths import Paths

LOOK_S: Final = 0.2
_STAMP: Final = re.compile(r'\A(?:\{"ts": (\d+\.?\d*)|(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z))')


def last_lines(paths: Paths, role: str, count: int) -> list[str]:
    """The last lines that a role's processes wrote, oldest first."""
    from settings.tree import log_files

    entries: list[tuple[str, int, str]] = []
    for number, path in enumerate(log_files(paths, role)):
        stamp = ""
        for line in _tail(path, count):
            # a traceback has no stamps: it stays below the line it follows
            stamp = stamp_of(line) or stamp
            entries.append((stamp, number, line))
    entries.sort(key=lambda entry: entry[:2])
    return [line for _, _, line in entries[-count:]]


def follow(paths: Paths, role: str, stop: Callable[[], bool] = lambda: False) -> Iterator[str]:
    """What a role's processes write from now on."""
    from settings.tree import log_files

    places = {path: _size(path) for path in log_files(paths, role)}
    inodes: dict[Path, int] = {path: _inode(path) for path in places}
    while not stop():
        for path in log_files(paths, role):
            if path.suffix != ".log":
                continue
            if inodes.get(path) != _inode(path) or _size(path) < places.get(path, 0):
                inodes[path], places[path] = _inode(path), 0  # new, or rotated
            with path.open("rb") as file:
                file.seek(places[path])
                data = file.read()
            whole = data[: data.rfind(b"\n") + 1]
            places[path] += len(whole)
            yield from whole.decode("utf-8", "replace").splitlines()
        time.sleep(LOOK_S)


def stamp_of(line: str) -> str | None:
    """When a line was written, in a form that sorts; None when it does not say."""
    found = _STAMP.match(line)
    if found is None:
        return None
    if found[2]:
        return found[2]
    moment = float(found[1])
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(moment)) + f".{int(moment % 1 * 1000):03d}Z"


def _tail(path: Path, count: int) -> list[str]:
    try:
        with path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - count * 400))
            data = file.read()
    except OSError:
        return []
    return data.decode("utf-8", "replace").splitlines()[-count:]


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


def _inode(path: Path) -> int:
    try:
        return path.stat().st_ino
    except OSError:
        return 0
