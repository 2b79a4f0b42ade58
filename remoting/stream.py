"""A stream over a daemon's connection: pieces and holes in, pieces and holes out, an end from both sides."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING, Final

from rpc.client_session import StreamData, StreamEnded, StreamHole
from rpc.packet import STREAM_DATA_MAX
from schema.errors import VirtError

if TYPE_CHECKING:
    from remoting.connection import DaemonConnection

UNREAD_MAX: Final = 4 * 1024 * 1024


class DaemonStream:
    """One stream. It ends with `finish` (good) or `abort`, each confirmed by the daemon."""

    def __init__(self, conn: DaemonConnection, serial: int) -> None:
        self._conn = conn
        self._serial = serial
        self._unread: deque[bytes | int] = deque()
        self._bytes = 0
        self._has_all = False
        self._error: VirtError | None = None
        self._is_confirmed = False
        self._is_given_up = False
        self._news = asyncio.Event()
        self._room = asyncio.Event()
        self._room.set()

    # --- from the connection ---

    def take(self, event: StreamData | StreamHole | StreamEnded) -> None:
        """What the daemon sent."""
        if isinstance(event, StreamEnded):
            self._has_all = self._is_confirmed = True
        elif isinstance(event, StreamHole):
            self._unread.append(event.length)
        elif not event.data:
            self._has_all = True
        elif not self._is_given_up:
            self._unread.append(event.data)
            self._bytes += len(event.data)
            if self.is_full:
                self._room.clear()
        self._news.set()

    def fail(self, error: VirtError) -> None:
        """The stream is gone."""
        if not self._is_confirmed:
            self._error = error
        self._is_confirmed = True
        self._news.set()
        self._room.set()

    @property
    def is_full(self) -> bool:
        """Whether no more should be read until somebody takes what is there."""
        return self._bytes > UNREAD_MAX

    async def wait_for_room(self) -> None:
        """Returns when the stream can take more."""
        await self._room.wait()

    # --- for who uses it ---

    async def read(self) -> bytes | int | None:
        """The next piece, or the length of a hole, or None at the end. Raises the error that ended the stream."""
        while not self._unread:
            if self._error is not None:
                raise self._error
            if self._has_all:
                return None
            self._news.clear()
            await self._news.wait()
        item = self._unread.popleft()
        if isinstance(item, bytes):
            self._bytes -= len(item)
            if not self.is_full:
                self._room.set()
        return item

    async def write(self, data: bytes) -> None:
        """Sends data of any length. Raises the error that ended the stream."""
        view = memoryview(data)
        while view:
            self._check()
            await self._conn.send(self._conn.session.stream_data(self._serial, bytes(view[:STREAM_DATA_MAX])))
            view = view[STREAM_DATA_MAX:]

    async def write_hole(self, length: int) -> None:
        """Sends that many zeros without sending them. Raises the error that ended the stream."""
        self._check()
        await self._conn.send(self._conn.session.stream_hole(self._serial, length))

    async def finish(self) -> None:
        """Ends the stream and waits until the daemon has confirmed it. Raises the daemon's error."""
        if not self._is_confirmed:
            await self._conn.send(self._conn.session.stream_finish(self._serial))
        await self._confirmed()

    async def abort(self) -> None:
        """Gives the stream up."""
        if self._is_confirmed:
            return
        self._is_given_up = True
        self._unread.clear()
        self._bytes = 0
        self._room.set()
        await self._conn.send(self._conn.session.stream_abort(self._serial))

    async def _confirmed(self) -> None:
        while not self._is_confirmed:
            self._news.clear()
            await self._news.wait()
        if self._error is not None:
            raise self._error

    def _check(self) -> None:
        if self._error is not None:
            raise self._error
