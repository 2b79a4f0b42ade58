"""The names by which a running guest's devices are known, to the hypervisor and in its document."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

from conf.domain.address import DimmAddress, DriveAddress
from conf.domain.controller import Controller, ControllerType, PciModel, ScsiModel
from conf.domain.defaults import walk
from conf.domain.device import Device, is_user_alias
from conf.domain.disk import Disk, DiskBus
from conf.domain.disk_names import disk_index
from conf.domain.domain import Domain
from conf.domain.interface import Interface, InterfaceType
from conf.domain.memory_device import MemoryModel

D = TypeVar("D", bound=Device)


def assign_aliases(domain: Domain, *, builtin: Callable[[Controller], str | None] | None = None) -> None:
    """Names every device that has no name, as libvirt does when a guest starts.

    `builtin` may name a controller that the machine has by itself (`ide`, `pci.0`); None leaves it to the rule.
    """
    devices = domain.devices
    for disk in devices.disks:
        if disk.alias is None:
            disk.alias = disk_alias(domain, disk)
    for controller in devices.controllers:
        if controller.alias is None:
            named = builtin(controller) if builtin is not None else None
            controller.alias = named or controller_alias(controller)
    _number(devices.interfaces, lambda one: "hostdev" if _is_hostdev(one) else "net", shared=devices.hostdevs)
    _number(devices.hostdevs, lambda one: "hostdev", shared=devices.interfaces)
    _name(devices.filesystems, "fs")
    _name(devices.sounds, "sound")
    _name(devices.videos, "video")
    _name(devices.redirdevs, "redir")
    _name(devices.smartcards, "smartcard")
    _name(devices.serials, "serial")
    _name(devices.parallels, "parallel")
    _name(devices.channels, "channel")
    _name(devices.consoles, "console")
    _name(devices.inputs, "input")
    _name(devices.hubs, "hub")
    _name(devices.shmems, "shmem")
    _number(devices.rngs, lambda one: "rng")
    _name(devices.tpms, "tpm")
    for memory in devices.memories:
        if memory.alias is None and isinstance(memory.address, DimmAddress) and memory.address.slot is not None:
            memory.alias = f"{_MEMORY_PREFIXES[memory.model]}{memory.address.slot}"
    _number(devices.memories, lambda one: _MEMORY_PREFIXES[one.model])
    _number(devices.cryptos, lambda one: "crypto")
    for single, name in (
        (devices.watchdog, "watchdog0"),
        (
            devices.memballoon if devices.memballoon is not None and devices.memballoon.model != "none" else None,
            "balloon0",
        ),
        (devices.nvram, "nvram"),
        (devices.iommu, "iommu0"),
        (devices.vsock, "vsock0"),
    ):
        if single is not None and single.alias is None:
            single.alias = name


def clear_aliases(domain: Domain) -> None:
    """Forgets the names that the user did not choose."""
    for device in walk(domain):
        if isinstance(device, Device) and device.alias is not None and not is_user_alias(device.alias):
            device.alias = None


def _is_hostdev(device: Interface) -> bool:
    return device.type is InterfaceType.HOSTDEV


def _taken(devices: Iterable[Device], prefix: str) -> set[int]:
    numbers = set()
    for device in devices:
        alias = device.alias or ""
        tail = alias[len(prefix) :]
        if alias.startswith(prefix) and tail.isdecimal():
            numbers.add(int(tail))
    return numbers


def next_alias(devices: Iterable[Device], prefix: str) -> str:
    """The name after the highest that is taken, for a device that is plugged into a running guest."""
    return f"{prefix}{max(_taken(devices, prefix), default=-1) + 1}"


def _number(
    devices: Sequence[D],
    prefix: Callable[[D], str],
    *,
    shared: Iterable[Device] = (),
) -> None:
    """Names devices by kind and number; numbers of named ones are skipped by counting on from the highest."""
    for device in devices:
        if device.alias is None:
            device.alias = next_alias([*devices, *shared], prefix(device))


def _name(devices: Iterable[Device], prefix: str) -> None:
    """Names devices by kind and place."""
    for place, device in enumerate(devices):
        if device.alias is None:
            device.alias = f"{prefix}{place}"


def disk_alias(domain: Domain, disk: Disk) -> str:
    """The name of a disk: by its place on a controller, or by its name in the guest."""
    bus = disk.target.bus or DiskBus.VIRTIO
    address = disk.address
    if isinstance(address, DriveAddress):
        if bus is DiskBus.SCSI and not _is_lsilogic(domain, address.controller):
            return f"scsi{address.controller}-{address.bus}-{address.target}-{address.unit}"
        return f"{bus.value}{address.controller}-{address.bus}-{address.unit}"
    return f"{bus.value}-disk{disk_index(disk.target.dev) or 0}"


def _is_lsilogic(domain: Domain, index: int) -> bool:
    return any(
        one.type is ControllerType.SCSI and one.index == index and one.model == ScsiModel.LSILOGIC
        for one in domain.devices.controllers
    )


def controller_alias(controller: Controller) -> str:
    """The name of a controller that the machine does not have by itself."""
    if controller.type is ControllerType.PCI:
        if controller.model == PciModel.PCIE_ROOT:
            return f"pcie.{controller.index}"
        return f"pci.{controller.index}"
    if controller.type is ControllerType.USB and controller.index == 0:
        return "usb"
    return f"{controller.type.value}{controller.index}"


_MEMORY_PREFIXES = {
    MemoryModel.DIMM: "dimm",
    MemoryModel.NVDIMM: "nvdimm",
    MemoryModel.VIRTIO_PMEM: "virtiopmem",
    MemoryModel.VIRTIO_MEM: "virtiomem",
    MemoryModel.SGX_EPC: "epc",
}
