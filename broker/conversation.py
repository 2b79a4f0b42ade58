"""What is said between a peer and the broker: calls that go out and come in, and what a role does about them."""

from __future__ import annotations

from typing import Any, Final, Protocol

import msgspec

from broker.wire import CallPrologue, Cursor, Kind, WireError, call_id, split_body, unpack_reply_prologue, unpack_value
from schema.errors import InvalidMessage, VirtError, from_wire

_REPLY: Final = int(Kind.REPLY)


class HistoryLost(Exception):
    """The journal has nothing at a cursor any more: it begins at `first`, and `head` is where it ends now."""

    def __init__(self, first: Cursor, head: Cursor) -> None:
        super().__init__(f"the journal begins at {first}")
        self.first = first
        self.head = head


class Reply(msgspec.Struct, frozen=True):
    """The outcome of a call that succeeded. `seq` is the source's number after it, for reading one's own writes."""

    source: str
    epoch: int
    seq: int
    body: bytes
    ticket: dict[str, Any] | None


class IncomingCall(msgspec.Struct, eq=False):
    """A call to be answered by exactly one `reply` or `fail`. The caller inside the prologue is the broker's word."""

    source: bytes
    correlation: int
    flags: int
    deadline: float | None
    prologue: CallPrologue
    body: bytes

    @property
    def id(self) -> bytes:
        """The same through every restart and resend."""
        return call_id(self.source, self.correlation)


class RoleHandler(Protocol):
    """What a serving role does; all called in the loop, none may block."""

    def on_call(self, call: IncomingCall) -> None: ...

    def on_cancel(self, source: bytes, correlation: int) -> None: ...

    def on_registered(self, last: tuple[int, int]) -> None: ...

    def on_event_ack(self, seq: int, resend: bool) -> None: ...

    def on_broker_lost(self) -> None: ...

    def on_fenced(self, why: str) -> None: ...


class Outcome(Protocol):
    """Who is told how a call ended, once: a future, or anything that does at once what is to be done."""

    def done(self) -> bool:
        """Whether nobody waits any more."""

    def set_result(self, result: Any, /) -> None:
        """It succeeded."""

    def set_exception(self, exception: VirtError, /) -> None:
        """It failed."""


class Outgoing(msgspec.Struct, eq=False):
    """A message to the broker that has an outcome."""

    future: Outcome
    kind: int
    destination: bytes
    procedure: str
    flags: int
    body: bytes
    deadline: float | None
    is_sent: bool = False

    def fail(self, error: VirtError) -> None:
        """Its outcome is an error."""
        if not self.future.done():
            self.future.set_exception(error)


def settle(out: Outgoing, source: bytes, kind: int, body: bytes) -> None:
    """Tells what a REPLY, ERROR or REPLAY_PART says; one that is not understood is a failure too."""
    outcome: Any
    try:
        if kind == _REPLY:
            packed, rest = split_body(body)
            prologue = unpack_reply_prologue(packed)
            outcome = Reply(source.decode(), prologue.epoch, prologue.seq, rest, prologue.ticket)
        elif kind == Kind.REPLAY_PART:
            outcome = unpack_value(body)
        else:
            packed, rest = split_body(body)
            unpack_reply_prologue(packed)
            outcome = from_wire(unpack_value(rest))
    except (WireError, VirtError, UnicodeDecodeError) as exc:
        outcome = InvalidMessage(f"the outcome of '{out.procedure}' is not understood: {exc}")
    if isinstance(outcome, VirtError):
        out.future.set_exception(outcome)
    else:
        out.future.set_result(outcome)
