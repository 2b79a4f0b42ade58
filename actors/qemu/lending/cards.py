"""Network cards of the host that are interfaces of a guest: a card's function gets the guest's address from the card.

That is why only virtual functions can be given away so: whoever has a whole card chooses its address.
"""

from __future__ import annotations

from pathlib import Path

from actors.qemu.linking.functions import Function, FunctionState, find_function, set_state, state_of
from conf.domain.interface import Interface
from schema.errors import ConfigUnsupported, HostSystemError

Known = tuple[str, int, str, int]
"""A function and what it had: the link above it, its number, its address, its VLAN."""


def wanted_state(card: Interface) -> FunctionState:
    """What the guest's definition says. Raises ConfigUnsupported for what a card cannot do."""
    if card.virtualport is not None:
        kind = card.virtualport.type or "none"
        if kind == "802.1Qbh":
            if card.vlan is not None and card.vlan.tags:
                raise ConfigUnsupported(
                    f"direct setting of the vlan tag is not allowed for hostdev devices using {kind} mode"
                )
            raise ConfigUnsupported(f"no port profile of type {kind} can be set here")
        raise ConfigUnsupported(f"virtualport type {kind} is currently not supported on interfaces of type hostdev")
    tags = card.vlan.tags if card.vlan is not None else []
    if len(tags) > 1 or (card.vlan is not None and card.vlan.trunk):
        raise ConfigUnsupported("vlan trunking is not supported by SR-IOV network devices")
    return FunctionState(card.mac.address if card.mac is not None else "", tags[0].id if tags else 0)


def read_card(folder: Path) -> Known:
    """The function that a PCI device is, and what it has. Raises ConfigUnsupported, HostSystemError."""
    function = find_function(folder)
    if function is None:
        raise ConfigUnsupported("Interface type hostdev is currently supported on SR-IOV Virtual Functions only")
    try:
        known = state_of(function)
    except OSError as exc:
        raise HostSystemError(exc.errno or 0, f"cannot read what function {function.number} has") from exc
    return function.link, function.number, known.mac, known.vlan


def set_card(known: Known, state: FunctionState) -> None:
    """Gives a function what a guest's definition says, or what it had. Raises HostSystemError."""
    link, number, *_ = known
    try:
        set_state(Function(link, number), state)
    except OSError as exc:
        raise HostSystemError(
            exc.errno or 0, f"Cannot set interface MAC/vlanid to {state.mac}/{state.vlan} for ifname {link} vf {number}"
        ) from exc


def restore_card(known: Known) -> None:
    """A function has what it had before. Raises HostSystemError."""
    set_card(known, FunctionState(known[2], known[3]))
