"""One libvirt client: what it sends is answered from the read model where possible, else a task asks the driver.

A call that the read model answers costs no task and no await: bytes in, a look-up, bytes out.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final

from gateway.direct import DirectCall
from gateway.faults import error_payload, read_only_refusal
from gateway.files import call_with_files
from gateway.link import MakeLink
from gateway.reads import read_unknown
from gateway.routes import Route
from gateway.scopes import Scope
from gateway.shared_reads import PAYLOAD_MAX, Question, rights_of
from gateway.specials.events import registration
from gateway.stream_side import OUT_HIGH, StreamSide
from gateway.streams import Ticket
from gateway.subscriptions import ClientSubscriptions
from rpc.packet import LENGTH_MIN, PING_BYTES, PONG_BYTES, Packet, PacketError, answer_to
from rpc.session import (
    AUTH_CALLS,
    Auth,
    CallReceived,
    CallRefused,
    HoleReceived,
    PingReceived,
    RemoteProtocolError,
    ServerSession,
    StreamReceived,
)
from rpc.xdr import XdrError
from schema.enums.admin import ClientTransport
from schema.errors import (
    Busy,
    ErrorDomain,
    Fenced,
    InternalError,
    NotRegistered,
    OperationFailed,
    RpcError,
    UnknownProcedure,
    VirtError,
)
from schema.model import Procedure
from schema.table import need_event

if TYPE_CHECKING:
    from gateway.auth.proofs import Proof
    from gateway.server import Gateway

UNPROVED_MAX: Final = 512 << 10  # no message that proves who somebody is is longer
OUT_MAX: Final = 64 << 20  # nor is it told more events: it is disconnected, which it notices, unlike a lost event


class Connection(StreamSide):
    """A client's connection, from its first byte to its last."""

    may_be_told: Callable[[Mapping[str, Any]], bool] | None = None
    """Which events it may be told of, where that is not all."""

    def __init__(
        self,
        gateway: Gateway,
        sock: socket.socket,
        *,
        caller: dict[str, Any],
        number: int,
        transport: ClientTransport,
        make_link: MakeLink,
        proof: Proof | None = None,
    ) -> None:
        super().__init__()
        self.gateway = gateway
        self.number = number
        self.since = time.time()
        self.transport = transport
        self.read_only: bool = caller["read_only"]
        self.caller = caller
        self.claim = caller  # what the broker is told of this client
        self.rights = rights_of(caller)
        self.scope: Scope | None = None
        self.opening = False
        self.binding: Scope | None = None  # where guests may have been started that end with it
        self.subscriptions = ClientSubscriptions()
        self.close_event = ClientSubscriptions()
        self.wants_keepalive = False
        self.heard_at = self.came_at = gateway.clock()
        self.pings = 0
        self.proof = proof
        self._session = ServerSession(
            pending_max=gateway.settings.max_client_requests,
            auth=Auth.DONE if proof is None else Auth.NEEDED,
            open_calls=AUTH_CALLS,
        )
        self._now = self.heard_at
        self._fds: dict[int, list[int]] = {}  # by the serial of the call with which they came
        self._on_reply: Callable[[], None] | None = None
        self.link = make_link(
            gateway.loop,
            sock,
            gateway.read_buffer,
            on_data=self._received,
            on_drained=self._drained,
            on_closed=self._closed,
        )

    def disconnect(self) -> None:
        """Closes the connection now."""
        self.link.abort()

    # --- from the socket ---

    def _received(self, data: bytes) -> None:
        gateway = self.gateway
        self._now = self.heard_at = gateway.clock()
        session = self._session
        # Nearly every message is one call that comes alone and whole, and nearly every one of them is a read.
        if self.scope is not None and self.link.buffered == 0 and session.is_single_call(data):
            view = self.scope.view
            replica = view.replica
            reader = replica.readers.get(data[4:16])
            if reader is not None and replica.is_current(self._now, gateway.fresh_s):
                answer = reader(view, data[LENGTH_MIN:])
                if answer is not None:
                    gateway.cached_reads += 1
                    self.link.write(answer_to(data, answer))
                    return
            route = gateway.routes.find_by_header(data[4:16])
            if route is not None and (reader is None or not replica.is_unknown):
                self._slow_call(session.take_single_call(data), route)
                return
        session.feed(data)
        self._work()

    def _work(self) -> None:
        """Goes through what the client sent, as far as that may be done now."""
        session = self._session
        link = self.link
        try:
            while not link.closing and link.buffered <= OUT_HIGH:
                event = session.next_event()
                if event is None:
                    break
                kind = type(event)
                if kind is CallReceived:
                    self._call(event)  # type: ignore[arg-type]
                elif kind is StreamReceived:
                    self._stream(event)  # type: ignore[arg-type]
                elif kind is PingReceived:
                    link.write(PONG_BYTES)
                elif kind is CallRefused:
                    self._refuse(event)  # type: ignore[arg-type]
                elif kind is HoleReceived:
                    self._hole(event)  # type: ignore[arg-type]
        except (PacketError, RemoteProtocolError) as exc:
            self.gateway.log.info("client broke the protocol", reason=str(exc), **self._who())
            link.abort()
            return
        if self.proof is not None and self.owes_proof and session.buffered > UNPROVED_MAX:
            self.gateway.log.warning("a client says too much before it has proved who it is", **self._who())
            link.abort()
            return
        self._pause_or_resume()

    def _pause_or_resume(self) -> None:
        link = self.link
        full = link.buffered > OUT_HIGH or self._session.wants_pause
        if full or any(stream.is_full for stream in self._streams.values()):
            link.pause()
        else:
            link.resume()

    def _drained(self) -> None:
        if self.link.buffered <= OUT_HIGH // 2:
            self._room.set()
            self._work()

    def _closed(self) -> None:
        self._end_streams()
        for fds in self._fds.values():
            _close_all(fds)
        self._fds.clear()
        if self.proof is not None:
            self.proof.close()
        self.release()
        self.gateway.forget(self)
        if self.binding is not None:
            self.gateway.spawn(self.gateway.forwarder.tell_closed(self.gateway, self.binding))

    # --- calls ---

    def _call(self, event: CallReceived) -> None:
        try:
            route = self.gateway.routes.need(event.program, event.procedure)
        except UnknownProcedure as exc:
            self._discard_fds(event.fds)
            self.fail(event, exc, None)
            return
        scope = self.scope
        if route.reader is not None and scope is not None and route.procedure.name in scope.view.replica.serves:
            view = scope.view
            replica = view.replica
            if replica.is_current(self._now, self.gateway.fresh_s):
                answer = route.reader(view, event.payload)
            elif replica.is_unknown:
                answer = read_unknown(route.procedure.name, view, event.payload)
            else:
                answer = None
            if answer is not None:
                self.link.write(self._session.reply(event.program, event.procedure, event.serial, answer))
                self.gateway.cached_reads += 1
                return
        self._slow_call(event, route)

    def _slow_call(self, event: CallReceived, route: Route) -> None:
        procedure = route.procedure
        try:
            if event.fds:
                self._keep_fds(event, procedure)
            args = route.args.decode(event.payload)
            if self.scope is None and not route.before_open:
                self.need_scope()
            if self.read_only and self._is_refused(route, args):
                raise read_only_refusal(procedure)
            if route.check is not None:
                route.check(args)
            self._dispatch(event, route, args)
        except XdrError as exc:
            self.fail(event, RpcError(f"Unable to decode message payload: {exc}"), route)
        except VirtError as exc:
            self.fail(event, exc, route)

    def _dispatch(self, event: CallReceived, route: Route, args: Any) -> None:
        """Answers at once, or has it answered. Raises what keeps the call from being made."""
        if route.immediate is not None:
            result = route.make_result(**route.immediate(self, args))
            self.reply(event, route.result.encode(result))
            return
        gateway = self.gateway
        forwarder = gateway.forwarder
        if len(gateway.tasks) + forwarder.in_flight >= gateway.settings.calls_in_flight:
            raise Busy(0.1)
        if route.is_direct and self.scope is not None:
            scope = self.scope
            call = DirectCall(forwarder, scope, route, args, [(self, event)])
            if route.procedure.is_read and len(event.payload) <= PAYLOAD_MAX:
                gateway.shared_reads.ask(Question(self.rights, scope.uri, route, event.payload), call)
            else:
                call.start()
            forwarder.in_flight += 1
            return
        gateway.spawn(self._answer(event, route, args))

    @staticmethod
    def _is_refused(route: Route, args: Any) -> bool:
        rule = route.procedure
        named = {} if rule.ro_param == "flags" else {rule.ro_param: getattr(args, rule.ro_param)}
        return rule.refused_read_only(getattr(args, "flags", 0), **named)

    async def _answer(self, event: CallReceived, route: Route, args: Any) -> None:
        try:
            await self._produce(event, route, args)
        except VirtError as exc:
            self.fail(event, exc, route)
        except XdrError as exc:
            self.fail(event, RpcError(f"Unable to encode message payload: {exc}"), route)
        except Exception as exc:  # noqa: BLE001 - every call ends in an answer
            self.gateway.log.error("a call failed here", procedure=route.procedure.name, error=repr(exc), **self._who())
            self.fail(event, InternalError(f"unexpected failure in {route.procedure.function}"), route)
        finally:
            self.gateway.finished()

    async def _produce(self, event: CallReceived, route: Route, args: Any) -> None:
        """Answers a call that has to be waited for. Raises why it cannot be."""
        if route.awaited is not None:
            result = route.make_result(**await route.awaited(self, route, args))
            self.reply(event, route.result.encode(result))
            return
        if route.procedure.fds is not None:
            await call_with_files(self, event, route, args, self._fds.pop(event.serial, []))
            return
        answer = await self.gateway.forwarder.forward(self, self.need_scope(), route, args, event.payload)
        stream = await self._open_stream(event, route, args, answer.ticket) if answer.ticket is not None else None
        self.reply(event, answer.payload)
        if stream is not None:
            stream()

    async def _ticket_again(self, scope: Scope, route: Route, args: Any, payload: bytes) -> Ticket | None:
        return (await self.gateway.forwarder.forward(self, scope, route, args, payload)).ticket

    def reply(self, event: CallReceived, payload: bytes) -> None:
        """Sends a call's result."""
        if not self.link.closed:
            self.link.write(self._session.reply(event.program, event.procedure, event.serial, payload))
            if self._on_reply is not None:
                then, self._on_reply = self._on_reply, None
                then()
            self._work_later()

    def _work_later(self) -> None:
        """Goes on with what the client sent meanwhile, outside of whatever answers it now."""
        if self._session.buffered and not self.link.closing:
            self.gateway.loop.call_soon(self._work)

    def reply_with_fd(self, event: CallReceived, payload: bytes, fd: int) -> None:
        """Sends a call's result and a descriptor, which is closed here."""
        self.link.write(self._session.reply_with_fds(event.program, event.procedure, event.serial, payload, 1))
        self.link.write_fd(fd)
        self._work_later()

    def fail(self, event: CallReceived, error: VirtError, route: Route | None) -> None:
        """Sends a call's failure."""
        if event.fds:
            self._drop_fds(event)
        if self.link.closed:
            return
        if isinstance(error, Fenced | NotRegistered):
            # This gateway is over, the call is not: its outcome is for the client's next connection to find out.
            self.link.abort()
            return
        driver = self.scope.driver if self.scope is not None and route is not None else ""
        procedure = route.procedure if route is not None else None
        payload = error_payload(error, procedure, driver)
        self.link.write(self._session.error(event.program, 1, event.procedure, event.serial, payload))
        self._work_later()

    def _refuse(self, event: CallRefused) -> None:
        packet: Packet = event.packet
        self._discard_fds(packet.fds)
        payload = error_payload(RpcError(event.reason))
        self.link.write(self._session.error(packet.program, packet.version, packet.procedure, packet.serial, payload))

    # --- descriptors ---

    def _keep_fds(self, event: CallReceived, procedure: Procedure) -> None:
        """Keeps what came with a call until it is forwarded or has failed. Raises OperationFailed."""
        fds = self.link.take_fds(event.fds)
        if procedure.fds != "call" or len(fds) != event.fds or event.serial in self._fds:
            _close_all(fds)
            raise OperationFailed(f"file descriptors cannot be passed to {procedure.function}")
        self._fds[event.serial] = fds

    def _drop_fds(self, event: CallReceived) -> None:
        _close_all(self._fds.pop(event.serial, []))

    def _discard_fds(self, count: int) -> None:
        _close_all(self.link.take_fds(count))

    def need_scope(self) -> Scope:
        """The connection name that is open; it may have been closed since a call came. Raises InternalError."""
        if self.scope is None:
            raise InternalError("hypervisor connection not open", domain=ErrorDomain.RPC)
        return self.scope

    def after_reply(self, then: Callable[[], None]) -> None:
        """What is to be done when the next reply is written."""
        self._on_reply = then

    # --- who the client is ---

    @property
    def owes_proof(self) -> bool:
        """Whether it has not proved yet who it is."""
        return self._session.auth is Auth.NEEDED

    @property
    def held(self) -> int:
        """Bytes that wait here: answers that the client has not taken, and messages that it has not finished."""
        return self.link.buffered + self._session.buffered

    @property
    def has_unread(self) -> bool:
        """Whether the client has sent more than was looked at."""
        return self._session.buffered > 0

    def prove(self, **more: str) -> None:
        """From now on it is known who the client is."""
        self._session.auth = Auth.DONE
        self.caller = {**self.caller, **more}
        self.claim = {**self.claim, **more}
        self.rights = rights_of(self.claim)
        self.gateway.unproved.discard(self)

    def make_read_only(self) -> None:
        """From now on the client may read only, although its socket would let it write."""
        self.read_only = True
        self.claim = {**self.caller, "read_only": True}
        self.rights = rights_of(self.claim)

    def release(self) -> None:
        """Lets go of the connection name and of everything registered under it."""
        subscriptions = self.gateway.subscriptions
        subscriptions.remove_client(self.subscriptions)
        self.set_close_event(False)
        scope, self.scope = self.scope, None
        if scope is not None:
            self.gateway.scopes.close(scope, self.caller)

    # --- events ---

    def set_close_event(self, wanted: bool) -> None:
        """Whether the client is told when its driver's own connection ends."""
        subscriptions = self.gateway.subscriptions
        if wanted:
            added = registration(self, need_event("connect_event_connection_closed"), "hypervisor")
            subscriptions.add(self.close_event, added)
        else:
            subscriptions.remove_client(self.close_event)

    @property
    def wants_close_event(self) -> bool:
        """Whether it is."""
        return bool(self.close_event.by_id)

    def send_event(self, message: bytes) -> None:
        """Tells the client of an event, soon."""
        self.gateway.outbox.add(self, message)

    def write_events(self, messages: bytes) -> None:
        """Tells the client of events now; disconnects one that does not take what it is told."""
        if self.link.closing:
            return
        if self.link.buffered > OUT_MAX:
            self.gateway.log.warning("client does not take its events", unread=self.link.buffered, **self._who())
            self.link.abort()
            return
        self.link.write(messages)

    # --- keepalive ---

    def check_alive(self, now: float, interval_s: float, count: int) -> None:
        """Asks a silent client for a sign of life; disconnects it when it gave none for too long."""
        if self.link.is_paused:
            self.heard_at = now  # it may well have answered: it is this side that does not read
        due = int((now - self.heard_at) / interval_s)
        if due == 0:
            self.pings = 0
        elif due > count:
            self.gateway.log.info("client is silent", seconds=round(now - self.heard_at, 1), **self._who())
            self.link.abort()
        elif due > self.pings:
            self.pings = due
            self.link.write(PING_BYTES)

    def _who(self) -> dict[str, Any]:
        return {"uid": self.caller["uid"], "pid": self.caller["pid"]}


def _close_all(fds: list[int]) -> None:
    for fd in fds:
        os.close(fd)
