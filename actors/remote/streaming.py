"""Streams to daemons, each over a connection of its own: one that nobody reads holds up no call of anybody else.

A driver that remembers its objects for one connection alone (libvirt's test driver with a file) is the exception.
"""

from __future__ import annotations

import asyncio
from typing import Any, Final

from actors.remote.far_side import FarSide
from actors.runtime.streams import TICKET_S, Streamed
from broker.stream import Stream
from remoting.connection import DaemonConnection, connect_daemon
from remoting.relay import serve_stream
from remoting.stream import DaemonStream
from schema.errors import ResourceBusy
from schema.model import Procedure

STREAMS_MAX: Final = 128
_SPARE_S: Final = 5.0


async def open_line(side: FarSide, procedure: Procedure, args: Any) -> Streamed:
    """The stream of a call, to be taken up in time. Raises the daemon's error, HypervisorGone, ResourceBusy."""
    shared = await side.connection()
    if shared.uri.driver == "test" and shared.uri.path != "/default":
        result, stream = await shared.open_stream(procedure, args)
        return Streamed(lambda ticket: serve_stream(ticket, stream, procedure.name), _told(procedure, result))
    if len(side.lines) >= STREAMS_MAX:
        raise ResourceBusy(f"{STREAMS_MAX} streams to '{side.scope}' are open already")
    conn = await connect_daemon(side.scope, keepalive_s=0)
    line = _Line(side, conn)
    try:
        result, stream = await conn.open_stream(procedure, args)
    except BaseException:
        await line.close()
        raise
    return Streamed(lambda ticket: line.serve(ticket, stream, procedure.name), _told(procedure, result))


def _told(procedure: Procedure, result: Any) -> Any:
    return result if procedure.ret else None


class _Line:
    """A connection for one stream, closed with it, or when nobody takes it up."""

    def __init__(self, side: FarSide, conn: DaemonConnection) -> None:
        self._side = side
        self._conn = conn
        self._giving_up = asyncio.create_task(self._give_up(), name="stream that nobody took up")
        side.lines.add(self)

    async def serve(self, ticket: Stream, stream: DaemonStream, procedure: str) -> None:
        """Passes everything on. Raises the daemon's error."""
        self._giving_up.cancel()
        try:
            await serve_stream(ticket, stream, procedure)
        finally:
            await self.close()

    async def close(self) -> None:
        """Ends the connection."""
        self._side.lines.discard(self)
        if asyncio.current_task() is not self._giving_up:
            self._giving_up.cancel()
        await self._conn.aclose()

    async def _give_up(self) -> None:
        await asyncio.sleep(TICKET_S + _SPARE_S)
        await self.close()
