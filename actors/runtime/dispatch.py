"""From a call that arrived to its one outcome: result, error, cancelled or deadline exceeded.

A read is answered and forgotten. What became of a change is recorded before the caller hears of it, so that the same
call, sent again after this process or the broker died, gets the same answer and has no second effect.
"""

from __future__ import annotations

import asyncio
import hashlib
import traceback
from collections.abc import Callable, Mapping
from typing import Any, Final, Protocol

from actors.runtime.call_log import End, uid_of
from actors.runtime.calls import Handler
from actors.runtime.context import CurrentCall, enter_call
from actors.runtime.mailbox import Lane, Mailbox, Passage
from actors.runtime.runtime import Runtime
from actors.runtime.store import finish_despite_cancel
from actors.runtime.streams import Streamed
from broker.peer import IncomingCall
from broker.wire import Flag
from schema.body import split_files, unpack_args
from schema.errors import (
    Busy,
    Cancelled,
    DeadlinePassed,
    ErrorDomain,
    HostSystemError,
    InternalError,
    InvalidArguments,
    OperationDenied,
    UnknownProcedure,
    UnsupportedCall,
    VirtError,
    from_wire,
    to_wire,
)
from schema.limits import limit_of
from schema.model import ReadOnly
from schema.table import find_procedure

ABANDON_AFTER_S: Final = 0.15
"""How long a handler may take to clean up after its deadline before the caller is answered without it."""


_RESEND: Final = int(Flag.RESEND)


class ReplyPort(Protocol):
    """The part of the broker's peer that answers need."""

    def reply(self, call: IncomingCall, body: bytes, *, seq: int, ticket: dict[str, Any] | None = None) -> None: ...

    def fail(self, call: IncomingCall, error: VirtError, *, seq: int) -> None: ...


class Running:
    """A call between its arrival and its outcome. Several callers share one when they gave the same idempotency key."""

    __slots__ = ("callers", "current", "handler", "passage", "since", "task", "timer", "why")

    def __init__(self, call: IncomingCall, current: CurrentCall, handler: Handler, since: float) -> None:
        self.since = since
        self.callers = [call]
        self.current = current
        self.handler = handler
        self.task: asyncio.Task[None] | None = None
        self.timer: asyncio.TimerHandle | None = None
        self.passage: Passage | None = None
        self.why: Callable[[], VirtError] | None = None
        """Set when it is cancelled from here: the error that the callers get."""


