"""One daemon of another host: its connection, made again when it breaks, and its objects and events as our own.

Events, looks at single objects and comparisons are worked off by one task, one after the other, so that what is
published about an object is in order. After each connection everything is compared with what was last told, and the
difference is published: nothing that happened while the daemon was out of reach is passed over in silence.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, Protocol

from actors.runtime.differences import differences
from actors.runtime.objects import CHANGED, Entry
from actors.runtime.runtime import Runtime
from remoting.connection import DaemonConnection, connect_daemon
from remoting.objects import KINDS, FarObject, objects_in, read_all, read_object
from schema.enums.domain_state import DomainState
from schema.error_root import NO_DOMAIN
from schema.errors import DeadlinePassed, ErrorDomain, HypervisorGone, VirtError
from schema.model import Event, Procedure
from schema.table import all_events

BACKOFF_FIRST_S: Final = 0.1
BACKOFF_MAX_S: Final = 30.0
WAIT_S: Final = 3.0
"""How long a call waits for a connection that is being made again."""
UNKNOWN_AFTER_S: Final = 5.0
COMPARE_S: Final = 60.0
LOOK_S: Final = 5.0
EVENTS_MAX: Final = 4096
"""How many events may wait to be looked at."""
_REGISTER: Final = {
    "domain": ("connect_domain_event_callback_register_any", "dom"),
    "network": ("connect_network_event_register_any", "net"),
    "storage_pool": ("connect_storage_pool_event_register_any", "pool"),
    "node_device": ("connect_node_device_event_register_any", "dev"),
    "secret": ("connect_secret_event_register_any", "secret"),
}
_CHANGING: Final = (
    "_lifecycle",
    "_balloon_change",
    "_metadata_change",
    "_pmwakeup",
    "_pmsuspend",
    "_pmsuspend_disk",
    "_device_added",
    "_device_removed",
    "_refresh",
    "_update",
)
"""Events after which lists would answer otherwise."""

Key = tuple[str, bytes | str]
Item = tuple[Event, dict[str, Any]] | tuple[Sequence[Key], "asyncio.Future[None]"]


class Line(Protocol):
    """A connection that carries one stream."""

    async def close(self) -> None:
        """Ends it."""


class FarSide:
    """The daemon of one scope."""

    def __init__(self, runtime: Runtime, scope: str) -> None:
        self.scope = scope
        self._runtime = runtime
        self._conn: DaemonConnection | None = None
        self._ready = asyncio.Event()
        self._compared = asyncio.Event()
        self._why: VirtError = HypervisorGone(f"'{scope}' is not connected yet")
        self._items: deque[Item] = deque()
        self._news = asyncio.Event()
        self._believed: dict[Key, Entry] = {}
        self._task: asyncio.Task[None] | None = None
        self.has_lost_events = False
        self.lines: set[Line] = set()
        """Connections that carry one stream each."""
        self.displays: set[asyncio.Task[None]] = set()
        """Displays whose bytes pass here."""
        self._is_new = not runtime.objects.all("domain", scope)

    # --- life ---

    def start(self, conn: DaemonConnection | None) -> None:
        """Begins, with a connection that was made already or with looking for one."""
        if conn is not None:
            self._adopt(conn)
        self._task = self._runtime.spawn(self._run(), f"far side {self.scope}")

    async def stop(self) -> None:
        """Ends the connection."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        for display in self.displays:
            display.cancel()
        await asyncio.gather(*self.displays, *(line.close() for line in list(self.lines)), return_exceptions=True)
        if self._conn is not None:
            await self._conn.aclose()

    def _adopt(self, conn: DaemonConnection) -> None:
        for item in self._items:
            if isinstance(item[1], asyncio.Future) and not item[1].done():
                item[1].set_result(None)
        self._items.clear()
        conn.on_event = self._hear
        self._conn = conn
        self._ready.set()

    async def _run(self) -> None:
        while True:
            conn = self._conn or await self._connect_again()
            try:
                await self._serve(conn)
            except VirtError as exc:
                self._why = exc
            self._ready.clear()
            self._compared.clear()
            self._conn = None
            if conn.closed.done():
                self._why = conn.closed.result()
            self._runtime.log.warning("connection lost", scope=self.scope, error=self._why.message)
            await conn.aclose()

    async def _connect_again(self) -> DaemonConnection:
        loop = asyncio.get_running_loop()
        since = loop.time()
        pause = BACKOFF_FIRST_S
        told = False
        while True:
            try:
                conn = await connect_daemon(self.scope)
            except VirtError as exc:
                self._why = HypervisorGone(f"'{self.scope}' is out of reach: {exc.message}")
            else:
                self._runtime.log.info("connected", scope=self.scope)
                self._adopt(conn)
                return conn
            if not told and loop.time() - since > UNKNOWN_AFTER_S:
                told = True
                self._doubt()
            await asyncio.sleep(pause * random.uniform(0.8, 1.2))
            pause = min(pause * 2, BACKOFF_MAX_S)

    # --- for calls ---

    async def connection(self) -> DaemonConnection:
        """The connection. Raises HypervisorGone, or why the daemon refuses, when there is none within WAIT_S."""
        if not self._ready.is_set():
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._ready.wait(), WAIT_S)
        if self._conn is None or not self._conn.is_open:
            raise HypervisorGone(self._why.str2)
        return self._conn

    async def compared(self) -> None:
        """Returns when everything over there is known, or the connection failed again."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._compared.wait(), LOOK_S)

    async def read(self, procedure: Procedure, args: Any) -> Any:
        """A read, which is asked again when its connection breaks."""
        conn = await self.connection()
        try:
            return await ask(conn, procedure, args)
        except HypervisorGone:
            if conn.is_open:
                raise
        await asyncio.sleep(0)  # the broken connection is taken away first
        return await ask(await self.connection(), procedure, args)

    async def look_at(self, keys: Sequence[Key]) -> None:
        """Reads objects anew, behind all events that have come, so that who asks next is told what was done."""
        if not keys or self._conn is None:
            return
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._add((tuple(dict.fromkeys(keys)), done))
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(done, LOOK_S)

    # --- what happens over there ---

    async def _serve(self, conn: DaemonConnection) -> None:
        await self._register(conn)
        loop = asyncio.get_running_loop()
        next_compare = await self._compare_timed(conn)
        self._compared.set()
        while conn.is_open:
            if self.has_lost_events:
                self.has_lost_events = False
                next_compare = await self._compare_timed(conn)
            item = await self._next_item(conn, next_compare - loop.time())
            if item is not None:
                await self._work_off(conn, item)
            elif conn.is_open and loop.time() >= next_compare:
                next_compare = await self._compare_timed(conn)

    async def _compare_timed(self, conn: DaemonConnection) -> float:
        """Compares, and gives when to do so again: it may take a twentieth of the time at most."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        await self._compare(conn)
        return loop.time() + max(COMPARE_S, 20 * (loop.time() - began))

    async def _next_item(self, conn: DaemonConnection, timeout_s: float) -> Item | None:
        if not self._items:
            self._news.clear()
            news = asyncio.ensure_future(self._news.wait())
            ends: set[asyncio.Future[Any]] = {news, conn.closed}
            await asyncio.wait(ends, timeout=max(timeout_s, 0.0), return_when=asyncio.FIRST_COMPLETED)
            news.cancel()
        return self._items.popleft() if self._items else None

    @property
    def waiting(self) -> int:
        """Events and objects that wait to be looked at."""
        return len(self._items)

    def _hear(self, event: Event, data: dict[str, Any]) -> None:
        if len(self._items) >= EVENTS_MAX:
            # more happens than can be looked at one by one: a comparison tells what became of it
            self._items = deque(item for item in self._items if not isinstance(item[0], Event))
            self.has_lost_events = True
            self._runtime.log.warning("too many events, everything is compared", scope=self.scope)
        self._add((event, data))

    def _add(self, item: Item) -> None:
        self._items.append(item)
        self._news.set()

    async def _register(self, conn: DaemonConnection) -> None:
        events = [event for event in all_events() if event.event_id is not None and event.family in _REGISTER]
        if not conn.opened.has_event_callbacks:
            events = [event for event in events if event.family != "domain"]  # a comparison finds what they would tell
        await asyncio.gather(*(self._register_one(conn, event) for event in events))

    async def _register_one(self, conn: DaemonConnection, event: Event) -> None:
        name, argument = _REGISTER[event.family]
        try:
            await conn.call(name, {"eventID": event.event_id, argument: None}, timeout=LOOK_S)
        except HypervisorGone:
            raise
        except VirtError as exc:
            self._runtime.log.debug("event not told", scope=self.scope, event=event.name, error=exc.message)

    async def _work_off(self, conn: DaemonConnection, item: Item) -> None:
        first, second = item
        if isinstance(first, Event):
            assert isinstance(second, dict)
            await self._tell(conn, first, second)
            return
        try:
            for kind, key in first:
                await self._look(conn, kind, key, None)
        finally:
            assert isinstance(second, asyncio.Future)
            if not second.done():
                second.set_result(None)

    async def _tell(self, conn: DaemonConnection, event: Event, data: dict[str, Any]) -> None:
        events = [(event.name, data)]
        about = objects_in(data.values())
        if not about:
            return
        kind, key = about[0]
        entry = self._runtime.objects.find(kind, key, self.scope)
        if entry is not None and not event.name.endswith(_CHANGING):
            self._runtime.publisher.record(events, entry, origin="host")
        elif not await self._look(conn, kind, key, events):
            self._tell_of_stranger(event, data, kind, key)

    async def _look(
        self, conn: DaemonConnection, kind: str, key: bytes | str, events: list[tuple[str, dict[str, Any]]] | None
    ) -> bool:
        """Reads an object and publishes how it is; False when there is and was none.

        Raises HypervisorGone and DeadlinePassed.
        """
        entry = self._runtime.objects.find(kind, key, self.scope)
        try:
            now = await read_object(conn, kind, key, self.scope)
        except (HypervisorGone, DeadlinePassed):
            raise
        except VirtError as exc:
            self._runtime.log.warning("an object cannot be read", scope=self.scope, key=key, error=exc.message)
            if entry is not None and events is not None:
                self._runtime.publisher.record(events, entry, origin="host")
            return entry is not None
        self._settle(kind, key, now, events)
        return now is not None or entry is not None

    def _tell_of_stranger(self, event: Event, data: dict[str, Any], kind: str, key: bytes | str) -> None:
        """Tells what happened to an object that was never known here and is gone already."""
        ref = next(value for value in data.values() if objects_in([value]))
        name = getattr(ref, "name", "")
        self._runtime.objects.put(kind, key, name, {"scope": self.scope}, events=[(event.name, data)], origin="host")
        self._runtime.objects.drop(kind, key, scope=self.scope, origin="host")

    def _settle(
        self, kind: str, key: bytes | str, now: FarObject | None, events: list[tuple[str, dict[str, Any]]] | None
    ) -> None:
        """An object is like this now. Without events, what must have happened is told, if anything did."""
        objects = self._runtime.objects
        old = objects.find(kind, key, self.scope)
        if now is None:
            if old is not None:
                last = self._believed.pop((kind, key), old)
                objects.drop(kind, key, events=events or differences(last, None), scope=self.scope, origin="host")
            return
        new = Entry(kind, self.scope, key, now.name, now.summary, 1, now.digest)
        believed = self._believed.pop((kind, key), None)
        known = believed or old
        if "since" in now.summary and known is not None and _runs_alike(known.summary, now.summary):
            now.summary["since"] = known.summary.get("since", 0.0)
        if events is None:
            if old is not None and old.equals(new):
                return
            if known is not None and known.equals(new):
                events = list_of(CHANGED)  # it only was out of sight
            elif known is not None and known.summary.get("state") == DomainState.NOSTATE:
                events = list_of(CHANGED)
            elif known is None and self._is_new:
                events = list_of(CHANGED)  # it was there before anybody here knew
            else:
                events = differences(known, new)
        objects.put(kind, key, now.name, now.summary, events=events, digest=now.digest, origin="host")

    async def _compare(self, conn: DaemonConnection) -> None:
        """Publishes the difference between what was last told and what is."""
        objects = self._runtime.objects
        for kind in KINDS:
            found = await read_all(conn, kind, self.scope)
            if found is None:
                continue
            waiting = self._waiting()
            keys = {item.key for item in found}
            for item in found:
                if (kind, item.key) not in waiting:
                    self._settle(kind, item.key, item, None)
            for entry in objects.all(kind, self.scope):
                if entry.key not in keys and (kind, entry.key) not in waiting:
                    self._settle(kind, entry.key, None, None)
        self._is_new = False

    def _waiting(self) -> set[Key]:
        """The objects of which events wait: those tell it better than a comparison."""
        return {
            about
            for first, second in self._items
            if isinstance(first, Event) and first.name.endswith("_lifecycle") and isinstance(second, Mapping)
            for about in objects_in(second.values())
        }

    def _doubt(self) -> None:
        """The daemon is out of reach: of its guests nobody knows how they are."""
        for entry in self._runtime.objects.all("domain", self.scope):
            if entry.summary.get("state") != DomainState.NOSTATE:
                self._believed.setdefault(("domain", entry.key), entry)
                summary = {**entry.summary, "state": int(DomainState.NOSTATE), "reason": 0}
                self._runtime.objects.put("domain", entry.key, entry.name, summary, digest=entry.digest, origin="host")


