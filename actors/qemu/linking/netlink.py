"""Making and removing links of the host by the kernel's routing socket: macvtap devices, and what is asked of them."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import struct
from typing import Final

from conf.domain.interface import DirectMode

_NEWLINK: Final = 16
_DELLINK: Final = 17
_GETLINK: Final = 18
_ERROR: Final = 2
_REQUEST, _ACK, _EXCL, _CREATE = 1, 4, 0x200, 0x400
_ADDRESS, _IFNAME, _MTU, _LINK, _LINKINFO = 1, 3, 4, 5, 18
_KIND, _DATA = 1, 2
_NESTED: Final = 0x8000
_UP: Final = 1
_NUM_TX_QUEUES, _NUM_RX_QUEUES = 31, 32
_MODES: Final = {
    DirectMode.PRIVATE: 1,
    DirectMode.VEPA: 2,
    DirectMode.BRIDGE: 4,
    DirectMode.PASSTHROUGH: 8,
}
_READ: Final = 65536
_HEADER: Final = struct.Struct("=IHHII")
_LINK_HEADER: Final = struct.Struct("=BxHiII")


def make_macvtap(name: str, link: str, mode: DirectMode, *, mac: str | None, mtu: int | None, queues: int = 1) -> int:
    """Makes a macvtap device on a link, and sets it up; its number. Nothing is left when this fails.

    Raises OSError: EEXIST when the name is taken, ENODEV when there is no such link.
    """
    below = index_of(link)
    body = _LINK_HEADER.pack(socket.AF_UNSPEC, 0, 0, 0, 0)
    body += _attribute(_IFNAME, name.encode() + b"\0") + _attribute(_LINK, struct.pack("=I", below))
    if mac is not None:
        body += _attribute(_ADDRESS, bytes.fromhex(mac.replace(":", "")))
    if mtu is not None:
        body += _attribute(_MTU, struct.pack("=I", mtu))
    if queues > 1:
        body += _attribute(_NUM_TX_QUEUES, struct.pack("=I", queues))
        body += _attribute(_NUM_RX_QUEUES, struct.pack("=I", queues))
    data = _attribute(_DATA | _NESTED, _attribute(1, struct.pack("=I", _MODES[mode])))
    body += _attribute(_LINKINFO | _NESTED, _attribute(_KIND, b"macvtap\0") + data)
    _ask(_NEWLINK, _REQUEST | _ACK | _CREATE | _EXCL, body)
    try:
        index = index_of(name)
        change = _LINK_HEADER.pack(socket.AF_UNSPEC, 0, index, _UP, _UP)
        if mac is not None and mode is DirectMode.PASSTHROUGH:
            # it came with the address of the link below, which takes the guest's from it
            change += _attribute(_ADDRESS, bytes.fromhex(mac.replace(":", "")))
        _ask(_NEWLINK, _REQUEST | _ACK, change)
    except OSError:
        with contextlib.suppress(OSError):
            remove_macvtap(name)
        raise
    return index


def remove_macvtap(name: str) -> bool:
    """Removes a macvtap device; false when there is no such device. Raises OSError."""
    index = find_macvtap(name)
    if index is None:
        return False
    try:
        _ask(_DELLINK, _REQUEST | _ACK, _LINK_HEADER.pack(socket.AF_UNSPEC, 0, index, 0, 0))
    except OSError as exc:
        if exc.errno == errno.ENODEV:
            return False
        raise
    return True


def find_macvtap(name: str) -> int | None:
    """The number of a macvtap device; None when no device of that kind has the name. Raises OSError."""
    try:
        index = index_of(name)
        body = _LINK_HEADER.pack(socket.AF_UNSPEC, 0, index, 0, 0)
        answer = _ask(_GETLINK, _REQUEST, body)
    except OSError as exc:
        if exc.errno == errno.ENODEV:
            return None
        raise
    info = _attributes(answer[_LINK_HEADER.size :]).get(_LINKINFO, b"")
    return index if _attributes(info).get(_KIND, b"").rstrip(b"\0") == b"macvtap" else None


def has_link(name: str) -> bool:
    """Whether the host has a link of that name."""
    try:
        index_of(name)
    except OSError:
        return False
    return True


def index_of(name: str) -> int:
    """A link's number. Raises OSError (ENODEV) when there is no such link."""
    try:
        return socket.if_nametoindex(name)
    except OSError as exc:
        raise OSError(errno.ENODEV, os.strerror(errno.ENODEV)) from exc


def _attribute(kind: int, data: bytes) -> bytes:
    size = 4 + len(data)
    return struct.pack("=HH", size, kind) + data + b"\0" * (-size % 4)


def _attributes(data: bytes) -> dict[int, bytes]:
    found = {}
    while len(data) >= 4:
        size, kind = struct.unpack_from("=HH", data)
        if size < 4:
            break
        found[kind & 0x3FFF] = data[4:size]
        data = data[(size + 3) & ~3 :]
    return found


def _ask(kind: int, flags: int, body: bytes) -> bytes:
    """One question, and the body of its answer. Raises OSError with the kernel's reason."""
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, 0) as link:
        link.bind((0, 0))
        link.send(_HEADER.pack(_HEADER.size + len(body), kind, flags, 1, 0) + body)
        answer = link.recv(_READ)
    size, what, *_ = _HEADER.unpack_from(answer)
    text = answer[_HEADER.size : size]
    if what == _ERROR:
        code = -struct.unpack_from("=i", text)[0]
        if code:
            raise OSError(code, os.strerror(code))
    return text
