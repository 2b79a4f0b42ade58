"""Where QEMU's devices go: virtio-serial first, then the machine's own buses, PCI, USB, and memory slots."""

from __future__ import annotations

from collections.abc import Callable

from actors.qemu import rules_devices, rules_machine
from actors.qemu.capabilities.model import Capabilities
from conf.domain.address import CcwAddress, DimmAddress, PciAddress, SourcePciAddress, UsbAddress, VirtioMmioAddress
from conf.domain.addresses.chipset import i440fx, q35
from conf.domain.addresses.connect import Needs, has_pcie_root, pci_needs
from conf.domain.addresses.mainframe import assign_ccw, assign_spapr_vio, assign_zpci
from conf.domain.addresses.pci import PciOptions, assign_pci
from conf.domain.addresses.pci_buses import Connect
from conf.domain.addresses.usb import assign_usb, usb_devices
from conf.domain.addresses.virtio_serial import assign_virtio_serial
from conf.domain.chardev import Serial
from conf.domain.chardev_users import Rng, Tpm
from conf.domain.controller import Controller, ControllerType
from conf.domain.defaults import walk
from conf.domain.device import Device
from conf.domain.disk import Disk, DiskBus
from conf.domain.domain import Domain
from conf.domain.filesystem import Filesystem
from conf.domain.hostdev import Hostdev, HostdevType, PciHostSource
from conf.domain.interface import HostdevSource, Interface
from conf.domain.memory_device import MemoryModel
from conf.domain.small_devices import Crypto, Input, InputBus, MemBalloon, Nvram, Vsock
from conf.domain.video import Video, VideoType
from conf.flags import ParseFlags
from schema.errors import XmlError

HostAddress = SourcePciAddress | PciAddress
IommuGroup = Callable[[HostAddress], int | None]
"""Tells the IOMMU group of a device of the host."""
IsExpress = Callable[[HostAddress], bool]
"""Tells whether a device of the host is on PCI Express."""


def assign(
    domain: Domain, capabilities: Capabilities, flags: ParseFlags, iommu_group: IommuGroup, is_express: IsExpress
) -> None:
    """Gives every device its place.

    Raises XmlError when two devices want the same one, or one that is not there.
    """
    assign_virtio_serial(domain)
    for controller in domain.devices.controllers:
        # those that were added for disks and channels have not met the rules yet
        rules_devices.complete(controller, domain, capabilities)
    _assign_spapr(domain)
    if rules_machine.is_s390(domain):
        _prime(domain, CcwAddress)
        channel_devices: list[Device] = [*domain.devices.videos, *domain.devices.hostdevs]
        for device in channel_devices:
            if device.address is None and _is_channel_device(device):
                device.address = CcwAddress()
        assign_ccw(domain)
    elif _has_mmio(domain, capabilities):
        _prime(domain, VirtioMmioAddress)
    if _has_pci(domain, capabilities):
        chipset = None
        if rules_machine.is_i440fx(domain):
            chipset = i440fx
        elif rules_machine.is_q35(domain):
            chipset = q35
        assign_pci(
            domain,
            PciOptions(
                chipset=chipset,
                pcie_to_pci=capabilities.has("pcie-pci-bridge"),
                many_roots=rules_machine.is_pseries(domain),
                needs=_beside_builtin(
                    domain,
                    pci_needs(
                        domain,
                        modern_virtio=capabilities.has("virtio-pci-non-transitional"),
                        is_express=lambda device: _is_express(device, is_express),
                    ),
                ),
                groups=_isolation_groups(domain, iommu_group) if rules_machine.is_pseries(domain) else {},
            ),
        )
        for controller in domain.devices.controllers:
            rules_devices.complete(controller, domain, capabilities)
        if rules_machine.is_s390(domain) and capabilities.has("zpci"):
            assign_zpci(domain)
    else:
        _refuse_pci(domain, capabilities)
    if flags & ParseFlags.ABI_UPDATE:
        # a definition that was made before ports were given keeps what the guest has seen so far
        assign_usb(domain)
    elif all(isinstance(one.address, UsbAddress) and one.address.port for one in usb_devices(domain)):
        assign_usb(domain)
    _number_memory_slots(domain)


def _beside_builtin(domain: Domain, needs: Needs) -> Needs:
    """What a board has by itself needs no slot; that of a PC has one which is known."""
    if rules_machine.is_x86(domain) or not rules_machine.has_builtin_ide(domain):
        return needs
    return lambda device: (
        Connect.NONE if isinstance(device, Controller) and device.type is ControllerType.IDE else needs(device)
    )


