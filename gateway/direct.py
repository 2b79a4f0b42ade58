"""Forwarded calls that need nothing but an answer: they are sent, and answered when the reply is read, without a task.

Most calls are such. A task with its coroutines costs as much as all the rest of forwarding one.
"""

from __future__ import annotations

from collections.abc import Callable
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
    """One such call, told its outcome by the peer. A read may have several askers (`gateway/shared_reads.py`).

    A client that goes away cancels nothing, so it is never done before its outcome comes.
    """

    forwarder: Forwarder
    scope: Scope
    route: Route
    args: Any
    askers: list[tuple[Connection, CallReceived]]
    destination: str = ""
    then: Callable[[], None] | None = None
    """What to do when the outcome is there, before anybody is told."""

    def start(self) -> None:
        """Sends the call for its first asker. Raises what keeps it from being sent."""
        procedure = self.route.procedure
        forwarder = self.forwarder
        connection = self.askers[0][0]
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
                forwarder.new_trace(connection, procedure),
                forwarder.claim_of(connection, procedure),
            ),
            forwarder.pack(procedure, args),
            deadline_s=procedure.deadline_s,
            urgent=procedure.high_priority,
        )

    def done(self) -> bool:
        """Whether nobody waits any more."""
        return False

    def set_result(self, reply: Reply, /) -> None:
        """Answers the askers; a change waits for the read model first, if that is behind."""
        self._finish()
        route = self.route
        try:
            if route.parts is not None:
                payload = route.parts.translate(reply.body)
            else:
                result = unpack_result(route.procedure, reply.body)
                if route.shape is not None:
                    result = route.shape(self.args, result)
                payload = route.result.encode(result)
        except VirtError as exc:
            self._fail(exc)
        except XdrError as exc:
            self._fail(RpcError(f"Unable to encode message payload: {exc}"))
        except Exception as exc:  # noqa: BLE001 - the peer's loop calls this; every call ends in an answer
            log = self.askers[0][0].gateway.log
            log.error("a reply failed here", procedure=route.procedure.name, error=repr(exc))
            self._fail(InternalError(f"unexpected failure in {route.procedure.function}"))
        else:
            waiting = self.forwarder.catching_up(self.destination, reply, is_read=route.procedure.is_read)
            if waiting is None:
                self._reply(payload)
            else:
                self.askers[0][0].gateway.spawn(self._reply_after(waiting, payload))

    def set_exception(self, exception: VirtError, /) -> None:
        """Tells of the failure; an empty list where the actor with the objects is not installed."""
        self._finish()
        route = self.route
        empty = route.empty
        is_unsupported = exception.code == ErrorCode.NO_SUPPORT
        if is_unsupported and empty is not None and self.scope.lacks(route.procedure.served_by):
            self._reply(route.result.encode(empty))
        else:
            self._fail(exception)

    def _finish(self) -> None:
        self.forwarder.in_flight -= len(self.askers)
        if self.then is not None:
            self.then()

    async def _reply_after(self, waiting: Any, payload: bytes) -> None:
        try:
            await waiting
        finally:
            self._reply(payload)
            self.askers[0][0].gateway.finished()

    def _reply(self, payload: bytes) -> None:
        for connection, event in self.askers:
            connection.reply(event, payload)

    def _fail(self, error: VirtError) -> None:
        for connection, event in self.askers:
            connection.fail(event, error, self.route)