class Dispatcher:
    """Answers the calls of one actor."""

    def __init__(
        self,
        runtime: Runtime,
        host: Any,
        handlers: Mapping[str, Handler],
        port: ReplyPort,
        error_domain: ErrorDomain,
    ) -> None:
        self._runtime = runtime
        self._host = host
        self._handlers = handlers
        self._port = port
        self._error_domain = error_domain
        self._loop = asyncio.get_running_loop()
        self._running: dict[bytes, Running] = {}
        self._by_key: dict[tuple[int, str], Running] = {}
        self._is_stopping = False
        self.answered = 0

    @property
    def depth(self) -> int:
        """Calls that have no outcome yet."""
        return len(self._running)

    @property
    def procedures(self) -> list[str]:
        """The names of all procedures that are answered."""
        return sorted(self._handlers)

    def describe(self) -> list[dict[str, Any]]:
        """The calls that have no outcome yet: what they are, for whom, since when, how far, and what they wait for."""
        now = self._loop.time()
        return [
            {
                "id": running.current.id,
                "procedure": running.current.procedure.name,
                "trace": running.current.trace,
                "caller": running.current.caller,
                "age_s": round(now - running.since, 3),
                "state": self._state_of(running),
                **{k: v for k, v in self._runtime.progress.get(running.current.id, {}).items() if k != "procedure"},
            }
            for running in self._running.values()
        ]

    def is_running(self, call_id: bytes) -> bool:
        """Whether a call has no outcome yet."""
        return call_id in self._running

    def on_call(self, call: IncomingCall) -> None:
        """Takes a call that arrived; its outcome follows."""
        try:
            self._take(call)
        except VirtError as exc:
            self._fail([call], exc)

    def on_cancel(self, source: bytes, correlation: int) -> None:
        """One caller does not want the outcome any more; it still gets one."""
        for running in list(self._running.values()):
            for call in running.callers:
                if call.correlation == correlation and call.source == source:
                    if len(running.callers) == 1:
                        self._cancel(running, lambda: Cancelled("the caller cancelled the call"))
                    else:
                        running.callers.remove(call)
                        self._fail([call], Cancelled("the caller cancelled the call"))
                    return

    async def stop(self, grace_s: float) -> None:
        """Takes no more calls, lets those that run end, and leaves the others to the next incarnation, unanswered."""
        self._is_stopping = True
        tasks = {r.task for r in self._running.values() if r.task is not None and not r.task.done()}
        if tasks:
            _, tasks = await asyncio.wait(tasks, timeout=grace_s)
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=grace_s)

    def _take(self, call: IncomingCall) -> None:
        name = call.prologue.procedure
        handler = self._handlers.get(name)
        if self._is_stopping:
            return  # the broker gives it to the next incarnation
        if handler is None:
            procedure = find_procedure(name)
            raise UnknownProcedure(name) if procedure is None else UnsupportedCall(procedure.function)
        call_id = call.id
        known = self._running.get(call_id)
        if known is not None:
            known.callers = [call if c.id == call_id else c for c in known.callers]
            return
        current = self._current(call, call_id, handler)
        procedure = handler.procedure
        if not procedure.is_read and (end := self._find_end(current)) is not None:
            self._answer_again(call, end)
            return
        body: bytes | memoryview = call.body
        if procedure.fds is not None:
            body, current.files = split_files(body)
        args = unpack_args(procedure, body)
        if (check := limit_of(procedure)) is not None:
            check(args)
        if procedure.ro is not ReadOnly.ALLOWED and current.read_only:
            _check_read_only(handler, args)
        if handler.is_plain:
            self._answer_at_once(call, current, handler, args)
            return
        running = Running(call, current, handler, self._loop.time())
        if current.idempotency_key is not None and not procedure.is_read:
            key = (uid_of(current.caller), current.idempotency_key)
            if (other := self._by_key.get(key)) is not None:
                _check_same(other.current, current)
                other.callers = [c for c in other.callers if c.id != call_id]
                other.callers.append(call)
                return
            self._by_key[key] = running
        self._start(running, args)

    def _current(self, call: IncomingCall, call_id: bytes, handler: Handler) -> CurrentCall:
        prologue = call.prologue
        caller = prologue.caller or {}
        deadline = call.deadline
        if deadline is None and handler.procedure.deadline_s is not None:
            deadline = self._loop.time() + handler.procedure.deadline_s
        current = CurrentCall(
            call_id,
            handler.procedure,
            prologue.scope,
            caller,
            deadline,
            prologue.trace,
            bool(caller.get("read_only")),
            bool(call.flags & _RESEND),
            prologue.idempotency_key,
        )
        if current.idempotency_key is not None:
            current.digest = hashlib.blake2b(call.body, digest_size=16).digest()
        current.finish = handler.finish
        current.report = self._runtime.report_progress
        return current

    def _find_end(self, current: CurrentCall) -> End | None:
        calls = self._runtime.call_log
        end = calls.ended.get(current.id)
        if end is None and current.idempotency_key is not None:
            end = calls.find_keyed(uid_of(current.caller), current.idempotency_key)
            if end is not None and (
                end.origin.procedure != current.procedure.name or end.origin.digest != current.digest
            ):
                raise _key_used_twice(current)
        return end

    def _answer_again(self, call: IncomingCall, end: End) -> None:
        seq = self._runtime.publisher.seq
        if end.error is not None:
            self._port.fail(call, from_wire(end.error), seq=seq)
        else:
            self._port.reply(call, end.result or b"\x80", seq=seq)

    def _answer_at_once(self, call: IncomingCall, current: CurrentCall, handler: Handler, args: Any) -> None:
        enter_call(current)
        try:
            result = handler.function(self._host, *handler.arguments(args))
            body = self._packed(current, result)
        except VirtError as exc:
            self._fail([call], exc)
        except Exception as exc:  # noqa: BLE001 - whatever a handler does, its caller gets an outcome
            self._fail([call], self._unexpected(current, exc))
        else:
            self.answered += 1
            self._port.reply(call, body, seq=self._runtime.publisher.seq)
        finally:
            enter_call(None)

    def _start(self, running: Running, args: Any) -> None:
        current = running.current
        self._running[current.id] = running
        if current.deadline is not None:
            running.timer = self._loop.call_at(current.deadline, self._expire, running)
        running.task = self._loop.create_task(self._run(running, args))
        running.task.add_done_callback(lambda task: self._reap(running, task))

    async def _run(self, running: Running, args: Any) -> None:
        current = running.current
        enter_call(current)
        body: bytes | None = None
        ticket: dict[str, Any] | None = None
        error: VirtError | None = None
        try:
            result = await self._handle(running, args)
            if isinstance(result, Streamed):
                ticket = self._runtime.tickets.issue(result)
                result = result.result
            body = self._packed(current, result)
        except VirtError as exc:
            error = exc if running.why is None else running.why()
        except asyncio.CancelledError:
            if running.why is None and self._is_stopping:
                self._forget(running)
                return
            error = Cancelled("the call was cancelled") if running.why is None else running.why()
        except Exception as exc:  # noqa: BLE001 - whatever a handler does, its caller gets an outcome
            error = self._unexpected(current, exc)
        await self._end(running, body, ticket, error)

    async def _handle(self, running: Running, args: Any) -> Any:
        handler = running.handler
        if not handler.procedure.is_read and handler.lane is not Lane.OVERRIDE:
            self._runtime.check_writable()
        if handler.key_of is None:
            return await handler.function(self._host, *handler.arguments(args))
        running.passage = Passage(self._runtime.mailboxes, handler.key_of(args), handler.lane, handler.procedure.name)
        async with running.passage:
            return await handler.function(self._host, *handler.arguments(args))

    async def _end(
        self, running: Running, body: bytes | None, ticket: dict[str, Any] | None, error: VirtError | None
    ) -> None:
        current = running.current
        if error is not None and error.domain == ErrorDomain.NONE:
            error.domain = self._error_domain
        if not current.procedure.is_read and current.procedure.stream is None and not isinstance(error, Busy):
            try:
                self._runtime.call_log.end(current, body, None if error is None else to_wire(error))
                if current.idempotency_key is not None and error is None:
                    await self._synced()
            except HostSystemError as exc:
                # the change happened, so its outcome is told; a call sent again finds the evidence of its steps
                self._runtime.log.warning("an outcome cannot be recorded", call=current.id, error=str(exc))
        self._forget(running)
        self._tell(running, error)
        if error is not None:
            self._fail(running.callers, error, current)
        elif body is not None:
            self.answered += len(running.callers)
            for call in running.callers:
                self._port.reply(call, body, seq=self._runtime.publisher.seq, ticket=ticket)

    def _tell(self, running: Running, error: VirtError | None) -> None:
        current = running.current
        say = self._runtime.log.debug if current.procedure.is_read else self._runtime.log.info
        say(
            "call",
            procedure=current.procedure.name,
            trace=current.trace,
            call=current.id,
            uid=current.caller.get("uid"),
            took_ms=round((self._loop.time() - running.since) * 1000, 2),
            outcome="ok" if error is None else error.kind,
        )

    async def _synced(self) -> None:
        work = asyncio.ensure_future(self._runtime.in_thread(self._runtime.call_log.sync))
        await finish_despite_cancel(work)

    def _forget(self, running: Running) -> None:
        if running.timer is not None:
            running.timer.cancel()
        current = running.current
        current.is_over = True
        self._runtime.progress.pop(current.id, None)
        self._running.pop(current.id, None)
        if current.idempotency_key is not None:
            self._by_key.pop((uid_of(current.caller), current.idempotency_key), None)

    def _reap(self, running: Running, task: asyncio.Task[None]) -> None:
        # a task that is cancelled before its first step never runs a line of its coroutine
        if self._running.get(running.current.id) is running:
            self._forget(running)
            if not self._is_stopping:
                error = Cancelled("the call was cancelled") if running.why is None else running.why()
                self._fail(running.callers, error, running.current)
        if not task.cancelled() and (exc := task.exception()) is not None:
            self._runtime.stop_with(exc)

    def _expire(self, running: Running) -> None:
        # what holds the call up is to be told as it is now, not as it is once everything has been cleaned up
        text = self._overdue(running)
        self._cancel(running, lambda: DeadlinePassed(text))
        running.timer = self._loop.call_later(ABANDON_AFTER_S, self._abandon, running, text)

    def _abandon(self, running: Running, text: str) -> None:
        callers, running.callers = running.callers, []
        self._fail(callers, DeadlinePassed(text), running.current)

    def _cancel(self, running: Running, why: Callable[[], VirtError]) -> None:
        if running.why is None and running.task is not None:
            running.why = why
            running.task.cancel()

    def _overdue(self, running: Running) -> str:
        name = running.current.procedure.name
        box = self._box_of(running)
        if box is None:
            return f"{name} did not end in time"
        holder = box.holder
        if running.handler.lane is Lane.CHANGE and (holder is None or holder.task is not running.task):
            return box.describe()
        return box.describe(f"{name} did not end in time: no answer from the hypervisor")

    def _state_of(self, running: Running) -> str:
        box = self._box_of(running)
        if box is None or running.handler.lane is not Lane.CHANGE:
            return "running"
        holder = box.holder
        if holder is not None and holder.task is running.task:
            return "running"
        return box.describe("waits for the state change lock")

    def _box_of(self, running: Running) -> Mailbox | None:
        if running.passage is not None:
            return running.passage.box
        key = running.current.key
        return None if key is None else self._runtime.mailboxes.find(key)

    def _packed(self, current: CurrentCall, result: object) -> bytes:
        try:
            return current.pack(result)
        except VirtError as exc:
            raise self._unexpected(current, exc) from exc  # a wrong result is the handler's fault, not the caller's

    def _unexpected(self, current: CurrentCall, exc: Exception) -> VirtError:
        self._runtime.log.error(
            "a handler failed",
            procedure=current.procedure.name,
            trace=current.trace,
            call=current.id,
            error=f"{type(exc).__name__}: {exc}",
            traceback="".join(traceback.format_exception(exc)),
        )
        if current.key is not None:
            self._runtime.mailboxes.mark_stale(current.key)
        return InternalError(f"{current.procedure.name} failed: {type(exc).__name__}")

    def _fail(self, callers: list[IncomingCall], error: VirtError, current: CurrentCall | None = None) -> None:
        if error.domain == ErrorDomain.NONE:
            error.domain = self._error_domain
        self.answered += len(callers)
        if current is not None and not error.expected and not isinstance(error, InternalError):
            self._runtime.log.warning(
                "a call failed", procedure=current.procedure.name, trace=current.trace, error=error.message
            )
        for call in callers:
            self._port.fail(call, error, seq=self._runtime.publisher.seq)


def _check_read_only(handler: Handler, args: Any) -> None:
    procedure = handler.procedure
    numbers: dict[str, int] = {}
    for name in {"flags", procedure.ro_param}:
        value = getattr(args, name, None)
        if isinstance(value, int):
            numbers[name] = value
    if procedure.refused_read_only(**numbers):
        raise OperationDenied(f"read only access prevents {procedure.function}")


def _check_same(running: CurrentCall, call: CurrentCall) -> None:
    if running.procedure is not call.procedure or running.digest != call.digest:
        raise _key_used_twice(call)


def _key_used_twice(call: CurrentCall) -> InvalidArguments:
    return InvalidArguments(
        f"{call.procedure.name}: idempotency key '{call.idempotency_key}' was used for another call"
    )
