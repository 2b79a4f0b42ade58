"""Disks that no hypervisor can provide, in libvirt's words."""

from __future__ import annotations

import re
from collections.abc import Iterator

from conf.domain.address import DriveAddress, UnassignedAddress
from conf.domain.disk import BackingStore, Disk, DiskBus, DiskDevice, IoTune, Mirror, SnapshotMode
from conf.domain.domain import Domain
from conf.domain.hostdev import HostdevType
from conf.domain.rules import DomainRules
from conf.domain.secrets import Auth, Encryption
from conf.domain.storage_source import (
    BlockSource,
    DirSource,
    FileSource,
    NetworkSource,
    NvmeSource,
    Protocol,
    SourceType,
    StartupPolicy,
    StorageSource,
    VhostUserSource,
    VolumeSource,
)
from schema.enums.error import ErrorCode
from schema.errors import ConfigUnsupported, RefusedDocument, VirtError, XmlError

_ENCRYPTIONS = ("default", "qcow", "luks", "luks2")
_DRIVES = (DiskBus.IDE, DiskBus.FDC, DiskBus.SCSI, DiskBus.SATA)
_VENDOR, _PRODUCT = 8, 16
_WITH_LOGIN = (
    *(Protocol.ISCSI, Protocol.RBD, Protocol.HTTP, Protocol.HTTPS),
    *(Protocol.FTP, Protocol.FTPS, Protocol.SSH),
)


def check(disk: Disk, rules: DomainRules) -> None:
    """Refuses a disk that contradicts itself. Raises ConfigUnsupported, XmlError, VirtError."""
    if isinstance(disk.address, UnassignedAddress):
        raise ConfigUnsupported("address of type 'unassigned' is supported only for hostdevs")
    source = disk.source
    for one in _sources(disk):
        _check_source(one, disk)
    if disk.sgio == "unfiltered":
        raise ConfigUnsupported("unfiltered sgio is no longer supported")
    if disk.device is DiskDevice.LUN:
        _check_lun(disk)
    else:
        if getattr(source, "reservations", None) is not None:
            raise ConfigUnsupported("<reservations/> allowed only for lun devices")
        if disk.rawio is not None:
            raise ConfigUnsupported("rawio can be used only with device='lun'")
        if disk.sgio is not None:
            raise ConfigUnsupported("sgio can be used only with device='lun'")
    if _is_empty(disk) and disk.device in (DiskDevice.DISK, DiskDevice.LUN):
        raise VirtError(disk.target.dev, code=ErrorCode.NO_SOURCE)
    _check_startup(disk)
    if disk.iotune is not None:
        _check_iotune(disk.iotune)
    _check_bus(disk)
    if disk.type is SourceType.VHOSTUSER:
        _check_vhost_user(disk)
    if disk.target.tray is not None and disk.device not in (DiskDevice.CDROM, DiskDevice.FLOPPY):
        raise ConfigUnsupported("tray is only valid for cdrom and floppy")
    for what, text, length in (("vendor", disk.vendor, _VENDOR), ("product", disk.product, _PRODUCT)):
        if text and not (text.isascii() and text.isprintable()):
            raise XmlError(f"disk {what} is not printable string")
        if text and len(text) > length:
            raise ConfigUnsupported(f"disk {what} is more than {length} characters")
    if not rules.passes_disk_fds and getattr(source, "fdgroup", None) is not None:
        raise ConfigUnsupported(f"driver does not support FD passing for disk '{disk.target.dev}'")
    _check_encryption(disk.encryption)


def _is_empty(disk: Disk) -> bool:
    source = disk.source
    if source is None:
        return True
    if isinstance(source, FileSource):
        return not source.file and getattr(source, "fdgroup", None) is None
    return isinstance(source, BlockSource | DirSource) and not _path(source)


def _path(source: BlockSource | DirSource) -> str | None:
    return source.dev if isinstance(source, BlockSource) else source.dir


def _sources(disk: Disk) -> Iterator[StorageSource]:
    if disk.source is not None:
        yield disk.source
    below: BackingStore | Mirror | None = disk.backing_store
    while below is not None:
        if below.source is not None:
            yield below.source
        below = below.backing_store


