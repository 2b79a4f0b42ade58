"""What became of changes, on disk: the judge of a call that is sent again after this driver, or the broker, died.

A record is written when a change enters its lane (`begin`), before the one file it writes or removes (`step`), around
a change of several steps (`intent`, `note`, `close`), and when it ended (`end`). Those of intents and of calls with an
idempotency key are synced, to outlive the host; the others have to outlive this process, which they do once written.
"""

from __future__ import annotations

import time
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Final, Generic, TypeVar

import msgspec

from actors.runtime.context import CurrentCall
from actors.runtime.record_log import OldSegment, RecordLog

COMPACT_BYTES: Final = 4 * 1024 * 1024
RECENT_S: Final = 120.0
RECENT_MAX: Final = 8192
RECENT_BYTES: Final = 16 * 1024 * 1024
KEYED_MAX: Final = 65536
KEYED_BYTES: Final = 32 * 1024 * 1024

_encoder: Final = msgspec.msgpack.Encoder()

WireError = list[Any]
K = TypeVar("K")


class Origin(msgspec.Struct, array_like=True):
    """Which call a record belongs to: enough to answer it again and to put events down to it."""

    call: bytes
    procedure: str
    idempotency_key: str | None = None
    digest: bytes = b""
    trace: str | None = None
    who: dict[str, Any] | None = None


class Begin(msgspec.Struct, tag="begin", array_like=True):
    """A change entered the lane of an object."""

    origin: Origin
    key: tuple[str, Any]  # bytes or str
    wall: float


class Step(msgspec.Struct, tag="step", array_like=True):
    """A change is about to write (`crc` of the content) or remove (`crc` None) its one file."""

    origin: Origin
    path: str
    crc: int | None
    result: bytes | None
    wall: float


class IntentBegun(msgspec.Struct, tag="intent", array_like=True):
    """A change of several steps is about to have its first effect."""

    number: int
    origin: Origin | None
    kind: str
    data: dict[str, Any]
    key: tuple[str, Any] | None
    wall: float


class IntentNote(msgspec.Struct, tag="note", array_like=True):
    """More that is known of an intent."""

    number: int
    data: dict[str, Any]


class IntentClosed(msgspec.Struct, tag="close", array_like=True):
    """An intent is done (`result`) or was undone (`error`)."""

    number: int
    done: bool
    result: bytes | None = None
    error: WireError | None = None


class End(msgspec.Struct, tag="end", array_like=True):
    """What the caller was told."""

    origin: Origin
    result: bytes | None
    error: WireError | None
    wall: float


Record = Begin | Step | IntentBegun | IntentNote | IntentClosed | End
_decoder: Final[msgspec.msgpack.Decoder[Record]] = msgspec.msgpack.Decoder(Record)


class OpenIntent(msgspec.Struct):
    """An intent without a close, with all its notes merged."""

    begun: IntentBegun
    data: dict[str, Any]


class Kept(Generic[K]):
    """Ends of calls, the latest of them: bounded by number, by bytes of their results, and by age."""

    def __init__(self, count_max: int, bytes_max: int) -> None:
        self._count_max = count_max
        self._bytes_max = bytes_max
        self._bytes = 0
        self._ends: dict[K, End] = {}

    def __len__(self) -> int:
        return len(self._ends)

    def __contains__(self, key: K) -> bool:
        return key in self._ends

    def get(self, key: K) -> End | None:
        """The end under a key, if it is still kept."""
        return self._ends.get(key)

    def values(self) -> Iterable[End]:
        """All, oldest first."""
        return self._ends.values()

    def put(self, key: K, end: End) -> None:
        """Keeps an end as the latest, at the cost of the oldest ones."""
        self._drop(key)
        self._ends[key] = end
        self._bytes += len(end.result or b"")
        while len(self._ends) > self._count_max or (self._bytes > self._bytes_max and len(self._ends) > 1):
            self._drop(next(iter(self._ends)))

    def forget_before(self, wall: float) -> None:
        """Drops those that are older."""
        while self._ends:
            key, end = next(iter(self._ends.items()))
            if end.wall >= wall:
                return
            self._drop(key)

    def _drop(self, key: K) -> None:
        end = self._ends.pop(key, None)
        if end is not None:
            self._bytes -= len(end.result or b"")


