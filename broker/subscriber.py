"""A subscription to published events: bounded, never read ahead, surviving the broker's restarts.

Whoever reads too slowly loses messages in the broker's own bounded queue; positions tell that something is missing, and
the journal has it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import zmq
from zmq.backend import Socket as Compiled

from broker.wire import Position, WireError, unpack_position

HWM: Final = 1000
RECONNECT_MS: Final = 20
RECONNECT_MOST_MS: Final = 100
_NOBLOCK: Final = int(zmq.NOBLOCK)


class EventSubscription:
    """An async context manager; inside it, `next` gives one message after the other."""

    def __init__(self, context: zmq.Context[zmq.Socket[bytes]], path: Path, sources: Sequence[str] | None) -> None:
        self._context = context
        self._path = path
        self._sources = None if sources is None else frozenset(source.encode() for source in sources)
        self._socket: zmq.Socket[bytes] | None = None
        self._waiting: asyncio.Future[None] | None = None
        self.is_closed = False

    async def __aenter__(self) -> Self:
        if self.is_closed:
            raise RuntimeError("The connection of this subscription is closed")
        self._loop = asyncio.get_running_loop()
        socket = self._context.socket(zmq.SUB)
        socket.setsockopt(zmq.RCVHWM, HWM)
        socket.setsockopt(zmq.LINGER, 0)
        socket.setsockopt(zmq.RECONNECT_IVL, RECONNECT_MS)
        socket.setsockopt(zmq.RECONNECT_IVL_MAX, RECONNECT_MOST_MS)
        for topic in (b"",) if self._sources is None else self._sources:
            socket.setsockopt(zmq.SUBSCRIBE, topic)
        socket.connect(f"ipc://{self._path}")
        self._socket = socket
        self._fd = int(socket.getsockopt(zmq.FD))
        self._recv = Compiled.recv.__get__(socket)
        self._get = Compiled.get.__get__(socket)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Ends the subscription; a waiting `next` is cancelled."""
        self.is_closed = True
        if self._socket is not None:
            if self._waiting is not None:
                self._waiting.cancel()
            self._socket.close(linger=0)
            self._socket = None

    async def next(self) -> tuple[str, Position, bytes]:
        """The next message: source, position and body."""
        while True:
            message = self._take()
            if message is not None:
                return message
            # the descriptor stays readable until the socket is looked at, so it is watched only while nothing is there
            waiting = self._waiting = self._loop.create_future()
            self._loop.add_reader(self._fd, _wake, waiting)
            try:
                if not self._get(zmq.EVENTS) & zmq.POLLIN:
                    await waiting
            finally:
                self._loop.remove_reader(self._fd)
                self._waiting = None

    def _take(self) -> tuple[str, Position, bytes] | None:
        if self._socket is None:
            raise RuntimeError("The subscription is closed")
        while True:
            try:
                frames = [self._recv(_NOBLOCK)]
            except zmq.Again:
                return None
            while self._get(zmq.RCVMORE):
                frames.append(self._recv(_NOBLOCK))
            if len(frames) != 3 or (self._sources is not None and frames[0] not in self._sources):
                continue  # topics are prefixes
            try:
                return frames[0].decode(), unpack_position(frames[1]), frames[2]
            except (WireError, UnicodeDecodeError):
                continue


def _wake(waiting: asyncio.Future[None]) -> None:
    if not waiting.done():
        waiting.set_result(None)
