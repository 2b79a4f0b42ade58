"""The event stream of a connection: ordered, without a gap, whatever restarts meanwhile.

The stream listens first and then replays the journal from its cursor to the head; from there on it passes on what is
published, as long as `Continuity` can prove that nothing is missing, and replays again when it cannot. Nothing is read
ahead of the consumer: a slow one leaves the socket's bounded queue to overflow in the broker, finds the gap when it
comes back, and reads what it missed from the journal, part by part.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Sequence
from contextlib import AbstractAsyncContextManager
from types import TracebackType
from typing import Final, Protocol, Self

from broker.peer import HistoryLost
from broker.wire import Cursor, Position, WireError
from client.continuity import Continuity, Verdict
from client.errors import Busy, DeadlinePassed, NotRegistered
from client.event import Event, Resync, event_from_record
from client.snapshot import Snapshot

BEGINNING: Final = Cursor(0, 0)
"""Before the oldest event that the journal still has, whichever that is."""

QUIET_S = 2.0
"""Ready sources publish a sign of life every half second; after this much silence the journal itself is asked."""

AWAY: Final = (Busy, DeadlinePassed)
"""The agent is down, or has too much to do: a stream waits as long as that lasts."""

AGAIN_S = 0.2

BREATH = 256
"""Messages that may be passed over before other tasks get their turn."""


class Live(Protocol):
    """The published messages (`broker.subscriber.EventSubscription`)."""

    async def next(self) -> tuple[str, Position, bytes]: ...


class Journal(Protocol):
    """What a stream asks the broker for (`broker.peer.Peer`)."""

    def replay(self, after: Cursor, sources: Sequence[str] | None = None) -> AsyncIterator[tuple[Cursor, bytes]]: ...

    async def head(self) -> Cursor: ...


class EventStream:
    """An async iterator of `Event` and, where history is lost, `Resync`.

    It waits for an agent that is down, however long. A step that is cancelled (by `asyncio.timeout`, for instance)
    loses nothing: the next one goes on. Leave the stream with `aclose()`, or use it as a context manager.
    """

    def __init__(
        self,
        journal: Journal,
        listen: Callable[[Sequence[str] | None], AbstractAsyncContextManager[Live]],
        snapshot: Callable[[], Awaitable[Snapshot]],
        *,
        after: Cursor | None,
        sources: Collection[str] | None,
        scope: str | None = None,
        kinds: Collection[str] | None = None,
        objects: Collection[str | bytes] | None = None,
    ) -> None:
        """`sources` None means all. `objects` are names and uuid bytes."""
        self._journal = journal
        self._snapshot = snapshot
        self._after = after
        self._sources = None if sources is None else frozenset(sources)
        self._only = next(iter(self._sources)) if self._sources is not None and len(self._sources) == 1 else None
        self._asked = None if self._only is None else [self._only]
        self._listening = listen(self._asked)
        self._scope = scope
        self._kinds = None if kinds is None else frozenset(kinds)
        self._objects = None if objects is None else frozenset(objects)
        self._live: Live | None = None
        self._progress: Continuity | None = None
        self._replaying: AsyncIterator[tuple[Cursor, bytes]] | None = None
        self._head = Cursor(0, 0)
        self._behind = True
        self._busy = False
        self._closed = False

    @property
    def cursor(self) -> Cursor | None:
        """Where the stream stands: everything before has been yielded, or passed over by the filters."""
        return self._after if self._progress is None else self._progress.cursor

    def __aiter__(self) -> Self:
        return self

    async def __aenter__(self) -> Self:
        try:
            await self.start()
        except BaseException:
            await self.aclose()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def start(self) -> None:
        """Begins to listen; without a cursor the stream yields what happens from now on."""
        if self._live is None:
            self._live = await self._listening.__aenter__()
        if self._progress is None:
            # without a cursor there is nothing to replay yet, but the first message has to prove that too
            self._behind = self._after is not None
            self._progress = Continuity(self._after or await self._journal.head(), self._only)

    async def aclose(self) -> None:
        """Ends the stream."""
        self._closed = True
        await self._drop_replay()
        if self._live is not None:
            self._live = None
            await self._listening.__aexit__(None, None, None)

    async def __anext__(self) -> Event | Resync:
        if self._busy:
            raise RuntimeError("Another task waits for the next event of this stream")
        if self._closed:
            raise StopAsyncIteration
        self._busy = True
        try:
            await self.start()
            assert self._progress is not None and self._live is not None
            return await self._next(self._progress, self._live)
        finally:
            self._busy = False

    async def _next(self, progress: Continuity, live: Live) -> Event | Resync:
        passed = 0
        while True:
            item = await (self._replay_step(progress) if self._behind else self._live_step(progress, live))
            if item is not None:
                return item
            passed += 1
            if passed % BREATH == 0:
                await asyncio.sleep(0)

    async def _live_step(self, progress: Continuity, live: Live) -> Event | None:
        try:
            async with asyncio.timeout(QUIET_S):
                source, position, body = await live.next()
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is not None and task.cancelling() == 0:
                # nobody cancelled this task: the subscription ended with its connection
                raise NotRegistered("the connection of this stream was closed") from None
            raise
        except TimeoutError:
            # nobody is ready, or the subscription is not in force yet
            try:
                self._behind = await self._journal.head() != progress.cursor
            except AWAY:
                await asyncio.sleep(AGAIN_S)
            return None
        verdict = progress.judge(source, position, len(body))
        if verdict is Verdict.DELIVER:
            return self._wanted(source, Cursor(position.generation, position.offset), body)
        self._behind = verdict is Verdict.GAP
        return None

    async def _replay_step(self, progress: Continuity) -> Event | Resync | None:
        try:
            if self._replaying is None:
                self._head = await self._journal.head()
                self._replaying = self._journal.replay(progress.cursor, self._asked)
            cursor, record = await anext(self._replaying)
        except StopAsyncIteration:
            self._replaying = None
            self._behind = False
            progress.replayed(self._head)
            return None
        except HistoryLost as lost:
            await self._drop_replay()
            return await self._resync(progress, lost)
        except AWAY:
            await self._drop_replay()
            await asyncio.sleep(AGAIN_S)
            return None
        except BaseException:
            # an iterator that was cancelled is finished; the next step begins another at the cursor
            await self._drop_replay()
            raise
        event = event_from_record(cursor, record)
        progress.seen(cursor, event.seq)
        return event if self._is_wanted(event) else None

    async def _resync(self, progress: Continuity, lost: HistoryLost) -> Resync:
        # the head first, the snapshot second: what happens between the two is told twice rather than never
        snapshot = await self._snapshot()
        resync = Resync(lost.head, snapshot.objects, (progress.cursor, lost.head), snapshot.unknown)
        progress.restart(lost.head)
        self._behind = True
        return resync

    async def _drop_replay(self) -> None:
        replaying, self._replaying = self._replaying, None
        close = getattr(replaying, "aclose", None)
        if close is not None:
            await close()

    def _wanted(self, source: str, cursor: Cursor, body: bytes) -> Event | None:
        if self._sources is not None and source not in self._sources:
            return None
        event = event_from_record(cursor, body)
        return event if self._is_wanted(event) else None

    def _is_wanted(self, event: Event) -> bool:
        if self._sources is not None and event.source not in self._sources:
            return False
        if self._scope is not None and event.scope not in ("", self._scope):
            return False
        if self._kinds is not None and event.kind not in self._kinds:
            return False
        if self._objects is None:
            return True
        about = event.object
        return about is not None and (about.name in self._objects or about.key in self._objects)


def cursor_from(value: Cursor | str | None) -> Cursor | None:
    """A cursor in any form a caller may hold it in. Raises InvalidArguments when the text is none."""
    if isinstance(value, str):
        from schema.errors import InvalidArguments

        try:
            return Cursor.parse(value.strip())  # it may come from a file that an editor ended with a newline
        except WireError as exc:
            raise InvalidArguments(str(exc)) from exc
    return value