class CallLog:
    """The file and what is kept of it in memory, which is bounded by count and age."""

    def __init__(self, folder: Path, retain_s: float) -> None:
        self._log = RecordLog(folder, "calls")
        self._retain_s = retain_s
        self._live_bytes = 0
        self._next_intent = 1
        self.ended: Kept[bytes] = Kept(RECENT_MAX, RECENT_BYTES)
        self._keyed: Kept[tuple[int, str]] = Kept(KEYED_MAX, KEYED_BYTES)
        self.begun: dict[bytes, Begin] = {}
        self.steps: dict[bytes, Step] = {}
        self.open: dict[int, OpenIntent] = {}
        self.inherited: frozenset[int] = frozenset()
        """The intents that the last process left open."""
        self.closed: dict[bytes, tuple[OpenIntent, IntentClosed]] = {}
        """Calls whose intent was closed and whose end is not recorded (yet)."""

    @property
    def unwritable(self) -> OSError | None:
        """Why nothing can be written to it, as far as that was tried."""
        return self._log.unwritable

    def load(self) -> None:
        """Reads what the last process wrote. Raises HostSystemError."""
        for _, payload in self._log.load():
            self._take(_decoder.decode(payload))
        self.inherited = frozenset(self.open)

    def begin(self, call: CurrentCall, key: tuple[str, bytes | str]) -> None:
        """Raises HostSystemError; then the change must not begin."""
        self._write(Begin(origin_of(call), key, time.time()))

    def step(self, call: CurrentCall, path: str, content: bytes | None, result: bytes | None) -> None:
        """Raises HostSystemError; then the file must not be touched."""
        crc = None if content is None else zlib.crc32(content)
        self._write(Step(origin_of(call), path, crc, result, time.time()))

    def open_intent(
        self, call: CurrentCall | None, kind: str, data: dict[str, Any], key: tuple[str, bytes | str] | None
    ) -> int:
        """The number of the new intent. Raises HostSystemError; then the change must not begin."""
        number = self._next_intent
        self._write(IntentBegun(number, None if call is None else origin_of(call), kind, data, key, time.time()))
        return number

    def note(self, number: int, data: dict[str, Any]) -> None:
        """Raises HostSystemError."""
        self._write(IntentNote(number, data))

    def close_intent(self, number: int, *, done: bool, result: bytes | None, error: WireError | None) -> None:
        """Raises HostSystemError; then the intent stays open, and the next start decides."""
        self._write(IntentClosed(number, done, result, error))

    def end(self, call: CurrentCall, result: bytes | None, error: WireError | None) -> None:
        """Records what the caller is told. Raises HostSystemError; the memory has it nevertheless."""
        record = End(origin_of(call), result, error, time.time())
        self._take(record)
        self._log.append(_encoder.encode(record))

    def find_keyed(self, uid: int, key: str) -> End | None:
        """The recorded success of a caller's idempotency key."""
        return self._keyed.get((uid, key))

    def sync(self) -> None:
        """Blocks until all is on the disk. Raises HostSystemError."""
        self._log.sync()

    def reserve(self) -> None:
        """Raises HostSystemError when the disk has no room for the records of another change."""
        self._log.reserve()

    def compact(self) -> OldSegment | None:
        """Drops what nobody asks for any more, and begins a new segment when the old one is large.

        Raises HostSystemError, and then the log goes on in the old one.
        """
        self._expire()
        if self._log.end < COMPACT_BYTES or self._log.end < 4 * self._live_bytes:
            return None
        old = self._log.start_segment(self._live())
        self._live_bytes = self._log.end
        return old

    def close(self) -> None:
        """Lets go of the file."""
        self._log.close()

    def _write(self, record: Record) -> None:
        self._log.append(_encoder.encode(record))
        self._take(record)

    def _live(self) -> Iterator[bytes]:
        records: list[Record] = [*self._keyed.values()]
        records += [end for end in self.ended.values() if end.origin.idempotency_key is None]
        records += [*self.begun.values(), *self.steps.values()]
        records += [
            IntentBegun(i.begun.number, i.begun.origin, i.begun.kind, i.data, i.begun.key, i.begun.wall)
            for i in self.open.values()
        ]
        for intent, closed in self.closed.values():
            records += [intent.begun, closed]
        return (_encoder.encode(record) for record in records)

    def _take(self, record: Record) -> None:
        match record:
            case Begin():
                self.begun[record.origin.call] = record
            case Step():
                self.steps[record.origin.call] = record
            case IntentBegun():
                self._next_intent = max(self._next_intent, record.number + 1)
                self.open[record.number] = OpenIntent(record, dict(record.data))
            case IntentNote():
                if (intent := self.open.get(record.number)) is not None:
                    intent.data.update(record.data)
            case IntentClosed():
                self._take_close(record)
            case End():
                self._take_end(record)

    def _take_close(self, record: IntentClosed) -> None:
        intent = self.open.pop(record.number, None)
        if intent is None or intent.begun.origin is None:
            return
        self.closed[intent.begun.origin.call] = (intent, record)

    def _take_end(self, record: End) -> None:
        origin = record.origin
        self.begun.pop(origin.call, None)
        self.steps.pop(origin.call, None)
        self.closed.pop(origin.call, None)
        self.ended.put(origin.call, record)
        if origin.idempotency_key is not None and record.error is None:
            self._keyed.put((uid_of(origin.who), origin.idempotency_key), record)

    def _expire(self) -> None:
        now = time.time()
        self.ended.forget_before(now - RECENT_S)
        self._keyed.forget_before(now - self._retain_s)


def origin_of(call: CurrentCall) -> Origin:
    """What of a call goes into a record."""
    return Origin(call.id, call.procedure.name, call.idempotency_key, call.digest, call.trace, call.caller or None)


def uid_of(who: dict[str, Any] | None) -> int:
    """Whose idempotency keys these are."""
    uid = (who or {}).get("uid", -1)
    return uid if isinstance(uid, int) else -1
