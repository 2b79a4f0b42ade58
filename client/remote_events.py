"""What a daemon tells, kept like a journal: numbered, readable from a cursor, as far back as memory goes.

A daemon forgets its events when its connection ends. Each connection is therefore a generation of its own: a stream
that stands in an older one gets a `Resync`, never silence.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final

from broker.peer import HistoryLost
from broker.wire import Cursor, Position, Published, pack_value
from client.continuity import RECORD_HEADER_LENGTH
from remoting.objects import FarObject

SOURCE: Final = "remote"
KEPT: Final = 16384
UNREAD_MAX: Final = 4096

Message = tuple[str, Position, bytes]


class Listener:
    """One stream's messages. One that does not read loses the oldest, and finds them in the history."""

    def __init__(self) -> None:
        self._messages: deque[Message] = deque(maxlen=UNREAD_MAX)
        self._news = asyncio.Event()

    def push(self, message: Message) -> None:
        """A message that was published."""
        self._messages.append(message)
        self._news.set()

    async def next(self) -> Message:
        """The next message."""
        while not self._messages:
            self._news.clear()
            await self._news.wait()
        return self._messages.popleft()


class History:
    """The events of a daemon since its connection was made."""

    def __init__(self) -> None:
        self._records: deque[tuple[Cursor, Cursor, bytes]] = deque(maxlen=KEPT)  # before, behind, record
        self._listeners: set[Listener] = set()
        self._versions: dict[tuple[str, bytes | str], int] = {}
        self._generation = time.time_ns() // 1000
        self.seq = 0
        self.head = Cursor(self._generation, 0)

    def restart(self) -> None:
        """A new connection: what happened before it is unknown."""
        self._generation = max(self._generation + 1, time.time_ns() // 1000)
        self._records.clear()
        self.head = Cursor(self._generation, 0)

    def version(self, type: str, key: bytes | str) -> int:
        """How often something was told of an object."""
        return self._versions.get((type, key), 0)

    def add(
        self,
        kind: str,
        data: Mapping[str, Any],
        scope: str,
        about: tuple[str, bytes | str, str] | None,
        now: FarObject | None,
    ) -> None:
        """Something happened; `about` is type, key and name of its object, `now` what that is like since then."""
        self.seq += 1
        name = None
        version = 0
        if about is not None:
            type_, key, label = about
            version = self._versions[type_, key] = self.version(type_, key) + 1
            name = [type_, key if isinstance(key, bytes) else key.encode(), label]
        record = pack_value(
            {
                "source": SOURCE,
                "epoch": 1,
                "seq": self.seq,
                "kind": kind,
                "scope": scope,
                "object": name,
                "data": data,
                "summary": None if now is None else now.summary,
                "version": version,
                "wall": time.time(),
                "mono": time.monotonic(),
                "call": None,
                "trace": None,
                "who": None,
                "origin": "host",
            }
        )
        before, self.head = self.head, Cursor(self._generation, self.head.offset + len(record) + RECORD_HEADER_LENGTH)
        self._records.append((before, self.head, record))
        position = Position(self._generation, self.head.offset, 1, self.seq, Published.EVENT)
        for listener in self._listeners:
            listener.push((SOURCE, position, record))

    async def replay(self, after: Cursor, sources: Sequence[str] | None) -> AsyncIterator[tuple[Cursor, bytes]]:
        """The records behind a cursor. Raises HistoryLost when some of them are not known any more."""
        first = self._records[0][0] if self._records else self.head
        if after == Cursor(0, 0):
            after = first
        if after.generation != self._generation or after < first:
            raise HistoryLost(first, self.head)
        if sources is not None and SOURCE not in sources:
            return
        for before, behind, record in list(self._records):
            if before >= after:
                yield behind, record

    @asynccontextmanager
    async def listen(self) -> AsyncIterator[Listener]:
        """A listener, as long as the block lasts."""
        listener = Listener()
        self._listeners.add(listener)
        try:
            yield listener
        finally:
            self._listeners.discard(listener)
