"""The shape of a message between processes: header, prologue, stream frames, event positions.

Pure: bytes in, values out. `docs/protocol.md` is the contract; every length is compared with its limit before it is used.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import IntEnum, IntFlag
from typing import Any, Final, NamedTuple

import msgpack

VERSION: Final = 1
PROLOGUE_MAX: Final = 4096
DOOR_MAX: Final = 65536
STREAM_PAYLOAD_MAX: Final = 262144
TOKEN_LENGTH: Final = 32

_header = struct.Struct(">BBHIQ")
_position = struct.Struct(">QQQQB")
_prologue_length = struct.Struct(">H")
_frame = struct.Struct(">BI")
HEADER_LENGTH: Final = _header.size
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


@dataclass(slots=True)
class CallPrologue:
    """What the broker reads of a call; `caller` is its own word about who calls."""

    procedure: str
    scope: str = ""
    key: bytes | str | None = None
    idempotency_key: str | None = None
    trace: str | None = None
    caller: dict[str, Any] | None = None


@dataclass(slots=True)
class ReplyPrologue:
    """The source's sequence after the call, and the ticket of its stream, if it opened one."""

    epoch: int = 0
    seq: int = 0
    ticket: dict[str, Any] | None = None


def pack_header(kind: int, correlation: int, ttl_ms: int = 0, flags: int = 0) -> bytes:
    """The 16 header bytes. A time to live beyond 32 bits is cut to the longest possible."""
    return _header.pack(VERSION, kind, flags, min(ttl_ms, TTL_MAX_MS), correlation)


def unpack_header(data: bytes) -> Header:
    """Raises WireError on a wrong length, version or kind."""
    if len(data) != HEADER_LENGTH:
        raise WireError(f"header has {len(data)} bytes, not {HEADER_LENGTH}")
    version, kind, flags, ttl_ms, correlation = _header.unpack(data)
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
    (length,) = _prologue_length.unpack_from(body)
    if length > PROLOGUE_MAX:
        raise WireError(f"prologue of {length} bytes, at most {PROLOGUE_MAX} are allowed")
    if len(body) < 2 + length:
        raise WireError("body ends inside its prologue")
    return body[2 : 2 + length], body[2 + length :]


def pack_call_prologue(p: CallPrologue) -> bytes:
    """The msgpack array of a call's prologue."""
    return _packed([p.procedure, p.scope, p.key, p.idempotency_key, p.trace, p.caller])


def unpack_call_prologue(data: bytes) -> CallPrologue:
    """Raises WireError when the array or a type in it is wrong."""
    items = unpack_value(data)
    if not isinstance(items, list) or len(items) != 6:
        raise WireError("a call's prologue is an array of six")
    procedure, scope, key, idempotency_key, trace, caller = items
    if not isinstance(procedure, str) or not isinstance(scope, str):
        raise WireError("procedure and scope of a prologue are strings")
    if not (key is None or isinstance(key, str | bytes)):
        raise WireError("the key of a prologue is bytes, a string or nil")
    if not (idempotency_key is None or isinstance(idempotency_key, str)):
        raise WireError("the idempotency key of a prologue is a string or nil")
    if not (trace is None or isinstance(trace, str)):
        raise WireError("the trace id of a prologue is a string or nil")
    if not (caller is None or isinstance(caller, dict)):
        raise WireError("the caller of a prologue is a map or nil")
    return CallPrologue(procedure, scope, key, idempotency_key, trace, caller)


def pack_reply_prologue(p: ReplyPrologue) -> bytes:
    """The msgpack array of a reply's or error's prologue."""
    return _packed([p.epoch, p.seq, p.ticket])


def unpack_reply_prologue(data: bytes) -> ReplyPrologue:
    """Raises WireError when the array or a type in it is wrong."""
    items = unpack_value(data)
    if (
        not isinstance(items, list)
        or len(items) != 3
        or not isinstance(items[0], int)
        or not isinstance(items[1], int)
        or not (items[2] is None or isinstance(items[2], dict))
    ):
        raise WireError("a reply's prologue is [epoch, seq, ticket or nil]")
    return ReplyPrologue(*items)


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


def pack_value(value: object) -> bytes:
    """Any msgpack value of the protocol."""
    return _packed(value)


def unpack_value(data: bytes) -> Any:
    """One msgpack value, nothing behind it. Raises WireError."""
    try:
        return msgpack.unpackb(data, raw=False, strict_map_key=False)
    except (ValueError, msgpack.UnpackException, RecursionError) as exc:
        raise WireError(f"not one msgpack value: {exc}") from exc


def _packed(value: object) -> bytes:
    packed: bytes = msgpack.packb(value, use_bin_type=True)
    return packed
