"""Places every PCI device of a guest: first where its definition or its chipset puts it, then in the next free slot.

Placing is done twice: once only to learn which controllers must be added, which then want places themselves.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from conf.domain.address import PciAddress
from conf.domain.addresses.connect import USB2_MODELS, Needs, has_pcie_root, pci_needs
from conf.domain.addresses.pci_buses import NEEDS, TYPES, Connect, PciBuses, new_bus
from conf.domain.controller import Controller, ControllerType, PciModel, PciTarget
from conf.domain.defaults import walk
from conf.domain.defaults_controller import ensure_controller, has_controller
from conf.domain.device import Device
from conf.domain.domain import Domain
from schema.errors import ConfigUnsupported, XmlError

Chipset = Callable[["Placing"], None]
"""Takes the places that a machine's chipset has for its own devices."""


@dataclass(frozen=True)
class PciOptions:
    """What a machine and its hypervisor can do.

    `needs` None means `pci_needs(domain)`. `spare_slot`: keep a slot free for a bridge on conventional PCI, and a root
    port on PCI Express. `wanted` says that a device without address is to get one here. `groups` are isolation groups
    of devices by `id()`: devices of different groups do not share a bus, and the first bus is for those without.
    """

    chipset: Chipset | None = None
    needs: Needs | None = None
    pcie_to_pci: bool = True
    many_roots: bool = False
    spare_slot: bool = True
    wanted: Callable[[Device], bool] = lambda device: True
    groups: Mapping[int, int] = field(default_factory=dict)


_TYPES: Final = int(TYPES)


class Placing:
    """One run over a guest's devices. A dry run takes places but tells no device."""

    def __init__(self, domain: Domain, buses: PciBuses, options: PciOptions, *, dry: bool) -> None:
        self.domain = domain
        self.buses = buses
        self.options = options
        self.dry = dry
        self.needs = options.needs or pci_needs(domain)
        self._placed: dict[int, PciAddress] = {}

    def is_wanted(self, device: Device) -> bool:
        """Is the device to get a place, and has none yet?"""
        if id(device) in self._placed or not int(self.needs(device)) & _TYPES:
            return False
        if isinstance(device.address, PciAddress):
            return device.address.is_empty
        return device.address is None and self.options.wanted(device)

    def place(self, device: Device, address: PciAddress | None = None, needs: Connect | None = None) -> None:
        """Puts a device at a place, or at the next that fits."""
        needs = self.needs(device) if needs is None else needs
        if address is None:
            address = self.buses.take_next(needs, group=self.options.groups.get(id(device), 0))
        else:
            self.buses.reserve(address, needs)
        self._placed[id(device)] = address
        if self.dry:
            return
        if isinstance(device.address, PciAddress):
            address.zpci = device.address.zpci
            if address.multifunction is None:
                address.multifunction = device.address.multifunction
        device.address = address

    def address_of(self, device: Device) -> PciAddress | None:
        """Where the device is, if it has a place."""
        placed = self._placed.get(id(device))
        if placed is not None:
            return placed
        known = device.address
        return known if isinstance(known, PciAddress) and not known.is_empty else None


def assign_pci(domain: Domain, options: PciOptions) -> None:
    """Gives all PCI devices their places, adding the controllers that takes.

    Raises XmlError when a place is taken twice, does not exist, or when no controller can be added.
    """
    controllers = [one for one in domain.devices.controllers if one.type is ControllerType.PCI]
    highest = max((one.index for one in controllers if one.index is not None), default=-1)
    if highest < 0:
        return
    buses = _buses_of(domain, options, highest + 1)
    placing = Placing(domain, buses, options, dry=True)
    _reserve_known(placing)
    _place_chipset(placing)
    all_full = all(bus.is_full for bus in buses.buses)
    pcie = has_pcie_root(domain)
    if options.spare_slot and not all_full and not pcie and not options.many_roots:
        buses.take_next(Connect.HOTPLUG | Connect.PCI_DEVICE)
    _place_devices(placing)
    if options.spare_slot and not all_full and highest <= 0 and len(buses.buses) > highest + 1 and pcie:
        buses.take_next(Connect.HOTPLUG | Connect.PCIE_DEVICE)
    number = 1
    while number < len(buses.buses):
        model = buses.buses[number].model
        if not has_controller(domain, ControllerType.PCI, number):
            ensure_controller(domain, ControllerType.PCI, number, model.value)
            if NEEDS[model]:
                buses.take_next(NEEDS[model])
        number += 1
    placing = Placing(domain, _buses_of(domain, options, len(buses.buses)), options, dry=False)
    _reserve_known(placing)
    _place_chipset(placing)
    _place_devices(placing)
    _complete_controllers(domain)
    _mark_multifunction(domain)


