"""What QEMU's disks cannot do, in libvirt's words: the guest's end first, then the images."""

from __future__ import annotations

import re
from collections.abc import Iterator
from types import NoneType

from actors.qemu.capabilities.model import Capabilities
from actors.qemu.rules_checks_devices import shares_memory
from conf.domain.address import (
    CcwAddress,
    DriveAddress,
    PciAddress,
    UsbAddress,
    VirtioMmioAddress,
    VirtioS390Address,
)
from conf.domain.defaults_processor import iothread_ids
from conf.domain.disk import BackingStore, Disk, DiskBus, DiskCache, DiskDevice, DiskIo, IoTune, Mirror
from conf.domain.disk_names import is_disk_name
from conf.domain.domain import Domain
from conf.domain.secrets import Encryption
from conf.domain.storage_source import DirSource, FileSource, NetworkSource, Protocol, SourceType, StorageSource
from schema.errors import ArgumentUnsupported, ConfigUnsupported, RefusedDocument

MAX_IOTUNE = 1_000_000_000_000_000
"""The most that QEMU takes as a limit."""
_VIRTIO_PLACES = (PciAddress, CcwAddress, VirtioMmioAddress, VirtioS390Address, NoneType)
_UNSAFE_SERIAL = re.compile(r"[^A-Za-z0-9_ .+-]").search
_DRIVES = {DiskBus.SCSI: "scsi", DiskBus.IDE: "ide", DiskBus.FDC: "fdc", DiskBus.SATA: "sata"}


def check(disk: Disk, domain: Domain, capabilities: Capabilities) -> None:
    """Refuses a disk that QEMU cannot provide. Raises ConfigUnsupported, RefusedDocument."""
    _check_geometry(disk)
    _check_copying(disk)
    _check_identity(disk, capabilities)
    if disk.device is DiskDevice.LUN:
        _check_lun(disk, capabilities)
    _check_rotation(disk, capabilities)
    _check_bus(disk, capabilities)
    _check_driver(disk, domain, capabilities)
    _check_iotune(disk, domain)
    if disk.transient is not None:
        _check_transient(disk)
    _check_target(disk)
    cache = disk.driver.metadata_cache if disk.driver is not None else None
    if cache is not None and cache.max_size_bytes and disk.driver is not None and disk.driver.type != "qcow2":
        raise ConfigUnsupported("metadata cache max size control is supported only with qcow2 images")
    for source, image_format in _images(disk):
        _check_image(source, image_format, disk, capabilities)
    if disk.type is SourceType.VHOSTUSER and not shares_memory(domain):
        raise ConfigUnsupported("'vhostuser' requires shared memory")
    if disk.target.bus is DiskBus.VIRTIO and not isinstance(disk.address, _VIRTIO_PLACES):
        kind = disk.address.fixed["type"] if disk.address is not None else "none"
        raise ConfigUnsupported(f"virtio disk cannot have an address of type '{kind}'")


def _check_geometry(disk: Disk) -> None:
    bus = disk.target.bus
    if disk.geometry is not None and bus is not None:
        if bus in (DiskBus.USB, DiskBus.SD):
            raise ConfigUnsupported(f"CHS geometry can not be set for '{bus.value}' bus")
        if disk.geometry.trans is not None and bus is not DiskBus.IDE:
            raise ConfigUnsupported(f"CHS translation mode can only be set for 'ide' bus not '{bus.value}'")
    if disk.serial and bus is DiskBus.SD:
        raise RefusedDocument(f"Serial property not supported for drive bus '{bus.value}'")
    if bus in (DiskBus.VIRTIO, DiskBus.SD) and disk.device in (DiskDevice.CDROM, DiskDevice.FLOPPY):
        raise ConfigUnsupported(f"disk type of '{disk.target.dev}' does not support ejectable media")


def _check_copying(disk: Disk) -> None:
    if disk.driver is None or not disk.driver.copy_on_read:
        return
    if disk.readonly:
        raise ConfigUnsupported(f"copy_on_read is not compatible with read-only disk '{disk.target.dev}'")
    if disk.device in (DiskDevice.CDROM, DiskDevice.FLOPPY):
        raise ConfigUnsupported(f"copy_on_read is not supported with removable disk '{disk.target.dev}'")


def _check_identity(disk: Disk, capabilities: Capabilities) -> None:
    bus = disk.target.bus
    if disk.wwn:
        if bus not in (DiskBus.IDE, DiskBus.SCSI):
            raise ConfigUnsupported("Only ide and scsi disk support wwn")
        if bus is DiskBus.IDE and capabilities.lacks("ide-drive.wwn"):
            raise ConfigUnsupported("Setting wwn for ide disk is not supported by this QEMU")
        if bus is DiskBus.SCSI and capabilities.lacks("scsi-disk.wwn"):
            raise ConfigUnsupported("Setting wwn for scsi disk is not supported by this QEMU")
    if (disk.vendor or disk.product) and bus is not DiskBus.SCSI:
        raise ConfigUnsupported("Only scsi disk supports vendor and product")


