"""A subscription to published events: bounded, never read ahead, surviving the broker's restarts.

Whoever reads too slowly loses messages in the broker's own bounded queue; positions tell that something is missing, and
the journal has it. The protocol is spoken in the loop: libzmq's thread would take and give each event once more.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from broker.wire import Position, WireError, unpack_position
from broker.zmtp import GREETING_LENGTH, FrameReader, ZmtpError, check_greeting, greeting, pack_message, ready_command

READ_BYTES: Final = 128 * 1024
FRAME_MAX: Final = 256 * 1024 * 1024
RECONNECT_S: Final = 0.02
RECONNECT_MOST_S: Final = 0.1
HANDSHAKE_S: Final = 5.0
_SUBSCRIBE: Final = b"\1"


class EventSubscription:
    """An async context manager; inside it, `next` gives one message after the other."""

    def __init__(self, path: Path, sources: Sequence[str] | None) -> None:
        self._path = path
        self._sources = None if sources is None else frozenset(source.encode() for source in sources)
        self._socket: socket.socket | None = None
        self._reader = FrameReader(FRAME_MAX)
        self._messages: deque[list[bytes]] = deque()
        self._waiting: asyncio.Future[None] | None = None
        self._is_watched = False
        self._pause_s = RECONNECT_S
        self.is_closed = False

    async def __aenter__(self) -> Self:
        if self.is_closed:
            raise RuntimeError("The connection of this subscription is closed")
        self._loop = asyncio.get_running_loop()
        await self._connect()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Ends the subscription; a waiting `next` is cancelled."""
        self.is_closed = True
        if self._waiting is not None:
            self._waiting.cancel()
        self._messages.clear()
        self._disconnect()

    async def next(self) -> tuple[str, Position, bytes]:
        """The next message: source, position and body."""
        while True:
            while self._messages:
                frames = self._messages.popleft()
                if len(frames) != 3 or (self._sources is not None and frames[0] not in self._sources):
                    continue  # topics are prefixes
                try:
                    return frames[0].decode(), unpack_position(frames[1]), frames[2]
                except (WireError, UnicodeDecodeError):
                    continue
            if self.is_closed:
                raise RuntimeError("The subscription is closed")
            if self._socket is None:
                await self._wait(self._pause_s)
                self._pause_s = min(self._pause_s * 2, RECONNECT_MOST_S)
                await self._connect()
                if self.is_closed:
                    raise asyncio.CancelledError
            elif not self._read():
                await self._wait()

    async def _wait(self, within_s: float | None = None) -> None:
        """Until there is something to read, or so long."""
        waiting = self._waiting = self._loop.create_future()
        if self._socket is not None and not self._is_watched:
            self._is_watched = True
            self._loop.add_reader(self._socket.fileno(), self._readable)
        timer = None if within_s is None else self._loop.call_later(within_s, self._wake)
        try:
            await waiting
        finally:
            self._waiting = None
            if timer is not None:
                timer.cancel()

    def _wake(self) -> None:
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_result(None)

    def _readable(self) -> None:
        if self._waiting is None or self._waiting.done():
            # nobody asks for more: it waits in the kernel, and then in the broker, where it is bounded
            self._unwatch()
        else:
            self._waiting.set_result(None)

    def _unwatch(self) -> None:
        if self._is_watched and self._socket is not None:
            self._loop.remove_reader(self._socket.fileno())
        self._is_watched = False

    async def _connect(self) -> None:
        """Connects and subscribes, if the broker is there."""
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
        self._reader = FrameReader(FRAME_MAX)
        with contextlib.ExitStack() as undo:
            undo.callback(sock.close)
            try:
                async with asyncio.timeout(HANDSHAKE_S):
                    await self._shake_hands(sock)
            except (OSError, ZmtpError, TimeoutError):
                return
            if not self.is_closed:
                undo.pop_all()
                self._socket = sock

    async def _shake_hands(self, sock: socket.socket) -> None:
        loop = self._loop
        await loop.sock_connect(sock, str(self._path))
        await loop.sock_sendall(sock, greeting() + ready_command(b"SUB", b""))
        data = b""
        while len(data) < GREETING_LENGTH:
            data += await self._more(sock)
        check_greeting(data[:GREETING_LENGTH])
        self._messages += self._reader.receive(data[GREETING_LENGTH:])
        while not self._reader.commands:
            self._messages += self._reader.receive(await self._more(sock))
        # an XPUB takes no wishes before it is ready itself
        topics = (b"",) if self._sources is None else tuple(self._sources)
        await loop.sock_sendall(sock, b"".join(pack_message([_SUBSCRIBE + topic]) for topic in topics))

    async def _more(self, sock: socket.socket) -> bytes:
        data = await self._loop.sock_recv(sock, READ_BYTES)
        if not data:
            raise ConnectionResetError("the broker closed the connection")
        return data

    def _disconnect(self) -> None:
        self._unwatch()
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _read(self) -> bool:
        """Takes what is there; whether that was anything."""
        if self._socket is None:
            return False
        try:
            data = self._socket.recv(READ_BYTES)
        except (BlockingIOError, InterruptedError):
            return False
        except OSError:
            data = b""
        try:
            messages = self._reader.receive(data)
        except ZmtpError:
            data = b""
        if not data:
            self._disconnect()
        elif messages:
            self._pause_s = RECONNECT_S
            self._messages += messages
        return True
