"""Forwarded calls that need nothing but an answer: they are sent, and answered when the reply is read, without a task.

Most calls are such. A task with its coroutines costs as much as all the rest of forwarding one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

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


class DirectCall:
    """One such call, told its outcome by the peer.

    A client that goes away cancels nothing, so it is never done before its outcome comes.
    """

    __slots__ = ("_args", "_connection", "_destination", "_event", "_forwarder", "_route", "_scope")

    def __init__(
        self, forwarder: Forwarder, connection: Connection, scope: Scope, event: CallReceived, route: Route, args: Any
    ) -> None:
        self._forwarder = forwarder
        self._connection = connection
        self._scope = scope
        self._event = event
        self._route = route
        self._args = args
        self._destination = ""

    def start(self) -> None:
        """Sends the call. Raises what keeps it from being sent."""
        procedure = self._route.procedure
        forwarder = self._forwarder
        try:
            self._destination = self._scope.destination(procedure.served_by)
        except NoDriverForUri as exc:
            raise OperationFailed(str(exc)) from exc
        args = self._args
        forwarder.peer.begin_call(
            self,
            self._destination,
            CallPrologue(
                procedure.name,
                self._scope.uri,
                self._route.key_of(args),
                None,
                forwarder.new_trace(self._connection, procedure),
                self._connection.claim,
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
        self._forwarder.in_flight -= 1
        route = self._route
        try:
            result = unpack_result(route.procedure, reply.body)
            if route.shape is not None:
                result = route.shape(self._args, result)
            payload = route.result.encode(result)
        except VirtError as exc:
            self._connection.fail(self._event, exc, route)
        except XdrError as exc:
            self._connection.fail(self._event, RpcError(f"Unable to encode message payload: {exc}"), route)
        except Exception as exc:  # noqa: BLE001 - the peer's loop calls this; every call ends in an answer
            connection = self._connection
            connection.gateway.log.error("a reply failed here", procedure=route.procedure.name, error=repr(exc))
            connection.fail(self._event, InternalError(f"unexpected failure in {route.procedure.function}"), route)
        else:
            waiting = self._forwarder.catching_up(self._destination, reply, is_read=route.procedure.is_read)
            if waiting is None:
                self._connection.reply(self._event, payload)
            else:
                self._connection.gateway.spawn(self._reply_after(waiting, payload))

    async def _reply_after(self, waiting: Any, payload: bytes) -> None:
        try:
            await waiting
        finally:
            self._connection.reply(self._event, payload)
            self._connection.gateway.finished()

    def set_exception(self, exception: VirtError, /) -> None:
        """Tells the client of the failure; an empty list where the actor with the objects is not installed."""
        self._forwarder.in_flight -= 1
        route = self._route
        empty = route.empty
        is_unsupported = exception.code == ErrorCode.NO_SUPPORT
        if is_unsupported and empty is not None and self._scope.lacks(route.procedure.served_by):
            self._connection.reply(self._event, route.result.encode(empty))
        else:
            self._connection.fail(self._event, exception, route)
