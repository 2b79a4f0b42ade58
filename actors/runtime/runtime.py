"""What a driver builds on: its objects, files, intents, mailboxes, threads, and the way to other actors."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from contextvars import Context
from typing import Any, Final, TypeVar

from actors.runtime.call_log import CallLog
from actors.runtime.context import CurrentCall, find_call
from actors.runtime.intents import Intents
from actors.runtime.ledger import Ledger
from actors.runtime.mailbox import Lane, Lanes, Mailboxes, MailboxKey
from actors.runtime.objects import Objects
from actors.runtime.publisher import Publisher
from actors.runtime.record_log import OldSegment
from actors.runtime.store import Store, finish_despite_cancel
from actors.runtime.streams import Tickets
from broker.peer import Peer
from schema.body import pack_args, unpack_result
from schema.errors import HostSystemError
from schema.table import need_procedure
from settings.config import ActorSettings, Config
from settings.paths import Paths
from util.structured_log import StructuredLog

THREADS_MAX: Final = 8
THREADS_END_S: Final = 2.0
PROGRESS_EVERY_S: Final = 0.5

T = TypeVar("T")


class Runtime:
    """One actor's process. Made by `actor.run`, or by a test."""

    def __init__(self, name: str, paths: Paths, config: Config, log: StructuredLog) -> None:
        self.name = name
        self.paths = paths
        self.config = config
        self.log = log
        self.settings: ActorSettings = config.actor(name)
        self.started = time.monotonic()
        self.failure: asyncio.Future[BaseException] = asyncio.get_running_loop().create_future()
        """Set by what must end the process."""
        self.objects = Objects()
        self.ledger = Ledger(paths.role_state(name))
        self.call_log = CallLog(paths.role_state(name), self.settings.retain_calls_s)
        self.publisher = Publisher(name, self.ledger, log, self._discard)
        self.mailboxes = Mailboxes(
            self.settings.changes_per_guest,
            self.settings.queries_per_guest,
            entered=self._entered,
            name_of=self._name_of,
        )
        self.store = Store(paths.role_state(name), self.call_log, self.in_thread)
        self.intents = Intents(self.call_log, self.in_thread)
        self.tickets = Tickets(paths.tickets(name), log, self.stop_with)
        self.procedures: list[str] = []
        """The names of all that is answered; known once the actor has started."""
        self.is_running: Callable[[bytes], bool] = _never
        self.describe_calls: Callable[[], list[dict[str, Any]]] = list
        self.progress: dict[bytes, dict[str, Any]] = {}
        """How far the tasks that run have come."""
        self._threads = ThreadPoolExecutor(THREADS_MAX, thread_name_prefix=f"{name}-work")
        self._tasks: set[asyncio.Task[Any]] = set()
        self._peer: Peer | None = None

    @property
    def peer(self) -> Peer:
        """The connection to the broker. There is none in an actor that runs alone, in a test."""
        if self._peer is None:
            raise RuntimeError(f"actor '{self.name}' has no broker")
        return self._peer

    @property
    def epoch(self) -> int:
        """Which incarnation this is."""
        return 0 if self._peer is None else self._peer.epoch

    def load(self, last_seq: int) -> None:
        """Reads ledger and call log; the journal holds the events up to `last_seq`. Raises HostSystemError."""
        self.ledger.load(last_seq)
        self.call_log.load()
        why = self.ledger.unwritable or self.call_log.unwritable
        if why is not None:
            self.log.error("nothing can be kept here: changes are refused, reads are answered", error=str(why))

    def know_the_gone(self) -> None:
        """Takes over from the ledger which objects are gone, so that their versions go on if they come again."""
        for identity, version in self.ledger.tombs.items():
            self.objects.bury(identity, version)

    async def catch_up(self, history: AsyncIterator[bytes]) -> None:
        """Takes over what the journal holds and the ledger lost. Raises HostSystemError."""
        behind = self.ledger.seq
        async for record in history:
            self.ledger.adopt(record)
        try:
            self._discard(self.ledger.compact([]))
        except HostSystemError as exc:
            self.ledger.fill_in_later()
            self.log.error("what the journal told cannot be written yet", error=exc.message)
        self.log.warning("the ledger was behind the journal", was=behind, now=self.ledger.seq)

    def attach(self, peer: Peer) -> None:
        """The broker's peer is connected."""
        self._peer = peer

    def mailbox(self, key: MailboxKey) -> Lanes:
        """The lanes of an object, for a handler that learns only on the way which one it needs."""
        return Lanes(self.mailboxes, key, _whose)

    def check_writable(self) -> None:
        """Raises HostSystemError when a change could not be recorded: it must not begin then."""
        self.publisher.check_writable()
        self.call_log.reserve()

    async def ask(
        self,
        destination: str,
        procedure: str,
        *,
        deadline_s: float | None = None,
        idempotency_key: str | None = None,
        **args: Any,
    ) -> Any:
        """The result of a call to another actor, as part of the call that is being answered.

        Raises the VirtError that comes back.
        """
        row = need_procedure(procedure)
        call = find_call()
        if deadline_s is None:
            deadline_s = row.deadline_s
            if call is not None and call.deadline is not None:
                left = call.deadline - asyncio.get_running_loop().time()
                deadline_s = max(0.001, left if deadline_s is None else min(left, deadline_s))
        reply = await self.peer.call(
            destination,
            procedure,
            pack_args(row, args),
            scope="" if call is None else call.scope,
            deadline_s=deadline_s,
            idempotency_key=idempotency_key,
            trace=None if call is None else call.trace,
        )
        return unpack_result(row, reply.body)

    def spawn(self, work: Coroutine[Any, Any, Any], name: str) -> asyncio.Task[Any]:
        """Runs work that belongs to no call. If it fails the process ends; it is cancelled when the actor stops."""
        task = asyncio.get_running_loop().create_task(work, name=name, context=Context())
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    async def in_thread(self, work: Callable[..., T], *args: Any) -> T:
        """Runs blocking work in one of a bounded number of threads, and always waits for its end.

        A cancellation meanwhile takes effect at the next wait after it.
        """
        future = asyncio.get_running_loop().run_in_executor(self._threads, functools.partial(work, *args))
        result: T = await finish_despite_cancel(future)
        return result

    def stop_with(self, exc: BaseException) -> None:
        """Ends the process because of a fault outside any handler."""
        if not self.failure.done():
            self.failure.set_result(exc)

    def report_progress(self, call: CurrentCall, done: int, total: int, what: str) -> None:
        """Remembers how far a task has come."""
        self.progress[call.id] = {"procedure": call.procedure.name, "done": done, "total": total, "what": what}

    def tick(self) -> None:
        """What is done now and then: late writes, compaction. Never raises."""
        self.publisher.tick()
        try:
            old = self.call_log.compact()
        except HostSystemError as exc:
            self.log.warning("the record of calls cannot be compacted", error=str(exc))
            return
        if old is not None:
            self._discard(old)

    async def close(self) -> None:
        """Ends background work and lets go of the files."""
        await self.tickets.close()
        for task in list(self._tasks):
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=2.0)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(asyncio.to_thread(self._threads.shutdown), THREADS_END_S)
        self.ledger.close()
        self.call_log.close()

    def _discard(self, old: OldSegment) -> None:
        self._threads.submit(old.discard)

    def _entered(self, key: MailboxKey, lane: Lane) -> None:
        call = find_call()
        if call is None or call.procedure.is_read or lane is Lane.QUERY:
            return
        call.key = key
        try:
            self.call_log.begin(call, key)
        except HostSystemError as exc:
            if lane is not Lane.OVERRIDE:
                raise
            # a guest can be ended on a full disk too
            self.log.warning("a call cannot be recorded", procedure=call.procedure.name, error=str(exc))

    def _name_of(self, key: MailboxKey) -> str | None:
        entry = self.objects.find(*key)
        return None if entry is None else entry.name

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (exc := task.exception()) is not None:
            self.stop_with(exc)


def _whose() -> str:
    call = find_call()
    return "the driver" if call is None else call.procedure.name


def _never(call: bytes) -> bool:
    return False
