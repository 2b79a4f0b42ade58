"""Devices that no hypervisor can provide, in libvirt's words."""

from __future__ import annotations

import re

from conf.domain.address import CcwAddress, DriveAddress, PciAddress, UnassignedAddress, UsbAddress
from conf.domain.chardev_users import Tpm
from conf.domain.controller import Controller, ControllerType, PciModel
from conf.domain.device import Device
from conf.domain.disk import Disk, DiskBus, DiskDevice, IoTune
from conf.domain.domain import Domain
from conf.domain.filesystem import Filesystem, FilesystemType
from conf.domain.graphics import Graphics
from conf.domain.hostdev import Hostdev, HostdevType, MdevSource
from conf.domain.interface import Interface, InterfaceType
from conf.domain.memory_device import MemoryDevice
from conf.domain.rules import DomainRules
from conf.domain.secrets import Auth, Encryption
from conf.domain.shmem import Shmem
from conf.domain.sound import Audio
from conf.domain.storage_source import NetworkSource, Protocol, SourceType
from conf.domain.video import Video
from schema.enums.error import ErrorCode, ErrorDomain
from schema.errors import ConfigUnsupported, RefusedDocument, VirtError, XmlDetailError, XmlError

_USB_PORT = re.compile(r"\d+(\.\d+){0,3}\Z").match


def check(device: Device | Graphics | Audio, domain: Domain, rules: DomainRules) -> None:
    """Refuses a device that contradicts itself."""
    if isinstance(device, Device):
        _check_address(device)
    if isinstance(device, Disk):
        _check_disk(device, rules)
    elif isinstance(device, Hostdev):
        _check_hostdev(device)
    elif isinstance(device, Controller):
        _check_controller(device)
    elif isinstance(device, Video):
        _check_video(device)
    elif isinstance(device, Interface):
        _check_interface(device)
    elif isinstance(device, Filesystem):
        _check_filesystem(device)
    elif isinstance(device, Tpm):
        if device.backend.active_pcr_banks is not None and device.backend.version != "2.0":
            raise XmlError("<active_pcr_banks/> requires TPM version '2.0'")
    elif isinstance(device, MemoryDevice):
        if device.target.node is not None and not (domain.cpu and domain.cpu.numa and domain.cpu.numa.cells):
            raise XmlDetailError(
                "can't add memory backend as guest has no NUMA nodes configured", domain=ErrorDomain.DOMAIN
            )
    elif isinstance(device, Shmem) and device.msi is not None and device.server is None:
        raise XmlError("msi option is only supported with a server")


def check_all(domain: Domain, rules: DomainRules) -> None:
    """Refuses devices that cannot be together."""
    _check_targets(domain)
    _check_drive_addresses(domain)
    _check_hostdevs(domain)


_NEED_SOURCE = (InterfaceType.BRIDGE, InterfaceType.NETWORK, InterfaceType.INTERNAL, InterfaceType.VDPA)


def _check_interface(device: Interface) -> None:
    if device.mac is not None and int(device.mac.address[:2], 16) & 1:
        raise XmlError(f"expected unicast mac address, found multicast '{device.mac.address}'")
    if device.source is None and device.type in _NEED_SOURCE:
        raise XmlError(f"interface type='{device.type.value}' requires a 'source' element")


def _check_filesystem(device: Filesystem) -> None:
    if device.source is None and device.type is not FilesystemType.RAM:
        raise VirtError(device.target_dir or "", code=ErrorCode.NO_SOURCE)
    if device.target_dir is None:
        raise VirtError(getattr(device.source, "dir", None) or "", code=ErrorCode.NO_TARGET)


def _check_video(device: Video) -> None:
    acceleration = device.model.acceleration
    is_vhost = device.driver is not None and device.driver.name == "vhostuser"
    if acceleration is not None and acceleration.rendernode is not None and not is_vhost:
        raise ConfigUnsupported("unsupported rendernode accel attribute without 'vhostuser'")


def _check_address(device: Device) -> None:
    address = device.address
    if isinstance(address, PciAddress):
        address.check()
    elif isinstance(address, UsbAddress) and address.port is not None and _USB_PORT(address.port) is None:
        raise RefusedDocument("Cannot parse <address> 'port' attribute")
    boot = device.boot
    if boot is not None and boot.loadparm is not None and not 1 <= len(boot.loadparm) <= 8:
        raise RefusedDocument(f"loadparm value '{boot.loadparm}' must be between 1 and 8 characters")


_DRIVES = (DiskBus.IDE, DiskBus.FDC, DiskBus.SCSI, DiskBus.SATA)


def _check_disk(disk: Disk, rules: DomainRules) -> None:
    bus, address = disk.target.bus, disk.address
    if isinstance(address, UnassignedAddress):
        raise ConfigUnsupported("address of type 'unassigned' is supported only for hostdevs")
    if address is not None and bus is not None:
        fits = isinstance(address, DriveAddress) if bus in _DRIVES else not isinstance(address, DriveAddress)
        if not fits:
            raise ConfigUnsupported(
                f"Invalid address type '{address.fixed['type']}' for the disk '{disk.target.dev}' "
                f"with the bus type '{bus.value}'"
            )
    source = disk.source
    if source is None and disk.device in (DiskDevice.DISK, DiskDevice.LUN):
        raise VirtError(disk.target.dev, code=ErrorCode.NO_SOURCE)
    if disk.sgio == "unfiltered":
        raise ConfigUnsupported("unfiltered sgio is no longer supported")
    if disk.target.removable is not None and bus is not DiskBus.USB:
        raise XmlError("removable is only valid for usb disks")
    if disk.device is DiskDevice.LUN:
        is_iscsi = isinstance(source, NetworkSource) and source.protocol is Protocol.ISCSI
        if disk.type not in (SourceType.BLOCK, SourceType.VOLUME) and not is_iscsi:
            raise ConfigUnsupported("disk device='lun' is only valid for block type disk source")
    if isinstance(source, NetworkSource):
        _check_auth(source.auth or disk.auth, source)
    if not rules.passes_disk_fds and getattr(source, "fdgroup", None) is not None:
        raise ConfigUnsupported(f"driver does not support FD passing for disk '{disk.target.dev}'")
    if disk.iotune is not None:
        _check_iotune(disk.iotune)
    _check_encryption(disk.encryption)
    _check_encryption(getattr(source, "encryption", None))


