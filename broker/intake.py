"""Events on their way from an actor into the journal and from there to subscribers.

What belongs together is written at once: the events of one pass of the loop are one write. An event that cannot be
written is neither acknowledged nor published, and its actor keeps it; when the disk has room again, the broker asks
for it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Final, Protocol

from broker.journal import Entry, Journal
from broker.registry import Actor
from broker.wire import Cursor, Position, Published, WireError, pack_position, unpack_record_head
from util.structured_log import StructuredLog

BATCH_BYTES: Final = 1024 * 1024
RETRY_S: Final = 1.0


class Announcer(Protocol):
    """Where acknowledgements and publications go; neither waits."""

    def acknowledge(self, actor: Actor, seq: int, resend: bool) -> None: ...

    def publish(self, source: bytes, position: bytes, body: bytes) -> None: ...


class Intake:
    """Takes events in order of their numbers, once each."""

    def __init__(
        self,
        journal: Journal,
        announcer: Announcer,
        log: StructuredLog,
        *,
        always_sync: bool,
        sync_interval_s: float,
        submit: Callable[[Callable[[], None], Callable[[object], None]], None],
        connected: Callable[[], Iterable[Actor]],
    ) -> None:
        """`submit` runs a job beside the loop and hands its result back into it; `connected` are the actors."""
        self._connected = connected
        self._journal = journal
        self._announcer = announcer
        self._log = log
        self._always = always_sync
        self._sync_after_s = sync_interval_s / 2
        self._submit = submit
        self._batch: list[tuple[Actor, Entry]] = []
        self._batch_bytes = 0
        self._pending: dict[str, tuple[int, int]] = {}  # last of each source in the batch
        self._unsynced: list[tuple[Actor, Entry, int]] = []  # written, not announced yet (mode always)
        self._acknowledge: dict[Actor, None] = {}
        self._asked: dict[str, tuple[int, int]] = {}  # source -> (last, seq that came too early)
        self._syncing = False
        self._dirty_since: float | None = None
        self._retry_at: float | None = None
        self.published = journal.head
        self.failure = ""  # why nothing can be written now
        self._told = ""  # the failure that is in the log
        self.accepted = self.duplicates = self.gaps = self.refused = self.failures = self.syncs = 0

    @property
    def is_idle(self) -> bool:
        """Whether `flush` would do nothing."""
        return not self._batch and not self._acknowledge

    @property
    def due_at(self) -> float:
        """When `tick` has something to do; infinite when it has not."""
        return math.inf if self._dirty_since is None or self._syncing else self._dirty_since + self._sync_after_s

    def event(self, actor: Actor, seq: int, record: bytes) -> None:
        """An EVENT of the actor's living incarnation."""
        if self.failure:
            return
        try:
            head = unpack_record_head(record)
        except WireError as exc:
            self._refuse(actor, seq, str(exc))
            return
        if head.source != actor.name or head.seq != seq or head.epoch != actor.epoch:
            self._refuse(actor, seq, f"it says it is {head.seq} of '{head.source}' in epoch {head.epoch}")
            return
        last_epoch, last_seq = self._pending.get(actor.name) or self._journal.last(actor.name)
        if seq <= last_seq:
            self.duplicates += 1
            self._acknowledge[actor] = None
            return
        if seq != last_seq + 1 and last_epoch == head.epoch and not self._is_all_it_has(actor, last_seq, seq):
            return
        self._asked.pop(actor.name, None)
        self.accepted += 1
        self._pending[actor.name] = (head.epoch, seq)
        self._batch.append((actor, Entry(actor.name, head.epoch, seq, record)))
        self._batch_bytes += len(record)
        if self._batch_bytes >= BATCH_BYTES:
            self.flush()

    def flush(self, now: float | None = None) -> None:
        """Writes what has come, then acknowledges and publishes it."""
        if self._batch:
            batch, self._batch, self._batch_bytes = self._batch, [], 0
            self._pending = {}
            try:
                offsets = self._journal.append([entry for _, entry in batch])
            except OSError as exc:
                self._fail(exc)
                return
            if self._told:
                self._told = ""
                self._log.info("journal can be written again")
            written = [(actor, entry, offset) for (actor, entry), offset in zip(batch, offsets, strict=True)]
            if self._always:
                self._unsynced += written
                self._begin_sync()
            else:
                self._announce(written)
                if self._dirty_since is None:
                    self._dirty_since = now if now is not None else 0.0
        if self._acknowledge:
            waiting, self._acknowledge = self._acknowledge, {}
            for actor in waiting:
                self._announcer.acknowledge(actor, self._acknowledgeable(actor), False)

    def tick(self, now: float) -> None:
        """To be called often: syncs in time, tries again after a failure."""
        if self._dirty_since is not None and not self._syncing and now - self._dirty_since >= self._sync_after_s:
            self._begin_sync()
        if self.failure:
            if self._retry_at is None:
                self._retry_at = now + RETRY_S
            elif now >= self._retry_at:
                self._retry_at = None
                self.failure = ""
                for actor in self._connected():
                    self._announcer.acknowledge(actor, self._journal.last(actor.name)[1], True)

    def alive(self, actor: Actor) -> None:
        """Tells subscribers that a source is there, and up to where its events are published."""
        epoch, seq = self._journal.last(actor.name)
        for held, entry, _ in self._unsynced:
            if held is actor:
                epoch, seq = entry.epoch, entry.seq - 1
                break
        self._publish(actor, epoch, seq, Published.ALIVE, b"")

    def state(self, actor: Actor, body: bytes) -> None:
        """Tells subscribers about the state of an actor."""
        self._publish(actor, actor.epoch, self._journal.last(actor.name)[1], Published.STATE, body)

    def _publish(self, actor: Actor, epoch: int, seq: int, what: Published, body: bytes) -> None:
        position = Position(self.published.generation, self.published.offset, epoch, seq, what)
        self._announcer.publish(actor.name.encode(), pack_position(position), body)

    def _is_all_it_has(self, actor: Actor, last_seq: int, seq: int) -> bool:
        """Asks for what is missing before this event; a second one from that gap proves there is no earlier one."""
        asked = self._asked.get(actor.name)
        if asked is not None and asked[0] == last_seq:
            if seq <= asked[1]:
                self.gaps += 1
                self._log.error("events lost", actor=actor.name, after=last_seq, before=seq)
                return True
            return False
        self._asked[actor.name] = (last_seq, seq)
        self.flush()
        self._announcer.acknowledge(actor, last_seq, True)
        return False

    def _announce(self, written: list[tuple[Actor, Entry, int]]) -> None:
        generation = self._journal.generation
        announcer = self._announcer
        newest: dict[Actor, int] = {}
        for actor, entry, offset in written:
            self.published = Cursor(generation, offset)
            newest[actor] = entry.seq
            position = pack_position(Position(generation, offset, entry.epoch, entry.seq, Published.EVENT))
            announcer.publish(actor.name.encode(), position, entry.record)
        for actor, seq in newest.items():
            self._acknowledge.pop(actor, None)
            announcer.acknowledge(actor, seq, False)

    def _acknowledgeable(self, actor: Actor) -> int:
        for held, entry, _ in self._unsynced:
            if held is actor:
                return entry.seq - 1
        return self._journal.last(actor.name)[1]

    def _begin_sync(self) -> None:
        if self._syncing:
            return
        self._syncing = True
        self._dirty_since = None
        written, count = self._unsynced, len(self._unsynced)

        def done(result: object) -> None:
            self._syncing = False
            self.syncs += 1
            if isinstance(result, OSError):
                self.failures += 1
                self._log.error("journal not synced", error=str(result))
                self._dirty_since = 0.0  # try again at the next tick
                return
            announce, self._unsynced = written[:count], self._unsynced[count:]
            self._announce(announce)
            if self._unsynced:
                self._begin_sync()

        self._submit(self._journal.sync(), done)

    def _fail(self, exc: OSError) -> None:
        if self._told != str(exc):
            self._told = str(exc)
            self._log.error("journal cannot be written", error=self._told)
        self.failures += 1
        self.failure = str(exc)
        self._retry_at = None
        self._acknowledge = {}

    def _refuse(self, actor: Actor, seq: int, why: str) -> None:
        self.refused += 1
        self._log.error("event refused", actor=actor.name, seq=seq, why=why)
