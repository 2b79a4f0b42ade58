"""Numbers the events of an actor, writes them to the ledger, and hands them to the broker until it has them.

At most WINDOW events are on their way at once; those beyond wait in the ledger on disk, not in memory, so a broker that
is away costs no memory and stops no change. `seq` never restarts. Each epoch begins with a record that names its
predecessor's last; what that one recorded without being heard follows, under the new epoch's numbers.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final, Protocol

import msgspec

from actors.runtime.context import find_call
from actors.runtime.ledger import KEPT_ACKNOWLEDGED, Ledger, LedgerEvent
from actors.runtime.objects import Entry, EventList
from actors.runtime.record_log import OldSegment
from schema.body import event_data
from schema.errors import HostSystemError
from util.structured_log import StructuredLog

WINDOW: Final = 1024
WINDOW_BYTES: Final = 8 * 1024 * 1024

_encoder: Final = msgspec.msgpack.Encoder()

Circumstances = tuple[bytes | None, str | None, dict[str, Any] | None, str]
"""Call, trace, caller and origin of an event."""


class EventPort(Protocol):
    """The part of the broker's peer that events need."""

    def send_event(self, seq: int, record: bytes) -> None: ...


class Cause(msgspec.Struct, frozen=True):
    """The call that an event is put down to."""

    call: bytes
    trace: str | None = None
    who: dict[str, Any] | None = None


