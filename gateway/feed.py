"""Keeps the read models true: events as they are published, the journal where some are missing, else a snapshot.

Everything of a source that arrives while its gap is being filled waits, so that records are applied, and clients told,
in the order of their numbers and each once.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any, Final, Protocol

from broker.peer import HistoryLost, Reply
from broker.wire import Cursor, Position, Published, WireError, unpack_value
from gateway.reads import READERS
from gateway.replica import Applied, Replica, SourceState, View
from gateway.routes import readers_by_header
from schema.body import pack_args, unpack_result
from schema.errors import DriverDegraded, VirtError
from schema.table import need_procedure
from settings.drivers import REMOTE

HELD_MAX: Final = 8192
SNAPSHOT_DEADLINE_S: Final = 30.0
RETRY_S: Final = 0.2
REMEMBER_WAIT_S: Final = 5.0
KNOWN_NAMES: Final = frozenset(
    {"qemu:///system", "qemu:///session", "test:///default"}
)  # names that may be open without an object
AT_ONCE: Final = 32
PLATFORM: Final = frozenset({"broker", "gateway", "warden"})  # sources without objects


class Subscription(Protocol):
    """What is published."""

    async def next(self) -> tuple[str, Position, bytes]:
        """The next message: source, position, body."""


class Publishing(Protocol):
    """The broker, as far as events are concerned."""

    def listen(self, sources: Sequence[str] | None) -> AbstractAsyncContextManager[Subscription]:
        """Subscribes."""

    def replay(self, after: Cursor, sources: Sequence[str] | None = None) -> AsyncIterator[tuple[Cursor, bytes]]:
        """The journal's records behind a cursor."""

    async def head(self) -> Cursor:
        """The end of the journal."""

    async def call(
        self,
        destination: str,
        procedure: str,
        body: bytes,
        *,
        scope: str = "",
        deadline_s: float | None = 60.0,
    ) -> Reply:
        """One call."""


