"""Every call finds its actor, and every caller its one outcome.

Pure: messages go out through an `Outbox`, time comes in as a number. The hard part is what happens to calls when an
actor is not there: those that were never sent wait; those that it took with it are sent to its next incarnation,
flagged RESEND, and the runtime there judges them. What cannot be known before the deadline becomes `CallPending`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import chain
from typing import Final

from broker.calls import FULL, GONE, SENT, Call, Caller, Desk, Outbox
from broker.policy import CallerKind, Policy
from broker.registry import Actor, State
from broker.wire import (
    PROLOGUE_MAX,
    CallPrologue,
    Flag,
    Kind,
    ReplyPrologue,
    WireError,
    join_body,
    pack_call_prologue,
    pack_header,
    pack_reply_prologue,
    pack_value,
    unpack_call_prologue,
)
from schema.errors import (
    Busy,
    CallPending,
    Cancelled,
    DeadlinePassed,
    DriverDegraded,
    DriverGone,
    DriverStopped,
    InvalidMessage,
    NoConnection,
    VirtError,
    to_wire,
)

TICK_S: Final = 0.1
GRACE_S: Final = 0.25  # the actor's own deadline comes first: its error names what held the call up
HELD_BYTES_MAX: Final = 256 * 1024 * 1024
RETRY_FULL_S: Final = 0.1
RETRY_START_S: Final = 0.5
RESENDS_MAX: Final = 16  # a call that sees more incarnations die than this is what kills them

BROKER: Final = b"broker"
_RESEND: Final = int(Flag.RESEND)
_CALL: Final = int(Kind.CALL)
_NOTHING: Final = pack_reply_prologue(ReplyPrologue())
_GIVEN_UP: Final = (State.DEGRADED, State.DISABLED)


def _no_note(event: str, /, **fields: object) -> None:
    pass


class Routing:
    """All outstanding calls.

    `own` answers calls to the broker itself; `want` is told the name of an actor that does not run and has calls;
    `note` is told what happens to changes: an event and its fields, the call's trace among them.
    """

    def __init__(
        self,
        outbox: Outbox,
        policy: Policy,
        *,
        own: Callable[[Caller, Call, CallPrologue], None],
        want: Callable[[Actor], None],
        note: Callable[..., None] = _no_note,
    ) -> None:
        self._outbox = outbox
        self._policy = policy
        self._own = own
        self._want = want
        self._note = note
        self._desks: dict[bytes, Desk] = {}
        self._wheel: dict[int, set[Call]] = {}
        self._undelivered: dict[Call, None] = {}
        self.refused = 0
        self.late = 0

    def add_desk(self, actor: Actor, limit: int, waiting_limit: int) -> Desk:
        """The queues of an actor, which it keeps through all its incarnations."""
        desk = self._desks[actor.name.encode()] = Desk(actor, limit, waiting_limit)
        return desk

    @property
    def desks(self) -> Iterable[Desk]:
        """All of them."""
        return self._desks.values()

    def find_desk(self, name: str) -> Desk | None:
        """The desk of an actor."""
        return self._desks.get(name.encode())

    # -- what callers send

    def call(
        self,
        caller: Caller,
        destination: bytes,
        header: bytes,
        flags: int,
        ttl_ms: int,
        correlation: int,
        body: bytes,
        now: float,
    ) -> None:
        """A CALL arrived; it is sent on, waits, or is answered with an error at once."""
        if correlation in caller.calls:
            return None  # sent again over a new connection, while the first is still under way
        caller.total += 1
        read_only = caller.read_only
        try:
            length = int.from_bytes(body[:2], "big")
            if len(body) < 2 + length or length > PROLOGUE_MAX:
                raise WireError("the prologue's length is wrong")
            prologue = unpack_call_prologue(body[2 : 2 + length])
            rule = self._policy.need_rule(prologue.procedure)
            if prologue.caller is None:
                # nil is the prologue's last byte: the broker's word replaces it
                body = join_body(body[2 : 1 + length] + caller.packed_identity, body[2 + length :])
            elif caller.kind is CallerKind.GATEWAY:
                read_only = prologue.caller.get("read_only") is not False
            else:
                prologue.caller = caller.identity
                body = join_body(pack_call_prologue(prologue), body[2 + length :])
        except WireError as exc:
            return self._refuse(caller, correlation, InvalidMessage(str(exc)))
        except VirtError as exc:
            return self._refuse(caller, correlation, exc)
        desk = self._desks.get(destination)
        if desk is None and destination != BROKER:
            name = destination[:64].decode("utf-8", "replace")
            return self._refuse(caller, correlation, NoConnection(f"driver '{name}'"))
        refusal = self._policy.find_refusal(rule, caller.kind, read_only, destination.decode())
        if caller.judge is not None and refusal is None:
            refusal = self._policy.find_judgement(rule, caller.judge)
            if refusal is not None:
                self._note("access refused", who=caller.identity["user"], uid=caller.identity["uid"], call=rule.name)
        if refusal is not None:
            return self._refuse(caller, correlation, refusal)
        if len(caller.calls) >= caller.limit:
            return self._refuse(
                caller, correlation, Busy(RETRY_FULL_S, f"{caller.limit} calls of this client are outstanding")
            )
        call = Call(caller, correlation, rule, flags, body, now + ttl_ms / 1000 if ttl_ms else None, now)
        if desk is None:
            caller.calls[correlation] = call
            return self._own(caller, call, prologue)
        if desk.actor.told in _GIVEN_UP:
            standby = self._desks.get(b"gateway")
            if not (rule.is_read and standby and prologue.procedure in standby.actor.procedures):
                return self._refuse(caller, correlation, _given_up(desk.actor))
            desk = standby
        desk.received += 1
        if desk.held_bytes + len(body) > HELD_BYTES_MAX:
            desk.busy += 1
            return self._refuse(
                caller, correlation, Busy(RETRY_FULL_S, f"calls of driver '{desk.actor.name}' hold too much memory")
            )
        if desk.routing_id is not None:
            if len(desk.in_flight) >= desk.room(desk.limit, flags):
                desk.busy += 1
                return self._refuse(
                    caller, correlation, Busy(RETRY_FULL_S, f"driver '{desk.actor.name}' holds {desk.limit} calls")
                )
            sent = self._outbox.to_actor(desk.routing_id, caller.public, header, body)
            if sent == FULL:
                desk.busy += 1
                return self._refuse(
                    caller, correlation, Busy(RETRY_FULL_S, f"driver '{desk.actor.name}' takes no more calls")
                )
            if sent == SENT:
                caller.calls[correlation] = call
                call.desk = desk
                call.sent_at = now
                desk.in_flight[caller.public, correlation] = call
                desk.held_bytes += len(body)
                self._schedule(call)
                if not rule.is_read:
                    self._note("call", procedure=prologue.procedure, actor=desk.actor.name, trace=prologue.trace)
                return None
        if len(desk.waiting) >= desk.room(desk.waiting_limit, flags):
            desk.busy += 1
            return self._refuse(
                caller,
                correlation,
                Busy(RETRY_START_S, f"{desk.waiting_limit} calls wait for driver '{desk.actor.name}' already"),
            )
        caller.calls[correlation] = call
        call.desk = desk
        desk.waiting.add(call)
        desk.held_bytes += len(body)
        self._schedule(call)
        if not rule.is_read:
            self._note("call waits", procedure=prologue.procedure, actor=desk.actor.name, trace=prologue.trace)
        if desk.routing_id is None:
            self._want(desk.actor)
        return None

    def cancel(self, caller: Caller, header: bytes, correlation: int) -> None:
        """A CANCEL arrived: a call under way is told so, one that waits ends here."""
        call = caller.calls.get(correlation)
        if call is None or call.desk is None:
            return
        desk = call.desk
        if call.key in desk.in_flight:
            if desk.routing_id is not None:
                self._outbox.to_actor(desk.routing_id, caller.public, header, b"")
        elif call in desk.again:
            call.is_cancelled = True  # whoever judges it will be told
        elif call in desk.waiting:
            desk.cancelled += 1
            self.end(
                call, Cancelled(f"'{call.rule.name}' was cancelled before driver '{desk.actor.name}' began with it")
            )

    def leave(self, caller: Caller) -> None:
        """A caller is gone: what was not sent yet is dropped, what is under way goes on."""
        caller.gone = True
        for call in list(caller.calls.values()):
            desk = call.desk
            if desk is None or call in desk.waiting or call in desk.again or call in self._undelivered:
                self._forget(call)

    # -- what actors send

    def outcome(
        self, desk: Desk, public: bytes, header: bytes, correlation: int, failed: bool, body: bytes, now: float
    ) -> None:
        """A REPLY or ERROR of an actor; dropped when nobody waits for it any more."""
        call = desk.in_flight.get((public, correlation))
        if call is None:
            self.late += 1
            return
        if failed:
            desk.failed += 1
        desk.answered += 1
        desk.observe(now - call.since)
        self._deliver(call, desk.name, header, body)

    # -- what happens to actors

    def serve(self, desk: Desk, now: float) -> None:
        """An incarnation is ready: what its predecessor held goes to it first, then what waited."""
        desk.routing_id = desk.actor.routing_id if desk.actor.serves else None
        while desk.routing_id is not None:
            call = next(chain(desk.again, desk.waiting), None)
            if call is None or len(desk.in_flight) >= desk.room(desk.limit, call.flags):
                return
            if not self._send_waiting(desk, call, now):
                return
            desk.again.pop(call, None)
            desk.waiting.discard(call)

    def lost(self, desk: Desk) -> None:
        """Its incarnation is gone; what it held is kept for the next one."""
        desk.routing_id = None
        held, desk.in_flight = desk.in_flight, {}
        again: dict[Call, None] = {}
        for call in held.values():
            call.resends += 1
            if call.caller.gone:
                self._forget(call)
            elif call.resends > RESENDS_MAX:
                self.end(call, self._unknown(call, f"driver '{desk.actor.name}' ended {call.resends} times during it"))
            else:
                again[call] = None
        desk.again = again | desk.again
        if desk.actor.told in _GIVEN_UP:
            self.give_up(desk)
        elif desk.depth:
            self._want(desk.actor)

    def give_up(self, desk: Desk) -> None:
        """It will not be started again by itself: nobody waits for it any longer."""
        if desk.actor.routing_id is None:
            for call in list(desk.again):
                self.end(
                    call,
                    _given_up(desk.actor) if call.rule.is_read else self._unknown(call, _given_up(desk.actor).detail),
                )
        desk.routing_id = None
        for call in list(desk.waiting):
            self.end(call, _given_up(desk.actor))

    # -- time

    def tick(self, now: float) -> None:
        """To be called every TICK_S: ends what is past its deadline, tries again what did not fit."""
        for call in list(self._undelivered):
            answer = call.answer
            if answer is None or call.caller.gone or self._outbox.to_caller(call.caller, *answer) != FULL:
                self._forget(call)
        for desk in self._desks.values():
            if desk.routing_id is not None and (desk.again or desk.waiting):
                self.serve(desk, now)
        this = int(now / TICK_S)
        if not self._wheel:
            return
        for tick in range(min(self._wheel), this):
            for call in self._wheel.pop(tick, ()):
                call.tick = None
                self._expire(call)

    def _expire(self, call: Call) -> None:
        desk = call.desk
        if desk is None or call.answer is not None:
            return
        desk.expired += 1
        name = desk.actor.name
        if call in desk.waiting:
            self.end(
                call, DeadlinePassed(f"driver '{name}' is {desk.actor.state}: '{call.rule.name}' was not begun in time")
            )
        elif call.resends:
            self.end(call, self._unknown(call, f"driver '{name}' ended during it and is {desk.actor.state}"))
        else:
            self.end(call, DeadlinePassed(f"driver '{name}' did not answer '{call.rule.name}' in time"))

    def _schedule(self, call: Call) -> None:
        if call.deadline is not None:
            call.tick = tick = int((call.deadline + GRACE_S) / TICK_S)
            calls = self._wheel.get(tick)
            if calls is None:
                self._wheel[tick] = {call}
            else:
                calls.add(call)

    # -- outcomes

    def end(self, call: Call, error: VirtError) -> None:
        """The outcome is an error that the broker itself gives."""
        if not call.rule.is_read:
            self._note("call ended", procedure=call.rule.name, trace=_trace_of(call), outcome=type(error).__name__)
        self._deliver(call, BROKER, pack_header(Kind.ERROR, call.correlation), _error_body(error))

    def finish(self, call: Call, result: bytes) -> None:
        """The outcome of a call to the broker itself."""
        self._deliver(call, BROKER, pack_header(Kind.REPLY, call.correlation), join_body(_NOTHING, result))

    def _deliver(self, call: Call, source: bytes, header: bytes, body: bytes) -> None:
        if not call.caller.gone and self._outbox.to_caller(call.caller, source, header, body) == FULL:
            self._detach(call)
            call.answer = (source, header, body)
            call.body = b""
            self._undelivered[call] = None
        else:
            self._forget(call)

    def _detach(self, call: Call) -> None:
        desk = call.desk
        if desk is not None:
            call.desk = None
            desk.held_bytes -= len(call.body)
            if desk.in_flight.pop((call.caller.public, call.correlation), None) is None:
                desk.again.pop(call, None)
                desk.waiting.discard(call)
        if call.tick is not None:
            calls = self._wheel.get(call.tick)
            if calls is not None:
                calls.discard(call)
                if not calls:
                    del self._wheel[call.tick]
            call.tick = None

    def _forget(self, call: Call) -> None:
        self._detach(call)
        self._undelivered.pop(call, None)
        call.caller.calls.pop(call.correlation, None)

    def _refuse(self, caller: Caller, correlation: int, error: VirtError) -> None:
        self.refused += 1
        self._outbox.to_caller(caller, BROKER, pack_header(Kind.ERROR, correlation), _error_body(error))

    def _send_waiting(self, desk: Desk, call: Call, now: float) -> bool:
        assert desk.routing_id is not None
        ttl_ms = 0
        if call.deadline is not None:
            ttl_ms = max(1, int((call.deadline - now) * 1000))
        again = bool(call.resends)
        header = pack_header(_CALL, call.correlation, ttl_ms, call.flags | _RESEND if again else call.flags)
        sent = self._outbox.to_actor(desk.routing_id, call.caller.public, header, call.body)
        if sent != SENT:
            if sent == GONE:
                desk.routing_id = None
            return False
        desk.resent += again
        if call.is_cancelled:
            self._outbox.to_actor(desk.routing_id, call.caller.public, pack_header(Kind.CANCEL, call.correlation), b"")
        call.sent_at = now
        desk.in_flight[call.key] = call
        if not call.rule.is_read:
            self._note(
                "call sent again" if again else "call",
                procedure=call.rule.name,
                actor=desk.actor.name,
                trace=_trace_of(call),
            )
        return True

    def _unknown(self, call: Call, why: str) -> VirtError:
        assert call.desk is not None
        if call.rule.is_read:
            return DriverGone(call.desk.actor.name, why)
        call.desk.pending += 1
        return CallPending(call.id, f"the outcome of '{call.rule.name}' is not known yet: {why}")


def _given_up(actor: Actor) -> VirtError:
    if actor.told is State.DISABLED:
        return DriverStopped(actor.name)
    return DriverDegraded(actor.name, actor.why or "it ended too often")


def _trace_of(call: Call) -> str | None:
    body = call.body
    return unpack_call_prologue(body[2 : 2 + int.from_bytes(body[:2], "big")]).trace if body else None


def _error_body(error: VirtError) -> bytes:
    return join_body(_NOTHING, pack_value(to_wire(error)))
