"""A libvirt client's streams: which there are, and what the client and its streams tell each other."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from broker.stream import open_ticket
from broker.wire import WireError
from gateway.faults import error_payload
from gateway.link import Link
from gateway.routes import Route
from gateway.scopes import Scope
from gateway.streams import SURVIVING, ClientStream, Ticket
from rpc.packet import Status
from rpc.session import CallReceived, HoleReceived, RemoteProtocolError, ServerSession, StreamReceived
from rpc.xdr import XdrError, hole_codec
from schema.errors import HostSystemError, OperationFailed, VirtError

if TYPE_CHECKING:
    from gateway.server import Gateway

OUT_HIGH: Final = 4 << 20  # a client that has not taken this much gets no more calls answered
FAILED_KEPT: Final = 64  # sparse streams that failed, whose holes may still be under way


class StreamSide:
    """The part of a connection that is about streams."""

    gateway: Gateway
    link: Link
    scope: Scope | None
    _session: ServerSession

    def __init__(self) -> None:
        self._streams: dict[int, ClientStream] = {}
        self._failed_sparse: deque[int] = deque(maxlen=FAILED_KEPT)
        self._room: asyncio.Event = asyncio.Event()

    def need_scope(self) -> Scope:
        """The connection name that is open. Raises InternalError."""
        raise NotImplementedError

    def _pause_or_resume(self) -> None:
        raise NotImplementedError

    async def _ticket_again(self, scope: Scope, route: Route, args: Any, payload: bytes) -> Ticket | None:
        raise NotImplementedError

    def _end_streams(self) -> None:
        self._room.set()
        for stream in tuple(self._streams.values()):
            stream.abort()
        self._streams.clear()

    async def _open_stream(self, event: CallReceived, route: Route, args: Any, ticket: Ticket) -> Callable[[], None]:
        """Takes up a ticket; the function that it gives starts the stream, once the call was answered."""
        try:
            stream = await open_ticket(ticket)
        except (OSError, WireError) as exc:
            errno = getattr(exc, "errno", None)
            raise (HostSystemError(errno, "Cannot open stream") if errno else OperationFailed(str(exc))) from exc
        reopen = None
        if route.procedure.name in SURVIVING:
            scope = self.need_scope()

            async def reopen() -> Ticket | None:
                return await self._ticket_again(scope, route, args, event.payload)

        def start() -> None:
            if self.link.closed:
                stream.close()
                return
            self._session.open_stream(event.program, event.procedure, event.serial)
            self._streams[event.serial] = ClientStream(
                self,
                event.serial,
                stream,
                reopen,
                confirmed=route.procedure.stream == "write",
                sparse=bool(getattr(args, "flags", 0) & route.procedure.sparse_flag),
            )

        return start

    def _stream(self, event: StreamReceived) -> None:
        stream = self._streams.get(event.serial)
        if stream is None:
            return  # it failed on this side: what the client still sends is dropped, and no answer is owed
        if event.status == Status.CONTINUE:
            if event.data:
                stream.receive(event.data)
        elif event.status == Status.OK:
            stream.finish()
        else:
            stream.abort()
            self.stream_finished(event.serial)

    def _hole(self, event: HoleReceived) -> None:
        stream = self._streams.get(event.serial)
        if stream is None:
            if event.serial not in self._failed_sparse:
                raise RemoteProtocolError("a hole in a stream that is none")
            return  # it failed on this side: what the client still sends is dropped
        try:
            hole = hole_codec().decode(event.payload)
        except XdrError as exc:
            raise RemoteProtocolError(str(exc)) from exc
        if not stream.is_sparse or hole["length"] < 0 or hole["flags"]:
            raise RemoteProtocolError("a hole that this stream cannot have")
        stream.receive_hole(hole["length"])

    def stream_hole(self, serial: int, length: int) -> None:
        """Sends a stretch of zeros of a stream."""
        if not self.link.closing and serial in self._streams:
            payload = hole_codec().encode({"length": length, "flags": 0})
            self.link.write(self._session.stream_hole(serial, payload))

    def stream_data(self, serial: int, data: bytes) -> None:
        """Sends a piece of a stream."""
        if not self.link.closing and serial in self._streams:
            self.link.write(self._session.stream_data(serial, data))

    def stream_finished(self, serial: int) -> None:
        """Confirms the end of a stream."""
        if self._streams.pop(serial, None) is not None and not self.link.closing:
            self.link.write(self._session.stream_finished(serial))
        self._pause_or_resume()

    def stream_failed(self, serial: int, error: VirtError) -> None:
        """Tells of a stream's failure."""
        stream = self._streams.pop(serial, None)
        if stream is not None and stream.is_sparse:
            self._failed_sparse.append(serial)
        if stream is not None and not self.link.closing:
            driver = self.scope.driver if self.scope is not None else ""
            self.link.write(self._session.stream_failed(serial, error_payload(error, None, driver)))
        self._pause_or_resume()

    async def stream_room(self) -> None:
        """Waits until the client has taken most of what it was sent."""
        while self.link.buffered > OUT_HIGH // 4 and not self.link.closed:
            self._room.clear()
            await self._room.wait()

    def stream_took(self) -> None:
        """Reads the client again, if it waited for a stream only."""
        self._pause_or_resume()
