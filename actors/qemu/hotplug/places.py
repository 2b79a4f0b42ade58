"""Alias and place of a device that is plugged into a running guest."""

from __future__ import annotations

from typing import Final

from actors.qemu import rules_machine
from actors.qemu.hotplug.lists import insert, remove, siblings
from actors.qemu.rules import QemuRules
from actors.qemu.rules_addresses import is_virtio, pci_options
from conf.domain.address import CcwAddress, DimmAddress, PciAddress
from conf.domain.addresses.connect import pci_needs
from conf.domain.addresses.mainframe import assign_ccw
from conf.domain.addresses.pci import place_plugged
from conf.domain.addresses.pci_buses import Connect
from conf.domain.addresses.usb import assign_usb, usb_devices
from conf.domain.addresses.virtio_serial import assign_virtio_serial
from conf.domain.aliases import controller_alias, disk_alias, next_alias
from conf.domain.chardev import Channel, Console, Parallel, Serial
from conf.domain.chardev_users import RedirDev, Rng
from conf.domain.controller import Controller, ControllerType
from conf.domain.device import Device, is_user_alias
from conf.domain.disk import Disk
from conf.domain.domain import Domain
from conf.domain.filesystem import Filesystem
from conf.domain.hostdev import Hostdev
from conf.domain.interface import Interface, InterfaceType
from conf.domain.memory_device import MemoryDevice, MemoryModel
from conf.domain.shmem import Shmem
from conf.domain.small_devices import Input, Vsock, Watchdog
from schema.errors import RefusedDocument, XmlError

_PREFIXES: Final[dict[type[Device], str]] = {
    Filesystem: "fs",
    RedirDev: "redir",
    Rng: "rng",
    Shmem: "shmem",
    Input: "input",
    Serial: "serial",
    Parallel: "parallel",
    Channel: "channel",
    Console: "console",
}
_MEMORIES: Final = {
    MemoryModel.DIMM: "dimm",
    MemoryModel.NVDIMM: "nvdimm",
    MemoryModel.VIRTIO_PMEM: "virtiopmem",
    MemoryModel.VIRTIO_MEM: "virtiomem",
    MemoryModel.SGX_EPC: "epc",
}


def check_alias(domain: Domain, device: Device) -> None:
    """Takes out a name that the user did not choose. Raises XmlError when the chosen one is taken."""
    if device.alias is None:
        return
    if not is_user_alias(device.alias):
        device.alias = None
    elif any(one.alias == device.alias for one in domain.devices.all()):
        raise XmlError(f"non unique alias detected: {device.alias}")


def settle(domain: Domain, device: Device, rules: QemuRules) -> None:
    """Puts the device among the guest's, with a place and a name.

    Raises XmlError and RefusedDocument when there is no such place or none is left.
    """
    _place_before(domain, device, rules)
    if isinstance(device, MemoryDevice):
        _give_slot(domain, device)
    if isinstance(device, Channel) and device.target is not None and device.target.type == "virtio":
        _check_serial_bus(domain)
    insert(domain, device)
    try:
        _place_among(domain, device)
    except BaseException:
        remove(domain, device)
        raise
    if device.alias is None:
        device.alias = new_alias(domain, device)


def _place_among(domain: Domain, device: Device) -> None:
    """Places that are found with the device among the others."""
    if isinstance(device.address, CcwAddress):
        assign_ccw(domain)
    elif isinstance(device, Channel):
        assign_virtio_serial(domain)
    elif any(one is device for one in usb_devices(domain)):
        _take_port(domain, len(domain.devices.hubs))


def _take_port(domain: Domain, hubs: int) -> None:
    try:
        assign_usb(domain)
    except XmlError as exc:
        if "No free USB ports" not in exc.message:
            raise
        raise RefusedDocument("No free USB ports") from exc
    if len(domain.devices.hubs) > hubs:
        # a running guest gets no hub
        domain.devices.hubs = domain.devices.hubs[:hubs]
        raise RefusedDocument("No free USB ports")


def _place_before(domain: Domain, device: Device, rules: QemuRules) -> None:
    """Places that are found while the device is not among the others yet."""
    if rules_machine.is_s390(domain) and is_virtio(device):
        if device.address is None:
            device.address = CcwAddress()
        if not isinstance(device.address, PciAddress):
            return
    has_pci = any(one.type is ControllerType.PCI for one in domain.devices.controllers)
    needs = pci_needs(domain)(device) & ~(Connect.HOTPLUG | Connect.AGGREGATE)
    if has_pci and needs and (device.address is None or isinstance(device.address, PciAddress)):
        place_plugged(domain, device, pci_options(domain, rules.capabilities))


def _give_slot(domain: Domain, device: MemoryDevice) -> None:
    if device.model not in (MemoryModel.DIMM, MemoryModel.NVDIMM):
        return
    address = device.address if isinstance(device.address, DimmAddress) else DimmAddress()
    taken = {one.address.slot for one in domain.devices.memories if isinstance(one.address, DimmAddress)}
    count = (domain.max_memory.slots if domain.max_memory is not None else 0) or 0
    if address.slot is None:
        free = [slot for slot in range(count) if slot not in taken]
        if not free:
            raise RefusedDocument("no free memory device slot available")
        address.slot = free[0]
    elif address.slot in taken:
        raise XmlError(f"memory device slot '{address.slot}' is already being used by another memory device")
    elif address.slot >= count:
        raise XmlError(f"memory device slot '{address.slot}' exceeds slots count '{count}'")
    device.address = address


def _check_serial_bus(domain: Domain) -> None:
    if not any(one.type is ControllerType.VIRTIO_SERIAL for one in domain.devices.controllers):
        raise RefusedDocument("no virtio-serial controllers are available")


def new_alias(domain: Domain, device: Device) -> str:
    """The name of a device that has its place among the others already."""
    match device:
        case Disk():
            return disk_alias(domain, device)
        case Controller():
            return controller_alias(device)
        case Interface() if device.type is not InterfaceType.HOSTDEV:
            return next_alias([*domain.devices.interfaces, *domain.devices.hostdevs], "net")
        case Interface() | Hostdev():
            return next_alias([*domain.devices.hostdevs, *domain.devices.interfaces], "hostdev")
        case MemoryDevice():
            prefix = _MEMORIES[device.model]
            if isinstance(device.address, DimmAddress):
                return f"{prefix}{device.address.slot}"
            return next_alias(domain.devices.memories, prefix)
        case Watchdog():
            return "watchdog0"
        case Vsock():
            return "vsock0"
        case Console():
            # the console that stands for the first serial port counts too
            serials = [*domain.devices.consoles, *domain.devices.serials[:1]]
            serial = next_alias(serials, "serial").removeprefix("serial")
            console = next_alias(domain.devices.consoles, "console").removeprefix("console")
            return f"console{max(int(serial), int(console))}"
        case _:
            return next_alias(siblings(domain, device), _PREFIXES[type(device)])
