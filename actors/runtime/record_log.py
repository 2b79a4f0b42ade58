"""An append-only file of records with crc, in segments: what survives a kill at any byte.

A record is on disk for every later process as soon as `append` returns (the page cache outlives a killed process);
`sync` makes it outlive the host. A record that could not be written whole is cut off again, so nothing is half written.
Compaction begins a new segment with all that is still needed; the old one goes when the new one is on the disk.
"""

from __future__ import annotations

import contextlib
import errno
import os
import struct
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

from schema.errors import HostSystemError
from util.unwritable import is_unwritable

_head: Final = struct.Struct(">II")
RECORD_MAX: Final = 64 * 1024 * 1024
_COMPLETE: Final = b"\xc0"  # ends the part of a segment that compaction wrote
CHUNK_BYTES: Final = 1024 * 1024
RESERVE_BYTES: Final = 256 * 1024


class RecordLog:
    """The segments of one log: `NAME-00000001.log`, and for a moment its successor."""

    def __init__(self, folder: Path, name: str) -> None:
        self._folder = folder
        self._name = name
        self._number = 0
        self._fd = -1
        self._reserved_to = 0
        self.end = 0
        self.unwritable: OSError | None = None
        """Why it can be read only."""

    def load(self) -> Iterator[tuple[int, bytes]]:
        """Every record with the place behind it; then the log is open, cut at the first broken record.

        A log that can be read only is told whole as well; what writes to it tries to open it again, and fails until
        it can be written. Raises HostSystemError when the folder cannot be read.
        """
        with self._faults("open"):
            numbers = self._segments()
            unused: list[int] = []
            while len(numbers) > 1 and not self._is_complete(numbers[-1]):
                unused.append(numbers.pop())
            unused += numbers[:-1]
            self._number = numbers[-1] if numbers else 1
            try:
                self._open_for_writing()
                for number in unused:
                    self._path(number).unlink()
            except OSError as exc:
                if not is_unwritable(exc):
                    raise
                self.unwritable = exc
                if numbers and self._fd < 0:
                    self._fd = os.open(self._path(self._number), os.O_RDONLY | os.O_CLOEXEC)
            size = 0 if self._fd < 0 else os.fstat(self._fd).st_size
        self.end = 0
        for end, payload in _records(self._fd, 0, size):
            self.end = end
            if payload != _COMPLETE:
                yield end, payload
        if self.unwritable is None:
            with self._faults("cut"):
                self._cut()

    def _open_for_writing(self) -> None:
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        fd = os.open(self._path(self._number), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        if self._fd >= 0:
            os.close(self._fd)
        self._fd = fd

    def _cut(self) -> None:
        if os.fstat(self._fd).st_size > self.end:
            os.ftruncate(self._fd, self.end)

    def _need_writable(self) -> None:
        if self.unwritable is not None:
            with self._faults("open"):
                self._open_for_writing()
                self._cut()
            self.unwritable = None

    def append(self, payload: bytes) -> int:
        """Writes a record; gives the place behind it. Raises HostSystemError, and then the file is as before."""
        self._need_writable()
        self.end = self._append_at(self._fd, self.end, payload)
        return self.end

    def read(self, place: int) -> Iterator[tuple[int, bytes]]:
        """The records behind a place, with the place behind each."""
        for end, payload in _records(self._fd, place, self.end):
            if payload != _COMPLETE:
                yield end, payload

    def reserve(self) -> None:
        """Makes sure that the disk has room for the next records. Raises HostSystemError when it has not."""
        self._need_writable()
        if self.end + RESERVE_BYTES // 2 <= self._reserved_to:
            return
        with self._faults("reserve room in"):
            _allocate(self._fd, self.end, RESERVE_BYTES)
        self._reserved_to = self.end + RESERVE_BYTES

    def sync(self) -> None:
        """Blocks until all records are on the disk. Raises HostSystemError."""
        if self._fd < 0:
            return
        with self._faults("sync"):
            os.fdatasync(self._fd)

    def start_segment(self, live: Iterable[bytes]) -> OldSegment:
        """Goes on in a new segment that begins with `live`. The old one has to be discarded by the caller.

        Raises HostSystemError, and then the log goes on in the old one.
        """
        self._need_writable()
        path = self._path(self._number + 1)
        with self._faults("open"):
            fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        try:
            end = self._write_all(fd, live)
        except HostSystemError:
            os.close(fd)
            with contextlib.suppress(OSError):
                path.unlink()
            raise
        old = OldSegment(self._path(self._number), self._fd, fd, self._folder)
        self._number += 1
        self._fd = fd
        self.end = end
        self._reserved_to = 0
        return old

    def close(self) -> None:
        """Lets go of the file."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _write_all(self, fd: int, live: Iterable[bytes]) -> int:
        buffer = bytearray()
        end = 0
        with self._faults("write"):
            for payload in live:
                buffer += _framed(payload)
                if len(buffer) >= CHUNK_BYTES:
                    end += _write_whole(fd, buffer)
                    buffer.clear()
            buffer += _framed(_COMPLETE)
            return end + _write_whole(fd, buffer)

    def _append_at(self, fd: int, end: int, payload: bytes) -> int:
        if not 0 < len(payload) <= RECORD_MAX:
            path = self._path(self._number)
            raise HostSystemError(errno.EFBIG, f"cannot write a record of {len(payload)} bytes to '{path}'")
        data = _framed(payload)
        try:
            written = os.pwrite(fd, data, end)
            while written < len(data):
                written += os.pwrite(fd, data[written:], end + written)
        except OSError as exc:
            with contextlib.suppress(OSError):
                os.ftruncate(fd, end)
                self._reserved_to = 0
            raise self._fault("write", exc) from exc
        return end + len(data)

    def _segments(self) -> list[int]:
        prefix = f"{self._name}-"
        found = [path.stem[len(prefix) :] for path in self._folder.glob(f"{prefix}*.log")]
        return sorted(int(number) for number in found if number.isdecimal())

    def _path(self, number: int) -> Path:
        return self._folder / f"{self._name}-{number:08}.log"

    def _is_complete(self, number: int) -> bool:
        fd = os.open(self._path(number), os.O_RDONLY | os.O_CLOEXEC)
        try:
            return any(payload == _COMPLETE for _, payload in _records(fd, 0, os.fstat(fd).st_size))
        finally:
            os.close(fd)

    def _fault(self, verb: str, exc: OSError) -> HostSystemError:
        return HostSystemError(exc.errno or errno.EIO, f"cannot {verb} '{self._path(max(self._number, 1))}'")

    @contextlib.contextmanager
    def _faults(self, verb: str) -> Iterator[None]:
        try:
            yield
        except OSError as exc:
            raise self._fault(verb, exc) from exc


class OldSegment:
    """A segment that was left; `discard` may block, so it belongs in a thread."""

    def __init__(self, path: Path, fd: int, successor: int, folder: Path) -> None:
        self._path = path
        self._fd = fd
        self._successor = os.dup(successor)
        self._folder = folder

    def discard(self) -> None:
        """Removes it once its successor is on the disk; when that fails both stay, and the next start decides."""
        try:
            os.fdatasync(self._successor)
            folder = os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)
            self._path.unlink()
        except OSError:
            pass
        finally:
            os.close(self._fd)
            os.close(self._successor)


def _write_whole(fd: int, data: bytearray) -> int:
    with memoryview(data) as view:
        written = 0
        while written < len(data):
            written += os.write(fd, view[written:])
    return written


def _framed(payload: bytes) -> bytes:
    return _head.pack(len(payload), zlib.crc32(payload)) + payload


def _records(fd: int, begin: int, stop: int) -> Iterator[tuple[int, bytes]]:
    if fd < 0:
        return
    buffer = b""
    place = begin  # of the buffer's first byte
    while True:
        at = 0
        while len(buffer) - at >= _head.size:
            length, crc = _head.unpack_from(buffer, at)
            if not 0 < length <= RECORD_MAX:
                return  # zeros are reserved room that was never written
            behind = at + _head.size + length
            if behind > len(buffer):
                break
            payload = bytes(buffer[at + _head.size : behind])
            if zlib.crc32(payload) != crc:
                return
            yield place + behind, payload
            at = behind
        place += at
        chunk = os.pread(fd, min(CHUNK_BYTES, max(0, stop - place - (len(buffer) - at))), place + len(buffer) - at)
        if not chunk:
            return
        buffer = buffer[at:] + chunk


def _allocate(fd: int, offset: int, length: int) -> None:
    try:
        os.posix_fallocate(fd, offset, length)
    except OSError as exc:
        if exc.errno not in (errno.EOPNOTSUPP, errno.EINVAL):
            raise
