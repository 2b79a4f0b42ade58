"""Calls to which open files belong: a client's descriptors on their way to the driver, and the way back.

A descriptor that the client is to get is one end of a connection of which the driver gets the other, with the call; so
drivers only ever take files (`docs/design/0009-open-files-beside-a-call.md`).
"""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, Any

from broker.files import offered_files
from gateway.routes import Route
from rpc.session import CallReceived
from schema.enums.admin import ClientTransport
from schema.errors import HostSystemError, OperationFailed

if TYPE_CHECKING:
    from gateway.connection import Connection


async def call_with_files(connection: Connection, event: CallReceived, route: Route, args: Any, fds: list[int]) -> None:
    """Asks the driver and answers the client. The descriptors are closed. Raises what the driver answered."""
    ours: socket.socket | None = None
    if route.procedure.fds == "reply":
        if connection.transport is not ClientTransport.UNIX:
            raise OperationFailed(f"{route.procedure.function} needs a unix socket, over which a file can be passed")
        ours, theirs = socket.socketpair()
        fds = [theirs.detach()]
    try:
        async with offered_files(fds) as ticket:
            result, _ = await connection.gateway.forwarder.ask(
                connection, connection.need_scope(), route, args, event.payload, ticket if fds else None
            )
        payload = route.result.encode(result)
        if ours is None or connection.link.closed:
            connection.reply(event, payload)
        else:
            connection.reply_with_fd(event, payload, ours.detach())
    except OSError as exc:
        raise HostSystemError(exc.errno or 0, "Cannot pass files on") from exc
    finally:
        if ours is not None:
            ours.close()
