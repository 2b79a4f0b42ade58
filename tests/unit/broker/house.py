"""Routing and registry with a recording outbox: every promise for calls can be shown without a socket or a clock."""

from __future__ import annotations

from typing import Any, NamedTuple

from broker.calls import GONE, SENT, Call, Caller, Desk
from broker.policy import CallerKind, Policy
from broker.registry import Actor, Incarnation, Registry, State
from broker.routing import Routing
from broker.wire import (
    CallPrologue,
    Flag,
    Header,
    Kind,
    ReplyPrologue,
    join_body,
    pack_call_prologue,
    pack_header,
    pack_reply_prologue,
    pack_value,
    split_body,
    unpack_call_prologue,
    unpack_header,
    unpack_value,
)
from schema.errors import VirtError, from_wire, to_wire
from schema.table import find_procedure, procedure_names

NONCE = "ab" * 16
READ, CHANGE, TASK = "connect_get_hostname", "domain_create", "domain_migrate_perform"


class Sent(NamedTuple):
    """A message to an actor."""

    routing_id: bytes
    source: bytes
    header: Header
    prologue: CallPrologue | None
    body: bytes


class Told(NamedTuple):
    """A message to a caller."""

    caller: Caller
    source: bytes
    header: Header
    error: VirtError | None
    result: Any


class Outbox:
    """Keeps what is put into it; `actor_room` and `caller_room` say what happens to it instead."""

    def __init__(self) -> None:
        self.sent: list[Sent] = []
        self.told: list[Told] = []
        self.actor_room = SENT
        self.caller_room = SENT

    def to_actor(self, routing_id: bytes, source: bytes, header: bytes, body: bytes) -> int:
        if self.actor_room == SENT:
            prologue = unpack_call_prologue(split_body(body)[0]) if body else None
            self.sent.append(Sent(routing_id, source, unpack_header(header), prologue, body))
        return self.actor_room

    def to_caller(self, caller: Caller, source: bytes, header: bytes, body: bytes) -> int:
        if caller.gone:
            return GONE
        if self.caller_room == SENT:
            head = unpack_header(header)
            rest = unpack_value(split_body(body)[1])
            failed = head.kind == Kind.ERROR
            self.told.append(Told(caller, source, head, from_wire(rest) if failed else None, None if failed else rest))
        return self.caller_room


class House:
    """A broker's inside with the drivers `test` and `qemu`, the gateway and the warden."""

    def __init__(self, *, limit: int = 100, waiting_limit: int = 100) -> None:
        self.now = 1000.0
        self.outbox = Outbox()
        self.wanted: list[str] = []
        self.noted: list[tuple[str, dict[str, Any]]] = []
        self.own: list[tuple[Caller, Call, CallPrologue]] = []
        self.registry = Registry(("test", "qemu", "gateway", "warden"), {})
        self.routing = Routing(
            self.outbox,
            Policy(procedure_names(), find_procedure),
            own=lambda caller, call, prologue: self.own.append((caller, call, prologue)),
            want=lambda actor: self.wanted.append(actor.name),
            note=lambda event, **fields: self.noted.append((event, fields)),
        )
        for actor in self.registry:
            self.routing.add_desk(actor, limit, waiting_limit)

    def actor(self, name: str = "test") -> Actor:
        actor = self.registry.find(name)
        assert actor is not None
        return actor

    def desk(self, name: str = "test") -> Desk:
        desk = self.routing.find_desk(name)
        assert desk is not None
        return desk

    def client(
        self, number: int = 1, *, read_only: bool = False, limit: int = 50, kind: CallerKind = CallerKind.CLIENT
    ) -> Caller:
        identity = {"uid": 1000 + number, "name": f"client {number}", "read_only": read_only}
        return Caller(b"c%016d" % number, kind, identity, limit=limit, read_only=read_only)

    def start(self, name: str = "test", procedures: tuple[str, ...] = ()) -> bytes:
        """A new incarnation registers and is ready."""
        actor = self.actor(name)
        routing_id = self.registry.grant(actor, Incarnation(actor.epoch + 1, 4000 + actor.epoch), NONCE, self.now)
        self.registry.register(actor, procedures, "1", True)
        self.routing.serve(self.desk(name), self.now)
        return routing_id

    def die(self, name: str = "test", why: str = "killed") -> None:
        self.registry.gone(self.actor(name), why)
        self.routing.lost(self.desk(name))

    def tell(self, state: State, why: str = "", name: str = "test") -> None:
        """The warden's word, handled as the server does."""
        self.registry.tell(self.actor(name), state, why, None)
        if state in (State.DEGRADED, State.DISABLED):
            self.routing.give_up(self.desk(name))
        else:
            self.routing.serve(self.desk(name), self.now)

    def call(
        self,
        caller: Caller,
        procedure: str = CHANGE,
        to: str = "test",
        *,
        number: int = 1,
        ttl_s: float = 30.0,
        flags: int = 0,
        claim: dict[str, Any] | None = None,
        arguments: bytes = b"\x80",
    ) -> None:
        body = join_body(pack_call_prologue(CallPrologue(procedure, "s", b"k", "once", "t", claim)), arguments)
        ttl_ms = int(ttl_s * 1000)
        header = pack_header(Kind.CALL, number, ttl_ms, flags)
        self.routing.call(caller, to.encode(), header, flags, ttl_ms, number, body, self.now)

    def cancel(self, caller: Caller, number: int = 1) -> None:
        self.routing.cancel(caller, pack_header(Kind.CANCEL, number), number)

    def answer(self, sent: Sent, result: Any = None, error: VirtError | None = None, name: str = "test") -> None:
        prologue = pack_reply_prologue(ReplyPrologue(1, 7))
        kind = Kind.REPLY if error is None else Kind.ERROR
        body = join_body(prologue, pack_value(result if error is None else to_wire(error)))
        header = pack_header(kind, sent.header.correlation)
        number = sent.header.correlation
        self.routing.outcome(self.desk(name), sent.source, header, number, error is not None, body, self.now)

    def later(self, seconds: float) -> None:
        """Time passes, a tick at a time."""
        until = self.now + seconds
        while self.now < until:
            self.now = min(until, self.now + 0.1)
            self.routing.tick(self.now)

    @property
    def resent(self) -> list[Sent]:
        return [sent for sent in self.outbox.sent if sent.header.flags & Flag.RESEND]

    def outcome_of(self, caller: Caller, number: int = 1) -> Told:
        """The one outcome of a call; fails when there is none or a second."""
        found = [t for t in self.outbox.told if t.caller is caller and t.header.correlation == number]
        assert len(found) == 1, found
        return found[0]

    def error_of(self, caller: Caller, number: int = 1) -> VirtError:
        error = self.outcome_of(caller, number).error
        assert error is not None
        return error

    def has_outcome(self, caller: Caller, number: int = 1) -> bool:
        return any(t.caller is caller and t.header.correlation == number for t in self.outbox.told)
