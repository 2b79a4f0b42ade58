"""The beginning of a file that holds a guest's memory, as libvirt's QEMU driver has it.

A fixed head, then the definition, then a cookie, then zeros up to the length that the head tells, so that a longer
definition finds room later. QEMU's own stream follows.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Final

from schema.errors import OperationFailed

MAGIC: Final = b"LibvirtQemudSave"
PARTIAL: Final = b"LibvirtQemudPart"
VERSION: Final = 2
SIZE: Final = 92
"""The bytes of the fixed head: magic, five numbers, and room for more of them."""
ALIGNMENT: Final = 64 * 1024
MOST: Final = 64 * 1024 * 1024
"""A definition and cookie longer than this are taken for damage."""

_FIELDS: Final = "16s5I"
COMPRESSION_MAX: Final = 4


class IncompleteImage(OperationFailed):
    """Whoever wrote the file did not come to its end; callers are told of an OperationFailed."""

    @property
    def kind(self) -> str:
        """Of its base: clients know no other."""
        return OperationFailed.__name__


@dataclass(frozen=True, slots=True)
class Head:
    """The fixed head: `length` is that of everything between it and QEMU's stream, `cookie_at` a place in there."""

    length: int
    was_running: bool
    compression: int = 0
    cookie_at: int = 0
    is_complete: bool = True

    @property
    def offset(self) -> int:
        """Where QEMU's stream begins in the file."""
        return SIZE + self.length


@dataclass(frozen=True, slots=True)
class SavedImage:
    """What stands before a guest's memory; `length` and `compression` as in `Head`."""

    xml: str
    was_running: bool
    length: int
    cookie: str | None = None
    compression: int = 0

    @property
    def offset(self) -> int:
        """Where QEMU's stream begins in the file."""
        return SIZE + self.length


def pack_image(
    xml: str,
    cookie: str | None,
    *,
    running: bool,
    complete: bool = True,
    length: int | None = None,
    compression: int = 0,
) -> bytes:
    """The bytes before QEMU's stream; `length` keeps that of a file whose definition changes.

    Raises OperationFailed when they do not fit.
    """
    body = xml.encode() + b"\0"
    cookie_at = 0
    if cookie is not None:
        cookie_at = len(body)
        body += cookie.encode() + b"\0"
    if length is None:
        # room for later changes, and the stream at a place that is easy to write to
        length = -(-(SIZE + len(body) + ALIGNMENT) // ALIGNMENT) * ALIGNMENT - SIZE
    if len(body) > length:
        raise OperationFailed("new xml too large to fit in file")
    magic = MAGIC if complete else PARTIAL
    head = struct.pack(f"={_FIELDS}", magic, VERSION, length, int(running), compression, cookie_at)
    return head.ljust(SIZE, b"\0") + body.ljust(length, b"\0")


def unpack_head(data: bytes) -> Head:
    """The fixed head of a file. Raises OperationFailed for what is none, or of a kind that cannot be read."""
    if len(data) < SIZE:
        raise OperationFailed("failed to read qemu header")
    magic = data[: len(MAGIC)]
    if magic not in (MAGIC, PARTIAL):
        raise OperationFailed("image magic is incorrect")
    # the numbers are in the order of bytes of the host that wrote them
    for order in "<>":
        _, version, length, running, compression, cookie_at = struct.unpack_from(f"{order}{_FIELDS}", data)
        if version <= VERSION:
            break
    else:
        version = struct.unpack_from(f"={_FIELDS}", data)[1]
        raise OperationFailed(f"image version is not supported ({version} > {VERSION})")
    if not 0 < length <= MOST:
        raise OperationFailed(f"invalid header data length: {length}")
    if cookie_at >= length:
        raise OperationFailed("failed to read cookie")
    return Head(length, running != 0, compression, cookie_at, magic == MAGIC)


def unpack_image(head: Head, body: bytes) -> SavedImage:
    """What stands between the head and the stream. Raises OperationFailed for what cannot be read."""
    if not head.is_complete:
        raise IncompleteImage("save image is incomplete")
    if len(body) < head.length:
        raise OperationFailed("failed to read domain XML")
    if head.compression > COMPRESSION_MAX:
        raise OperationFailed(f"Invalid compressed save format {head.compression}")
    end = head.cookie_at or head.length
    try:
        xml = _text(body[:end])
        cookie = _text(body[head.cookie_at : head.length]) if head.cookie_at else None
    except UnicodeDecodeError as exc:
        raise OperationFailed("the saved definition is not UTF-8") from exc
    return SavedImage(xml, head.was_running, head.length, cookie, head.compression)


def _text(data: bytes) -> str:
    return data.partition(b"\0")[0].decode()