async def ask(conn: DaemonConnection, procedure: Procedure, args: Any) -> Any:
    """A call to the daemon; an error that names no origin over there names none here either.

    Raises the daemon's error, HypervisorGone and InvalidArguments.
    """
    with _as_told():
        return await conn.ask(procedure, args, timeout=None)


async def ask_with_files(
    conn: DaemonConnection, procedure: Procedure, args: object, fds: Sequence[int]
) -> tuple[Any, list[int]]:
    """The same with open files, and those that the daemon gives. Raises also that they cannot be passed."""
    with _as_told():
        return await conn.ask_with_files(procedure, args, fds, timeout=None)


@contextlib.contextmanager
def _as_told() -> Iterator[None]:
    try:
        yield
    except HypervisorGone:
        raise
    except VirtError as exc:
        if exc.domain == ErrorDomain.NONE:
            exc.domain = NO_DOMAIN
        raise


def list_of(events: Sequence[tuple[str, Mapping[str, Any]]]) -> list[tuple[str, dict[str, Any]]]:
    """Events as a list of their own."""
    return [(kind, dict(data)) for kind, data in events]


def _runs_alike(old: Mapping[str, Any], new: Mapping[str, Any]) -> bool:
    return (old.get("state"), old.get("id")) == (new.get("state"), new.get("id"))
