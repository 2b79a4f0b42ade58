"""The files of the event journal: how a segment begins, how records lie in it, where a torn one ends.

A segment is a head (magic, length, crc, map) and records (length, crc, bytes). A record's *offset* is the place after
it, counted over all segments without their heads: offsets of neighbours differ by the record's length and eight.
"""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from broker.wire import WireError, pack_value, unpack_record_head, unpack_value

MAGIC: Final = b"VTJ1"
RECORD_MAX: Final = 64 * 1024 * 1024
HEAD_MAX: Final = 1024 * 1024
_head = struct.Struct(">4sII")
RECORD: Final = struct.Struct(">II")
RECORD_HEADER_LENGTH: Final = RECORD.size


class SegmentError(ValueError):
    """A file is no segment of a journal."""


Lasts = dict[str, tuple[int, int]]


@dataclass(slots=True)
class Segment:
    """One file; `lasts` is what was known of each source where it begins."""

    path: Path
    generation: int
    start: int
    head_length: int
    created: float
    lasts: Lasts
    ends: dict[int, int]  # of earlier generations: where what is left of each ends
    size: int = 0  # of the records

    @property
    def end(self) -> int:
        """The offset after its last record."""
        return self.start + self.size


@dataclass(slots=True)
class Scan:
    """What a walk over a segment's records found."""

    size: int = 0
    lasts: Lasts = field(default_factory=dict)
    torn: bool = False  # the last record was cut in the middle of writing it
    damaged: bool = False  # a record is there and wrong


def pack_record(record: bytes) -> bytes:
    """A record as it lies in a segment."""
    return RECORD.pack(len(record), zlib.crc32(record)) + record


def create_segment(
    folder: Path, generation: int, start: int, created: float, lasts: Lasts, ends: dict[int, int]
) -> tuple[Segment, int]:
    """A new file and its descriptor. Raises OSError; then there is no new file."""
    about = {"generation": generation, "start": start, "created": created, "lasts": lasts, "ends": ends}
    data = pack_value(about)
    path = folder / f"{start:020d}.{generation:x}.segment"
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    whole = _head.pack(MAGIC, len(data), zlib.crc32(data)) + data
    try:
        if os.write(fd, whole) != len(whole):
            raise OSError(28, "No space left on device", str(path))
    except OSError:
        os.close(fd)
        path.unlink()
        raise
    return Segment(path, generation, start, len(whole), created, dict(lasts), dict(ends)), fd


def read_segment(path: Path) -> Segment:
    """What a file's head says; its size is taken from the file. Raises SegmentError, OSError."""
    with path.open("rb") as file:
        begin = file.read(_head.size)
        if len(begin) != _head.size:
            raise SegmentError(f"'{path.name}' ends in its head")
        magic, length, crc = _head.unpack(begin)
        if magic != MAGIC or length > HEAD_MAX:
            raise SegmentError(f"'{path.name}' is no segment")
        data = file.read(length)
        size = os.fstat(file.fileno()).st_size
    if len(data) != length or zlib.crc32(data) != crc:
        raise SegmentError(f"'{path.name}' has a damaged head")
    try:
        about = unpack_value(data)
        lasts = {str(source): (int(last[0]), int(last[1])) for source, last in about["lasts"].items()}
        ends = {int(generation): int(end) for generation, end in about["ends"].items()}
        head_length = _head.size + length
        return Segment(
            path, about["generation"], about["start"], head_length, about["created"], lasts, ends, size - head_length
        )
    except (WireError, KeyError, TypeError, ValueError, IndexError, AttributeError) as exc:
        raise SegmentError(f"'{path.name}' has a head of another kind") from exc


def scan_segment(segment: Segment) -> Scan:
    """Walks over all records and stops at the first that is not whole."""
    data = segment.path.read_bytes()
    found = Scan(lasts=dict(segment.lasts))
    at, end = segment.head_length, len(data)
    view = memoryview(data)
    while at < end:
        if end - at < RECORD_HEADER_LENGTH:
            found.torn = True
            break
        length, crc = RECORD.unpack_from(data, at)
        stop = at + RECORD_HEADER_LENGTH + length
        if not 0 < length <= RECORD_MAX:
            found.damaged = True
            break
        if stop > end:
            found.torn = True
            break
        record = view[at + RECORD_HEADER_LENGTH : stop]
        if zlib.crc32(record) != crc:
            found.damaged = True
            break
        try:
            head = unpack_record_head(record)
        except WireError:
            found.damaged = True
            break
        found.lasts[head.source] = (head.epoch, head.seq)
        at = stop
    found.size = at - segment.head_length
    return found


def records_in(data: bytes) -> Iterator[tuple[int, bytes]]:
    """The whole records at the beginning of `data`, each with the place after it.

    Raises SegmentError where no record begins.
    """
    at, end = 0, len(data)
    while end - at >= RECORD_HEADER_LENGTH:
        length, crc = RECORD.unpack_from(data, at)
        if not 0 < length <= RECORD_MAX:
            raise SegmentError("no record begins there")
        stop = at + RECORD_HEADER_LENGTH + length
        if stop > end:
            return
        record = data[at + RECORD_HEADER_LENGTH : stop]
        if zlib.crc32(record) != crc:
            raise SegmentError("no record begins there")
        yield stop, record
        at = stop