def _check_lun(disk: Disk, capabilities: Capabilities) -> None:
    bus = disk.target.bus
    if bus not in (DiskBus.VIRTIO, DiskBus.SCSI):
        raise ConfigUnsupported(f"disk device='lun' is not supported for bus='{bus.value if bus else 'none'}'")
    if bus is DiskBus.SCSI and capabilities.lacks("scsi-block"):
        raise ConfigUnsupported("This QEMU doesn't support scsi-block for lun passthrough")
    if disk.driver is not None and disk.driver.copy_on_read:
        raise ConfigUnsupported(f"copy_on_read is not compatible with 'lun' disk '{disk.target.dev}'")
    if disk.wwn:
        raise ConfigUnsupported("Setting wwn is not supported for lun device")
    if disk.vendor or disk.product:
        raise ConfigUnsupported("Setting vendor or product is not supported for lun device")


def _check_rotation(disk: Disk, capabilities: Capabilities) -> None:
    if not disk.target.rotation_rate:
        return
    if disk.target.bus not in (DiskBus.SCSI, DiskBus.IDE, DiskBus.SATA):
        raise RefusedDocument("rotation rate is only valid for SCSI/IDE/SATA bus")
    if disk.device is not DiskDevice.DISK:
        raise RefusedDocument("rotation rate is only valid for disk device")
    if capabilities.lacks("rotation-rate"):
        raise ConfigUnsupported("rotation rate is not supported with this QEMU")


def _check_bus(disk: Disk, capabilities: Capabilities) -> None:
    bus, address = disk.target.bus, disk.address
    if bus in _DRIVES and address is not None and not isinstance(address, DriveAddress):
        raise RefusedDocument(f"unexpected address type for {_DRIVES[bus]} disk")
    if bus is DiskBus.USB:
        if capabilities.lacks("usb-storage"):
            raise ConfigUnsupported("This QEMU doesn't support '-device usb-storage'")
        if address is not None and not isinstance(address, UsbAddress):
            raise RefusedDocument("unexpected address type for usb disk")
        if disk.target.removable is not None and capabilities.lacks("usb-storage.removable"):
            raise ConfigUnsupported("This QEMU doesn't support setting the removable flag of USB storage devices")
    sized = bus is DiskBus.VIRTIO and disk.driver is not None and bool(disk.driver.queue_size)
    if sized and capabilities.lacks("virtio-blk.queue-size"):
        raise ConfigUnsupported("queue-size property isn't supported by this QEMU binary")
    if disk.readonly and disk.device is DiskDevice.DISK and bus in (DiskBus.IDE, DiskBus.SATA):
        raise ConfigUnsupported(f"readonly {bus.value} disks are not supported")


def _check_driver(disk: Disk, domain: Domain, capabilities: Capabilities) -> None:
    driver = disk.driver
    if driver is None:
        return
    if driver.io is DiskIo.NATIVE and driver.cache not in (DiskCache.DIRECTSYNC, DiskCache.NONE):
        raise ConfigUnsupported("io='native' needs either no disk cache or directsync cache mode")
    if driver.io is DiskIo.IO_URING and capabilities.lacks("aio.io_uring"):
        raise ConfigUnsupported("io uring is not supported by this QEMU binary")
    if disk.serial:
        if disk.device is DiskDevice.LUN and disk.target.bus is DiskBus.SCSI:
            raise ConfigUnsupported("scsi-block 'lun' devices do not support the serial property")
        if _UNSAFE_SERIAL(disk.serial):
            raise RefusedDocument(f"driver serial '{disk.serial}' contains unsafe characters")
    if driver.iothread:
        if disk.target.bus is not DiskBus.VIRTIO:
            bus = disk.target.bus.value if disk.target.bus is not None else "none"
            raise ConfigUnsupported(f"IOThreads not available for bus {bus} target {disk.target.dev}")
        if driver.iothread not in iothread_ids(domain):
            raise ConfigUnsupported(f"Disk iothread '{driver.iothread}' not defined in iothreadid")
    if driver.name not in (None, "qemu"):
        raise ConfigUnsupported(f"unsupported driver name '{driver.name}' for disk '{disk.target.dev}'")


def _settings(tune: IoTune) -> list[int]:
    return [one for name, one in vars(tune).items() if name != "group_name" and one]


def _check_iotune(disk: Disk, domain: Domain) -> None:
    tune = disk.iotune
    if tune is None:
        return
    if tune.group_name and not _settings(tune):
        raise ConfigUnsupported("group_name can be configured only together with settings")
    if tune.group_name:
        for other in domain.devices.disks:
            theirs = other.iotune
            same_group = theirs is not None and theirs.group_name == tune.group_name and bool(_settings(theirs))
            if other is not disk and same_group and theirs != tune:
                raise ConfigUnsupported(f"different iotunes for disks {disk.target.dev} and {other.target.dev}")
    if any(one > MAX_IOTUNE for one in _settings(tune)):
        raise ArgumentUnsupported(f"block I/O throttle limit must be no more than {MAX_IOTUNE} using QEMU")


