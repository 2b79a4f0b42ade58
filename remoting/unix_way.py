"""A unix socket to a daemon: bytes both ways, and open files beside them.

libvirt's protocol sends each descriptor behind its message, with a byte of its own. asyncio's transports read without
room for descriptors, which the kernel then closes, so this reads and writes the socket itself.
"""

from __future__ import annotations

import array
import asyncio
import contextlib
import os
import socket
from collections import deque
from typing import Final

READ_BYTES: Final = 262144
WRITE_HIGH: Final = 1 << 20
FILES_MAX: Final = 64
_ANCILLARY: Final = socket.CMSG_SPACE(32 * 4)


class UnixWay(asyncio.ReadTransport):
    """A connected socket in the loop: what comes is in `reader`, descriptors that came are taken by `take_files`."""

    def __init__(self, sock: socket.socket, limit: int) -> None:
        super().__init__()
        self._loop = asyncio.get_running_loop()
        self._socket = sock
        self._unsent: deque[bytes | memoryview | int] = deque()  # an int is a descriptor
        self._size = 0
        self._drained = asyncio.Event()
        self._drained.set()
        self._files: deque[int] = deque()
        self._error: OSError | None = None
        self._is_paused = False
        self._is_closed = False
        self.reader = asyncio.StreamReader(limit=limit, loop=self._loop)
        self.reader.set_transport(self)
        self._loop.add_reader(sock.fileno(), self._readable)

    # --- in ---

    def _readable(self) -> None:
        try:
            data, ancillary, _, _ = self._socket.recvmsg(READ_BYTES, _ANCILLARY, socket.MSG_CMSG_CLOEXEC)
        except (BlockingIOError, InterruptedError):
            return
        except OSError as exc:
            self._break(exc)
            return
        for level, kind, held in ancillary:
            if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                fds = array.array("i")
                fds.frombytes(held[: len(held) - len(held) % fds.itemsize])
                self._files.extend(fds)
        while len(self._files) > FILES_MAX:
            os.close(self._files.popleft())
        if data:
            self.reader.feed_data(data)
        else:
            self._loop.remove_reader(self._socket.fileno())
            self._is_paused = True
            self.reader.feed_eof()

    def take_files(self, count: int) -> list[int]:
        """The descriptors that came with a message, as many as there are."""
        return [self._files.popleft() for _ in range(min(count, len(self._files)))]

    def pause_reading(self) -> None:
        """Reads no more until `resume_reading`."""
        if not self._is_paused and not self._is_closed:
            self._is_paused = True
            self._loop.remove_reader(self._socket.fileno())

    def resume_reading(self) -> None:
        """Reads again."""
        if self._is_paused and not self._is_closed and not self.reader.at_eof():
            self._is_paused = False
            self._loop.add_reader(self._socket.fileno(), self._readable)

    # --- out ---

    def write(self, data: bytes) -> None:
        """Sends, now or when the daemon takes it."""
        self._put(data, len(data))

    def write_file(self, fd: int) -> None:
        """Sends a copy of a descriptor behind what was written. Raises OSError when none can be made."""
        self._put(os.dup(fd), 1)

    def _put(self, item: bytes | int, size: int) -> None:
        if self._is_closed or self._error is not None:
            if isinstance(item, int):
                os.close(item)
            return
        is_first = not self._unsent
        self._unsent.append(item)
        self._size += size
        if self._size > WRITE_HIGH:
            self._drained.clear()
        if is_first:
            self._flush()
            if self._unsent:
                self._loop.add_writer(self._socket.fileno(), self._writable)

    def _writable(self) -> None:
        self._flush()
        if not self._unsent and not self._is_closed:
            self._loop.remove_writer(self._socket.fileno())

    def _flush(self) -> None:
        try:
            while self._unsent:
                item = self._unsent[0]
                if isinstance(item, int):
                    rights = (socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [item]))
                    self._size -= self._socket.sendmsg([b"\0"], [rights])
                    os.close(item)
                else:
                    sent = self._socket.send(item)
                    self._size -= sent
                    if sent < len(item):
                        self._unsent[0] = memoryview(item)[sent:]
                        return
                self._unsent.popleft()
        except (BlockingIOError, InterruptedError):
            return
        except OSError as exc:
            self._break(exc)
        self._drained.set()

    async def drain(self) -> None:
        """Waits until there is room for more. Raises OSError when the connection broke."""
        await self._drained.wait()
        if self._error is not None:
            raise self._error

    # --- the end ---

    def _break(self, error: OSError) -> None:
        self._error = error
        self.reader.set_exception(error)
        self.close()

    def is_closing(self) -> bool:
        """Whether it is closed."""
        return self._is_closed

    def close(self) -> None:
        """Closes now; what was not sent is not."""
        if self._is_closed:
            return
        self._is_closed = True
        with contextlib.suppress(OSError, ValueError):
            self._loop.remove_reader(self._socket.fileno())
            self._loop.remove_writer(self._socket.fileno())
        for item in (*self._unsent, *self._files):
            if isinstance(item, int):
                os.close(item)
        self._unsent.clear()
        self._files.clear()
        self._drained.set()
        self._socket.close()
        if not self.reader.at_eof() and self._error is None:
            self.reader.feed_eof()

    async def wait_closed(self) -> None:
        """It is closed at once."""


async def open_unix_way(path: str, limit: int) -> UnixWay:
    """A connection to a listening socket. Raises OSError."""
    sock = socket.socket(socket.AF_UNIX)
    with contextlib.ExitStack() as undo:
        undo.callback(sock.close)
        sock.setblocking(False)
        await asyncio.get_running_loop().sock_connect(sock, path)
        undo.pop_all()
    return UnixWay(sock, limit)
