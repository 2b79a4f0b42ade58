"""Whether a definition has room for one more device, or can bear another in the place of one, in libvirt's words."""

from __future__ import annotations

from conf.domain.address import DriveAddress, UsbAddress
from conf.domain.addresses.usb import usb_devices
from conf.domain.controller import ControllerType
from conf.domain.device import Device
from conf.domain.disk import Disk
from conf.domain.domain import Domain
from conf.domain.memory_device import MemoryDevice
from conf.element import Element
from schema.errors import ConfigUnsupported, XmlError


def check_fits(domain: Domain, device: Element, *, instead: Element | None = None) -> None:
    """Raises ConfigUnsupported and XmlError when the guest cannot have the device; `instead` is what it replaces."""
    if not isinstance(device, Device):
        return
    _check_boot(domain, device, instead)
    _check_usb(domain, device)
    if isinstance(device, MemoryDevice) and instead is None:
        _check_memory(domain, device)


def _check_boot(domain: Domain, device: Device, instead: Element | None) -> None:
    order = device.boot.order if device.boot is not None else None
    if not order:
        return
    if domain.os.boots:
        raise ConfigUnsupported("per-device boot elements cannot be used together with os/boot elements")
    for other in domain.devices.all():
        if other is not instead and other is not device and other.boot is not None and other.boot.order == order:
            raise XmlError(f"boot order {order} is already used by another device")


def _check_usb(domain: Domain, device: Device) -> None:
    probe = Domain.__new__(Domain)
    probe.__dict__.update(domain.__dict__)
    is_usb = isinstance(device.address, UsbAddress)
    if not is_usb:
        probe.devices = type(domain.devices)()
        is_usb = _is_usb_device(probe, device)
    has_usb = any(one.type is ControllerType.USB and one.model != "none" for one in domain.devices.controllers)
    if is_usb and not has_usb:
        raise ConfigUnsupported("Device configuration is not compatible: Domain has no USB bus support")


def _is_usb_device(probe: Domain, device: Device) -> bool:
    from actors.qemu.hotplug.lists import insert

    insert(probe, device)
    return any(one is device for one in usb_devices(probe))


def _check_memory(domain: Domain, module: MemoryDevice) -> None:
    if domain.max_memory is None:
        raise ConfigUnsupported("cannot use/hotplug a memory device when domain 'maxMemory' is not defined")
    total = domain.memory.kib + module.target.size_kib
    if total > domain.max_memory.kib:
        raise ConfigUnsupported(
            f"Attaching memory device with size '{module.target.size_kib}' would exceed domain's maxMemory config "
            f"size '{domain.max_memory.kib}'"
        )
    count, slots = len(domain.devices.memories) + 1, domain.max_memory.slots or 0
    if count > slots:
        raise ConfigUnsupported(f"memory device count '{count}' exceeds slots count '{slots}'")


def check_disk_apart(domain: Domain, disk: Disk) -> None:
    """Raises XmlError when another disk of the guest has the name or the place of this one."""
    for other in domain.devices.disks:
        if other.target.dev == disk.target.dev:
            raise XmlError(
                f"target '{disk.target.dev}' duplicated for disk sources '{_path(other)}' and '{_path(disk)}'"
            )
        address = disk.address
        if isinstance(address, DriveAddress) and other.address == address and other.target.bus is disk.target.bus:
            raise XmlError(
                f"Found duplicate drive address for disk with target name '{disk.target.dev}' "
                f"controller='{address.controller}' bus='{address.bus}' target='{address.target}' "
                f"unit='{address.unit}'"
            )


def _path(disk: Disk) -> str:
    for name in ("file", "dev", "dir", "name"):
        path = getattr(disk.source, name, None)
        if path:
            return str(path)
    return "(null)"
