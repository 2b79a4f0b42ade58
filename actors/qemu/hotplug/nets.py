"""Changing an interface of a running guest."""

from __future__ import annotations

import asyncio
from typing import Any, Final

from actors.qemu.hotplug.board import Board
from actors.qemu.linking.bridge_ports import isolate_port
from actors.qemu.taps import move_tap
from actors.qemu.tuning.bandwidth import shape
from conf.domain.interface import BridgeSource, Interface, InterfaceType
from conf.network.parts import Bandwidth
from schema.errors import OperationUnsupported

_FIXED: Final = (
    ("model", "model"),
    ("script", "script"),
    ("downscript", "script"),
    ("virtualport", "virtual port"),
    ("vlan", "vlan"),
    ("mtu", "MTU"),
    ("tune", "tune"),
    ("rom", "rom"),
    ("acpi_index", "acpi index"),
    ("teaming", "teaming"),
)
_DRIVER: Final = ("name", "txmode", "ioeventfd", "event_idx", "queues", "rx_queue_size", "tx_queue_size")


def check_interface_change(known: Interface, wanted: Interface) -> None:
    """Raises OperationUnsupported for a difference that a running guest cannot be given."""
    mac, other = known.mac, wanted.mac
    if mac is not None and other is not None and mac.address != other.address:
        raise OperationUnsupported(f"cannot change network interface mac address from {mac.address} to {other.address}")
    if known.type is not wanted.type and {known.type, wanted.type} - _TAPS:
        raise OperationUnsupported(f"cannot change network interface type to '{wanted.type.value}'")
    for name, noun in _FIXED:
        old, new = getattr(known, name), getattr(wanted, name)
        if new is not None and old != new:
            raise OperationUnsupported(f"cannot modify network device {noun}")
    for name in _DRIVER:
        old, new = getattr(known.driver, name, None), getattr(wanted.driver, name, None)
        if new is not None and old != new:
            raise OperationUnsupported("cannot modify virtio network device driver options")
    if wanted.address is not None and known.address is not None and wanted.address != known.address:
        raise OperationUnsupported("cannot modify network device guest PCI address")
    if wanted.target is not None and wanted.target.dev is not None:
        dev = known.target.dev if known.target is not None else None
        if dev != wanted.target.dev:
            raise OperationUnsupported("cannot modify network device tap name")
    order = wanted.boot.order if wanted.boot is not None else None
    if order is not None and order != (known.boot.order if known.boot is not None else None):
        raise OperationUnsupported("cannot modify network device boot index setting")


_TAPS: Final = {InterfaceType.BRIDGE, InterfaceType.NETWORK, InterfaceType.ETHERNET}


async def change_interface(board: Board, known: Interface, wanted: Interface) -> None:
    """Makes an interface what the document says: its link, the bridge it is joined to, what is only written down.

    Raises OperationUnsupported for anything else, HostSystemError when the host refuses.
    """
    check_interface_change(known, wanted)
    if known.type is not wanted.type:
        raise OperationUnsupported(f"cannot change network interface type to '{wanted.type.value}'")
    if _source(known) != _source(wanted):
        await _move(known, wanted)
    if (known.link_state or "up") != (wanted.link_state or "up"):
        await board.talk.ask("set_link", {"name": known.alias, "up": wanted.link_state != "down"})
    known.link_state = wanted.link_state
    if known.bandwidth != wanted.bandwidth:
        name = known.target.dev if known.target is not None else None
        if name is not None:
            await shape(name, wanted.bandwidth or Bandwidth())
        known.bandwidth = wanted.bandwidth
    known.filterref = wanted.filterref
    known.trust_guest_rx_filters = wanted.trust_guest_rx_filters
    known.coalesce = wanted.coalesce


def _source(interface: Interface) -> Any:
    source = interface.source
    return source.bridge if isinstance(source, BridgeSource) else source


async def _move(known: Interface, wanted: Interface) -> None:
    old, new = known.source, wanted.source
    name = known.target.dev if known.target is not None else None
    if not isinstance(old, BridgeSource) or not isinstance(new, BridgeSource) or name is None:
        if wanted.source is None:
            return
        raise OperationUnsupported("cannot modify network device source")
    await asyncio.to_thread(move_tap, name, old.bridge, new.bridge)
    if known.port_isolated:
        await asyncio.to_thread(isolate_port, new.bridge, name)
    known.source = new
