"""The event journal: what was said, in order, for as long as it is retained.

A cursor is (generation, offset). A process that dies loses nothing that was written, so its successor goes on in the
same generation; a host that dies may have lost what was not synced yet, though subscribers saw it, so then a new
generation begins, and cursors behind what is left of the old one are answered with a resync.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Final, NamedTuple

from broker.segments import (
    RECORD,
    RECORD_HEADER_LENGTH,
    RECORD_MAX,
    Lasts,
    Segment,
    SegmentError,
    create_segment,
    pack_record,
    read_segment,
    records_in,
    scan_segment,
)
from broker.wire import Cursor, WireError, unpack_record_head
from settings.config import JournalSettings
from util.unwritable import is_unwritable

BEGINNING: Final = Cursor(0, 0)
ENDS_KEPT: Final = 64
READ_BYTES: Final = 512 * 1024
STATE_FILE: Final = "state.json"


class Lost(NamedTuple):
    """The journal has nothing at a cursor any more; it begins at `first`."""

    first: Cursor


class Part(NamedTuple):
    """A piece of a replay: records with their cursors, and where to go on."""

    records: list[tuple[Cursor, bytes]]
    next: Cursor
    is_end: bool


class Entry(NamedTuple):
    """A record to be appended."""

    source: str
    epoch: int
    seq: int
    record: bytes


class Journal:
    """The writing end, and what a reader must know. Of one thread, but for what `sync` and `segments` give away."""

    def __init__(self, folder: Path, settings: JournalSettings, *, boot_id: str, wall: Callable[[], float]) -> None:
        """Opens the journal and repairs its end, or opens it for reading where nothing can be written.

        Raises OSError when it cannot be read.
        """
        self._folder = folder
        self._settings = settings
        self._boot_id = boot_id
        self._wall = wall
        self._segments: list[Segment] = []
        self._fd = -1
        self._closing: list[int] = []  # descriptors of full segments that are not synced yet
        self._untrimmed = False
        self.lasts: Lasts = {}
        self.lost_tail = ""  # why a new generation began
        self.unwritable: OSError | None = None
        """Why nothing can be written here; what was written before can be read."""
        self.appended = 0
        self.written_bytes = 0
        try:
            self._open()
        except OSError as exc:
            if not is_unwritable(exc):
                raise
            self._open_for_reading(exc)

    # -- what is there

    @property
    def segments(self) -> tuple[Segment, ...]:
        """All segments, oldest first."""
        return tuple(self._segments)

    @property
    def generation(self) -> int:
        """The current one."""
        return self._segments[-1].generation

    @property
    def head(self) -> Cursor:
        """The place after the last record."""
        return Cursor(self.generation, self._segments[-1].end)

    @property
    def first(self) -> Cursor:
        """The place before the oldest record."""
        oldest = self._segments[0]
        return Cursor(oldest.generation, oldest.start)

    @property
    def size(self) -> int:
        """Bytes of all records."""
        return self._segments[-1].end - self._segments[0].start

    def last(self, source: str) -> tuple[int, int]:
        """Epoch and seq of a source's last record; (0, 0) when there never was one."""
        return self.lasts.get(source, (0, 0))

    # -- writing

    def append(self, entries: Iterable[Entry]) -> list[int]:
        """Writes records; the offset after each. Raises OSError; then none of them is in the journal."""
        if self.unwritable is not None:
            self._open_again()
        if self._untrimmed:
            self._trim()
        segment = self._segments[-1]
        if segment.size >= self._settings.segment_bytes:
            segment = self._rotate()
        parts, offsets, end = [], [], segment.end
        entries = list(entries)
        for entry in entries:
            parts.append(pack_record(entry.record))
            end += RECORD_HEADER_LENGTH + len(entry.record)
            offsets.append(end)
        data = b"".join(parts)
        try:
            written = os.write(self._fd, data)
            if written != len(data):
                raise OSError(28, "No space left on device", str(segment.path))
        except OSError:
            self._untrimmed = True
            self._trim()
            raise
        segment.size += len(data)
        self.appended += len(entries)
        self.written_bytes += len(data)
        for entry in entries:
            self.lasts[entry.source] = (entry.epoch, entry.seq)
        return offsets

    def sync(self) -> Callable[[], None]:
        """What a worker thread has to do so that everything appended so far is on disk."""
        fd, closing, self._closing = os.dup(self._fd), self._closing, []

        def run() -> None:
            try:
                for old in closing:
                    os.fdatasync(old)
                os.fdatasync(fd)
                if closing:
                    _sync_folder(self._folder)
            finally:
                for old in (*closing, fd):
                    os.close(old)

        return run

    def retire(self) -> list[Path]:
        """Lets go of what need not be kept: the files to be removed."""
        gone: list[Path] = []
        if self.unwritable is not None:
            return gone
        now = self._wall()
        while len(self._segments) > 1:
            oldest, following = self._segments[:2]
            if (
                self.size - oldest.size < self._settings.retain_bytes
                or now - following.created < self._settings.retain_s
            ):
                break
            gone.append(oldest.path)
            del self._segments[0]
        return gone

    def close(self) -> None:
        """Syncs, and notes that nothing is missing."""
        if self.unwritable is not None:
            return
        self.sync()()
        os.close(self._fd)
        self._fd = -1
        self._write_state(self._segments[-1].end)

    # -- reading

    def place(self, after: Cursor, head: Cursor) -> int | Lost:
        """The offset at which a replay after a cursor begins."""
        first = self.first
        if after == BEGINNING:
            return first.offset
        is_current = after.generation == self.generation
        end = head.offset if is_current else self._segments[-1].ends.get(after.generation, -1)
        return after.offset if first.offset <= after.offset <= end else Lost(first)

    # -- opening

    def _open_for_reading(self, why: OSError) -> None:
        self.unwritable = why
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
        segments: list[Segment] = []
        for path in sorted(self._folder.glob("*.segment"), key=_order):
            with contextlib.suppress(SegmentError):
                segment = read_segment(path)
                if segments and (segments[-1].end, segments[-1].generation) != (segment.start, segment.generation):
                    segments.clear()
                segments.append(segment)
        if segments:
            scan = scan_segment(segments[-1])
            segments[-1].size = scan.size
            self.lasts = scan.lasts
        else:
            segments = [Segment(self._folder / "none", int(self._wall()), 0, 0, self._wall(), {}, {})]
        self._segments = segments

    def _open_again(self) -> None:
        """Raises OSError as long as nothing can be written."""
        unwritten = self._segments
        try:
            self._open()
        except OSError:
            self._segments = unwritten
            if self._fd >= 0:
                os.close(self._fd)
                self._fd = -1
            raise
        self.unwritable = None

    def _open(self) -> None:
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        clean, same_boot = self._read_state()
        segments = self._read_segments()
        why = ""
        if segments:
            unsure = segments[-1:] if same_boot else segments[-2:]
            for index, segment in enumerate(unsure, len(segments) - len(unsure)):
                scan = scan_segment(segment)
                whole = scan.size == segment.size
                segment.size = scan.size
                self.lasts = scan.lasts
                if not whole:
                    if scan.damaged or not same_boot or index < len(segments) - 1:
                        why = f"'{segment.path.name}' is damaged behind offset {segment.end}"
                    for later in segments[index + 1 :]:
                        later.path.rename(later.path.with_suffix(".lost"))
                    segments = segments[: index + 1]
                    break
            if not why and clean != segments[-1].end:
                if not same_boot:
                    why = "the host went down while the journal was open"
                elif clean is not None:
                    why = "the journal is not as it was left"
        self._segments = segments
        if not segments or why:
            self._begin_generation(why)
        else:
            last = segments[-1]
            self._fd = os.open(last.path, os.O_RDWR | os.O_CLOEXEC)
            self._trim()
        self._write_state(None)

    def _read_segments(self) -> list[Segment]:
        found: list[Segment] = []
        for path in sorted(self._folder.glob("*.segment"), key=_order):
            try:
                segment = read_segment(path)
            except SegmentError:
                path.rename(path.with_suffix(".lost"))
                continue
            if found and found[-1].end != segment.start and segment.generation == found[-1].generation:
                for old in found:
                    old.path.rename(old.path.with_suffix(".lost"))
                found = []
            if found and segment.generation != found[-1].generation:
                found[-1].size = min(found[-1].size, segment.start - found[-1].start)
            found.append(segment)
        return found

    def _begin_generation(self, why: str) -> None:
        self.lost_tail = why
        start, ends, generation = 0, {}, int(self._wall())
        if self._segments:
            last = self._segments[-1]
            start = last.end
            ends = dict(sorted({**last.ends, last.generation: start}.items())[-ENDS_KEPT:])
            generation = max(generation, last.generation + 1)
        segment, self._fd = create_segment(self._folder, generation, start, self._wall(), self.lasts, ends)
        self._segments.append(segment)

    def _rotate(self) -> Segment:
        last = self._segments[-1]
        segment, fd = create_segment(self._folder, last.generation, last.end, self._wall(), self.lasts, last.ends)
        self._closing.append(self._fd)
        self._fd = fd
        self._segments.append(segment)
        return segment

    def _trim(self) -> None:
        segment = self._segments[-1]
        place = segment.head_length + segment.size
        os.ftruncate(self._fd, place)
        os.lseek(self._fd, place, os.SEEK_SET)
        self._untrimmed = False

    def _read_state(self) -> tuple[int | None, bool]:
        try:
            state = json.loads((self._folder / STATE_FILE).read_text(encoding="ascii"))
            return state["clean"], state["boot_id"] == self._boot_id
        except (OSError, ValueError, KeyError, TypeError):
            return None, False

    def _write_state(self, clean: int | None) -> None:
        path = self._folder / STATE_FILE
        fresh = path.with_suffix(".new")
        fd = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        try:
            os.write(fd, json.dumps({"boot_id": self._boot_id, "clean": clean}).encode("ascii"))
            os.fdatasync(fd)
        finally:
            os.close(fd)
        fresh.replace(path)
        _sync_folder(self._folder)


