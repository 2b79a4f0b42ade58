"""One client's socket: reads with `recvmsg`, because descriptors come beside the bytes; writes at once where it can.

asyncio's transports read without room for descriptors, which the kernel then closes. A callback of the loop that reads
and writes the socket itself costs no more than they do.
"""

from __future__ import annotations

import array
import asyncio
import os
import socket
from collections import deque
from collections.abc import Callable
from typing import Final, Protocol

READ_BYTES: Final = 262144
FDS_HELD_MAX: Final = 128
_ANCILLARY: Final = socket.CMSG_SPACE(32 * 4)


class ReadBuffer:
    """Room for what one `recvmsg` gives; all links of a process share it, for each copies at once what it got."""

    __slots__ = ("parts", "view")

    def __init__(self) -> None:
        room = bytearray(READ_BYTES)
        self.parts = [room]
        self.view = memoryview(room)


class Link:
    """A connected socket in the loop.

    `on_data` gets what was read, `on_closed` is called once, whoever closed.
    """

    __slots__ = (
        "_backlog",
        "_buffer",
        "_fd",
        "_loop",
        "_on_closed",
        "_on_data",
        "_on_drained",
        "_paused",
        "_recv",
        "_send",
        "_socket",
        "buffered",
        "closed",
        "closing",
        "fds",
    )

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        sock: socket.socket,
        buffer: ReadBuffer,
        *,
        on_data: Callable[[bytes], None],
        on_drained: Callable[[], None],
        on_closed: Callable[[], None],
    ) -> None:
        self._loop = loop
        self._socket = sock
        self._buffer = buffer
        self._fd = sock.fileno()
        self._recv = sock.recvmsg_into
        self._send = sock.send
        self._on_data = on_data
        self._on_drained = on_drained
        self._on_closed = on_closed
        self._backlog: deque[bytes | memoryview | int] = deque()  # an int is a descriptor
        self._paused = False
        self.buffered = 0
        self.fds: deque[int] = deque()
        self.closing = False
        self.closed = False
        loop.add_reader(self._fd, self._readable)

    def _readable(self) -> None:
        buffer = self._buffer
        try:
            size, ancillary, _, _ = self._recv(buffer.parts, _ANCILLARY, socket.MSG_CMSG_CLOEXEC)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            self.abort()
            return
        if ancillary:
            self._keep_fds(ancillary)
        if size == 0 or self.closing:
            self.abort()
            return
        self._on_data(bytes(buffer.view[:size]))

    def _keep_fds(self, ancillary: list[tuple[int, int, bytes]]) -> None:
        for level, kind, data in ancillary:
            if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                fds = array.array("i")
                fds.frombytes(data[: len(data) - len(data) % fds.itemsize])
                self.fds.extend(fds)
        while len(self.fds) > FDS_HELD_MAX:
            os.close(self.fds.popleft())

    @property
    def is_paused(self) -> bool:
        """Whether what the peer sends is left unread."""
        return self._paused

    def take_fds(self, count: int) -> list[int]:
        """The descriptors that came with a message, as many of them as have arrived."""
        return [self.fds.popleft() for _ in range(min(count, len(self.fds)))]

    def pause(self) -> None:
        """Reads no more until `resume`."""
        if not self._paused and not self.closed:
            self._paused = True
            self._loop.remove_reader(self._fd)

    def resume(self) -> None:
        """Reads again."""
        if self._paused and not self.closed:
            self._paused = False
            self._loop.add_reader(self._fd, self._readable)

    def write(self, data: bytes) -> None:
        """Sends, now or when the peer takes it. `buffered` says how much it has not taken."""
        if self.closed:
            return
        if self._backlog:
            self._backlog.append(data)
            self.buffered += len(data)
            return
        try:
            sent = self._send(data)
        except (BlockingIOError, InterruptedError):
            sent = 0
        except OSError:
            self.abort()
            return
        if sent < len(data):
            self._backlog.append(memoryview(data)[sent:] if sent else data)
            self.buffered = len(data) - sent
            self._loop.add_writer(self._fd, self._writable)

    def write_fd(self, fd: int) -> None:
        """Sends a descriptor, which is closed when it was, as one byte of its own behind what was written."""
        if self.closed:
            os.close(fd)
            return
        if not self._backlog:
            self._loop.add_writer(self._fd, self._writable)
        self._backlog.append(fd)
        self.buffered += 1

    def _send_fd(self, fd: int) -> None:
        self._socket.sendmsg([b"\0"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [fd]))])
        os.close(fd)
        self._backlog.popleft()
        self.buffered -= 1

    def _writable(self) -> None:
        backlog = self._backlog
        try:
            while backlog:
                data = backlog[0]
                if isinstance(data, int):
                    self._send_fd(data)
                    continue
                sent = self._send(data)
                self.buffered -= sent
                if sent < len(data):
                    backlog[0] = memoryview(data)[sent:]
                    break
                backlog.popleft()
        except (BlockingIOError, InterruptedError):
            pass
        except OSError:
            self.abort()
            return
        if not backlog:
            self._loop.remove_writer(self._fd)
            if self.closing:
                self.abort()
                return
        self._on_drained()

    def close(self) -> None:
        """Closes when everything written was sent; what still comes is not read."""
        if self.closed or self.closing:
            return
        self.closing = True
        if not self._backlog:
            self.abort()

    def abort(self) -> None:
        """Closes now."""
        if self.closed:
            return
        self.closed = self.closing = True
        if not self._paused:
            self._loop.remove_reader(self._fd)
        if self._backlog:
            self._loop.remove_writer(self._fd)
            for unsent in self._backlog:
                if isinstance(unsent, int):
                    os.close(unsent)
            self._backlog.clear()
        self.buffered = 0
        while self.fds:
            os.close(self.fds.popleft())
        self._socket.close()
        self._on_closed()


class WrappedLink(Link):
    """A link on whose wire there are other bytes than those that its owner reads and writes."""

    __slots__ = ("_plain",)

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        sock: socket.socket,
        buffer: ReadBuffer,
        *,
        on_data: Callable[[bytes], None],
        **others: Callable[[], None],
    ) -> None:
        self._plain = on_data
        super().__init__(loop, sock, buffer, on_data=self._unwrap, **others)

    def _unwrap(self, data: bytes) -> None:
        raise NotImplementedError


class MakeLink(Protocol):
    """What makes a connected socket a link: `Link` itself, or one of its kind that encrypts."""

    def __call__(
        self,
        loop: asyncio.AbstractEventLoop,
        sock: socket.socket,
        buffer: ReadBuffer,
        *,
        on_data: Callable[[bytes], None],
        on_drained: Callable[[], None],
        on_closed: Callable[[], None],
    ) -> Link:
        """A link, read from now on."""
