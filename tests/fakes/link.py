"""A broker in memory, as `client.link.Link` sees it: a journal, messages that may be dropped, scripted answers.

It keeps the real one's rules: the cursor of a record is the place behind it, a subscriber that does not read loses what
its bounded queue does not hold, a replay goes to the head at the time of asking and is read part by part.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from broker.peer import HistoryLost
from broker.wire import Cursor, Position, Published, pack_value
from client.continuity import RECORD_HEADER_LENGTH
from client.events import BEGINNING
from schema.body import pack_result, unpack_args
from schema.table import need_procedure

QUEUE = 8


@dataclass(slots=True)
class Kept:
    """A record of the journal."""

    source: str
    cursor: Cursor
    seq: int
    record: bytes


@dataclass(slots=True)
class FakeJournal:
    """The journal, and those who listen to what it publishes."""

    generation: int = 1
    kept: list[Kept] = field(default_factory=list)
    begin: int = 0
    end: int = 0
    seqs: dict[str, int] = field(default_factory=dict)
    listeners: list[FakeSubscription] = field(default_factory=list)
    dropping: int = 0
    part: int = 3
    replays: int = 0

    @property
    def head(self) -> Cursor:
        return Cursor(self.generation, self.end)

    def append(
        self,
        source: str,
        kind: str = "changed",
        *,
        about: Sequence[Any] | None = None,
        scope: str = "",
        data: Mapping[str, Any] | None = None,
    ) -> Kept:
        """Journals an event and publishes it, unless it is to be dropped."""
        seq = self.seqs.get(source, 0) + 1
        self.seqs[source] = seq
        record = pack_value(
            {
                "source": source,
                "epoch": 1,
                "seq": seq,
                "kind": kind,
                "scope": scope,
                "object": about,
                "data": dict(data or {}),
                "summary": None,
                "version": seq,
                "wall": 1700000000.0 + seq,
                "mono": float(seq),
                "call": None,
                "trace": None,
                "who": None,
                "origin": "call",
            }
        )
        self.end += len(record) + RECORD_HEADER_LENGTH
        kept = Kept(source, self.head, seq, record)
        self.kept.append(kept)
        if self.dropping:
            self.dropping -= 1
        else:
            self.publish(source, Position(self.generation, self.end, 1, seq, Published.EVENT), record)
        return kept

    def alive(self, source: str) -> None:
        """A source's sign of life."""
        position = Position(self.generation, self.end, 1, self.seqs.get(source, 0), Published.ALIVE)
        self.publish(source, position, b"")

    def publish(self, source: str, position: Position, body: bytes) -> None:
        for listener in self.listeners:
            if listener.sources is None or source in listener.sources:
                listener.offer((source, position, body))

    def forget(self, count: int) -> None:
        """The oldest records are gone."""
        for kept in self.kept[:count]:
            self.begin = kept.cursor.offset
        del self.kept[:count]

    def lose_tail(self, count: int) -> None:
        """A crash of the host lost the newest records: a new generation begins."""
        if count:
            del self.kept[-count:]
        self.generation += 1
        self.kept.clear()
        self.begin = self.end = 0

    async def replay(self, after: Cursor, sources: Sequence[str] | None = None) -> AsyncIterator[tuple[Cursor, bytes]]:
        self.replays += 1
        await asyncio.sleep(0)
        if after == BEGINNING:
            after = Cursor(self.generation, self.begin)
        if after.generation != self.generation or not self.begin <= after.offset <= self.end:
            raise HistoryLost(Cursor(self.generation, self.begin), self.head)
        end = self.end
        place = after.offset
        while place < end:
            await asyncio.sleep(0)
            if place < self.begin:
                raise HistoryLost(Cursor(self.generation, self.begin), self.head)
            part = [kept for kept in self.kept if place < kept.cursor.offset <= end][: self.part]
            if not part:
                return
            for kept in part:
                place = kept.cursor.offset
                if sources is None or kept.source in sources:
                    yield kept.cursor, kept.record


class FakeSubscription:
    """One listener with its bounded queue; what does not fit is dropped without a word."""

    def __init__(self, sources: Sequence[str] | None) -> None:
        self.sources = sources
        self.queue: deque[tuple[str, Position, bytes]] = deque()
        self.dropped = 0
        self._news = asyncio.Event()
        self._waiting: asyncio.Future[Any] | None = None

    def close(self) -> None:
        """Ends a waiting `next` as the real one does when its connection is closed."""
        if self._waiting is not None:
            self._waiting.cancel()

    def offer(self, message: tuple[str, Position, bytes]) -> None:
        if len(self.queue) >= QUEUE:
            self.dropped += 1
            return
        self.queue.append(message)
        self._news.set()

    async def next(self) -> tuple[str, Position, bytes]:
        while not self.queue:
            self._news.clear()
            self._waiting = asyncio.ensure_future(self._news.wait())
            try:
                await self._waiting
            finally:
                self._waiting.cancel()
        return self.queue.popleft()


@dataclass(slots=True)
class FakeCall:
    """A call as it was made."""

    destination: str
    procedure: str
    args: Any
    scope: str
    key: bytes | str | None
    deadline_s: float | None
    idempotency_key: str | None
    trace: str | None


@dataclass(frozen=True, slots=True)
class FakeReply:
    source: str
    epoch: int
    seq: int
    body: bytes
    ticket: dict[str, Any] | None


@dataclass(frozen=True, slots=True)
class Answered:
    """A scripted result with more than the result in it."""

    result: object
    source: str | None = None
    ticket: dict[str, Any] | None = None


Script = Callable[[FakeCall], Any]


class FakeLink:
    """A link whose calls are answered by functions named by procedure."""

    def __init__(self, **scripts: Script | object) -> None:
        self.scripts = scripts
        self.journal = FakeJournal()
        self.calls: list[FakeCall] = []
        self.cancelled: list[str] = []
        self.closed = False
        self.troubles: list[Exception] = []
        """What the next questions to the journal end in."""

    @property
    def procedures(self) -> list[str]:
        return [call.procedure for call in self.calls]

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
    ) -> FakeReply:
        declared = need_procedure(procedure)
        args = unpack_args(declared, body)
        call = FakeCall(destination, procedure, args, scope, key, deadline_s, idempotency_key, trace)
        self.calls.append(call)
        script = self.scripts[procedure]
        try:
            told = script(call) if callable(script) else script
            if isinstance(told, Awaitable):
                told = await told
        except asyncio.CancelledError:
            self.cancelled.append(procedure)
            raise
        if isinstance(told, Exception):
            raise told
        answer = told if isinstance(told, Answered) else Answered(told)
        packed = pack_result(declared, answer.result)
        return FakeReply(answer.source or destination, 1, 1, packed, answer.ticket)

    def replay(self, after: Cursor, sources: Sequence[str] | None = None) -> AsyncIterator[tuple[Cursor, bytes]]:
        return self.journal.replay(after, sources)

    async def head(self) -> Cursor:
        await asyncio.sleep(0)
        if self.troubles:
            raise self.troubles.pop(0)
        return self.journal.head

    @asynccontextmanager
    async def listen(self, sources: Sequence[str] | None) -> AsyncIterator[FakeSubscription]:
        subscription = FakeSubscription(sources)
        self.journal.listeners.append(subscription)
        try:
            yield subscription
        finally:
            self.journal.listeners.remove(subscription)

    async def aclose(self) -> None:
        self.closed = True
        for listener in self.journal.listeners:
            listener.close()


def records_of(kept: Iterable[Kept]) -> list[tuple[str, int]]:
    """What identifies each record."""
    return [(item.source, item.seq) for item in kept]
