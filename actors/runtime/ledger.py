"""What was last published, on disk: each object's summary, and the events that the broker has not acknowledged.

State is written first, its event second. So whatever a killed driver did without an event is the difference between
its real objects and this ledger, and whatever it recorded without being heard lies here to be sent again.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple

import msgspec

from actors.runtime.objects import TOMBSTONES_MAX, Entry, Identity
from actors.runtime.record_log import OldSegment, RecordLog

COMPACT_BYTES: Final = 4 * 1024 * 1024
CALLS_MAX: Final = 16384
NAMED_TYPES: Final = frozenset({"interface", "node_device"})
"""Types of objects whose keys are names."""
KEPT_ACKNOWLEDGED: Final = 256
"""Events that stay although they were acknowledged: a journal that lost its tail with its host gets them again."""

_encoder: Final = msgspec.msgpack.Encoder()
_decoder: Final = msgspec.msgpack.Decoder()


class LedgerEvent(NamedTuple):
    """An event as it is published, and what the ledger has to know of its object besides."""

    seq: int
    record: bytes
    key: bytes | str = b""
    digest: bytes = b""


class Ledger:
    """The file, and what it says. `epoch` and `seq` are those of the last event in it."""

    def __init__(self, folder: Path) -> None:
        self._log = RecordLog(folder, "ledger")
        self._lacks_adopted = False
        self._live_bytes = 0
        self._heard = 0
        self.is_new = True
        self.epoch = 0
        self.seq = 0
        self.entries: dict[Identity, Entry] = {}
        self.tombs: dict[Identity, int] = {}
        self.first_unheard: tuple[int, int] | None = None
        """(seq, where its record begins) of the first event that the journal does not hold; known after `load`."""
        self.calls: dict[bytes, None] = {}
        """The calls that the latest events name; only used while starting."""

    @property
    def end(self) -> int:
        """The place behind the last record."""
        return self._log.end

    def load(self, last_seq: int = 0) -> None:
        """Reads what the last process wrote; the journal holds it up to `last_seq`. Raises HostSystemError."""
        self._heard = last_seq
        begin = 0
        for end, payload in self._log.load():
            self._take(_decoder.decode(payload), begin)
            begin = end
            self.is_new = False

    def adopt(self, record: bytes) -> None:
        """Takes over an event that the journal has and this ledger lost. To be followed by `compact`."""
        fields = _decoder.decode(record)
        if fields["seq"] <= self.seq:
            return
        entry = None
        if fields["object"] is not None:
            kind, key, name = fields["object"]
            key = self._own_key(kind, fields["scope"], key)
            known = self.entries.get((kind, fields["scope"], key))
            digest = b"" if known is None else known.digest
            entry = Entry(kind, fields["scope"], key, name, fields["summary"] or {}, fields["version"], digest)
        self._apply(fields["seq"], fields["epoch"], entry, gone=fields["summary"] is None)
        self.is_new = False

    def _own_key(self, kind: str, scope: str, key: bytes) -> bytes | str:
        # events carry keys as bytes: a name is one again by what is known of its kind
        text = key.decode("utf-8", "surrogateescape")
        return text if kind in NAMED_TYPES or (kind, scope, text) in self.entries else key

    def append(self, *events: LedgerEvent) -> None:
        """Writes the events of one change, in one record: a killed process leaves all of them or none.

        Raises HostSystemError; then nothing is written.
        """
        self._fill_in()
        self._log.append(_event_payload(*events))

    def note(self, seq: int, epoch: int, entry: Entry | None, *, gone: bool) -> None:
        """Remembers what an event made true."""
        self._apply(seq, epoch, entry, gone=gone)

    def reserve(self) -> None:
        """Raises HostSystemError when the disk has no room for the events of another change."""
        self._fill_in()
        self._log.reserve()

    @property
    def unwritable(self) -> OSError | None:
        """Why nothing can be written to it, as far as that was tried."""
        return self._log.unwritable

    def fill_in_later(self) -> None:
        """What was adopted could not be written: it is, before anything else is."""
        self._lacks_adopted = True

    def _fill_in(self) -> None:
        if self._lacks_adopted:
            self.compact(()).discard()
            self._lacks_adopted = False

    def sync(self) -> None:
        """Blocks until all is on the disk. Raises HostSystemError."""
        self._log.sync()

    def events_behind(self, place: int) -> Iterator[tuple[int, LedgerEvent]]:
        """Each event that was written behind a place, with the place behind it."""
        begin = place
        for end, payload in self._log.read(place):
            events = _events_in(_decoder.decode(payload))
            for left, event in zip(range(len(events) - 1, -1, -1), events, strict=True):
                # a change of which some events were read is read again from its first one
                yield (begin if left else end), event
            begin = end

    def place_of(self, seq: int) -> int | None:
        """Where the event of that number begins, if it is still here."""
        begin = 0
        for end, payload in self._log.read(0):
            item = _decoder.decode(payload)
            if any(event.seq == seq for event in _events_in(item)):
                return begin
            begin = end
        return None

    @property
    def wants_compaction(self) -> bool:
        return self._log.end > COMPACT_BYTES and self._log.end > 4 * self._live_bytes

    def compact(self, recent: Iterable[LedgerEvent]) -> OldSegment:
        """Begins a segment that holds the objects and the `recent` events.

        Raises HostSystemError, and then the ledger goes on in the old one.
        """
        old = self._log.start_segment(self._live(recent))
        self._live_bytes = self._log.end
        return old

    def close(self) -> None:
        """Lets go of the file."""
        self._log.close()

    def forget_start(self) -> None:
        """Drops what only a start needs."""
        self.calls.clear()
        self._live_bytes = min(self._live_bytes or self._log.end, self._log.end)

    def _live(self, recent: Iterable[LedgerEvent]) -> Iterator[bytes]:
        yield _encoder.encode(["base", self.epoch, self.seq])
        for e in self.entries.values():
            yield _encoder.encode(["obj", e.type, e.scope, e.key, e.name, e.version, e.digest, e.summary])
        for (kind, scope, key), version in self.tombs.items():
            yield _encoder.encode(["tomb", kind, scope, key, version])
        for event in recent:
            yield _event_payload(event)

    def _take(self, item: list[Any], begin: int) -> None:
        match item:
            case ["base", epoch, seq]:
                self.epoch, self.seq = epoch, seq
            case ["obj", kind, scope, key, name, version, digest, summary]:
                entry = Entry(kind, scope, key, name, summary, version, digest)
                self.entries[entry.identity] = entry
            case ["tomb", kind, scope, key, version]:
                self.tombs[kind, scope, key] = version
            case _:
                for event in _events_in(item):
                    self._take_event(event.seq, event.key, event.digest, _decoder.decode(event.record), begin)

    def _take_event(self, seq: int, key: bytes | str, digest: bytes, fields: dict[str, Any], begin: int) -> None:
        if self.first_unheard is None and seq > self._heard:
            self.first_unheard = (seq, begin)
        if fields["call"] is not None:
            self.calls[fields["call"]] = None
            if len(self.calls) > CALLS_MAX:
                del self.calls[next(iter(self.calls))]
        if seq <= self.seq and fields["epoch"] <= self.epoch:
            return  # a recent event behind the objects that it already made true
        entry = None
        if fields["object"] is not None:
            kind, _, name = fields["object"]
            entry = Entry(kind, fields["scope"], key, name, fields["summary"] or {}, fields["version"], digest)
        self._apply(seq, fields["epoch"], entry, gone=fields["summary"] is None)

    def _apply(self, seq: int, epoch: int, entry: Entry | None, *, gone: bool) -> None:
        self.seq, self.epoch = seq, epoch
        if entry is None:
            return
        if gone:
            self.entries.pop(entry.identity, None)
            self.tombs[entry.identity] = entry.version
            if len(self.tombs) > TOMBSTONES_MAX:
                del self.tombs[next(iter(self.tombs))]
        else:
            self.entries[entry.identity] = entry
            self.tombs.pop(entry.identity, None)


def _event_payload(*events: LedgerEvent) -> bytes:
    """One event, or all events of a change, as a record."""
    parts = [[event.seq, event.key, event.digest, event.record] for event in events]
    return _encoder.encode(["evt", *parts[0]] if len(parts) == 1 else ["evts", *parts])


def _events_in(item: list[Any]) -> list[LedgerEvent]:
    """The events of a record; none in one about objects."""
    match item:
        case ["evt", *part]:
            parts = [part]
        case ["evts", *parts]:
            pass
        case _:
            return []
    return [LedgerEvent(seq, record, key, digest) for seq, key, digest, record in parts]
