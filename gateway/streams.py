"""A stream between a libvirt client and a driver: messages on one side, a ticket's socket on the other.

The client's data has no credit: its flow control is the socket. So what the driver has not taken yet is bounded, and
beyond the bound the client's socket is not read; a sink that takes nothing for long fails the stream, so that it cannot
hold the client's other calls for ever. A console outlives its driver: when the ticket's socket ends without an END, the
same call is made again and its new ticket goes on where the old one ended.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any, Final, Protocol

from broker.stream import Stream, open_ticket
from broker.wire import WireError
from rpc.packet import STREAM_DATA_MAX
from schema.errors import OperationFailed, VirtError

HELD_MAX: Final = 1 << 20
HOLE_COST: Final = 256  # what a hole that waits counts against the bound, for it has no bytes
STUCK_AFTER_S: Final = 30.0
SURVIVING: Final = frozenset({"domain_open_console", "domain_open_channel"})

Ticket = dict[str, Any]
_BROKEN: Final = (OSError, WireError)


class StreamClient(Protocol):
    """The client's side of a stream."""

    def stream_data(self, serial: int, data: bytes) -> None:
        """Sends a piece; an empty one is the end."""

    def stream_hole(self, serial: int, length: int) -> None:
        """Sends that many zeros without sending them."""

    def stream_finished(self, serial: int) -> None:
        """Confirms a finish or an abort."""

    def stream_failed(self, serial: int, error: VirtError) -> None:
        """Tells of a failure."""

    async def stream_room(self) -> None:
        """Waits until the client has taken most of what it was sent."""

    def stream_took(self) -> None:
        """The driver took data: there is room for more."""


class ClientStream:
    """One open stream. It ends by itself; `abort` ends it early."""

    def __init__(
        self,
        client: StreamClient,
        serial: int,
        stream: Stream,
        reopen: Callable[[], Awaitable[Ticket | None]] | None,
        *,
        confirmed: bool,
        sparse: bool = False,
    ) -> None:
        self.is_sparse = sparse
        self._client = client
        self._serial = serial
        self._stream = stream
        self._reopen = reopen
        self._reopening: asyncio.Task[None] | None = None
        self._inbox: deque[bytes | int] = deque()  # data, and lengths of holes
        self._news = asyncio.Event()
        self._finishing = False
        self._over = False
        self._sink_is_gone = False
        self._confirmed = confirmed  # whether the driver says END when it has all that the client sent
        self._ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.held = 0
        self._tasks = [asyncio.ensure_future(self._to_client()), asyncio.ensure_future(self._to_driver())]

    @property
    def is_full(self) -> bool:
        """Whether the client should not be read until the driver takes something."""
        return self.held > HELD_MAX

    # --- what the client sends ---

    def receive(self, data: bytes) -> None:
        """Takes a piece from the client."""
        if not self._over and not self._finishing:
            self._inbox.append(data)
            self.held += len(data)
            self._news.set()

    def receive_hole(self, length: int) -> None:
        """Takes a stretch of zeros from the client."""
        if not self._over and not self._finishing:
            self._inbox.append(length)
            self.held += HOLE_COST
            self._news.set()

    def finish(self) -> None:
        """The client is done: what it sent is delivered, then it is told so."""
        self._finishing = True
        self._news.set()

    def abort(self) -> None:
        """Ends the stream, whatever is still under way."""
        self._over = True
        for task in self._tasks:
            task.cancel()
        self._stream.close()

    # --- the two directions ---

    async def _to_driver(self) -> None:
        try:
            while True:
                while self._inbox:
                    item = self._inbox.popleft()
                    async with asyncio.timeout(STUCK_AFTER_S):
                        await self._write(item)
                    self.held -= HOLE_COST if isinstance(item, int) else len(item)
                    self._client.stream_took()
                if self._finishing:
                    await self._finish()
                    return
                self._news.clear()
                await self._news.wait()
        except TimeoutError:
            self._fail(OperationFailed(f"the other end of the stream took nothing for {STUCK_AFTER_S:.0f} seconds"))
        except VirtError as exc:
            self._fail(exc)

    async def _write(self, item: bytes | int) -> None:
        while not self._sink_is_gone:
            stream = self._stream
            try:
                if isinstance(item, int):
                    await stream.write_hole(item)
                else:
                    await stream.write(item)
                return
            except _BROKEN:
                if self._reopen is None:
                    # The reading side finds the same end, and why; what the client still sends is dropped.
                    self._sink_is_gone = True
                    return
                await self._renew(stream)

    async def _finish(self) -> None:
        try:
            async with asyncio.timeout(STUCK_AFTER_S):
                await self._stream.finish()
                if self._confirmed:
                    await asyncio.shield(self._ended)
        except VirtError as exc:
            self._fail(exc)
            return
        except TimeoutError:
            self._fail(OperationFailed("the other end of the stream did not confirm what it was sent"))
            return
        except _BROKEN as exc:
            if self._confirmed:
                self._fail(OperationFailed(f"the other end of the stream went away: {exc}"))
                return
        if not self._over:
            self._over = True
            self._end()
            self._client.stream_finished(self._serial)

    async def _to_client(self) -> None:
        try:
            while True:
                data = await self._read()
                if isinstance(data, int):
                    if not self._over:
                        self._client.stream_hole(self._serial, data)
                    await self._client.stream_room()
                    continue
                if not data:
                    if self._confirmed:
                        self._ended.set_result(None)
                    elif not self._over:
                        self._client.stream_data(self._serial, b"")
                    return
                for start in range(0, len(data), STREAM_DATA_MAX):
                    if self._over:
                        return
                    self._client.stream_data(self._serial, data[start : start + STREAM_DATA_MAX])
                await self._client.stream_room()
        except VirtError as exc:
            self._fail(exc)
        except _BROKEN:
            self._fail(OperationFailed("the other end of the stream went away"))

    async def _read(self) -> bytes | int:
        """Data, or the length of a hole where the client takes holes; nothing when the driver is done."""
        while True:
            stream = self._stream
            try:
                if not self.is_sparse:
                    return await stream.read()
                while (item := await stream.read_frame()) == b"":
                    pass
                return b"" if item is None else item
            except _BROKEN:
                if self._reopen is None or self._over:
                    raise
                await self._renew(stream)

    async def _renew(self, broken: Stream) -> None:
        """Replaces the stream that broke, once for both directions."""
        if self._stream is not broken:
            return
        if self._reopening is None:
            self._reopening = asyncio.ensure_future(self._open_again())
        await asyncio.shield(self._reopening)

    async def _open_again(self) -> None:
        try:
            self._stream.close()
            assert self._reopen is not None
            ticket = await self._reopen()
            if ticket is None:
                raise OperationFailed("the console was not opened again")
            self._stream = await open_ticket(ticket)
        finally:
            self._reopening = None

    def _fail(self, error: VirtError) -> None:
        if not self._over:
            self._over = True
            self._end()
            self._client.stream_failed(self._serial, error)

    def _end(self) -> None:
        self._stream.close()
        current = asyncio.current_task()
        for task in self._tasks:
            if task is not current:
                task.cancel()