def place_plugged(domain: Domain, device: Device, options: PciOptions) -> None:
    """Gives a device that is plugged into a running guest its place; a device that names one is put there.

    The device is not among the guest's yet. Raises XmlError for a place that is taken or does not exist,
    RefusedDocument when no slot is free: a running guest gets no new bus.
    """
    controllers = [one for one in domain.devices.controllers if one.type is ControllerType.PCI]
    highest = max((one.index for one in controllers if one.index is not None), default=-1)
    buses = _buses_of(domain, options, highest + 1, can_grow=False)
    placing = Placing(domain, buses, options, dry=True)
    _reserve_known(placing)
    _place_chipset(placing)
    placing.dry = False
    needs = placing.needs(device)
    if isinstance(device.address, PciAddress) and not device.address.is_empty:
        buses.reserve(device.address, needs, from_definition=True)
    else:
        placing.place(device, needs=needs | Connect.HOTPLUG)


def _buses_of(domain: Domain, options: PciOptions, count: int, *, can_grow: bool = True) -> PciBuses:
    models: dict[int, Controller] = {
        one.index: one for one in domain.devices.controllers if one.type is ControllerType.PCI and one.index is not None
    }
    root = models.get(0)
    default = PciModel.PCI_BRIDGE
    if root is not None and root.model == PciModel.PCIE_ROOT:
        default = PciModel.PCIE_ROOT_PORT
    elif options.many_roots:
        default = PciModel.PCI_ROOT
    buses = []
    for number in range(count):
        controller = models.get(number)
        if controller is None or controller.model is None:
            buses.append(new_bus(PciModel.PCI_ROOT if number == 0 else default))
        else:
            buses.append(new_bus(PciModel(controller.model)))
    if options.many_roots and buses:
        buses[0].fixed = True
    return PciBuses(buses, pcie_to_pci=options.pcie_to_pci, many_roots=options.many_roots, can_grow=can_grow)


def _reserve_known(placing: Placing) -> None:
    for device in walk(placing.domain):
        if not isinstance(device, Device):
            continue
        address = device.address
        if not isinstance(address, PciAddress) or address.is_empty:
            continue
        if isinstance(device, Controller) and device.type is ControllerType.PCI and device.index == 0:
            continue
        # primary IDE and UHCI sit on functions of the south bridge, where the chipset's reservation expects them
        if _is_chipset_function(device, address):
            continue
        needs = placing.needs(device) or Connect.PCI_DEVICE | Connect.PCIE_DEVICE
        group = placing.options.groups.get(id(device), 0)
        placing.buses.reserve(address, needs, from_definition=True, group=group)


def _is_chipset_function(device: Device, address: PciAddress) -> bool:
    if not isinstance(device, Controller) or (address.bus, address.slot) != (0, 1) or device.index != 0:
        return False
    if device.type is ControllerType.IDE:
        return address.function == 1
    return device.type is ControllerType.USB and device.model in (None, "piix3-uhci") and address.function == 2


def _place_chipset(placing: Placing) -> None:
    if placing.options.chipset is not None:
        placing.options.chipset(placing)


def _place_devices(placing: Placing) -> None:
    domain = placing.domain
    devices = domain.devices
    for controller in devices.controllers:
        if controller.type is ControllerType.PCI and controller.index != 0 and placing.is_wanted(controller):
            placing.place(controller)
    _place_each(placing, devices.filesystems)
    _place_each(placing, [one for one in devices.interfaces if one.type != "hostdev"])
    _place_each(placing, devices.sounds)
    for controller in devices.controllers:
        if controller.type is ControllerType.PCI or not placing.is_wanted(controller):
            continue
        if controller.type is ControllerType.USB and controller.model in USB2_MODELS:
            _place_usb2(placing, controller)
        else:
            placing.place(controller)
    _place_each(placing, devices.disks)
    _place_each(placing, [one for one in devices.interfaces if one.type == "hostdev"])
    _place_each(placing, devices.hostdevs)
    _place_each(placing, [devices.memballoon])
    _place_each(placing, devices.rngs)
    _place_each(placing, [devices.watchdog])
    _place_each(placing, [devices.iommu])
    _place_each(placing, devices.videos)
    _place_each(placing, devices.shmems)
    _place_each(placing, devices.inputs)
    _place_each(placing, devices.serials)
    _place_each(placing, devices.panics)
    _place_each(placing, [devices.vsock])
    _place_each(placing, devices.memories)
    _place_each(placing, devices.cryptos)