class Feed:
    """The read models of all sources."""

    def __init__(
        self,
        peer: Publishing,
        *,
        deliver: Callable[[str, Mapping[str, Any]], None],
        on_lost: Callable[[str], None],
        on_domain: Callable[[View, bytes], None] = lambda view, uuid: None,
        clock: Callable[[], float],
        log: Callable[..., None],
    ) -> None:
        self._peer = peer
        self._deliver = deliver
        self._on_lost = on_lost
        self._on_domain = on_domain
        self._learning: set[asyncio.Task[None]] = set()
        self._clock = clock
        self._log = log
        self._replicas: dict[str, Replica] = {}
        self._cursors: dict[str, Cursor] = {}
        self._held: dict[str, list[tuple[Cursor, bytes]]] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._waiting: dict[str, list[tuple[int, asyncio.Future[None]]]] = {}

    def replica(self, source: str) -> Replica:
        """The read model of a source."""
        replica = self._replicas.get(source)
        if replica is None:
            replica = self._replicas[source] = Replica(source)
        return replica

    def view(self, source: str, scope: str) -> View:
        """What a connection name shows of a source; what is not known yet is fetched."""
        replica = self.replica(source)
        if not replica.known:
            self._recover(source)
        return replica.view(scope)

    async def remembers(self, source: str, scope: str) -> bool:
        """Whether anything is known under a connection name of a driver that the broker just called degraded."""
        replica = self.replica(source)
        replica.set_state(SourceState.DEGRADED)
        if not replica.known:
            self._recover(source)
            await asyncio.wait({self._tasks[source]}, timeout=REMEMBER_WAIT_S)
        view = replica.views.get(scope)
        return replica.known and (scope in KNOWN_NAMES or (view is not None and not view.is_empty))

    def all(self) -> Mapping[str, Replica]:
        """Every read model by its source."""
        return self._replicas

    async def reached(self, source: str, seq: int, within_s: float) -> bool:
        """Waits until everything up to `seq` was applied; False when that takes too long."""
        replica = self.replica(source)
        if replica.seq >= seq:
            return True
        if not replica.known:
            return False
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        entry = (seq, future)
        self._waiting.setdefault(source, []).append(entry)
        try:
            async with asyncio.timeout(within_s):
                await future
        except TimeoutError:
            return False
        finally:
            waiting = self._waiting.get(source)
            if waiting is not None and entry in waiting:
                waiting.remove(entry)
        return True

    async def run(self) -> None:
        """Takes what is published until it is cancelled."""
        async with self._peer.listen(None) as subscription:
            while True:
                for _ in range(AT_ONCE):
                    source, position, body = await subscription.next()
                    self.take(source, position, body)
                await asyncio.sleep(0)  # a flood of events does not keep the clients waiting

    async def aclose(self) -> None:
        """Ends what is being fetched."""
        tasks = (*self._tasks.values(), *self._learning)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def take(self, source: str, position: Position, body: bytes) -> None:
        """Takes one published message."""
        if source in PLATFORM:
            return
        now = self._clock()
        replica = self.replica(source)
        if position.what == Published.EVENT:
            cursor = Cursor(position.generation, position.offset)
            held = self._held.get(source)
            if held is None:
                self._apply(replica, cursor, body)
            elif len(held) < HELD_MAX:  # what is dropped here is a gap that is found and filled afterwards
                held.append((cursor, body))
        elif position.what == Published.ALIVE:
            replica.promise(position.epoch, position.seq, now)
            if not replica.known or replica.misses_events:
                self._recover(source)
        elif position.what == Published.STATE:
            try:
                state = unpack_value(body)["state"]
            except (WireError, KeyError, TypeError):
                self._log("a state that cannot be read", source=source)
                return
            replica.set_state(state)
            if replica.state is SourceState.DEGRADED and not replica.known:
                self._recover(source)

    def _apply(self, replica: Replica, cursor: Cursor, body: bytes) -> None:
        if not replica.known:
            self._recover(replica.source)
            return
        record = unpack_value(body)
        outcome = replica.apply(record, self._clock())
        if outcome is Applied.GAP:
            self._recover(replica.source)
            return
        if outcome is Applied.OLD:
            return
        self._cursors[replica.source] = cursor
        if record["kind"] == "epoch":
            self._relearn(replica)
        self._changed(replica, record)
        try:
            self._deliver(replica.source, record)
        except VirtError as exc:
            self._log("an event that cannot be told", source=replica.source, kind=record["kind"], error=exc.message)
        self._wake(replica)

    def _wake(self, replica: Replica) -> None:
        waiting = self._waiting.get(replica.source)
        if not waiting:
            return
        still = []
        for seq, future in waiting:
            if seq > replica.seq:
                still.append((seq, future))
            elif not future.done():
                future.set_result(None)
        self._waiting[replica.source] = still

    def _relearn(self, replica: Replica) -> None:
        """A new incarnation may serve other procedures than the last."""

        async def learn() -> None:
            try:
                await self._learn_what_is_served(replica)
            except VirtError as exc:
                self._log("a driver does not say what it serves", source=replica.source, error=exc.message)

        task = asyncio.ensure_future(learn())
        self._learning.add(task)
        task.add_done_callback(self._learning.discard)

    def _changed(self, replica: Replica, record: Mapping[str, Any]) -> None:
        changed = record["object"]
        if changed is not None and changed[0] == "domain" and record["summary"] is not None:
            self._on_domain(replica.view(record["scope"]), changed[1])

    def _recover(self, source: str) -> None:
        if source not in self._tasks:
            self._held[source] = []
            task = asyncio.ensure_future(self._fill(source))
            self._tasks[source] = task
            task.add_done_callback(lambda done: self._filled(source, done))

    def _filled(self, source: str, task: asyncio.Task[None]) -> None:
        self._tasks.pop(source, None)
        held = self._held.pop(source, [])
        if task.cancelled():
            return
        if (exc := task.exception()) is not None:
            raise exc
        replica = self.replica(source)
        if replica.known:
            for cursor, body in held:
                if source in self._tasks:  # a gap inside what was held: the rest comes with it
                    break
                self._apply(replica, cursor, body)
            self._wake(replica)

    async def _fill(self, source: str) -> None:
        replica = self.replica(source)
        try:
            if replica.known and await self._replay(replica):
                return
            await self._snapshot(replica)
        except DriverDegraded:
            await self._remember(replica)
        except VirtError as exc:
            # The next sign of life tries again; until then every read goes to the driver, who knows the reason.
            self._log("a read model could not be filled", source=source, error=exc.message)
            await asyncio.sleep(RETRY_S)

    async def _remember(self, replica: Replica) -> None:
        """Makes the read model of a driver that cannot be asked from all that the journal holds of it.

        Only of a whole history: of objects whose last event is retained no more, it would say that they are gone.
        """
        if replica.known:
            return
        memory = Replica(replica.source)
        memory.load(0, 0, (), self._clock())
        place = Cursor(0, 0)
        try:
            async for cursor, body in self._peer.replay(place, [replica.source]):
                place = cursor
                if memory.apply(unpack_value(body), self._clock()) is Applied.GAP:
                    raise HistoryLost(Cursor(0, 0), cursor)
        except HistoryLost:
            self._log("what was known of a degraded driver is no longer in the journal", source=replica.source)
            return
        if memory.seq == 0:
            return
        replica.take_over(memory)
        replica.serves = frozenset() if replica.source == REMOTE else frozenset(READERS)
        self._cursors[replica.source] = place
        self._log("read model made from the journal", source=replica.source, seq=replica.seq)

    async def _replay(self, replica: Replica) -> bool:
        """Applies what the journal holds; False when that is not enough."""
        cursor = self._cursors.get(replica.source)
        if cursor is None:
            return False
        before = replica.seq
        try:
            async for place, body in self._peer.replay(cursor, [replica.source]):
                if replica.seq + 1 < unpack_value(body)["seq"]:
                    break
                self._apply(replica, place, body)
        except HistoryLost:
            self._log("the journal does not reach back to a gap", source=replica.source, seq=replica.seq)
        return replica.seq > before and not replica.misses_events

    async def _learn_what_is_served(self, replica: Replica) -> None:
        if replica.source == REMOTE:
            return  # much of what changes on other hosts has no event: the driver asks them each time
        row = need_procedure("actor_capabilities")
        reply = await self._peer.call(replica.source, row.name, pack_args(row, {}), deadline_s=SNAPSHOT_DEADLINE_S)
        replica.serves = frozenset(unpack_result(row, reply.body).procedures)
        replica.readers = readers_by_header(replica.serves)

    async def _snapshot(self, replica: Replica) -> None:
        source = replica.source
        was_known = replica.known
        head = await self._peer.head()
        row = need_procedure("actor_snapshot")
        reply = await self._peer.call(source, row.name, pack_args(row, {}), deadline_s=SNAPSHOT_DEADLINE_S)
        snapshot = unpack_result(row, reply.body)
        await self._learn_what_is_served(replica)
        if was_known and snapshot.seq > replica.seq:
            self._on_lost(source)
        replica.load(snapshot.epoch, snapshot.seq, snapshot.objects, self._clock())
        self._cursors[source] = head
        for item in snapshot.objects:
            if item["type"] == "domain":
                self._on_domain(replica.view(item["scope"]), item["key"])
        self._log("read model filled", source=source, seq=snapshot.seq, objects=len(snapshot.objects))
