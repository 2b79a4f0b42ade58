"""Everyone's connection to the broker: a client's, the gateway's, the warden's, an actor's.

The broker may be killed at any time. The peer then comes back at the door under the same id, says again what it serves,
and sends again what is outstanding, flagged RESEND; to whoever calls through it, nothing happened but a delay.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any, Final

from broker.conversation import HistoryLost as HistoryLost
from broker.conversation import IncomingCall as IncomingCall
from broker.conversation import Outcome as Outcome
from broker.conversation import Outgoing, settle
from broker.conversation import Reply as Reply
from broker.conversation import RoleHandler as RoleHandler
from broker.lifeline import Heartbeat
from broker.link import Link
from broker.subscriber import EventSubscription
from broker.wire import (
    HEADER,
    CallPrologue,
    Cursor,
    Flag,
    Kind,
    ReplyPrologue,
    WireError,
    call_id,
    join_body,
    pack_call_prologue,
    pack_header,
    pack_reply_prologue,
    pack_value,
    public_id,
    split_body,
    unpack_call_prologue,
    unpack_value,
)
from schema.body import pack_args, unpack_result
from schema.errors import (
    AccessDenied,
    Busy,
    CallPending,
    DeadlinePassed,
    Fenced,
    HostSystemError,
    InvalidArguments,
    InvalidMessage,
    NotRegistered,
    VirtError,
    to_wire,
)
from schema.table import find_procedure, need_procedure
from settings.paths import Paths

SWEEP_S: Final = 0.25
BROKER_GRACE_S: Final = 1.0  # actor and broker keep the deadline themselves; this is for when the broker does not
RETRY_FIRST_S: Final = 0.002
RETRY_MOST_S: Final = 0.03
LINGER_S: Final = 1.0
REPLAY_RECORDS: Final = 1024

_BROKER: Final = b"broker"
_OUTCOMES: Final = frozenset({int(Kind.REPLY), int(Kind.ERROR), int(Kind.REPLAY_PART)})
_CALL, _REPLY, _CANCEL = int(Kind.CALL), int(Kind.REPLY), int(Kind.CANCEL)  # members cost more where there are many
_RESEND, _URGENT = int(Flag.RESEND), int(Flag.URGENT)


class Peer:
    """A connection that lasts until `aclose`, or, for a role, until it is fenced."""

    def __init__(self, paths: Paths, role: str, handler: RoleHandler | None, *, read_only: bool, program: str) -> None:
        self.name = role
        self.epoch = 0
        self.read_only = read_only
        self.generation = 0
        self.last: tuple[int, int] = (0, 0)
        self._paths = paths
        self._handler = handler
        self._program = program
        self._loop = asyncio.get_running_loop()
        self._clock = self._loop.time
        self._link: Link | None = None
        self._resume: tuple[bytes, Any] | None = None
        self._public = b""
        self._message_max = 0
        self._heartbeat: Heartbeat | None = None
        self._outgoing: dict[int, Outgoing] = {}
        self._correlation = 0
        self._registration: bytes | None = None
        self._gauges = (0, 0)
        self._subscriptions: list[EventSubscription] = []
        self._sweeper: asyncio.TimerHandle | None = None
        self._pulse: asyncio.TimerHandle | None = None
        self._coming_back: asyncio.Task[None] | None = None
        self._over: VirtError | None = None

    @classmethod
    async def connect_client(
        cls, paths: Paths, *, read_only: bool = False, program: str = "", wait_s: float = 10.0
    ) -> Peer:
        """A client's connection.

        Raises AccessDenied when the door is closed to this user, DeadlinePassed when no broker came within `wait_s`.
        """
        return await cls(paths, "client", None, read_only=read_only, program=program)._first_link(wait_s)

    @classmethod
    async def connect_role(
        cls, paths: Paths, role: str, handler: RoleHandler | None = None, *, wait_s: float = 30.0
    ) -> Peer:
        """An actor's, the warden's or the gateway's connection; a new epoch begins.

        Raises AccessDenied for a wrong token, DeadlinePassed when no broker came within `wait_s`.
        """
        return await cls(paths, role, handler, read_only=False, program=role)._first_link(wait_s)

    # -- calls

    async def call(
        self,
        destination: str,
        procedure: str,
        body: bytes,
        *,
        scope: str = "",
        key: bytes | str | None = None,
        deadline_s: float | None = 60.0,
        idempotency_key: str | None = None,
        trace: str | None = None,
        caller: dict[str, Any] | None = None,
        urgent: bool = False,
    ) -> Reply:
        """Makes a call and waits for its outcome; cancelling the waiting task cancels the call.

        Raises the VirtError that came back, InvalidArguments when the body is too long for the broker, DeadlinePassed
        naming the broker when there was none all the time.
        """
        prologue = CallPrologue(procedure, scope, key, idempotency_key, trace, caller)
        future: asyncio.Future[Reply] = self._loop.create_future()
        correlation = self.begin_call(future, destination, prologue, body, deadline_s=deadline_s, urgent=urgent)
        reply: Reply = await self._outcome(correlation, future)
        return reply

    def begin_call(
        self,
        outcome: Outcome,
        destination: str,
        prologue: CallPrologue,
        body: bytes,
        *,
        deadline_s: float | None = 60.0,
        urgent: bool = False,
    ) -> int:
        """Makes a call whose outcome is told to `outcome` as soon as it is there, without a task that waits.

        `outcome` gets a Reply, or the VirtError that `call` would raise; it must not raise itself.
        Gives the call's correlation id. Raises what keeps the call from being made.
        """
        name = prologue.procedure
        if len(body) > self._message_max:
            raise InvalidArguments(f"{name}: {len(body)} bytes of arguments, {self._message_max} are allowed")
        deadline = None if deadline_s is None else self._clock() + deadline_s
        whole = join_body(pack_call_prologue(prologue), body)
        flags = _URGENT if urgent else 0
        return self._begin(Outgoing(outcome, _CALL, destination.encode(), name, flags, whole, deadline))

    async def head(self) -> Cursor:
        """Where the journal ends now."""
        procedure = need_procedure("broker_head")
        reply = await self.call("broker", procedure.name, pack_args(procedure, {}), deadline_s=30.0)
        result = unpack_result(procedure, reply.body)
        return Cursor(result.generation, result.offset)

    async def replay(self, after: Cursor, sources: Sequence[str] | None = None) -> AsyncIterator[tuple[Cursor, bytes]]:
        """The records after a cursor, up to where the journal ended at the time of asking; each with its own cursor.

        `Cursor(0, 0)` is the beginning of what is retained.
        Raises HistoryLost when the cursor is not in the journal any more.
        """
        place, goal = after, await self.head()
        asking = self._ask_replay(place, sources)
        try:
            while True:
                answer = await asking
                place = Cursor(*answer["next"])
                if "first" in answer:
                    raise HistoryLost(Cursor(*answer["first"]), Cursor(*answer["head"]))
                more = not answer["end"] and (place.generation, place.offset) < goal
                if more:
                    asking = self._ask_replay(place, sources)  # on its way while these are looked at
                for generation, offset, record in answer["records"]:
                    cursor = Cursor(generation, offset)
                    if cursor > goal:
                        return
                    yield cursor, record
                if not more:
                    return
        finally:
            asking.cancel()

    def listen(self, sources: Sequence[str] | None) -> AbstractAsyncContextManager[EventSubscription]:
        """The published messages of some sources, or of all; what was published before is not among them."""
        subscription = EventSubscription(self._paths.events, sources)
        self._subscriptions = [other for other in self._subscriptions if not other.is_closed]
        self._subscriptions.append(subscription)
        return subscription

    async def aclose(self) -> None:
        """Ends the connection; what was sent has a second to leave. Outstanding calls end with NotRegistered."""
        self._end(NotRegistered("the connection to the broker was closed"))
        coming_back, self._coming_back = self._coming_back, None
        if coming_back is not None:
            coming_back.cancel()
            await asyncio.gather(coming_back, return_exceptions=True)
        if self._heartbeat is not None:
            self._heartbeat.stop()
        for subscription in self._subscriptions:
            subscription.close()
        link, self._link = self._link, None
        if link is not None:
            await link.drain(LINGER_S)
            link.close()

    # -- for roles that serve calls

    def ready(self, procedures: Sequence[str], version: str) -> None:
        """From now on calls come; said again by itself after each reconnect."""
        self._registration = pack_value({"ready": True, "procedures": list(procedures), "version": version})
        self._post(_BROKER, pack_header(Kind.REGISTER, 0), self._registration)

    def reply(self, call: IncomingCall, body: bytes, *, seq: int, ticket: dict[str, Any] | None = None) -> None:
        """The call's result. Without a broker it is dropped: the caller will ask again."""
        prologue = pack_reply_prologue(ReplyPrologue(self.epoch, seq, ticket))
        self._post(call.source, pack_header(_REPLY, call.correlation), join_body(prologue, body))

    def fail(self, call: IncomingCall, error: VirtError, *, seq: int) -> None:
        """The call's error. Without a broker it is dropped: the caller will ask again."""
        prologue = pack_reply_prologue(ReplyPrologue(self.epoch, seq))
        body = join_body(prologue, pack_value(to_wire(error)))
        self._post(call.source, pack_header(Kind.ERROR, call.correlation), body)

    def send_event(self, seq: int, record: bytes) -> None:
        """Hands an event over; it is the caller's to keep until it is acknowledged."""
        self._post(_BROKER, pack_header(Kind.EVENT, seq), record)

    def bye(self) -> None:
        """Says that what follows is an orderly end, no crash."""
        self._registration = None
        self._post(_BROKER, pack_header(Kind.BYE, 0), b"")
        if self._heartbeat is not None:
            self._heartbeat.bye()

    def progress(self) -> None:
        """The loop lives."""
        if self._heartbeat is not None:
            self._heartbeat.progress_at = time.monotonic()

    def set_gauges(self, *, seq: int, depth: int) -> None:
        """What heartbeats carry."""
        self._gauges = (seq, depth)
        if self._heartbeat is not None:
            self._heartbeat.seq, self._heartbeat.depth = seq, depth

    # -- the link

    async def _first_link(self, wait_s: float) -> Peer:
        try:
            async with asyncio.timeout(wait_s):
                await self._come_back()
        except TimeoutError:
            await self.aclose()
            raise DeadlinePassed(f"there is no broker at '{self._door()}'") from None
        except BaseException:
            await self.aclose()
            raise
        return self

    def _door(self) -> str:
        paths = self._paths
        if self.name != "client":
            return os.fspath(paths.actors_door)
        return os.fspath(paths.clients_door_read_only if self.read_only else paths.clients_door)

    def _hello(self) -> dict[str, Any]:
        resume = None if self._resume is None else list(self._resume)
        if self.name == "client":
            return {"v": 1, "role": "client", "program": self._program, "resume": resume}
        try:
            token = self._paths.token(self.name).read_bytes()
        except PermissionError as exc:
            raise AccessDenied(f"the token of '{self.name}' is not for this user to read") from exc
        return {"v": 1, "role": self.name, "token": token, "pid": os.getpid(), "resume": resume}

    async def _come_back(self) -> None:
        delay = RETRY_FIRST_S
        door = Path(self._door())
        while True:
            try:
                link = await Link.open(door, self._hello())
                break
            except Fenced as exc:
                self._end(exc)
                if self._handler is not None:
                    self._handler.on_fenced(exc.message)
                raise
            except (HostSystemError, Busy):
                await asyncio.sleep(RETRY_MOST_S)  # its disk is full, or it has too many guests: that passes
            except NotRegistered:
                if self._resume is None:
                    raise
                self._begin_anew()
            except (OSError, WireError):
                await asyncio.sleep(delay)
                delay = min(delay * 1.5, RETRY_MOST_S)
        self._install(link)

    def _install(self, link: Link) -> None:
        self._link = link
        self._public = public_id(link.routing_id)
        self.epoch, self.generation, self.last = link.epoch, link.generation, link.last
        self._message_max = link.message_max
        self._resume = (link.routing_id, link.secret if self.name == "client" else link.epoch)
        link.start(self._message, self._lost)
        if self.name != "client":
            self._heartbeat = Heartbeat(link.lifeline, link.heartbeat_s)
            self._heartbeat.seq, self._heartbeat.depth = self._gauges
            self._heartbeat.start()
            if self._pulse is not None:
                self._pulse.cancel()
            self._beat_pulse(link.heartbeat_s / 2)
        if self._registration is not None:
            self._post(_BROKER, pack_header(Kind.REGISTER, 0), self._registration)
        for correlation, out in self._outgoing.items():
            self._send(correlation, out)

    def _lost(self, why: str) -> None:
        self._link = None
        if self._heartbeat is not None:
            self._heartbeat.stop()
            self._heartbeat = None
        if self._over is not None:
            return
        if self._handler is not None:
            self._handler.on_broker_lost()
        self._coming_back = self._loop.create_task(self._come_back())
        self._coming_back.add_done_callback(self._came_back)

    def _came_back(self, task: asyncio.Task[None]) -> None:
        if self._coming_back is task:
            self._coming_back = None
        if not task.cancelled() and (error := task.exception()) is not None and self._over is None:
            self._end(error if isinstance(error, VirtError) else NotRegistered(str(error)))
            if self._handler is not None:
                self._handler.on_fenced(str(error))

    def _begin_anew(self) -> None:
        # the broker does not know this client any more: under another id a change must not be sent a second time
        self._resume = None
        for correlation, out in list(self._outgoing.items()):
            procedure = find_procedure(out.procedure) if out.procedure else None
            if out.is_sent and not (out.kind == Kind.REPLAY or (procedure is not None and procedure.is_read)):
                del self._outgoing[correlation]
                out.fail(CallPending(call_id(self._public, correlation).hex()))

    def _beat_pulse(self, every_s: float) -> None:
        self.progress()
        self._pulse = self._loop.call_later(every_s, self._beat_pulse, every_s)

    def _end(self, error: VirtError) -> None:
        if self._over is None:
            self._over = error
        for timer in (self._sweeper, self._pulse):
            if timer is not None:
                timer.cancel()
        self._sweeper = self._pulse = None
        outgoing, self._outgoing = self._outgoing, {}
        for out in outgoing.values():
            out.fail(error)

    # -- sending

    def _begin(self, out: Outgoing) -> int:
        if self._over is not None:
            raise self._over
        self._correlation = correlation = self._correlation + 1
        self._outgoing[correlation] = out
        if self._sweeper is None and out.deadline is not None:
            self._sweeper = self._loop.call_later(SWEEP_S, self._sweep)
        self._send(correlation, out)
        return correlation

    async def _outcome(self, correlation: int, future: asyncio.Future[Any]) -> Any:
        try:
            return await future
        except asyncio.CancelledError:
            out = self._outgoing.pop(correlation, None)
            if out is not None and out.kind == Kind.CALL:
                self._post(out.destination, pack_header(Kind.CANCEL, correlation), b"")
            raise

    def _send(self, correlation: int, out: Outgoing) -> None:
        ttl_ms = 0
        if out.deadline is not None:
            ttl_ms = max(1, int((out.deadline - self._clock()) * 1000))
        flags = out.flags | _RESEND if out.is_sent else out.flags
        link = self._link
        if link is None:
            return
        if link.send(out.destination, pack_header(out.kind, correlation, ttl_ms, flags), out.body):
            out.is_sent = True
        else:
            self._outgoing.pop(correlation, None)
            out.fail(Busy(0.1, "the broker does not read fast enough"))

    def _post(self, destination: bytes, header: bytes, body: bytes) -> None:
        if self._link is not None:
            self._link.send(destination, header, body)

    def _sweep(self) -> None:
        self._sweeper = None
        now = self._clock()
        timed = False
        for correlation, out in list(self._outgoing.items()):
            if out.deadline is None:
                continue
            grace = BROKER_GRACE_S if self._link is not None else 0.0
            if now > out.deadline + grace:
                del self._outgoing[correlation]
                what = f"'{out.procedure}'" if out.procedure else "a replay"
                out.fail(DeadlinePassed(f"the broker did not answer {what} in time"))
            else:
                timed = True
        if timed:
            self._sweeper = self._loop.call_later(SWEEP_S, self._sweep)

    def _ask_replay(self, after: Cursor, sources: Sequence[str] | None) -> asyncio.Task[dict[str, Any]]:
        request = {"after": list(after), "sources": None if sources is None else list(sources), "limit": REPLAY_RECORDS}
        future: asyncio.Future[dict[str, Any]] = self._loop.create_future()
        out = Outgoing(future, Kind.REPLAY, _BROKER, "", 0, pack_value(request), self._clock() + 60.0)
        return self._loop.create_task(self._outcome(self._begin(out), future))

    # -- receiving

    def _message(self, source: bytes, header: bytes, body: bytes) -> None:
        _, kind, flags, ttl_ms, correlation = HEADER.unpack(header)
        if kind in _OUTCOMES:
            out = self._outgoing.pop(correlation, None)
            if out is not None and not out.future.done():
                settle(out, source, kind, body)
        elif kind == _CALL:
            self._incoming(source, flags, ttl_ms, correlation, body)
        elif self._handler is None:
            return
        elif kind == _CANCEL:
            self._handler.on_cancel(source, correlation)
        elif kind == Kind.EVENT_ACK:
            self._handler.on_event_ack(correlation, bool(flags & Flag.GAP))
        elif kind == Kind.REGISTERED:
            last = unpack_value(body)["last"]
            self.last = (int(last[0]), int(last[1]))
            self._handler.on_registered(self.last)

    def _incoming(self, source: bytes, flags: int, ttl_ms: int, correlation: int, body: bytes) -> None:
        deadline = self._clock() + ttl_ms / 1000 if ttl_ms else None
        try:
            packed, rest = split_body(body)
            call = IncomingCall(source, correlation, flags, deadline, unpack_call_prologue(packed), rest)
        except WireError as exc:
            call = IncomingCall(source, correlation, flags, deadline, CallPrologue(""), b"")
            self.fail(call, InvalidMessage(str(exc)), seq=0)
            return
        if self._handler is None:
            self.fail(call, NotRegistered(f"'{self.name}' serves no calls"), seq=0)
        else:
            self._handler.on_call(call)
