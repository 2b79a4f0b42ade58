"""Calls to the drivers: libvirt's bytes in, libvirt's bytes out, and between them one call through the broker.

What a reply tells may be ahead of what was published so far. A change is therefore answered when the read model has
caught up with it, so that no client, neither this one nor the next, reads less than it was told; a read model that
stays behind for longer than a read may wait is not asked until it has caught up.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import msgspec

from broker.peer import Reply
from gateway.feed import Feed
from gateway.reads import find_domain, read_unknown
from gateway.replica import SourceState
from gateway.routes import Route
from gateway.scopes import Calling, Scope
from gateway.streams import Ticket
from schema.body import add_files, pack_args, unpack_result
from schema.enums.domain import DomainXMLFlags
from schema.errors import DriverDegraded, OperationFailed, UnsupportedCall, VirtError
from schema.model import Procedure
from schema.table import need_procedure
from settings.drivers import NoDriverForUri

if TYPE_CHECKING:
    from gateway.connection import Connection
    from gateway.server import Gateway

_encode: Final = msgspec.msgpack.Encoder().encode
_PRIVATE_XML: Final = int(DomainXMLFlags.SECURE | DomainXMLFlags.MIGRATABLE)
_CLOSED_S: Final = 5.0
_BINDING: Final = frozenset(
    {"domain_create_xml", "domain_create_xml_with_files", "domain_create_with_flags", "domain_create_with_files"}
)
"""Calls by which a guest may be bound to the connection that it was started through."""


def _packed(procedure: Procedure, args: msgspec.Struct) -> bytes:
    """The body of a call whose arguments were read from XDR, and are therefore within every bound but one.

    Raises InvalidArguments for a text that is not Unicode.
    """
    try:
        return _encode(args)
    except UnicodeEncodeError:
        return pack_args(procedure, args)


class Answer(NamedTuple):
    """What a driver answered, in libvirt's bytes."""

    payload: bytes
    ticket: Ticket | None


class Forwarder:
    """Translates and calls."""

    def __init__(self, peer: Calling, feed: Feed, *, read_wait_s: float, fresh_s: float) -> None:
        self.peer = peer
        self.pack = _packed
        self.in_flight = 0
        self._feed = feed
        self._read_wait_s = read_wait_s
        self._fresh_s = fresh_s
        self._run = secrets.token_hex(4)
        self._traces = 0

    def new_trace(self, connection: Connection, procedure: Procedure) -> str:
        """An id under which every process logs what a call makes it do; here it is logged for changes."""
        self._traces += 1
        trace = f"{self._run}-{self._traces:x}"
        if not procedure.is_read:
            who = connection.claim
            connection.gateway.log.info(
                "call", procedure=procedure.name, trace=trace, uid=who.get("uid"), pid=who.get("pid")
            )
        return trace

    def claim_of(self, connection: Connection, procedure: Procedure) -> dict[str, object]:
        """Who calls, as the driver is told; and through which connection, where that may matter for longer."""
        if procedure.name in _BINDING:
            connection.binding = connection.scope
            return {**connection.claim, "client": connection.number}
        return connection.claim

    async def tell_closed(self, gateway: Gateway, scope: Scope) -> None:
        """Guests may have been bound to a connection that is closed: the driver need not wait until it looks."""
        try:
            row = need_procedure("qemu_connection_closed")
            destination = scope.destination(row.served_by)
            await self.peer.call(destination, row.name, pack_args(row, {}), scope=scope.uri, deadline_s=_CLOSED_S)
        except (VirtError, NoDriverForUri) as exc:
            gateway.log.debug("a closed connection was not told", error=str(exc))
        finally:
            gateway.finished()

    async def forward(self, connection: Connection, scope: Scope, route: Route, args: Any, payload: bytes) -> Answer:
        """Asks the driver.

        Raises what the driver answered, and XdrError for a result that libvirt's protocol cannot carry.
        """
        if route.reader is not None and route.procedure.name in scope.view.replica.serves:
            answer = await self._read_when_caught_up(scope, route, payload)
            if answer is not None:
                return Answer(answer, None)
        try:
            result, ticket = await self.ask(connection, scope, route, args, payload)
        except UnsupportedCall:
            if route.empty is None or not scope.lacks(route.procedure.served_by):
                raise
            return Answer(route.result.encode(route.empty), None)
        except DriverDegraded:
            # The news of the driver's state may come later than its refusal.
            replica = scope.view.replica
            replica.set_state(SourceState.DEGRADED)
            if route.reader is None or not replica.is_unknown or route.procedure.name not in replica.serves:
                raise
            known = read_unknown(route.procedure.name, scope.view, payload)
            if known is None:
                raise
            return Answer(known, None)
        if route.shape is not None:
            result = route.shape(args, result)
        return Answer(route.result.encode(result), ticket)

    async def ask(
        self,
        connection: Connection,
        scope: Scope,
        route: Route,
        args: Any,
        payload: bytes = b"",
        files: Ticket | None = None,
    ) -> tuple[Any, Ticket | None]:
        """The driver's own result, and the ticket of its stream; `files` is the ticket of those that go with the call.

        Raises what the driver answered.
        """
        procedure = route.procedure
        try:
            destination = scope.destination(procedure.served_by)
        except NoDriverForUri as exc:
            raise OperationFailed(str(exc)) from exc
        known, end = (None, 0)
        if procedure.name == "domain_get_xml_desc" and not args.flags & _PRIVATE_XML:
            known, end = find_domain(scope.view.domains, payload)
        body = _packed(procedure, args)
        reply = await self.peer.call(
            destination,
            procedure.name,
            body if files is None else add_files(body, files),
            scope=scope.uri,
            key=route.key_of(args),
            deadline_s=procedure.deadline_s,
            trace=self.new_trace(connection, procedure),
            caller=self.claim_of(connection, procedure),
            urgent=procedure.high_priority,
        )
        result = unpack_result(procedure, reply.body)
        replica = self._feed.replica(destination)
        waiting = self.catching_up(destination, reply, is_read=procedure.is_read)
        if waiting is not None:
            await waiting
        if known is not None and replica.seq >= reply.seq and reply.source == destination:
            scope.view.domains.keep_xml(known, payload[end:], route.result.encode(result))
        return result, reply.ticket if procedure.stream else None

    def catching_up(self, destination: str, reply: Reply, *, is_read: bool) -> Coroutine[Any, Any, bool] | None:
        """What to wait for before a change is answered: that the read model has what the reply tells of."""
        replica = self._feed.replica(destination)
        if reply.seq <= replica.seq or not replica.known or reply.source != destination:
            return None
        replica.told(reply.seq)
        return None if is_read else self._feed.reached(destination, reply.seq, self._read_wait_s)

    async def _read_when_caught_up(self, scope: Scope, route: Route, payload: bytes) -> bytes | None:
        """The read model's answer, when all that keeps it from being believed is an event that is under way."""
        replica = scope.view.replica
        behind = max(replica.mark, replica.promised_seq)
        if replica.seq >= behind or not await self._feed.reached(replica.source, behind, self._read_wait_s):
            return None
        if route.reader is None or not replica.is_current(asyncio.get_running_loop().time(), self._fresh_s):
            return None
        return route.reader(scope.view, payload)