def _place_each(placing: Placing, devices: Sequence[Device | None]) -> None:
    for device in devices:
        if device is not None and placing.is_wanted(device):
            placing.place(device)


_USB2_FUNCTIONS = {"ich9-uhci1": 0, "ich9-uhci2": 1, "ich9-uhci3": 2, "ich9-ehci1": 7}


def usb2_function(controller: Controller) -> int:
    """The function that a USB 2 controller or companion has in their common slot."""
    return _USB2_FUNCTIONS[controller.model or ""]


def _place_usb2(placing: Placing, controller: Controller) -> None:
    """A USB 2 controller and its companions share a slot."""
    function = usb2_function(controller)
    multifunction = True if function == 0 else None
    for other in placing.domain.devices.controllers:
        if other.type is ControllerType.USB and other.model in USB2_MODELS and other.index == controller.index:
            known = placing.address_of(other)
            if known is not None:
                address = PciAddress(
                    domain=known.domain, bus=known.bus, slot=known.slot, function=function, multifunction=multifunction
                )
                placing.place(controller, address)
                return
    address = placing.buses.next_free(placing.needs(controller), function)
    address.multifunction = multifunction
    placing.place(controller, address)


def _complete_controllers(domain: Domain) -> None:
    """Numbers chassis and ports, which the guest sees."""
    controllers = [one for one in domain.devices.controllers if one.type is ControllerType.PCI]
    for controller in controllers:
        address = controller.address
        number = controller.index or 0
        is_bridge = controller.model == PciModel.PCI_BRIDGE
        if is_bridge and isinstance(address, PciAddress) and address.bus >= number:
            raise ConfigUnsupported(
                f"PCI controller at index {number} (0x{number:02x}) has bus='0x{address.bus:02x}', but index must be "
                "larger than bus"
            )
        target = controller.target or PciTarget()
        if controller.model == PciModel.PCI_BRIDGE:
            target.chassis_nr = target.chassis_nr if target.chassis_nr is not None else controller.index
        elif controller.model in (PciModel.PCIE_ROOT_PORT, PciModel.PCIE_SWITCH_DOWNSTREAM_PORT):
            target.chassis = target.chassis if target.chassis is not None else controller.index
            if target.port is None and isinstance(address, PciAddress):
                is_port = controller.model == PciModel.PCIE_ROOT_PORT and address.bus == 0
                target.port = (address.slot << 3) + address.function if is_port else address.slot
        elif controller.model in (PciModel.PCI_EXPANDER_BUS, PciModel.PCIE_EXPANDER_BUS):
            if target.bus_nr is None:
                target.bus_nr = _free_bus_number(controllers)
        else:
            continue
        controller.target = target


def _free_bus_number(controllers: list[Controller]) -> int:
    """Expander buses count down from 254, two apart from one another, so that each has room for buses below it."""
    lowest = 256
    for controller in controllers:
        if controller.target is not None and controller.target.bus_nr is not None:
            lowest = min(lowest, controller.target.bus_nr)
    if lowest <= 4:
        raise XmlError("No free busNr lower than current lowest busNr is available")
    return lowest - 2


def _mark_multifunction(domain: Domain) -> None:
    """Function 0 says that its slot has others."""
    first: dict[tuple[int, int, int], PciAddress] = {}
    others: set[tuple[int, int, int]] = set()
    for device in walk(domain):
        address = device.address if isinstance(device, Device) else None
        if not isinstance(address, PciAddress) or address.is_empty:
            continue
        key = (address.domain, address.bus, address.slot)
        if address.function == 0:
            first[key] = address
        else:
            others.add(key)
    for key, address in first.items():
        if key in others and address.multifunction is None:
            address.multifunction = True
