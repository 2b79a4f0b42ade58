"""Virtual functions of network cards (SR-IOV): the address and the VLAN that the card above gives each of them."""

from __future__ import annotations

import errno
import re
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from actors.runtime.rtnetlink import ask, change, index_of
from util.netlink import (
    GET_LINK,
    LINK_SIZE,
    SET_LINK,
    BadMessage,
    attribute,
    attribute_map,
    attributes,
    link_header,
    nested,
    number,
)

_VFINFO_LIST, _EXT_MASK = 22, 29
_VF_INFO: Final = 1
_VF_MAC, _VF_VLAN = 1, 2
_WITH_FUNCTIONS: Final = 1
_MAC: Final = struct.Struct("=I32s")
_VLAN: Final = struct.Struct("=III")
_MAC_SIZE: Final = 6
_VIRTUAL: Final = re.compile(r"virtfn(\d+)")


@dataclass(frozen=True, slots=True)
class Function:
    """A virtual function: the link of the card that it belongs to, and its number there."""

    link: str
    number: int


@dataclass(frozen=True, slots=True)
class FunctionState:
    """What a card has given a function; a VLAN of 0 is none."""

    mac: str
    vlan: int


def find_function(folder: Path) -> Function | None:
    """The function that a PCI device is, by its folder below `/sys`; None when it is none of a network card."""
    card = folder / "physfn"
    links = sorted(one.name for one in (card / "net").glob("*"))
    own = folder.resolve().name
    for place in card.glob("virtfn*"):
        found = _VIRTUAL.fullmatch(place.name)
        if found is not None and links and place.resolve().name == own:
            return Function(links[0], int(found[1]))
    return None


def state_of(function: Function) -> FunctionState:
    """What a function has. Raises OSError."""
    body = link_header(index_of(function.link)) + number(_EXT_MASK, _WITH_FUNCTIONS)
    try:
        for answer in ask(GET_LINK, 0, body):
            found = read_state(answer, function.number)
            if found is not None:
                return found
    except BadMessage as exc:
        raise OSError(errno.EBADMSG, str(exc)) from exc
    raise OSError(errno.ENODATA, f"the card does not tell of its function {function.number}")


def read_state(body: bytes, wanted: int) -> FunctionState | None:
    """What an answer of the kernel says of one function. Raises BadMessage."""
    listed = attribute_map(body[LINK_SIZE:]).get(_VFINFO_LIST, b"")
    for kind, data in attributes(listed):
        facts = attribute_map(data) if kind == _VF_INFO else {}
        mac, vlan = facts.get(_VF_MAC, b""), facts.get(_VF_VLAN, b"")
        if len(mac) < _MAC.size or _MAC.unpack_from(mac)[0] != wanted:
            continue
        tag = _VLAN.unpack_from(vlan)[1] if len(vlan) >= _VLAN.size else 0
        return FunctionState(_MAC.unpack_from(mac)[1][:_MAC_SIZE].hex(":"), tag)
    return None


def set_state(function: Function, state: FunctionState) -> None:
    """Gives a function an address and a VLAN. Raises OSError: EOPNOTSUPP for a card that cannot."""
    change(SET_LINK, 0, pack_state(index_of(function.link), function.number, state))


def pack_state(index: int, which: int, state: FunctionState) -> bytes:
    """The body of that message."""
    mac = attribute(_VF_MAC, _MAC.pack(which, bytes.fromhex(state.mac.replace(":", ""))))
    vlan = attribute(_VF_VLAN, _VLAN.pack(which, state.vlan, 0))
    return link_header(index) + nested(_VFINFO_LIST, nested(_VF_INFO, mac, vlan))
