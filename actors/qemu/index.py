"""What is known of guests' documents without reading them: a start with ten thousand guests opens one file.

The index is made of the documents alone and may be lost at any time. A document whose size, times or inode are others
than the index says is read; so is one that was written just before the index, and that of a running guest.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import msgspec

from actors.qemu import records
from actors.qemu.records import KeptText, Record
from actors.runtime.objects import digest_of

FORMAT: Final = 2
_SUFFIX: Final = ".json"
_SETTLED_NS: Final = 2_000_000_000
"""A document younger than this may change again without its times telling."""
_FIRST_S: Final = 5.0
_EVERY_S: Final = 60.0


class Known(msgspec.Struct, frozen=True, array_like=True):
    """One document as it was when it was read; of a guest that is off, the definition is left out (an empty text)."""

    name: str
    inode: int
    size: int
    mtime_ns: int
    ctime_ns: int
    digest: bytes
    record: Record


class IndexFile(msgspec.Struct, frozen=True):
    """The file."""

    format: int
    known: list[Known]


@dataclass(slots=True)
class Reading:
    """What a look at the folder gave: documents by file name, those that could not be read, and how many were."""

    known: dict[str, Known] = field(default_factory=dict)
    broken: dict[str, str] = field(default_factory=dict)
    read: int = 0


_encoder: Final = msgspec.msgpack.Encoder()
_decoder: Final = msgspec.msgpack.Decoder(IndexFile)


def read_documents(folder: Path, old: Mapping[str, Known]) -> Reading:
    """All documents of a folder; of those that `old` knows as they are, no more than their names are read.

    Raises OSError when the folder cannot be read.
    """
    found = Reading()
    try:
        with os.scandir(folder) as listing:
            entries = sorted((entry.name, entry) for entry in listing if entry.name.endswith(_SUFFIX))
    except FileNotFoundError:
        return found
    for name, entry in entries:
        try:
            facts = entry.stat()
        except OSError as exc:
            found.broken[name] = str(exc)
            continue
        known = old.get(name)
        if (
            known is not None
            and known.mtime_ns == facts.st_mtime_ns
            and known.size == facts.st_size
            and known.inode == facts.st_ino
            and known.ctime_ns == facts.st_ctime_ns
        ):
            found.known[name] = known
            continue
        try:
            record = records.decode(Path(entry.path).read_bytes())
        except (OSError, msgspec.DecodeError) as exc:
            found.broken[name] = str(exc)
            continue
        found.read += 1
        digest = digest_of((record.xml or "").encode())
        if record.run is None and record.xml is not None:
            record = msgspec.structs.replace(record, xml="")
        place = (facts.st_ino, facts.st_size, facts.st_mtime_ns, facts.st_ctime_ns)
        found.known[name] = Known(name, *place, digest, record)
    return found


def brief(known: Known, folder: str) -> Record:
    """The record of a document, its definition left on disk until somebody asks for it."""
    record = known.record
    if record.xml is None or record.run is not None:
        return record
    return msgspec.structs.replace(record, xml=KeptText(f"{folder}/{known.name}"))


def read_index(path: Path) -> dict[str, Known]:
    """What the index says; nothing when it is not there, damaged, or of another kind."""
    try:
        file = _decoder.decode(path.read_bytes())
    except (OSError, msgspec.DecodeError):
        return {}
    return {known.name: known for known in file.known} if file.format == FORMAT else {}


def write_index(path: Path, found: Reading) -> None:
    """Keeps what was found, as far as it will still be told from what comes after. Raises OSError."""
    youngest = time.time_ns() - _SETTLED_NS
    known = [
        one for one in found.known.values() if one.record.run is None and max(one.mtime_ns, one.ctime_ns) < youngest
    ]
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    temporary = path.with_name(path.name + ".new")
    try:
        with open(temporary, "wb", opener=lambda name, flags: os.open(name, flags, 0o600)) as file:
            file.write(_encoder.encode(IndexFile(FORMAT, known)))
        temporary.replace(path)
    except OSError:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise


class IndexKeeper:
    """Keeps the index up to date, off the event loop."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.found = Reading()
        """What was found last."""
        self.is_current = False
        self._stamp = 0

    async def keep(self, folder: Path, in_thread: Callable[..., Awaitable[Any]]) -> None:
        """Looks at the folder now and then, and writes what changed; goes on until it is cancelled."""
        wait_s = _FIRST_S
        while True:
            await asyncio.sleep(wait_s)
            await in_thread(self.refresh, folder)
            wait_s = _EVERY_S

    def refresh(self, folder: Path) -> None:
        """Writes the index if documents changed; one that cannot be written makes the next start slower, no more."""
        try:
            stamp = folder.stat().st_mtime_ns
            # a change that is too young to be kept is one that is kept later
            if self.is_current and stamp == self._stamp:
                return
            self.found = read_documents(folder, self.found.known)
            write_index(self.path, self.found)
        except OSError:
            return
        self._stamp = stamp
        self.is_current = stamp < time.time_ns() - _SETTLED_NS
