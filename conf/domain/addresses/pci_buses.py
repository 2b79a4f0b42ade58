"""The PCI buses of a guest while devices are being placed: which slots are taken, what may go where, what bus to add.

A bus is a controller that offers slots; buses grow when a device finds no place. The buses know nothing of devices
beyond what a device asks for (`Connect`).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntFlag
from typing import Final

from conf.domain.address import PciAddress
from conf.domain.controller import PciModel
from schema.errors import RefusedDocument, XmlError

FUNCTIONS = 8
LAST_SLOT = 31
MAX_BUSES = 256


class Connect(IntFlag):
    """What a device needs of a slot, and what a bus offers."""

    NONE = 0
    HOTPLUG = 1
    AGGREGATE = 2
    PCI_DEVICE = 4
    PCIE_DEVICE = 8
    PCIE_ROOT_PORT = 16
    UPSTREAM_PORT = 32
    DOWNSTREAM_PORT = 64
    DMI_TO_PCI_BRIDGE = 128
    PCI_EXPANDER_BUS = 256
    PCIE_EXPANDER_BUS = 512
    PCI_BRIDGE = 1024
    PCIE_TO_PCI_BRIDGE = 2048


TYPES = ~(Connect.HOTPLUG | Connect.AGGREGATE)

_OFFERS: dict[PciModel, tuple[Connect, int, int]] = {
    PciModel.PCI_ROOT: (
        Connect.HOTPLUG | Connect.PCI_DEVICE | Connect.PCI_BRIDGE | Connect.PCI_EXPANDER_BUS,
        1,
        LAST_SLOT,
    ),
    PciModel.PCI_BRIDGE: (Connect.HOTPLUG | Connect.PCI_DEVICE | Connect.PCI_BRIDGE, 1, LAST_SLOT),
    PciModel.PCI_EXPANDER_BUS: (Connect.HOTPLUG | Connect.PCI_DEVICE | Connect.PCI_BRIDGE, 0, LAST_SLOT),
    PciModel.PCIE_TO_PCI_BRIDGE: (Connect.HOTPLUG | Connect.PCI_DEVICE | Connect.PCI_BRIDGE, 1, LAST_SLOT),
    PciModel.PCIE_ROOT: (
        Connect.PCIE_DEVICE | Connect.PCIE_ROOT_PORT | Connect.DMI_TO_PCI_BRIDGE | Connect.PCIE_EXPANDER_BUS,
        1,
        LAST_SLOT,
    ),
    PciModel.DMI_TO_PCI_BRIDGE: (Connect.PCI_DEVICE | Connect.PCI_BRIDGE, 0, LAST_SLOT),
    PciModel.PCIE_ROOT_PORT: (
        Connect.HOTPLUG | Connect.PCIE_DEVICE | Connect.UPSTREAM_PORT | Connect.PCIE_TO_PCI_BRIDGE,
        0,
        0,
    ),
    PciModel.PCIE_SWITCH_DOWNSTREAM_PORT: (
        Connect.HOTPLUG | Connect.PCIE_DEVICE | Connect.UPSTREAM_PORT | Connect.PCIE_TO_PCI_BRIDGE,
        0,
        0,
    ),
    PciModel.PCIE_SWITCH_UPSTREAM_PORT: (Connect.DOWNSTREAM_PORT, 0, LAST_SLOT),
    PciModel.PCIE_EXPANDER_BUS: (Connect.PCIE_ROOT_PORT | Connect.DMI_TO_PCI_BRIDGE, 0, 0),
}

NEEDS: dict[PciModel, Connect] = {
    PciModel.PCI_ROOT: Connect.NONE,
    PciModel.PCIE_ROOT: Connect.NONE,
    PciModel.PCI_BRIDGE: Connect.PCI_BRIDGE,
    PciModel.PCI_EXPANDER_BUS: Connect.PCI_EXPANDER_BUS,
    PciModel.PCIE_EXPANDER_BUS: Connect.PCIE_EXPANDER_BUS,
    PciModel.DMI_TO_PCI_BRIDGE: Connect.DMI_TO_PCI_BRIDGE,
    PciModel.PCIE_TO_PCI_BRIDGE: Connect.PCIE_TO_PCI_BRIDGE,
    PciModel.PCIE_ROOT_PORT: Connect.PCIE_ROOT_PORT | Connect.AGGREGATE,
    PciModel.PCIE_SWITCH_UPSTREAM_PORT: Connect.UPSTREAM_PORT,
    PciModel.PCIE_SWITCH_DOWNSTREAM_PORT: Connect.DOWNSTREAM_PORT,
}
"""What a controller itself needs of the bus above it."""


_NAMES = {
    Connect.PCIE_ROOT_PORT: "pcie-root-port",
    Connect.UPSTREAM_PORT: "pcie-switch-upstream-port",
    Connect.DOWNSTREAM_PORT: "pcie-switch-downstream-port",
    Connect.DMI_TO_PCI_BRIDGE: "dmi-to-pci-bridge",
    Connect.PCI_EXPANDER_BUS: "pci-expander-bus",
    Connect.PCIE_EXPANDER_BUS: "pcie-expander-bus",
    Connect.PCI_BRIDGE: "pci-bridge",
    Connect.PCIE_TO_PCI_BRIDGE: "pcie-to-pci-bridge",
    Connect.PCIE_DEVICE: "pcie-device",
    Connect.PCI_DEVICE: "pci-device",
}


@dataclass(slots=True)
class PciBus:
    """One bus. `slots` maps a slot to the functions taken in it.

    A bus is for the devices of one isolation `group`: that of the first device on it, unless the group is `fixed`.
    """

    model: PciModel
    offers: Connect
    first: int
    last: int
    slots: dict[int, set[int]] = field(default_factory=dict)
    shared: set[int] = field(default_factory=set)
    group: int = 0
    fixed: bool = False

    @property
    def is_empty(self) -> bool:
        """Is no slot taken?"""
        return not any(self.slots.values())

    @property
    def is_full(self) -> bool:
        """Is every slot taken?"""
        return all(self.slots.get(slot) for slot in range(self.first, self.last + 1))


def new_bus(model: PciModel) -> PciBus:
    """An empty bus of a controller model."""
    return PciBus(model, *_OFFERS[model])


class PciBuses:
    """All buses of a guest, by number."""

    def __init__(
        self,
        buses: list[PciBus],
        *,
        pcie_to_pci: bool = True,
        many_roots: bool = False,
        can_grow: bool = True,
    ) -> None:
        """`can_grow` is off while the guest runs: then there are no buses but those it has."""
        self.buses = buses
        self.can_grow = can_grow
        self.pcie_to_pci = pcie_to_pci
        self.many_roots = many_roots

    def is_taken(self, address: PciAddress) -> bool:
        """Is that very function taken?"""
        return address.bus < len(self.buses) and address.function in self.buses[address.bus].slots.get(address.slot, ())

    def is_slot_taken(self, bus: int, slot: int) -> bool:
        """Is any function of the slot taken?"""
        return bus < len(self.buses) and bool(self.buses[bus].slots.get(slot))

    def reserve(self, address: PciAddress, needs: Connect, *, from_definition: bool = False, group: int = 0) -> None:
        """Takes a place.

        Raises XmlError when it does not exist, is taken, or does not fit; a definition may put a device where hotplug
        is impossible, or mix PCI and PCI Express.
        """
        if address.domain:
            raise XmlError(f"Invalid PCI address {address}. Only PCI domain 0 is available")
        if address.bus >= len(self.buses):
            if address.bus >= MAX_BUSES:
                raise XmlError(f"Invalid PCI address {address}. bus must be <= {MAX_BUSES - 1}")
            if not self.can_grow:
                last = len(self.buses) - 1
                raise XmlError(f"Invalid PCI address {address}. Only PCI buses up to {last} are available")
            while address.bus >= len(self.buses):
                self._grow(needs)
        bus = self.buses[address.bus]
        if not bus.first <= address.slot <= bus.last:
            which = ">=" if address.slot < bus.first else "<="
            raise XmlError(
                f"Invalid PCI address {address}. slot must be {which} "
                f"{bus.first if address.slot < bus.first else bus.last}"
            )
        if not _fits(bus, needs, from_definition=from_definition):
            wanted = next((name for kind, name in _NAMES.items() if needs & kind), "device of this kind")
            raise XmlError(
                f"The device at PCI address {address} cannot be plugged into the PCI controller with "
                f"index='{address.bus}'. It requires a controller that accepts a {wanted}."
            )
        taken = bus.slots.setdefault(address.slot, set())
        if address.function in taken:
            raise XmlError(f"Attempted double use of PCI Address {address}")
        if bus.is_empty and not bus.fixed:
            bus.group = group
        elif from_definition and bus.group != group and not bus.fixed:
            # who mixes groups on a bus gets no isolation there
            bus.group, bus.fixed = 0, True
        if not taken and needs & Connect.AGGREGATE:
            bus.shared.add(address.slot)
        elif taken and not needs & Connect.AGGREGATE:
            bus.shared.discard(address.slot)
        taken.add(address.function)

    def next_free(self, needs: Connect, function: int | None = None, group: int = 0) -> PciAddress:
        """The next place that fits, on a bus of the isolation group, on an empty bus, or on a new one; not taken yet.

        Raises XmlError when no bus can be added that would fit.
        """
        if not self.buses:
            raise XmlError("No PCI buses available")
        own = [(number, bus) for number, bus in enumerate(self.buses) if bus.group == group]
        others = [
            (number, bus)
            for number, bus in enumerate(self.buses)
            if bus.group != group and bus.is_empty and not bus.fixed
        ]
        for number, bus in (*own, *others):
            place = _free_on(bus, needs, function)
            if place is not None:
                return PciAddress(bus=number, slot=place[0], function=place[1])
        number = self._grow(needs)
        return PciAddress(bus=number, slot=self.buses[number].first, function=function or 0)

    def take_next(self, needs: Connect, function: int | None = None, group: int = 0) -> PciAddress:
        """Takes the next place that fits."""
        address = self.next_free(needs, function, group)
        self.reserve(address, needs, group=group)
        return address

    def _add(self, bus: PciBus) -> int:
        if len(self.buses) >= MAX_BUSES:
            raise RefusedDocument("No more available PCI slots")
        self.buses.append(bus)
        return len(self.buses) - 1

    def _grow(self, needs: Connect) -> int:
        """Adds a bus that offers what is needed; its number."""
        if not self.can_grow:
            raise RefusedDocument("No more available PCI slots")
        if needs & Connect.PCI_DEVICE:
            if self.many_roots:
                return self._add(new_bus(PciModel.PCI_ROOT))
            if any(bus.offers & Connect.PCI_BRIDGE for bus in self.buses):
                return self._add(new_bus(PciModel.PCI_BRIDGE))
            if self.pcie_to_pci:
                # this port is for the bridge alone: no other device may look upon it as a free one
                port = new_bus(PciModel.PCIE_ROOT_PORT)
                port.offers = Connect.PCIE_TO_PCI_BRIDGE
                self._add(port)
                return self._add(new_bus(PciModel.PCIE_TO_PCI_BRIDGE))
            self._add(new_bus(PciModel.DMI_TO_PCI_BRIDGE))
            return self._add(new_bus(PciModel.PCI_BRIDGE))
        if needs & Connect.PCI_BRIDGE and self.buses and self.buses[0].model is PciModel.PCIE_ROOT:
            return self._add(new_bus(PciModel.DMI_TO_PCI_BRIDGE))
        if needs & Connect.PCIE_TO_PCI_BRIDGE:
            raise RefusedDocument("Cannot automatically add a new PCI bus for a device with connect flags 2000")
        if needs & (Connect.PCIE_DEVICE | Connect.UPSTREAM_PORT):
            return self._add(new_bus(PciModel.PCIE_ROOT_PORT))
        wanted = next((name for kind, name in _NAMES.items() if needs & kind), "")
        raise RefusedDocument(
            f"a PCI slot is needed to connect a PCI controller model='{wanted}', but none is available, and it cannot "
            "be automatically added"
        )


_HOTPLUG: Final = int(Connect.HOTPLUG)
_EITHER: Final = int(Connect.PCI_DEVICE | Connect.PCIE_DEVICE)
_DOWNSTREAM_PORT: Final = int(Connect.DOWNSTREAM_PORT)
_TYPES: Final = int(TYPES)


def _fits(bus: PciBus, needs: Connect, *, from_definition: bool = False) -> bool:
    # asked thousands of times for a guest of many devices: plain numbers are ten times as quick as flags
    offers, wants = int(bus.offers), int(needs)
    if from_definition:
        offers |= _HOTPLUG
        if offers & _EITHER:
            offers |= _EITHER
        if wants & _DOWNSTREAM_PORT:
            return bool(offers & _DOWNSTREAM_PORT)
    if wants & _TYPES and not wants & offers & _TYPES:
        return False
    return not (wants & _HOTPLUG and not offers & _HOTPLUG)


def _free_on(bus: PciBus, needs: Connect, function: int | None) -> tuple[int, int] | None:
    if not _fits(bus, needs):
        return None
    for slot in range(bus.first, bus.last + 1):
        taken = bus.slots.get(slot)
        if not taken:
            return slot, function or 0
        if needs & Connect.AGGREGATE and slot in bus.shared:
            wanted = range(FUNCTIONS) if function is None else (function,)
            for number in wanted:
                if number not in taken:
                    return slot, number
    return None
