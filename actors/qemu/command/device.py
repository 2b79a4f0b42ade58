"""What all `-device` options share: where a device sits, how virtio devices are named and tuned."""

from __future__ import annotations

from typing import Protocol

from actors.qemu.command.launch import Launch, alias_of, is_pseries
from actors.qemu.command.line import CommandLine, Properties
from conf.domain.address import (
    CcidAddress,
    CcwAddress,
    IsaAddress,
    PciAddress,
    SpaprVioAddress,
    UsbAddress,
    VirtioMmioAddress,
)
from conf.domain.controller import ControllerType, PciModel
from conf.domain.device import Device
from schema.errors import ConfigUnsupported, InternalError

TRANSITIONAL = "virtio-transitional"
NON_TRANSITIONAL = "virtio-non-transitional"


class VirtioOptions(Protocol):
    """The part of a `<driver>` that every virtio device may have."""

    iommu: bool | None
    ats: bool | None
    packed: bool | None
    page_per_vq: bool | None


def address_properties(launch: Launch, device: Device) -> Properties:
    """Where the device sits, and what only PCI devices have. Raises ConfigUnsupported for an unknown bus."""
    address = device.address
    found: Properties = {}
    if isinstance(address, PciAddress):
        if address.domain:
            raise ConfigUnsupported("Only PCI device addresses with domain=0 are supported")
        found["bus"] = _pci_bus(launch, address)
        if address.multifunction is not None:
            found["multifunction"] = address.multifunction
        function = f".{address.function:#x}" if address.function else ""
        found["addr"] = f"{address.slot:#x}{function}"
        found["acpi-index"] = device.acpi_index or None
    elif isinstance(address, UsbAddress):
        found["bus"] = f"{launch.controller_alias(ControllerType.USB, address.bus)}.0"
        if address.port:
            found["port"] = address.port
    elif isinstance(address, SpaprVioAddress):
        found["reg"] = address.reg
    elif isinstance(address, CcwAddress):
        if address.cssid is not None and address.ssid is not None and address.devno is not None:
            found["devno"] = f"{address.cssid:x}.{address.ssid:x}.{address.devno:04x}"
    elif isinstance(address, IsaAddress):
        found["iobase"] = address.iobase or 0
        found["irq"] = address.irq or None
    elif isinstance(address, CcidAddress):
        found["bus"] = f"{launch.controller_alias(ControllerType.CCID, address.controller)}.0"
    return {key: value for key, value in found.items() if value is not None}


def _pci_bus(launch: Launch, address: PciAddress) -> str:
    alias = launch.controller_alias(ControllerType.PCI, address.bus)
    # further host bridges of POWER are devices, whose bus is named after them
    is_further = is_pseries(launch.arch, launch.machine) and address.bus != 0
    controller = launch.find_controller(ControllerType.PCI, address.bus)
    if is_further and controller is not None and controller.model == PciModel.PCI_ROOT:
        return f"{alias}.0"
    return alias


def rom_properties(device: Device) -> Properties:
    """The option ROM of a PCI device."""
    rom = device.rom
    if rom is None:
        return {}
    if rom.enabled is False:
        return {"romfile": ""}
    found: Properties = {}
    if rom.bar is not None:
        found["rombar"] = int(rom.bar)
    if rom.file is not None:
        found["romfile"] = rom.file
    return found


def virtio_driver(launch: Launch, base: str, device: Device, model: str | None = None) -> str:
    """The driver's name for the device's bus, in the wanted flavour: `virtio-blk` → `virtio-blk-pci`.

    Raises InternalError where there is no such bus.
    """
    address = device.address
    if isinstance(address, CcwAddress):
        suffix = "-ccw"
    elif isinstance(address, VirtioMmioAddress):
        suffix = "-device"
    elif isinstance(address, PciAddress):
        suffix = "-pci"
    elif address is None:
        raise InternalError("Unexpected enum value 0 for virDomainDeviceAddressType")
    else:
        raise InternalError(f"Unexpected address type for '{base}'")
    name = base + suffix
    if model in (TRANSITIONAL, NON_TRANSITIONAL):
        if not isinstance(address, PciAddress):
            raise ConfigUnsupported("virtio (non-)transitional models are not supported for this address type")
        return name + ("-transitional" if model == TRANSITIONAL else "-non-transitional")
    return name


def virtio_properties(driver: VirtioOptions | None) -> Properties:
    """The options of any virtio device."""
    if driver is None:
        return {}
    found = {
        "iommu_platform": driver.iommu,
        "ats": driver.ats,
        "packed": driver.packed,
        "page-per-vq": driver.page_per_vq,
    }
    return {key: value for key, value in found.items() if value is not None}


def add_device(launch: Launch, line: CommandLine, device: Device, properties: Properties) -> None:
    """Appends a device; on a mainframe a PCI device has a companion that gives it its numbers."""
    address = device.address
    if isinstance(address, PciAddress) and address.zpci is not None and address.zpci.uid is not None:
        numbers = address.zpci
        companion = {
            "uid": numbers.uid,
            "fid": numbers.fid or 0,
            "target": alias_of(device),
            "id": f"zpci{numbers.uid}",
        }
        line.add_json("-device", {"driver": "zpci", **companion})
    line.add_json("-device", properties)


def simple_device(launch: Launch, driver: str, device: Device, **more: object) -> Properties:
    """A device with nothing but an alias and a place."""
    return {"driver": driver, **more, "id": alias_of(device), **address_properties(launch, device)}
