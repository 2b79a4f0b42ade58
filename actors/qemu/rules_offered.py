"""Devices that an emulator was built without, in libvirt's words.

Only what QEMU calls by a device's name of its own is looked at: those names are what an emulator is asked for.
"""

from __future__ import annotations

from actors.qemu import rules_machine
from actors.qemu.capabilities.model import Capabilities
from conf.domain.address import PciAddress
from conf.domain.controller import ControllerType
from conf.domain.domain import Domain
from schema.errors import ConfigUnsupported

_OTHER_NAMES = {"i82801b11-bridge": "dmi-to-pci-bridge"}
"""PCI controllers that libvirt calls otherwise."""
_IOMMUS = {"intel": "intel-iommu", "virtio": "virtio-iommu-pci"}


def check(domain: Domain, capabilities: Capabilities) -> None:
    """Raises ConfigUnsupported for a device that the emulator does not have."""
    for controller in domain.devices.controllers:
        name = controller.model_name
        if controller.type is ControllerType.PCI and name is not None and not _has_bridge(capabilities, name):
            raise ConfigUnsupported(f"The '{name}' device is not supported by this QEMU binary")
    for shmem in domain.devices.shmems:
        if not capabilities.has(shmem.model or "ivshmem"):
            raise ConfigUnsupported(f"{shmem.model} device is not supported with this QEMU binary")
    iommu = domain.devices.iommu
    if iommu is not None and iommu.model in _IOMMUS and not capabilities.has(_IOMMUS[iommu.model]):
        raise ConfigUnsupported(f"IOMMU device: '{iommu.model}' is not supported with this QEMU binary")
    if not rules_machine.is_s390(domain) or capabilities.has("zpci"):
        return
    for device in domain.devices.all():
        if isinstance(device.address, PciAddress) and device.address.zpci is not None:
            raise ConfigUnsupported("This QEMU binary doesn't support zPCI")


def _has_bridge(capabilities: Capabilities, name: str) -> bool:
    return capabilities.has(name) or capabilities.has(_OTHER_NAMES.get(name, name))