class Publisher:
    """The events of one actor."""

    def __init__(
        self,
        source: str,
        ledger: Ledger,
        log: StructuredLog,
        discard: Callable[[OldSegment], None] = OldSegment.discard,
    ) -> None:
        self._source = source
        self._ledger = ledger
        self._log = log
        self._discard = discard
        self._port: EventPort | None = None
        self._connected = False
        self._epoch = 0
        self._seq = 0
        self._acked = 0
        self._sent = 0
        self._in_flight: deque[LedgerEvent] = deque()
        self._in_flight_bytes = 0
        self._acknowledged: deque[LedgerEvent] = deque(maxlen=KEPT_ACKNOWLEDGED)
        self._unread = 0  # place in the ledger behind which nothing was sent yet
        self._unwritten: deque[LedgerEvent] = deque()  # the disk was full; changes are refused until they are written
        self._early: list[tuple[EventList, Entry | None, str | None]] = []
        self.cause: Cause | None = None
        """Set while differences are published: the call that they are put down to."""

    @property
    def seq(self) -> int:
        """The number of the last event."""
        return self._seq

    @property
    def unacknowledged(self) -> int:
        """Events that the broker does not have yet."""
        return self._seq - self._acked

    def begin(self, port: EventPort, epoch: int, last: tuple[int, int]) -> None:
        """Opens an epoch. `last` is the last (epoch, seq) of this source that the journal holds.

        Raises HostSystemError when the first record cannot be written.
        """
        ledger = self._ledger
        unheard = ledger.first_unheard
        previous = last
        if unheard is not None and unheard[0] > last[1] + 1:
            previous = (ledger.epoch, unheard[0] - 1)
        elif unheard is None and ledger.seq > last[1]:
            previous = (ledger.epoch, ledger.seq)
        self._port = port
        self._connected = True
        self._epoch = epoch
        self._seq = self._acked = self._sent = previous[1]
        self._unread = ledger.end
        if unheard is not None:
            self._repeat(previous, *unheard)
        else:
            self._publish([("epoch", {"previous": list(previous)})], None, gone=False, fields=None)

    def record(self, events: EventList, entry: Entry | None, *, gone: bool = False, origin: str | None = None) -> None:
        """Publishes events of one change, all or none. Raises InvalidMessage when a field does not fit the schema."""
        checked = [(kind, event_data(kind, data)) for kind, data in events]
        if self._port is None:
            self._early.append((checked, entry, origin))
            return
        self._publish(checked, entry, gone=gone, fields=self._circumstances(origin))

    def _publish(
        self,
        events: Sequence[tuple[str, Mapping[str, Any]]],
        entry: Entry | None,
        *,
        gone: bool,
        fields: Circumstances | None,
    ) -> None:
        made = [
            self._event_of(kind, data, entry, gone, fields, self._seq + place)
            for place, (kind, data) in enumerate(events, 1)
        ]
        self._deliver(made)
        for event in made:
            self._ledger.note(event.seq, self._epoch, entry, gone=gone)

    def take_early(self) -> list[tuple[EventList, Entry | None, str | None]]:
        """What was to be published before the epoch began: (events, object, origin) of each, to be said again."""
        early, self._early = self._early, []
        return early

    def check_writable(self) -> None:
        """Raises HostSystemError when the events of another change might not be recorded: then it must not begin."""
        if self._unwritten:
            self._write_late()
        self._ledger.reserve()

    def tick(self) -> None:
        """Does what waited: writes what the disk refused, sends what fits, compacts."""
        if self._unwritten:
            try:
                self._write_late()
            except HostSystemError:
                return
        self._pump()
        if self._ledger.wants_compaction and not self._unwritten and self._unread == self._ledger.end:
            try:
                old = self._ledger.compact([*self._acknowledged, *self._in_flight])
            except HostSystemError as exc:
                self._log.warning("the ledger cannot be compacted", error=str(exc))
                return
            self._unread = self._ledger.end
            self._discard(old)

    def acknowledged(self, seq: int, *, resend: bool) -> None:
        """The journal holds everything up to `seq`; with `resend` it asks for what follows."""
        if resend:
            self.resume(seq)
            return
        self._forget(seq)
        self._pump()

    def lost(self) -> None:
        """The broker is gone; what happens meanwhile waits on disk."""
        self._connected = False

    def resume(self, last_seq: int) -> None:
        """The broker is (again) there, and its journal holds everything up to `last_seq`.

        If that is less than it had acknowledged, it gets again what is still here; it can tell that the rest is lost.
        """
        self._connected = True
        self._forget(min(last_seq, self._sent))
        first = self._in_flight[0].seq if self._in_flight else self._sent + 1
        if last_seq + 1 < first:
            self._rewind(last_seq, first)
        if self._port is not None:
            for event in self._in_flight:
                self._port.send_event(event.seq, event.record)
        self._pump()

    def _repeat(self, previous: tuple[int, int], unheard: int, place: int) -> None:
        # Old and new numbers overlap, so the new ones take the place of the old ones in one step or not at all.
        first = self._seq
        try:
            old = self._ledger.compact(self._anew(previous, unheard, place))
        except HostSystemError as exc:
            self._log.error("events of the last incarnation cannot be written anew", error=str(exc))
            self._seq = first
            self._unwritten.extend(self._anew(previous, unheard, place))
        else:
            self._discard(old)
            self._unread = 0
        self._ledger.note(self._seq, self._epoch, None, gone=False)
        self._pump()

    def _anew(self, previous: tuple[int, int], unheard: int, place: int) -> Iterator[LedgerEvent]:
        self._seq += 1
        yield LedgerEvent(self._seq, self._record_of("epoch", {"previous": list(previous)}, None, False, None))
        for _, event in self._ledger.events_behind(place):
            fields = msgspec.msgpack.decode(event.record)
            # a change's first events may have been heard, its last ones not
            if fields["kind"] != "epoch" and event.seq >= unheard:
                self._seq += 1
                fields["epoch"], fields["seq"] = self._epoch, self._seq
                yield LedgerEvent(self._seq, _encoder.encode(fields), event.key, event.digest)

    def _circumstances(self, origin: str | None) -> Circumstances:
        if self.cause is not None:
            return self.cause.call, self.cause.trace, self.cause.who, origin or "call"
        call = find_call()
        if call is None:
            return None, None, None, origin or "guest"
        return call.id, call.trace, call.caller or None, origin or "call"

    def _event_of(
        self,
        kind: str,
        data: Mapping[str, Any],
        entry: Entry | None,
        gone: bool,
        fields: Circumstances | None,
        seq: int,
    ) -> LedgerEvent:
        record = self._record_of(kind, data, entry, gone, fields, seq)
        return LedgerEvent(seq, record) if entry is None else LedgerEvent(seq, record, entry.key, entry.digest)

    def _record_of(
        self,
        kind: str,
        data: Mapping[str, Any],
        entry: Entry | None,
        gone: bool,
        fields: Circumstances | None,
        seq: int | None = None,
    ) -> bytes:
        call, trace, who, origin = fields or (None, None, None, "host")
        return _encoder.encode(
            {
                "source": self._source,
                "epoch": self._epoch,
                "seq": self._seq if seq is None else seq,
                "kind": kind,
                "scope": "" if entry is None else entry.scope,
                "object": None if entry is None else [entry.type, key_bytes(entry.key), entry.name],
                "data": data,
                "summary": None if entry is None or gone else entry.summary,
                "version": 0 if entry is None else entry.version,
                "wall": time.time(),
                "mono": time.monotonic(),
                "call": call,
                "trace": trace,
                "who": who,
                "origin": origin,
            }
        )

    def _deliver(self, events: Sequence[LedgerEvent]) -> None:
        """Writes the events of one change, all or none of them whenever this process is killed, and sends what fits."""
        ledger = self._ledger
        before = ledger.end
        if self._unwritten:
            self._unwritten.extend(events)
        else:
            try:
                ledger.append(*events)
            except HostSystemError as exc:
                # what happened cannot be refused any more: it is kept here, and new changes are refused
                self._unwritten.extend(events)
                self._log.error("an event cannot be written", seq=events[0].seq, error=str(exc))
        is_written = not self._unwritten
        for event in events:
            self._seq = event.seq
            if self._connected and self._sent + 1 == event.seq and self._has_room():
                self._send(event)
        if is_written and self._sent == self._seq and self._unread == before:
            self._unread = ledger.end

    def _has_room(self) -> bool:
        return len(self._in_flight) < WINDOW and self._in_flight_bytes < WINDOW_BYTES

    def _send(self, event: LedgerEvent) -> None:
        assert self._port is not None
        self._sent = event.seq
        self._in_flight.append(event)
        self._in_flight_bytes += len(event.record)
        self._port.send_event(event.seq, event.record)

    def _pump(self) -> None:
        if not self._connected or self._sent >= self._seq:
            return
        if self._unread < self._ledger.end:
            if len(self._in_flight) > WINDOW // 2:
                return  # reading the file for each single event that was acknowledged would cost more than sending it
            for end, event in self._ledger.events_behind(self._unread):
                if event.seq > self._sent:
                    if not self._has_room():
                        return
                    self._send(event)
                self._unread = end
        for event in self._unwritten:
            if event.seq == self._sent + 1:
                if not self._has_room():
                    return
                self._send(event)

    def _write_late(self) -> None:
        while self._unwritten:
            event = self._unwritten[0]
            before = self._ledger.end
            self._ledger.append(event)
            if event.seq <= self._sent and self._unread == before:
                self._unread = self._ledger.end
            self._unwritten.popleft()

    def _forget(self, seq: int) -> None:
        while self._in_flight and self._in_flight[0].seq <= seq:
            event = self._in_flight.popleft()
            self._in_flight_bytes -= len(event.record)
            self._acknowledged.append(event)
        self._acked = max(self._acked, min(seq, self._seq))

    def _rewind(self, last_seq: int, first: int) -> None:
        place = self._ledger.place_of(last_seq + 1)
        if place is None:
            self._log.error("the journal lost events that are not here any more", after=last_seq, before=first)
            return
        self._in_flight.clear()
        self._in_flight_bytes = 0
        self._sent = self._acked = last_seq
        self._unread = place


def key_bytes(key: bytes | str) -> bytes:
    """A key as events carry it."""
    return key if isinstance(key, bytes) else key.encode()
