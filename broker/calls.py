"""A call on its way, who made it, and the desk of the actor that has to answer it: what `routing` moves about."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator
from typing import Any, Final, Protocol

import msgspec

from broker.policy import CallerKind, Rule
from broker.registry import Actor
from broker.wire import Flag, call_id, pack_value, public_id
from schema.access_policy import Judge

LATENCY_BOUNDS_S: Final = (
    0.0002,
    0.0005,
    0.001,
    0.002,
    0.005,
    0.01,
    0.025,
    0.05,
    0.1,
    0.25,
    0.5,
    1.0,
    2.5,
    5.0,
    10.0,
    60.0,
)

URGENT: Final = int(Flag.URGENT)
URGENT_SHARE: Final = 16
SENT: Final = 1
FULL: Final = 0
GONE: Final = -1


class Outbox(Protocol):
    """Where routing puts messages; each answers SENT, FULL or GONE and never waits."""

    def to_actor(self, routing_id: bytes, source: bytes, header: bytes, body: bytes) -> int: ...

    def to_caller(self, caller: Caller, source: bytes, header: bytes, body: bytes) -> int: ...


class Caller:
    """A connected peer in its role as a caller; `identity` is the broker's own word about it."""

    __slots__ = (
        "calls",
        "desk",
        "gone",
        "identity",
        "judge",
        "kind",
        "limit",
        "packed_identity",
        "program",
        "public",
        "read_only",
        "routing_id",
        "total",
    )

    def __init__(
        self,
        routing_id: bytes,
        kind: CallerKind,
        identity: dict[str, Any],
        *,
        limit: int,
        read_only: bool = False,
        desk: Desk | None = None,
        program: str = "",
        judge: Judge | None = None,
    ) -> None:
        self.judge = judge  # the access policy, as far as it is about this client; None for who stands above it
        self.routing_id = routing_id
        self.public = public_id(routing_id)
        self.kind = kind
        self.identity = identity
        self.packed_identity = pack_value(identity)
        self.read_only = read_only
        self.limit = limit
        self.desk = desk  # of the actor that this is; None for a client
        self.program = program
        self.calls: dict[int, Call] = {}
        self.gone = False
        self.total = 0


class Call(msgspec.Struct, eq=False):
    """One call until its outcome is with its caller."""

    caller: Caller
    correlation: int
    rule: Rule
    flags: int
    body: bytes
    deadline: float | None
    since: float
    sent_at: float | None = None
    resends: int = 0
    is_cancelled: bool = False
    tick: int | None = None
    desk: Desk | None = None
    answer: tuple[bytes, bytes, bytes] | None = None
    """An outcome that its caller has no room for yet."""

    @property
    def key(self) -> tuple[bytes, int]:
        """How its actor names it."""
        return self.caller.public, self.correlation

    @property
    def id(self) -> str:
        """How everybody else names it."""
        return call_id(self.caller.public, self.correlation).hex()


class Waiting:
    """Calls that were never sent: urgent ones before all others, each kind in the order in which they came."""

    __slots__ = ("_others", "_urgent")

    def __init__(self) -> None:
        self._urgent: dict[Call, None] = {}
        self._others: dict[Call, None] = {}

    def __len__(self) -> int:
        return len(self._urgent) + len(self._others)

    def __contains__(self, call: Call) -> bool:
        return call in self._urgent or call in self._others

    def __iter__(self) -> Iterator[Call]:
        yield from self._urgent
        yield from self._others

    def add(self, call: Call) -> None:
        """One more."""
        (self._urgent if call.flags & URGENT else self._others)[call] = None

    def discard(self, call: Call) -> None:
        """One less, if it is among them."""
        self._urgent.pop(call, None)
        self._others.pop(call, None)


class Desk:
    """The queues and counters of one destination.

    `again` holds calls that an incarnation took with it when it died; they go first, in their old order.
    `waiting` holds calls that were never sent.
    """

    __slots__ = (
        "actor",
        "again",
        "answered",
        "buckets",
        "busy",
        "cancelled",
        "expired",
        "failed",
        "held_bytes",
        "in_flight",
        "latency_sum_s",
        "limit",
        "name",
        "pending",
        "received",
        "resent",
        "routing_id",
        "waiting",
        "waiting_limit",
    )

    def __init__(self, actor: Actor, limit: int, waiting_limit: int) -> None:
        self.actor = actor
        self.name = actor.name.encode()
        self.limit = limit
        self.waiting_limit = waiting_limit
        self.routing_id: bytes | None = None  # where calls go now; None while it does not serve
        self.in_flight: dict[tuple[bytes, int], Call] = {}
        self.again: dict[Call, None] = {}
        self.waiting = Waiting()
        self.received = self.answered = self.failed = self.cancelled = self.expired = 0
        self.busy = self.resent = self.pending = 0
        self.held_bytes = 0  # bodies of all its calls
        self.latency_sum_s = 0.0
        self.buckets = [0] * (len(LATENCY_BOUNDS_S) + 1)

    @property
    def depth(self) -> int:
        """Calls that it owes an outcome."""
        return len(self.in_flight) + len(self.again) + len(self.waiting)

    def room(self, limit: int, flags: int) -> int:
        """How many calls there may be before one with these flags: a few places are kept for urgent ones."""
        return limit + max(1, limit // URGENT_SHARE) if flags & URGENT else limit

    def observe(self, latency_s: float) -> None:
        """Counts an answer by how long it took."""
        self.latency_sum_s += latency_s
        self.buckets[bisect_left(LATENCY_BOUNDS_S, latency_s)] += 1
