"""What each device needs of a PCI slot, on machines like QEMU's."""

from __future__ import annotations

from collections.abc import Callable

from conf.domain.addresses.pci_buses import NEEDS, Connect
from conf.domain.chardev import Serial
from conf.domain.chardev_users import Rng
from conf.domain.controller import Controller, ControllerType, PciModel
from conf.domain.device import Device
from conf.domain.disk import Disk, DiskBus
from conf.domain.domain import Domain
from conf.domain.filesystem import Filesystem
from conf.domain.hostdev import Hostdev, HostdevType
from conf.domain.interface import Interface, InterfaceType
from conf.domain.memory_device import MemoryDevice, MemoryModel
from conf.domain.shmem import Shmem
from conf.domain.small_devices import Crypto, Input, InputBus, Iommu, MemBalloon, Vsock, Watchdog
from conf.domain.sound import Sound, SoundModel
from conf.domain.video import Video, VideoType

Needs = Callable[[Device], Connect]
"""What a device needs; NONE: it is not on PCI."""

USB2_MODELS = ("ich9-ehci1", "ich9-uhci1", "ich9-uhci2", "ich9-uhci3")
XHCI_MODELS = ("nec-xhci", "qemu-xhci")


_CONVENTIONAL = (
    *("netfront", "rtl8139", "e1000", "virtio-transitional", "lan9118", "scm91c111", "vlance", "vmxnet", "vmxnet2"),
    *("vmxnet3", "Am79C970A", "Am79C973", "82540EM", "82545EM", "82543GC"),
)
"""Models of interfaces that are known to be no PCI Express devices; None is the oldest."""


def has_pcie_root(domain: Domain) -> bool:
    """Is the guest's root bus PCI Express?"""
    return any(
        one.type is ControllerType.PCI and one.index == 0 and one.model == PciModel.PCIE_ROOT
        for one in domain.devices.controllers
    )


def pci_needs(
    domain: Domain, *, modern_virtio: bool = True, is_express: Callable[[Device], bool] = lambda device: True
) -> Needs:
    """The needs of devices in this guest: without a PCI Express root, everything is conventional.

    Virtio devices go on PCI Express only where the hypervisor has modern ones, devices of the host where they are such
    themselves.
    """
    pci = Connect.PCI_DEVICE | Connect.HOTPLUG
    pcie = Connect.PCIE_DEVICE | Connect.HOTPLUG if has_pcie_root(domain) else pci
    plain = pcie if modern_virtio else pci

    def virtio(model: object) -> Connect:
        if model is None or str(model) in ("virtio", "virtio-scsi"):
            return plain
        return pci if str(model) == "virtio-transitional" else pcie

    def needs(device: Device) -> Connect:
        match device:
            case Disk():
                return virtio(device.model) if device.target.bus is DiskBus.VIRTIO else Connect.NONE
            case Controller():
                return _controller_needs(device, pci, pcie, virtio)
            case Filesystem() | Rng() | MemBalloon() | Vsock():
                return Connect.NONE if device.model == "none" else virtio(device.model)
            case Interface() if device.type is InterfaceType.HOSTDEV:
                return pcie if is_express(device) else pci
            case Interface():
                return _interface_needs(device, pci, pcie, plain)
            case Sound():
                on_isa = device.model in (SoundModel.SB16, SoundModel.PCSPK, SoundModel.USB)
                return Connect.NONE if on_isa else pci
            case Hostdev():
                if device.type is HostdevType.SCSI_HOST:
                    return virtio(device.model)
                if device.type is HostdevType.PCI or (device.type is HostdevType.MDEV and device.model == "vfio-pci"):
                    return pcie if is_express(device) else pci
                return Connect.NONE
            case Video():
                return _video_needs(device, pci, pcie, plain)
            case Input():
                return virtio(device.model) if device.bus is InputBus.VIRTIO else Connect.NONE
            case Watchdog():
                return pci if device.model == "i6300esb" else Connect.NONE
            case Shmem():
                return pci
            case Serial():
                return pci if device.target is not None and device.target.type == "pci-serial" else Connect.NONE
            case MemoryDevice():
                is_virtio = device.model in (MemoryModel.VIRTIO_PMEM, MemoryModel.VIRTIO_MEM)
                return plain & ~Connect.HOTPLUG if is_virtio else Connect.NONE
            case Crypto():
                return plain
            case Iommu():
                return pcie & ~Connect.HOTPLUG if device.model == "virtio" else Connect.NONE
            case _:
                return Connect.NONE

    return needs


def _controller_needs(device: Controller, pci: Connect, pcie: Connect, virtio: Callable[[object], Connect]) -> Connect:
    if device.type is ControllerType.PCI:
        return NEEDS[PciModel(device.model)] if device.model is not None else Connect.NONE
    if device.type is ControllerType.USB:
        if device.model == "none":
            return Connect.NONE
        return pcie if device.model in XHCI_MODELS else pci
    if device.type is ControllerType.SATA:
        return pci
    if device.type is ControllerType.SCSI:
        if device.model in ("virtio-scsi", "virtio-transitional", "virtio-non-transitional"):
            return virtio(device.model)
        return Connect.NONE if device.model in ("ibmvscsi", "ncr53c90") else pci
    if device.type is ControllerType.VIRTIO_SERIAL:
        return virtio(device.model)
    if device.type is ControllerType.IDE:
        return pci
    return Connect.NONE


def _interface_needs(device: Interface, pci: Connect, pcie: Connect, virtio: Connect) -> Connect:
    if device.model == "virtio":
        return virtio
    if device.model == "virtio-non-transitional":
        return pcie
    if device.model in ("usb-net", "spapr-vlan"):
        return Connect.NONE
    return pci if device.model in _CONVENTIONAL else pcie


def _video_needs(device: Video, pci: Connect, pcie: Connect, virtio: Connect) -> Connect:
    if device.model.type in (VideoType.NONE, VideoType.RAMFB):
        return Connect.NONE
    if device.model.type is VideoType.VIRTIO:
        return virtio
    return pcie if device.model.type is VideoType.BOCHS else pci
