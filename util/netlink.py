"""The kernel's routing messages as bytes: a header, a body, and attributes that may hold attributes.

Pure code: sockets are elsewhere. Every length that comes from outside is compared with what is there.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

NEW_LINK: Final = 16
DEL_LINK: Final = 17
GET_LINK: Final = 18
SET_LINK: Final = 19

ERROR: Final = 2
DONE: Final = 3

REQUEST: Final = 0x1
MULTI: Final = 0x2
ACK: Final = 0x4
EXCLUSIVE: Final = 0x200
CREATE: Final = 0x400
DUMP: Final = 0x300

NESTED: Final = 0x8000
_KIND_MASK: Final = 0x3FFF
_HEADER: Final = struct.Struct("=IHHII")
_LINK: Final = struct.Struct("=BxHiII")
LINK_SIZE: Final = _LINK.size


class BadMessage(ValueError):
    """The other side sent what is no message."""


@dataclass(frozen=True, slots=True)
class Message:
    """One message."""

    kind: int
    flags: int
    sequence: int
    body: bytes

    @property
    def error(self) -> int | None:
        """The error number that it tells, 0 for success; None when it tells none."""
        if self.kind != ERROR:
            return None
        if len(self.body) < 4:
            raise BadMessage("an error without a number")
        return -int(struct.unpack_from("=i", self.body)[0])


def pack_message(kind: int, flags: int, sequence: int, body: bytes) -> bytes:
    """One message as it is sent."""
    return _HEADER.pack(_HEADER.size + len(body), kind, flags, sequence, 0) + body


def read_messages(data: bytes) -> Iterator[Message]:
    """The messages of one reading. Raises BadMessage."""
    while data:
        if len(data) < _HEADER.size:
            raise BadMessage("a message is cut off")
        size, kind, flags, sequence, _ = _HEADER.unpack_from(data)
        if not _HEADER.size <= size <= len(data):
            raise BadMessage(f"a message says it has {size} bytes of {len(data)}")
        yield Message(kind, flags, sequence, data[_HEADER.size : size])
        data = data[(size + 3) & ~3 :]


def link_header(index: int = 0, *, flags: int = 0, change: int = 0, family: int = 0) -> bytes:
    """What the body of a message about a link begins with."""
    return _LINK.pack(family, 0, index, flags, change)


def index_in(body: bytes) -> int:
    """The number of the link that a message is about. Raises BadMessage."""
    if len(body) < _LINK.size:
        raise BadMessage("a message about a link is cut off")
    return int(_LINK.unpack_from(body)[2])


def attribute(kind: int, data: bytes) -> bytes:
    """One attribute, filled up to the next one."""
    size = 4 + len(data)
    return struct.pack("=HH", size, kind) + data + b"\0" * (-size % 4)


def nested(kind: int, *parts: bytes) -> bytes:
    """An attribute that holds attributes."""
    return attribute(kind | NESTED, b"".join(parts))


def number(kind: int, value: int) -> bytes:
    """An attribute with a number of four bytes."""
    return attribute(kind, struct.pack("=I", value))


def text(kind: int, value: str) -> bytes:
    """An attribute with a text."""
    return attribute(kind, value.encode() + b"\0")


def attributes(data: bytes) -> Iterator[tuple[int, bytes]]:
    """The attributes of a body, in order. Raises BadMessage."""
    while len(data) >= 4:
        size, kind = struct.unpack_from("=HH", data)
        if not 4 <= size <= len(data):
            raise BadMessage(f"an attribute says it has {size} bytes of {len(data)}")
        yield kind & _KIND_MASK, data[4:size]
        data = data[(size + 3) & ~3 :]


def attribute_map(data: bytes) -> dict[int, bytes]:
    """The same by kind; of several of a kind the last. Raises BadMessage."""
    return dict(attributes(data))
