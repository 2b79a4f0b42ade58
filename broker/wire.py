"""The shape of a message between processes: header, prologue, stream frames, event positions.

Pure: bytes in, values out. `docs/protocol.md` is the contract; every length is compared with its limit before use.
"""

from __future__ import annotations

import hashlib
import struct
from enum import IntEnum, IntFlag
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import msgpack
import msgspec

VERSION: Final = 1
PROLOGUE_MAX: Final = 4096
DOOR_MAX: Final = 65536
STREAM_PAYLOAD_MAX: Final = 262144
TOKEN_LENGTH: Final = 32
CALL_ID_LENGTH: Final = 24

HEADER: Final = struct.Struct(">BBHIQ")
_position = struct.Struct(">QQQQB")
_prologue_length = struct.Struct(">H")
_correlation = struct.Struct(">Q")
_door_length = struct.Struct(">I")
_frame = struct.Struct(">BI")
_pack_header = HEADER.pack
HEADER_LENGTH: Final = HEADER.size
DOOR_HEADER_LENGTH: Final = _door_length.size
FRAME_HEADER_LENGTH: Final = _frame.size
TTL_MAX_MS: Final = 0xFFFFFFFF


class Kind(IntEnum):
    """What a message is."""

    CALL = 1
    REPLY = 2
    ERROR = 3
    CANCEL = 4
    REGISTER = 5
    REGISTERED = 6
    EVENT = 7
    EVENT_ACK = 8
    REPLAY = 9
    REPLAY_PART = 10
    BYE = 11


class Flag(IntFlag):
    """Bits of the header's flags field."""

    NONE = 0
    RESEND = 1
    URGENT = 2
    GAP = 4


class Published(IntEnum):
    """What a message on the event socket is."""

    EVENT = 1
    ALIVE = 2
    STATE = 3


class StreamKind(IntEnum):
    """Frames of a ticket's stream."""

    DATA = 1
    END = 2
    ERROR = 3
    HOLE = 4


class WireError(ValueError):
    """A message breaks the protocol; the text says which part of it."""


class Header(NamedTuple):
    """The fixed part of each message. `ttl_ms` 0 means no deadline."""

    kind: int
    flags: int
    ttl_ms: int
    correlation: int


class Cursor(NamedTuple):
    """A place in the event journal: right after a record."""

    generation: int
    offset: int

    def __str__(self) -> str:
        return f"{self.generation}:{self.offset}"

    @classmethod
    def parse(cls, text: str) -> Cursor:
        """The cursor that `str()` wrote. Raises WireError when the text is not one."""
        generation, colon, offset = text.partition(":")
        if not (colon and generation.isdecimal() and offset.isdecimal()):
            raise WireError(f"'{text}' is not a cursor (GENERATION:OFFSET)")
        return cls(int(generation), int(offset))


class Position(NamedTuple):
    """Second frame of a published message: cursor after the record, and who spoke."""

    generation: int
    offset: int
    epoch: int
    seq: int
    what: int


if TYPE_CHECKING:
    ObjectKey = bytes | str | None
else:
    ObjectKey = Any  # msgspec cannot decode a union of the two; `unpack_call_prologue` looks itself


class CallPrologue(msgspec.Struct, array_like=True, forbid_unknown_fields=True):
    """What the broker reads of a call; `caller` is its own word about who calls."""

    procedure: str
    scope: str = ""
    key: ObjectKey = None
    idempotency_key: str | None = None
    trace: str | None = None
    caller: dict[str, Any] | None = None


class ReplyPrologue(msgspec.Struct, array_like=True, forbid_unknown_fields=True):
    """The source's sequence after the call, and the ticket of its stream, if it opened one."""

    epoch: int = 0
    seq: int = 0
    ticket: dict[str, Any] | None = None


class RecordHead(msgspec.Struct):
    """What the broker reads of an event record: who says it, in which incarnation, as its how-manieth."""

    source: str
    epoch: int
    seq: int


_encode = msgspec.msgpack.Encoder().encode
_decode_call = msgspec.msgpack.Decoder(CallPrologue).decode
_decode_reply = msgspec.msgpack.Decoder(ReplyPrologue).decode
_decode_record = msgspec.msgpack.Decoder(RecordHead).decode
_KEY_TYPES: Final = (bytes, str, type(None))  # a union would be made anew for each call
_ARRAY_OF_THREE: Final = b"\x93"
_ARRAY_OF_SIX: Final = b"\x96"


def public_id(routing_id: bytes) -> bytes:
    """What others may know of a caller: a routing id itself is a capability, between its owner and the broker."""
    return hashlib.sha256(routing_id).digest()[:16]


def call_id(public: bytes, correlation: int) -> bytes:
    """The id of a call: the same through every restart and resend."""
    return public + _correlation.pack(correlation)


def pack_header(kind: int, correlation: int, ttl_ms: int = 0, flags: int = 0) -> bytes:
    """The 16 header bytes. A time to live beyond 32 bits is cut to the longest possible."""
    return _pack_header(VERSION, kind, flags, ttl_ms if ttl_ms < TTL_MAX_MS else TTL_MAX_MS, correlation)


def unpack_header(data: bytes) -> Header:
    """Raises WireError on a wrong length, version or kind."""
    if len(data) != HEADER_LENGTH:
        raise WireError(f"header has {len(data)} bytes, not {HEADER_LENGTH}")
    version, kind, flags, ttl_ms, correlation = HEADER.unpack(data)
    if version != VERSION:
        raise WireError(f"protocol version {version}, this side speaks {VERSION}")
    if not Kind.CALL <= kind <= Kind.BYE:
        raise WireError(f"unknown message kind {kind}")
    return Header(kind, flags, ttl_ms, correlation)


