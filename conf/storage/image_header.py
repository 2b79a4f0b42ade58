"""The first bytes of disk images: which format they are, how large, and on which image they stand.

Bytes in, facts out. Nothing here is guessed from a name, and every length that an image tells is held against what
there is.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Final

HEAD_BYTES: Final = 0x8200
"""How much of an image is looked at."""
_QCOW2_END, _QCOW2_FORMAT = 0, 0xE2792ACA
_NAME_MAX: Final = 1023
_SECTOR: Final = 512

_MAGIC: Final = (
    ("qcow2", 0, b"QFI\xfb"),
    ("qed", 0, b"QED\0"),
    ("vmdk", 0, b"KDMV"),
    ("vpc", 0, b"conectix"),
    ("vdi", 64, b"\x7f\x10\xda\xbe"),
    ("bochs", 0, b"Bochs Virtual HD Image"),
    ("cloop", 0, b"#!/bin/sh\n#V2.0 Format\nmodprobe cloop"),
    ("iso", 32769, b"CD001"),
    ("ploop", 0, b"WithoutFreeSpace"),
    ("ploop", 0, b"WithouFreSpacExt"),
)


class BrokenHeader(ValueError):
    """The bytes are not what the format wants; the text says why."""


@dataclass(frozen=True, slots=True)
class ImageFacts:
    """What an image tells of itself; `backing` is written as it is in the image."""

    capacity: int = 0
    backing: str | None = None
    backing_format: str | None = None
    encrypted: bool = False


def probe_format(head: bytes) -> str:
    """The format that the first bytes tell; what has none of its own is raw."""
    for name, place, magic in _MAGIC:
        if head[place : place + len(magic)] == magic:
            if name == "qcow2" and head[4:8] == b"\0\0\0\x01":
                return "qcow"
            return name
    return "raw"


def read_image(head: bytes, kind: str) -> ImageFacts:
    """What the first bytes of an image of this format tell. Raises BrokenHeader."""
    try:
        match kind:
            case "qcow2":
                return _qcow2(head)
            case "qcow":
                return _qcow(head)
            case "qed":
                return _qed(head)
            case "vmdk":
                return _vmdk(head)
            case "vdi":
                return ImageFacts(capacity=struct.unpack_from("<Q", head, 368)[0])
            case "vpc" | "vhd":
                return ImageFacts(capacity=struct.unpack_from(">Q", head, 48)[0])
    except struct.error as exc:
        raise BrokenHeader("the image is too short") from exc
    return ImageFacts()


def _text(data: bytes) -> str:
    return data.decode("utf-8", "surrogateescape")


def _qcow2(head: bytes) -> ImageFacts:
    if head[:4] != b"QFI\xfb":
        raise BrokenHeader("it is not a qcow2 image")
    version, offset, length = struct.unpack_from(">IQI", head, 4)
    if version < 2:
        raise BrokenHeader("it is not a qcow2 image")
    capacity = struct.unpack_from(">Q", head, 24)[0]
    encrypted = struct.unpack_from(">I", head, 32)[0] != 0
    if not offset or not length:
        return ImageFacts(capacity, None, None, encrypted)
    if length > _NAME_MAX:
        raise BrokenHeader("the backing file name is too long")
    start = 72 if version < 3 else struct.unpack_from(">I", head, 100)[0]
    name = head[offset : offset + length]
    if len(name) != length:
        raise BrokenHeader("the backing file name lies outside of the header")
    return ImageFacts(capacity, _text(name), _qcow2_format(head, start, offset), encrypted)


def _qcow2_format(head: bytes, start: int, end: int) -> str | None:
    place = start
    while place + 8 <= min(end, len(head)):
        kind, length = struct.unpack_from(">II", head, place)
        if kind == _QCOW2_END or length > end - place:
            return None
        if kind == _QCOW2_FORMAT:
            return head[place + 8 : place + 8 + length].decode("ascii", "replace") or None
        place += 8 + -(-length // 8) * 8
    return None


def _qcow(head: bytes) -> ImageFacts:
    if head[:4] != b"QFI\xfb":
        raise BrokenHeader("it is not a qcow image")
    offset, length = struct.unpack_from(">QI", head, 8)
    capacity = struct.unpack_from(">Q", head, 24)[0]
    encrypted = struct.unpack_from(">I", head, 36)[0] != 0
    if not offset or not length or length > _NAME_MAX:
        return ImageFacts(capacity, None, None, encrypted)
    name = head[offset : offset + length]
    return ImageFacts(capacity, _text(name), None, encrypted)


_QED_BACKED, _QED_RAW = 1, 4


def _qed(head: bytes) -> ImageFacts:
    if head[:4] != b"QED\0":
        raise BrokenHeader("it is not a QED image")
    features = struct.unpack_from("<Q", head, 16)[0]
    capacity = struct.unpack_from("<Q", head, 48)[0]
    if not features & _QED_BACKED:
        return ImageFacts(capacity)
    offset, length = struct.unpack_from("<II", head, 56)
    name = head[offset : offset + length]
    if not length or length > _NAME_MAX or len(name) != length:
        raise BrokenHeader("the backing file name lies outside of the header")
    return ImageFacts(capacity, _text(name), "raw" if features & _QED_RAW else None)


def _vmdk(head: bytes) -> ImageFacts:
    if head[:4] != b"KDMV":
        raise BrokenHeader("it is not a VMDK image")
    capacity = struct.unpack_from("<Q", head, 12)[0] * _SECTOR
    text = head[_SECTOR : _SECTOR + 20 * _SECTOR]
    hint = b'parentFileNameHint="'
    place = text.find(hint)
    parent = text.find(b"parentCID=")
    if place < 0 or text[parent + 10 : parent + 18] == b"ffffffff":
        return ImageFacts(capacity)
    end = text.find(b'"', place + len(hint))
    if end < 0:
        raise BrokenHeader("the name of the parent image has no end")
    return ImageFacts(capacity, _text(text[place + len(hint) : end]), "vmdk")
