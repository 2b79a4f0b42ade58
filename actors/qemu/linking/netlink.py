"""Making and removing macvtap devices by the kernel's routing messages, and what is asked of them."""

from __future__ import annotations

import contextlib
import errno
from typing import Final

from actors.runtime.rtnetlink import ask, change, has_link, index_of
from conf.domain.interface import DirectMode
from util.netlink import (
    CREATE,
    DEL_LINK,
    EXCLUSIVE,
    GET_LINK,
    LINK_SIZE,
    NEW_LINK,
    BadMessage,
    attribute,
    attribute_map,
    link_header,
    nested,
    number,
    text,
)

__all__ = ["find_macvtap", "has_link", "index_of", "make_macvtap", "remove_macvtap"]

_ADDRESS, _IFNAME, _MTU, _LINK, _LINKINFO = 1, 3, 4, 5, 18
_KIND, _DATA = 1, 2
_UP: Final = 1
_NUM_TX_QUEUES, _NUM_RX_QUEUES = 31, 32
_MODES: Final = {
    DirectMode.PRIVATE: 1,
    DirectMode.VEPA: 2,
    DirectMode.BRIDGE: 4,
    DirectMode.PASSTHROUGH: 8,
}


def make_macvtap(name: str, link: str, mode: DirectMode, *, mac: str | None, mtu: int | None, queues: int = 1) -> int:
    """Makes a macvtap device on a link, and sets it up; its number. Nothing is left when this fails.

    Raises OSError: EEXIST when the name is taken, ENODEV when there is no such link.
    """
    below = index_of(link)
    address = attribute(_ADDRESS, bytes.fromhex(mac.replace(":", ""))) if mac is not None else b""
    body = link_header() + text(_IFNAME, name) + number(_LINK, below) + address
    if mtu is not None:
        body += number(_MTU, mtu)
    if queues > 1:
        body += number(_NUM_TX_QUEUES, queues) + number(_NUM_RX_QUEUES, queues)
    body += nested(_LINKINFO, text(_KIND, "macvtap"), nested(_DATA, number(1, _MODES[mode])))
    change(NEW_LINK, CREATE | EXCLUSIVE, body)
    try:
        index = index_of(name)
        # one that passes its link through came with the address of that, which takes the guest's from it
        own = address if mode is DirectMode.PASSTHROUGH else b""
        change(NEW_LINK, 0, link_header(index, flags=_UP, change=_UP) + own)
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
        change(DEL_LINK, 0, link_header(index))
    except OSError as exc:
        if exc.errno == errno.ENODEV:
            return False
        raise
    return True


def find_macvtap(name: str) -> int | None:
    """The number of a macvtap device; None when no device of that kind has the name. Raises OSError."""
    try:
        index = index_of(name)
        answers = ask(GET_LINK, 0, link_header(index))
    except OSError as exc:
        if exc.errno == errno.ENODEV:
            return None
        raise
    try:
        info = attribute_map(answers[0][LINK_SIZE:]).get(_LINKINFO, b"") if answers else b""
        return index if attribute_map(info).get(_KIND, b"").rstrip(b"\0") == b"macvtap" else None
    except BadMessage as exc:
        raise OSError(errno.EBADMSG, str(exc)) from exc