def _check_source(source: StorageSource, disk: Disk) -> None:
    auth = getattr(source, "auth", None) or (disk.auth if source is disk.source else None)
    if isinstance(source, NetworkSource):
        if auth is not None and source.protocol not in _WITH_LOGIN:
            raise ConfigUnsupported(f"authentication is not supported for protocol '{source.protocol.value}'")
        _check_auth(auth, source)
        _check_cookies(source)
    if isinstance(source, VolumeSource) and source.mode not in (None, "host", "direct"):
        raise ConfigUnsupported(f"unknown source mode '{source.mode}' for volume type disk")
    if isinstance(source, NvmeSource):
        if source.type != "pci":
            raise XmlError(f"unsupported source type '{source.type}'")
        if not source.namespace_id:
            raise ConfigUnsupported("NVMe namespace can't be zero")
    if isinstance(source, VhostUserSource):
        if source.type != "unix":
            raise XmlError("invalid 'type' attribute for vhostuser disk source")
        if source.path is None:
            raise XmlError("missing 'path' attribute for vhostuser disk source")
    _check_encryption(getattr(source, "encryption", None))


_NO_COOKIE_NAME = re.compile(r'[^!-~]|[()<>@,;:\\"/\[\]?={}]').search
_NO_COOKIE_VALUE = re.compile(r'[^!-~]|[",;\\]').search


def _check_cookies(source: NetworkSource) -> None:
    seen: set[str] = set()
    for cookie in source.cookies:
        if not cookie.value:
            raise XmlError(f"missing value for cookie '{cookie.name}'")
        if _NO_COOKIE_NAME(cookie.name):
            raise XmlError(f"cookie name '{cookie.name}' contains invalid characters")
        bare = cookie.value[1:-1] if len(cookie.value) > 1 and cookie.value[0] == cookie.value[-1] == '"' else None
        if _NO_COOKIE_VALUE(cookie.value if bare is None else bare):
            raise XmlError(f"value of cookie '{cookie.name}' contains invalid characters")
        if cookie.name in seen:
            raise XmlError(f"duplicate cookie '{cookie.name}'")
        seen.add(cookie.name)


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
    if encryption is None:
        return
    if encryption.format not in _ENCRYPTIONS:
        raise ConfigUnsupported(f"unknown volume encryption format type {encryption.format}")
    for secret in encryption.secrets:
        if secret.type != "passphrase":
            raise ConfigUnsupported(f"unknown volume encryption secret type {secret.type}")
        if secret.uuid is None and secret.usage is None:
            raise XmlError("missing secret uuid or usage attribute")
        if secret.uuid is not None and secret.usage is not None:
            raise XmlError("either secret uuid or usage expected")
    if encryption.format == "luks" and encryption.cipher is not None:
        raise ConfigUnsupported("supplying <cipher> for domain disk definition is unnecessary")


def _check_lun(disk: Disk) -> None:
    source = disk.source
    if isinstance(source, NetworkSource):
        if source.protocol is not Protocol.ISCSI:
            raise ConfigUnsupported(f"disk device='lun' is not supported for protocol='{source.protocol.value}'")
    elif disk.type not in (SourceType.BLOCK, SourceType.VOLUME):
        raise ConfigUnsupported("disk device='lun' is only valid for block type disk source")
    if disk.driver is not None and disk.driver.type not in (None, "raw"):
        raise ConfigUnsupported("disk device 'lun' must use 'raw' format")
    if getattr(source, "slices", None):
        raise ConfigUnsupported("disk device 'lun' doesn't support storage slice")
    encryption = disk.encryption or getattr(source, "encryption", None)
    if encryption is not None and encryption.format != "default":
        raise ConfigUnsupported("disk device 'lun' doesn't support encryption")


def _check_startup(disk: Disk) -> None:
    policy = getattr(disk.source, "startup_policy", None)
    if policy is None:
        return
    if disk.type is SourceType.NETWORK:
        raise XmlError(f"disk startupPolicy '{policy.value}' is not allowed for disk of 'network' type")
    if policy is StartupPolicy.REQUISITE and disk.device not in (DiskDevice.CDROM, DiskDevice.FLOPPY):
        raise XmlError("disk startupPolicy 'requisite' is allowed only for cdrom or floppy")


