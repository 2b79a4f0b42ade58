"""Forwarded calls that need nothing but an answer: they are sent, and answered when the reply is read, without a task.

Most calls are such. A task with its coroutines costs as much as all the rest of forwarding one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from broker.peer import Reply
from broker.wire import CallPrologue
from gateway.routes import Route
from rpc.session import CallReceived
from rpc.xdr import XdrError
from schema.body import unpack_result
from schema.errors import ErrorCode, InternalError, OperationFailed, RpcError, VirtError
from settings.drivers import NoDriverForUri

if TYPE_CHECKING:
    from gateway.connection import Connection
    from gateway.forwarding import Forwarder
    from gateway.scopes import Scope


class DirectCall(msgspec.Struct, eq=False):
    """One such call, told its outcome by the peer.

    A client that goes away cancels nothing, so it is never done before its outcome comes.
    """

    forwarder: Forwarder
    connection: Connection
    scope: Scope
    event: CallReceived
    route: Route
    args: Any
    destination: str = ""

    def start(self) -> None:
        """Sends the call. Raises what keeps it from being sent."""
        procedure = self.route.procedure
        forwarder = self.forwarder
        try:
            self.destination = self.scope.destination(procedure.served_by)
        except NoDriverForUri as exc:
            raise OperationFailed(str(exc)) from exc
        args = self.args
        forwarder.peer.begin_call(
            self,
            self.destination,
            CallPrologue(
                procedure.name,
                self.scope.uri,
                self.route.key_of(args),
                None,
                forwarder.new_trace(self.connection, procedure),
                self.connection.claim,
            ),
            forwarder.pack(procedure, args),
            deadline_s=procedure.deadline_s,
            urgent=procedure.high_priority,
        )
        forwarder.in_flight += 1

    def done(self) -> bool:
        """Whether nobody waits any more."""
        return False

    def set_result(self, reply: Reply, /) -> None:
        """Answers the client; a change waits for the read model first, if that is behind."""
        self.forwarder.in_flight -= 1
        route = self.route
        try:
            result = unpack_result(route.procedure, reply.body)
            if route.shape is not None:
                result = route.shape(self.args, result)
            payload = route.result.encode(result)
        except VirtError as exc:
            self.connection.fail(self.event, exc, route)
        except XdrError as exc:
            self.connection.fail(self.event, RpcError(f"Unable to encode message payload: {exc}"), route)
        except Exception as exc:  # noqa: BLE001 - the peer's loop calls this; every call ends in an answer
            connection = self.connection
            connection.gateway.log.error("a reply failed here", procedure=route.procedure.name, error=repr(exc))
            connection.fail(self.event, InternalError(f"unexpected failure in {route.procedure.function}"), route)
        else:
            waiting = self.forwarder.catching_up(self.destination, reply, is_read=route.procedure.is_read)
            if waiting is None:
                self.connection.reply(self.event, payload)
            else:
                self.connection.gateway.spawn(self._reply_after(waiting, payload))

    async def _reply_after(self, waiting: Any, payload: bytes) -> None:
        try:
            await waiting
        finally:
            self.connection.reply(self.event, payload)
            self.connection.gateway.finished()

    def set_exception(self, exception: VirtError, /) -> None:
        """Tells the client of the failure; an empty list where the actor with the objects is not installed."""
        self.forwarder.in_flight -= 1
        route = self.route
        empty = route.empty
        is_unsupported = exception.code == ErrorCode.NO_SUPPORT
        if is_unsupported and empty is not None and self.scope.lacks(route.procedure.served_by):
            self.connection.reply(self.event, route.result.encode(empty))
        else:
            self.connection.fail(self.event, exception, route)