def join_body(prologue: bytes, rest: bytes) -> bytes:
    """A body of prologue and rest."""
    if len(prologue) > PROLOGUE_MAX:
        raise WireError(f"prologue has {len(prologue)} bytes, at most {PROLOGUE_MAX} are allowed")
    return _prologue_length.pack(len(prologue)) + prologue + rest


def split_body(body: bytes) -> tuple[bytes, bytes]:
    """Prologue and rest of a body. Raises WireError when the lengths do not agree."""
    if len(body) < 2:
        raise WireError("body is too short for a prologue")
    length = body[0] << 8 | body[1]
    if length > PROLOGUE_MAX:
        raise WireError(f"prologue of {length} bytes, at most {PROLOGUE_MAX} are allowed")
    if len(body) < 2 + length:
        raise WireError("body ends inside its prologue")
    return body[2 : 2 + length], body[2 + length :]


def pack_call_prologue(p: CallPrologue) -> bytes:
    """The msgpack array of a call's prologue."""
    return _encode(p)


def unpack_call_prologue(data: bytes) -> CallPrologue:
    """Raises WireError when the array or a type in it is wrong."""
    if data[:1] != _ARRAY_OF_SIX:
        raise WireError("a call's prologue is an array of six")
    try:
        prologue = _decode_call(data)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as exc:
        raise WireError(f"not a call's prologue: {exc}") from exc
    if not isinstance(prologue.key, _KEY_TYPES):
        raise WireError("the key of a prologue is bytes, a string or nil")
    return prologue


def pack_reply_prologue(p: ReplyPrologue) -> bytes:
    """The msgpack array of a reply's or error's prologue."""
    return _encode(p)


def unpack_reply_prologue(data: bytes) -> ReplyPrologue:
    """Raises WireError when the array or a type in it is wrong."""
    if data[:1] != _ARRAY_OF_THREE:
        raise WireError("a reply's prologue is [epoch, seq, ticket or nil]")
    try:
        return _decode_reply(data)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as exc:
        raise WireError(f"not a reply's prologue: {exc}") from exc


def unpack_record_head(record: bytes | memoryview) -> RecordHead:
    """Source, epoch and seq of an event record, which must be one whole msgpack map. Raises WireError."""
    try:
        return _decode_record(record)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as exc:
        raise WireError(f"not an event record: {exc}") from exc


def pack_position(position: Position) -> bytes:
    """Second frame of a published message."""
    return _position.pack(*position)


def unpack_position(data: bytes) -> Position:
    """Raises WireError on a wrong length."""
    if len(data) != _position.size:
        raise WireError(f"event position has {len(data)} bytes, not {_position.size}")
    return Position(*_position.unpack(data))


def pack_frame(kind: int, payload: bytes = b"") -> bytes:
    """One frame of a stream."""
    if len(payload) > STREAM_PAYLOAD_MAX:
        raise WireError(f"stream frame of {len(payload)} bytes, at most {STREAM_PAYLOAD_MAX} are allowed")
    return _frame.pack(kind, len(payload)) + payload


def unpack_frame_header(data: bytes) -> tuple[StreamKind, int]:
    """Kind and payload length of the frame that begins with these bytes. Raises WireError."""
    kind, length = _frame.unpack(data)
    if not StreamKind.DATA <= kind <= StreamKind.HOLE:
        raise WireError(f"unknown stream frame {kind}")
    if length > STREAM_PAYLOAD_MAX:
        raise WireError(f"stream frame of {length} bytes, at most {STREAM_PAYLOAD_MAX} are allowed")
    return StreamKind(kind), length


def pack_door(value: object) -> bytes:
    """A message of the door. Raises WireError when it is too long."""
    data = _packed(value)
    if len(data) > DOOR_MAX:
        raise WireError(f"door message of {len(data)} bytes, at most {DOOR_MAX} are allowed")
    return _door_length.pack(len(data)) + data


def take_door(buffer: bytearray) -> dict[str, Any] | None:
    """Takes the first message out of what came through a door; None when it is not complete yet.

    Raises WireError when it is too long or no map.
    """
    if len(buffer) < DOOR_HEADER_LENGTH:
        return None
    (length,) = _door_length.unpack_from(buffer)
    if length > DOOR_MAX:
        raise WireError(f"door message of {length} bytes, at most {DOOR_MAX} are allowed")
    end = DOOR_HEADER_LENGTH + length
    if len(buffer) < end:
        return None
    value = unpack_value(bytes(buffer[DOOR_HEADER_LENGTH:end]))
    del buffer[:end]
    if not isinstance(value, dict):
        raise WireError("a door message is a map")
    return value


def pack_value(value: object) -> bytes:
    """Any msgpack value of the protocol."""
    return _packed(value)


def unpack_value(data: bytes) -> Any:
    """One msgpack value, nothing behind it. Raises WireError."""
    try:
        return msgpack.unpackb(data, raw=False, strict_map_key=False)
    except (ValueError, TypeError, msgpack.UnpackException, RecursionError) as exc:  # TypeError: a map as a key
        raise WireError(f"not one msgpack value: {exc}") from exc


def _packed(value: object) -> bytes:
    packed: bytes = msgpack.packb(value, use_bin_type=True)
    return packed