def _check_iotune(tune: IoTune) -> None:
    for what in ("bytes_sec", "iops_sec", "bytes_sec_max", "iops_sec_max"):
        parts = (getattr(tune, f"read_{what}"), getattr(tune, f"write_{what}"))
        if getattr(tune, f"total_{what}") and any(parts):
            raise XmlError(f"total and read/write {what} cannot be set at the same time")


def _check_bus(disk: Disk) -> None:
    bus, address, driver = disk.target.bus, disk.address, disk.driver
    if bus is None:
        return
    if address is not None:
        fits = isinstance(address, DriveAddress) or bus not in _DRIVES
        if not fits:
            raise ConfigUnsupported(
                f"Invalid address type '{address.fixed['type']}' for the disk '{disk.target.dev}' "
                f"with the bus type '{bus.value}'"
            )
    if bus is not DiskBus.VIRTIO:
        if disk.model is not None:
            raise ConfigUnsupported(f"disk model '{disk.model.value}' not supported for bus '{bus.value}'")
        if driver is not None:
            if driver.queues:
                raise ConfigUnsupported("queues attribute in disk driver element is only supported by virtio-blk")
            if driver.event_idx is not None:
                raise ConfigUnsupported("disk event_idx mode supported only for virtio bus")
            if driver.ioeventfd is not None:
                raise ConfigUnsupported("disk ioeventfd mode supported only for virtio bus")
            for option in ("iommu", "ats", "packed", "page_per_vq"):
                if getattr(driver, option) is not None:
                    raise ConfigUnsupported(f"{option} driver option is only supported for virtio devices")
    if disk.target.removable is not None and bus is not DiskBus.USB:
        raise XmlError("removable is only valid for usb disks")
    name = disk.target.dev
    if disk.device is DiskDevice.FLOPPY:
        if bus is not DiskBus.FDC:
            raise RefusedDocument(f"Invalid bus type '{bus.value}' for floppy disk")
        if not name.startswith("fd"):
            raise RefusedDocument(f"Invalid floppy device name: {name}")
    if disk.device is DiskDevice.DISK and not name.startswith(("hd", "sd", "vd", "xvd", "ubd")):
        raise RefusedDocument(f"Invalid harddisk device name: {name}")
    if disk.device is not DiskDevice.FLOPPY and bus is DiskBus.FDC:
        raise RefusedDocument(f"Invalid bus type '{bus.value}' for disk")


def _check_vhost_user(disk: Disk) -> None:
    if disk.target.bus is not DiskBus.VIRTIO:
        raise ConfigUnsupported("vhostuser disk supports only virtio bus")
    if disk.snapshot is not SnapshotMode.NO:
        raise ConfigUnsupported("only snapshot=no is supported with vhostuser disk")
    driver = disk.driver
    refusals = (
        ("cache", driver is not None and driver.cache is not None),
        (
            "error_policy",
            driver is not None and (driver.error_policy is not None or driver.rerror_policy is not None),
        ),
        ("io", driver is not None and driver.io is not None),
        ("ioeventfd", driver is not None and driver.ioeventfd is not None),
        ("copy_on_read", driver is not None and driver.copy_on_read is not None),
        ("discard", driver is not None and driver.discard is not None),
        ("iothread", driver is not None and bool(driver.iothread)),
        ("detect_zeroes", driver is not None and driver.detect_zeroes is not None),
        ("metadata_cache", driver is not None and driver.metadata_cache is not None),
        ("iotune", disk.iotune is not None),
        ("backingStore", disk.backing_store is not None),
        ("encryption", disk.encryption is not None),
        ("readonly", disk.readonly),
        ("shareable", disk.shareable),
        ("transient", disk.transient is not None),
        ("serial", bool(disk.serial)),
        ("wwn", bool(disk.wwn)),
        ("vendor", bool(disk.vendor)),
        ("product", bool(disk.product)),
        ("auth", disk.auth is not None),
        ("geometry", disk.geometry is not None),
        ("blockio", disk.blockio is not None),
    )
    for what, given in refusals:
        if given:
            raise ConfigUnsupported(f"{what} is not supported with vhostuser disk")


def check_together(domain: Domain) -> None:
    """Refuses disks, and SCSI devices of the host, that want the same name or place."""
    _check_targets(domain)
    _check_drive_addresses(domain)


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