def _check_iotune(tune: IoTune) -> None:
    for what in ("bytes_sec", "iops_sec", "bytes_sec_max", "iops_sec_max"):
        parts = (getattr(tune, f"read_{what}"), getattr(tune, f"write_{what}"))
        if getattr(tune, f"total_{what}") and any(parts):
            raise XmlError(f"total and read/write {what} cannot be set at the same time")


_SECRET_TYPES = {Protocol.ISCSI: "iscsi", Protocol.RBD: "ceph"}


def _check_auth(auth: Auth | None, source: NetworkSource) -> None:
    if auth is None or auth.secret is None:
        return
    kind = auth.secret.type
    if kind not in ("ceph", "iscsi", "volume", "tls", "vtpm"):
        raise ConfigUnsupported(f"unknown secret type '{kind or '<null>'}'")
    wanted = _SECRET_TYPES.get(source.protocol)
    if wanted is not None and kind != wanted:
        raise ConfigUnsupported(f"invalid secret type '{kind}'")


def _check_encryption(encryption: Encryption | None) -> None:
    if encryption is not None and encryption.format == "luks" and encryption.cipher is not None:
        raise ConfigUnsupported("supplying <cipher> for domain disk definition is unnecessary")


def _check_targets(domain: Domain) -> None:
    targets: dict[str, Disk] = {}
    for disk in domain.devices.disks:
        other = targets.get(disk.target.dev)
        if other is not None:
            raise XmlError(
                f"target '{disk.target.dev}' duplicated for disk sources '{_source_of(other)}' and '{_source_of(disk)}'"
            )
        targets[disk.target.dev] = disk


def _source_of(disk: Disk) -> str:
    source = disk.source
    path = next((getattr(source, name, None) for name in ("file", "dev", "dir", "name") if hasattr(source, name)), None)
    return path or "(null)"


def _check_drive_addresses(domain: Domain) -> None:
    seen: dict[tuple[DiskBus | None, int, int, int, int], str] = {}
    for disk in domain.devices.disks:
        address = disk.address
        if not isinstance(address, DriveAddress):
            continue
        key = (disk.target.bus, address.controller, address.bus, address.target, address.unit)
        if key in seen:
            raise ConfigUnsupported(
                f"Found duplicate drive address for disk with target name '{seen[key]}' {_shown(address)}"
            )
        seen[key] = disk.target.dev
    hosts: set[tuple[int, int, int, int]] = set()
    for host in domain.devices.hostdevs:
        address = host.address
        if host.type is not HostdevType.SCSI or not isinstance(address, DriveAddress):
            continue
        place = (address.controller, address.bus, address.target, address.unit)
        if (DiskBus.SCSI, *place) in seen:
            raise ConfigUnsupported(f"SCSI host address {_shown(address)} in use by another SCSI disk")
        if place in hosts:
            raise ConfigUnsupported(f"SCSI host address {_shown(address)} in use by another SCSI host device")
        hosts.add(place)


def _shown(address: DriveAddress) -> str:
    return f"controller='{address.controller}' bus='{address.bus}' target='{address.target}' unit='{address.unit}'"


_MDEV_ADDRESSES: dict[str, type[PciAddress] | type[CcwAddress]] = {"vfio-pci": PciAddress, "vfio-ccw": CcwAddress}


def _check_hostdev(device: Hostdev) -> None:
    if device.source is None:
        raise XmlError("Missing <source> element in hostdev device")
    if device.type is not HostdevType.MDEV:
        return
    if isinstance(device.source, MdevSource) and device.source.address is None:
        raise XmlError("Missing <address> element")
    wanted = _MDEV_ADDRESSES.get(device.model or "")
    if device.address is not None and wanted is not None and not isinstance(device.address, wanted):
        raise XmlError(
            f"Unsupported address type '{device.address.fixed['type']}' with mediated device model '{device.model}'"
        )


def _check_hostdevs(domain: Domain) -> None:
    hostdevs = domain.devices.hostdevs
    for place, device in enumerate(hostdevs):
        if any(device.type is other.type and device.source == other.source for other in hostdevs[:place]):
            raise XmlError("Hostdev already exists in the domain configuration")
    if sum(bool(one.ramfb) for one in hostdevs) > 1:
        raise ConfigUnsupported("Only one vgpu device can have 'ramfb' enabled")


def _check_controller(device: Controller) -> None:
    if device.type is not ControllerType.PCI:
        return
    if device.model in (PciModel.PCI_ROOT, PciModel.PCIE_ROOT) and device.index == 0 and device.address is not None:
        raise ConfigUnsupported("pci-root and pcie-root controllers should not have an address")
    target = device.target
    if target is None:
        return
    if device.index == 0 and target.node is not None:
        raise ConfigUnsupported("The PCI controller with index=0 can't be associated with a NUMA node")
    if target.index is not None and (device.index == 0) != (target.index == 0):
        raise ConfigUnsupported("Only the PCI controller with index 0 can have target index 0, and vice versa")