def read_part(
    segments: tuple[Segment, ...], offset: int, head: Cursor, sources: frozenset[str] | None, limit: int
) -> Part | Lost:
    """Records after `offset` up to `head`: at most `limit`, not many more bytes than READ_BYTES; for a worker thread.

    Behind a damaged record nothing of its segment can be found: what was before it is told first, then that history is
    lost. Raises SegmentError when the offset is not the place after a record.
    """
    records: list[tuple[Cursor, bytes]] = []
    budget = READ_BYTES
    place = Cursor(head.generation, offset)
    for index, segment in enumerate(segments):
        end = min(segments[index + 1].start if index + 1 < len(segments) else head.offset, head.offset)
        if place.offset >= end:
            continue
        try:
            fd = os.open(segment.path, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            following = segments[min(index + 1, len(segments) - 1)]
            return Lost(Cursor(following.generation, following.start))
        try:
            while place.offset < end and len(records) < limit and budget > 0:
                data = _read(
                    fd, segment.head_length + place.offset - segment.start, min(READ_BYTES, end - place.offset)
                )
                base = place.offset
                try:
                    for stop, record in records_in(data):
                        place = Cursor(segment.generation, base + stop)
                        if sources is None or _source_of(record) in sources:
                            records.append((place, record))
                            if len(records) >= limit:
                                break
                    if place.offset == base:
                        raise SegmentError("a record ends too early")
                except SegmentError:
                    if place.offset > offset:
                        return Part(records, place, False)
                    if not _is_after_a_record(segment, offset):
                        raise
                    is_last = index + 1 == len(segments)
                    return Lost(head if is_last else Cursor(segments[index + 1].generation, end))
                budget -= place.offset - base
        finally:
            os.close(fd)
        if len(records) >= limit or budget <= 0:
            break
    is_end = place.offset >= head.offset
    return Part(records, head if is_end else place, is_end)


def remove_segments(paths: Iterable[Path]) -> None:
    """Removes what `retire` let go of; for a worker thread."""
    for path in paths:
        path.unlink(missing_ok=True)


def _is_after_a_record(segment: Segment, offset: int) -> bool:
    """Whether a record once ended there, as far as what is before it can still be read."""
    at = segment.start
    with segment.path.open("rb") as file:
        file.seek(segment.head_length)
        while at < offset and len(data := file.read(RECORD_HEADER_LENGTH)) == RECORD_HEADER_LENGTH:
            length = int(RECORD.unpack(data)[0])
            file.seek(length, os.SEEK_CUR)
            at += RECORD_HEADER_LENGTH + length
    return at <= offset


def _read(fd: int, place: int, length: int) -> bytes:
    data = os.pread(fd, max(length, RECORD_HEADER_LENGTH), place)
    if len(data) >= RECORD_HEADER_LENGTH:
        need = RECORD_HEADER_LENGTH + int(RECORD.unpack_from(data)[0])
        if len(data) < need <= RECORD_HEADER_LENGTH + RECORD_MAX:
            data = os.pread(fd, need, place)
    return data


def _sync_folder(path: Path) -> None:
    folder = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _source_of(record: bytes) -> str:
    try:
        return unpack_record_head(record).source
    except WireError:
        return ""


def _order(path: Path) -> tuple[int, int]:
    start, generation, _ = path.name.split(".")
    return int(start), int(generation, 16)