def _refuse_pci(domain: Domain, capabilities: Capabilities) -> None:
    """A machine without PCI has no place for what goes there, unless it is one of those that never have it."""
    is_virt = rules_machine.is_arm_virt(domain) or rules_machine.is_riscv_virt(domain)
    may_have = (is_virt and capabilities.has("gpex-pcihost")) or rules_machine.machine_of(domain) == "versatilepb"
    if rules_machine.arch_of(domain) in (*rules_machine.ARM, *rules_machine.RISCV) and not may_have:
        return
    needs = pci_needs(domain)
    for device in walk(domain):
        if isinstance(device, Device) and device.address is None and needs(device):
            raise XmlError("No PCI buses available")


def _isolation_groups(domain: Domain, iommu_group: IommuGroup) -> dict[int, int]:
    """The groups of host devices; those that the host tells nothing of are not isolated."""
    groups: dict[int, int] = {}
    candidates: list[Hostdev | Interface] = [*domain.devices.hostdevs, *domain.devices.interfaces]
    for device in candidates:
        address = _host_address(device)
        group = iommu_group(address) if address is not None else None
        if group is not None:
            groups[id(device)] = group + 1
    return groups


def _host_address(device: Device) -> HostAddress | None:
    source = device.source if isinstance(device, Hostdev | Interface) else None
    address = source.address if isinstance(source, PciHostSource | HostdevSource) else None
    return address if isinstance(address, SourcePciAddress | PciAddress) else None


def _is_express(device: Device, is_express: IsExpress) -> bool:
    address = _host_address(device)
    return address is None or is_express(address)


def pci_options(domain: Domain, capabilities: Capabilities) -> PciOptions:
    """What the machine of a guest has for PCI devices."""
    chipset = None
    if rules_machine.is_i440fx(domain):
        chipset = i440fx
    elif rules_machine.is_q35(domain):
        chipset = q35
    return PciOptions(
        chipset=chipset,
        pcie_to_pci=capabilities.has("pcie-pci-bridge"),
        many_roots=rules_machine.is_pseries(domain),
    )


def _has_pci(domain: Domain, capabilities: Capabilities) -> bool:
    return any(one.type is ControllerType.PCI for one in domain.devices.controllers)


def _has_mmio(domain: Domain, capabilities: Capabilities) -> bool:
    if not capabilities.has("virtio-mmio") or has_pcie_root(domain):
        return False
    machine = rules_machine.machine_of(domain)
    is_vexpress = rules_machine.arch_of(domain) in rules_machine.ARM and machine.startswith("vexpress-")
    return is_vexpress or rules_machine.is_arm_virt(domain) or rules_machine.is_riscv_virt(domain)


def is_virtio(device: Device) -> bool:
    """Is the device a virtio one, which goes where the machine has virtio?"""
    match device:
        case Disk():
            return device.target.bus is DiskBus.VIRTIO
        case Interface():
            return device.model in ("virtio", "virtio-transitional", "virtio-non-transitional")
        case Input():
            return device.bus is InputBus.VIRTIO
        case Controller():
            return device.type is ControllerType.VIRTIO_SERIAL or (
                device.type is ControllerType.SCSI and (device.model or "").startswith("virtio")
            )
        case MemBalloon():
            return device.model.startswith("virtio")
        case Hostdev():
            return device.type is HostdevType.SCSI_HOST
        case Filesystem() | Rng() | Vsock() | Crypto():
            return True
        case _:
            return False


def _is_channel_device(device: Device) -> bool:
    """Do mainframes have the device on a channel, although it is no virtio device elsewhere?"""
    if isinstance(device, Video):
        return device.model.type is VideoType.VIRTIO
    return isinstance(device, Hostdev) and device.type is HostdevType.MDEV and device.model == "vfio-ccw"


def _prime(domain: Domain, kind: type[CcwAddress] | type[VirtioMmioAddress]) -> None:
    for device in walk(domain):
        if isinstance(device, Device) and device.address is None and is_virtio(device):
            device.address = kind()


def _assign_spapr(domain: Domain) -> None:
    for device in walk(domain):
        match device:
            case Interface() if device.model == "spapr-vlan":
                assign_spapr_vio(domain, device, 0x1000)
            case Controller() if device.type is ControllerType.SCSI and device.model == "ibmvscsi":
                assign_spapr_vio(domain, device, 0x2000)
            case Serial() if device.target is not None and device.target.type == "spapr-vio-serial":
                assign_spapr_vio(domain, device, 0x30000000)
            case Nvram():
                assign_spapr_vio(domain, device, 0x3000)
            case Tpm() if device.model == "tpm-spapr":
                assign_spapr_vio(domain, device, 0x4000)
            case _:
                pass


def _number_memory_slots(domain: Domain) -> None:
    modules = [one for one in domain.devices.memories if one.model in (MemoryModel.DIMM, MemoryModel.NVDIMM)]
    taken = {one.address.slot for one in modules if isinstance(one.address, DimmAddress)}
    slots = (number for number in range(len(modules) + len(taken)) if number not in taken)
    for module in modules:
        if module.address is None:
            module.address = DimmAddress(slot=next(slots))
        elif isinstance(module.address, DimmAddress) and module.address.slot is None:
            module.address.slot = next(slots)