def _check_transient(disk: Disk) -> None:
    name = disk.target.dev
    if disk.source is None or (isinstance(disk.source, FileSource) and disk.source.file is None):
        raise ConfigUnsupported(f"transient disk '{name}' must not be empty")
    if disk.readonly:
        raise ConfigUnsupported(f"transient disk '{name}' must not be read-only")
    if disk.type not in (SourceType.FILE, SourceType.VOLUME):
        raise ConfigUnsupported(f"transient disk supported only with 'file' type ({name})")
    if disk.device is not DiskDevice.DISK:
        raise ConfigUnsupported(f"transient disk supported only with 'disk' device ({name})")
    shares = disk.transient is not None and disk.transient.share_backing
    bus = disk.target.bus
    if shares and bus is not None and bus not in (DiskBus.VIRTIO, DiskBus.SCSI, DiskBus.USB):
        raise ConfigUnsupported(f"disk bus '{bus.value}' doesn't support transiend disk backing image sharing")


_PARTITION = re.compile(r"(?:[hsv]d|xvd)[a-z]+\d+\Z").match


def _check_target(disk: Disk) -> None:
    if _PARTITION(disk.target.dev):
        raise ConfigUnsupported(f"invalid disk target '{disk.target.dev}', partitions can't appear in disk targets")
    if not is_disk_name(disk.target.dev):
        raise ConfigUnsupported(f"invalid disk target '{disk.target.dev}'")


def _images(disk: Disk) -> Iterator[tuple[StorageSource, str | None]]:
    if disk.source is not None:
        yield disk.source, disk.driver.type if disk.driver is not None else None
    below: BackingStore | Mirror | None = disk.backing_store
    while below is not None:
        if below.source is not None:
            yield below.source, below.format.type if below.format is not None else None
        below = below.backing_store


def _check_image(source: StorageSource, image_format: str | None, disk: Disk, capabilities: Capabilities) -> None:
    if image_format == "cow":
        raise ConfigUnsupported("'cow' storage format is not supported")
    if image_format == "dir":
        raise ConfigUnsupported(
            "'directory' storage format is not directly supported by QEMU, use 'dir' disk type instead"
        )
    if image_format == "iso":
        raise ConfigUnsupported("storage format 'iso' is not directly supported by QEMU, use 'raw' instead")
    if image_format == "fat" and disk.type not in (SourceType.DIR, SourceType.VOLUME):
        raise ConfigUnsupported("storage format 'fat' is supported only with 'dir' storage type")
    if isinstance(source, DirSource):
        if image_format not in (None, "fat"):
            raise ConfigUnsupported("storage type 'dir' requires use of storage format 'fat'")
        if not disk.readonly:
            raise ConfigUnsupported("virtual FAT storage can't be accessed in read-write mode")
    encryption = getattr(source, "encryption", None) or (disk.encryption if source is disk.source else None)
    if encryption is not None:
        _check_encryption(encryption, source, image_format, capabilities)
    if isinstance(source, NetworkSource):
        _check_network(source, capabilities)
    if getattr(source, "reservations", None) is not None and capabilities.lacks("pr-manager-helper"):
        raise ConfigUnsupported("reservations not supported with this QEMU binary")


def _check_encryption(
    encryption: Encryption, source: StorageSource, image_format: str | None, capabilities: Capabilities
) -> None:
    if encryption.engine == "librbd":
        if capabilities.lacks("rbd-encryption"):
            raise ConfigUnsupported("librbd encryption is not supported by this QEMU binary")
        if not (isinstance(source, NetworkSource) and source.protocol is Protocol.RBD):
            raise ConfigUnsupported("librbd encryption is supported only with RBD backed disks")
        return
    if encryption.format in ("qcow", "default"):
        raise ConfigUnsupported("old qcow/qcow2 encryption is not supported")
    if encryption.format == "luks2":
        raise ConfigUnsupported("luks2 is currently not supported by the qemu encryption engine")
    if image_format not in (None, "raw", "qcow2"):
        raise ConfigUnsupported("encryption is supported only with 'raw' and 'qcow2' image format")


def _check_network(source: NetworkSource, capabilities: Capabilities) -> None:
    protocol = source.protocol
    if protocol is Protocol.TFTP:
        raise ConfigUnsupported("'tftp' protocol is not supported with this QEMU binary")
    if protocol is Protocol.NFS:
        if len(source.hosts) != 1:
            raise ConfigUnsupported("'nfs' protocol requires the usage of exactly one host")
        if source.hosts[0].transport not in (None, "tcp"):
            raise ConfigUnsupported("'nfs' host must use TCP protocol")
        if source.hosts[0].port:
            raise ConfigUnsupported("port cannot be specified in 'nfs' protocol host")
    if source.tls_hostname is not None:
        if protocol is not Protocol.NBD:
            raise ConfigUnsupported("'tlsHostname' field is supported only with NBD disks")
        if capabilities.lacks("blockdev.nbd.tls-hostname"):
            raise ConfigUnsupported("'tlsHostname' field is not supported by this QEMU")
