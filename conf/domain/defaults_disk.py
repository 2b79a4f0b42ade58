"""Defaults of disks: bus by name, order, place by name."""

from __future__ import annotations

from conf.domain.address import DriveAddress
from conf.domain.controller import ControllerType
from conf.domain.disk import BackingStore, Disk, DiskBus, DiskCache, DiskDevice, ImageFormat, Mirror, SnapshotMode
from conf.domain.disk_names import disk_index, is_disk_name
from conf.domain.domain import Domain
from conf.domain.hostdev import HostdevType
from conf.domain.rules import DomainRules
from conf.domain.storage_source import FileSource, NetworkSource, Protocol, SourceType, Transport
from schema.errors import XmlError

_BUSES = (
    ("fd", DiskBus.FDC),
    ("hd", DiskBus.IDE),
    ("sd", DiskBus.SCSI),
    ("vd", DiskBus.VIRTIO),
    ("xvd", DiskBus.XEN),
    ("ubd", DiskBus.UML),
)
_DRIVE_BUSES = (DiskBus.SCSI, DiskBus.IDE, DiskBus.FDC, DiskBus.SATA)


def normalize(disk: Disk) -> None:
    """Settles what reading a text does."""
    if disk.target.bus is None:
        if disk.device is DiskDevice.FLOPPY:
            disk.target.bus = DiskBus.FDC
        else:
            disk.target.bus = next((bus for head, bus in _BUSES if disk.target.dev.startswith(head)), DiskBus.IDE)
    driver = disk.driver
    if driver is not None:
        if driver.cache is DiskCache.DEFAULT:
            driver.cache = None
        if driver.type == "aio":
            driver.type = "raw"
    if disk.iotune is not None:
        for name, amount in vars(disk.iotune).items():
            if amount == 0:
                setattr(disk.iotune, name, None)
    if disk.mirror is not None:
        _normalize_mirror(disk.mirror)
    if disk.device is DiskDevice.CDROM:
        disk.readonly = True
    if disk.type is SourceType.VHOSTUSER and disk.snapshot is None:
        disk.snapshot = SnapshotMode.NO
    if disk.source is None and disk.type in (SourceType.NETWORK, SourceType.BLOCK, SourceType.DIR):
        disk.type = SourceType.FILE
    below: BackingStore | Mirror | None = disk.backing_store
    while below is not None:
        if isinstance(below, BackingStore) and below.type is None:
            # the end of the chain says nothing else
            below.format = below.source = below.backing_store = None
        below = below.backing_store


def _normalize_mirror(mirror: Mirror) -> None:
    """Old texts name the copy's file in attributes; they are still written for copies to files."""
    if mirror.source is None and mirror.file is not None:
        mirror.type, mirror.source, mirror.job = SourceType.FILE, FileSource(file=mirror.file), mirror.job or "copy"
        if mirror.file_format is not None and mirror.format is None:
            mirror.format = ImageFormat(type=mirror.file_format)
    mirror.file = mirror.file_format = None
    if mirror.job == "copy" and isinstance(mirror.source, FileSource):
        mirror.file = mirror.source.file
        mirror.file_format = mirror.format.type if mirror.format is not None else None


def sort_disks(domain: Domain) -> None:
    """Puts disks of one bus in the order of their names; those that name no bus are a group of their own."""
    ordered: list[Disk] = []
    for disk in domain.devices.disks:
        index = disk_index(disk.target.dev)
        place = None
        for at in range(len(ordered) - 1, -1, -1):
            other = ordered[at]
            if other.target.bus is not disk.target.bus:
                continue
            if (disk_index(other.target.dev) or 0) > (index or 0):
                place = at
            elif place is None:
                place = at + 1
        ordered.insert(len(ordered) if place is None else place, disk)
    domain.devices.disks = ordered
    for disk in ordered:
        normalize(disk)


def complete(disk: Disk, domain: Domain, rules: DomainRules) -> None:
    """Fills in the place of a disk from its name.

    Raises XmlError for a name that means no disk.
    """
    source = disk.source
    if isinstance(source, NetworkSource):
        _complete_network(source)
    below: BackingStore | Mirror | None = disk.mirror or disk.backing_store
    while below is not None:
        if isinstance(below.source, NetworkSource):
            _complete_network(below.source)
        below = below.backing_store
    if disk.address is None and not is_disk_name(disk.target.dev):
        raise XmlError(f"Unknown disk name '{disk.target.dev}' and no address specified")
    if disk.address is None and disk.target.bus in _DRIVE_BUSES:
        disk.address = drive_address(disk, domain, rules)


_PORTS = {
    Protocol.NBD: 10809,
    Protocol.SHEEPDOG: 7000,
    Protocol.GLUSTER: 24007,
    Protocol.ISCSI: 3260,
    Protocol.HTTP: 80,
    Protocol.HTTPS: 443,
    Protocol.FTP: 21,
    Protocol.FTPS: 990,
    Protocol.TFTP: 69,
    Protocol.SSH: 22,
    Protocol.VXHS: 9999,
}


_WEB = (Protocol.HTTP, Protocol.HTTPS)
_SAFE = (Protocol.HTTPS, Protocol.FTPS)
_TRANSFER = (*_WEB, Protocol.FTP, Protocol.FTPS)


def _complete_network(source: NetworkSource) -> None:
    if source.protocol not in _SAFE:
        source.ssl_verify = None
    if source.protocol not in _WEB:
        source.cookies, source.query = [], None
    if source.protocol is not Protocol.NFS:
        source.identity = None
    if source.protocol not in _TRANSFER:
        source.readahead = source.timeout_s = None
    name = source.name or ""
    if source.protocol is Protocol.ISCSI and name and "/" not in name:
        source.name = f"{name}/0"
    elif source.name is None and source.protocol is not Protocol.NBD:
        raise XmlError("missing name for disk source")
    elif source.protocol in (Protocol.GLUSTER, Protocol.RBD) and not name.strip("/").partition("/")[2]:
        raise XmlError(f"can't split path '{name}' into pool name and image name")
    for host in source.hosts:
        if host.transport in (None, Transport.TCP) and host.port is None:
            host.port = _PORTS.get(source.protocol)


def drive_address(disk: Disk, domain: Domain, rules: DomainRules) -> DriveAddress:
    """The place on its bus that a disk's name stands for."""
    index = disk_index(disk.target.dev)
    if index is None:
        raise XmlError(f"Unknown disk name '{disk.target.dev}' and no address specified")
    bus = disk.target.bus
    if bus is DiskBus.IDE:
        return DriveAddress(controller=index // 4, bus=index % 4 // 2, unit=index % 2)
    if bus is DiskBus.SATA:
        return DriveAddress(controller=index // 6, unit=index % 6)
    if bus is DiskBus.FDC:
        return DriveAddress(controller=index // 2, unit=index % 2)
    taken = _hostdev_units(domain)
    while True:
        if rules.wide_scsi:
            # unit 7 is the controller's own
            unit = index % 15
            address = DriveAddress(controller=index // 15, unit=unit + (unit >= 7))
        else:
            address = DriveAddress(controller=index // 7, unit=index % 7)
        if (address.controller, address.unit) not in taken:
            return address
        index += 1


def _hostdev_units(domain: Domain) -> set[tuple[int, int]]:
    """The controllers and units that SCSI devices of the host have on bus and target 0."""
    return {
        (host.address.controller, host.address.unit)
        for host in domain.devices.hostdevs
        if host.type is HostdevType.SCSI
        and isinstance(host.address, DriveAddress)
        and host.address.bus == host.address.target == 0
    }


def free_scsi_address(domain: Domain, rules: DomainRules) -> DriveAddress:
    """The first unit of a SCSI controller that neither disk nor host device has; on a new controller if need be."""
    taken = _hostdev_units(domain)
    for disk in domain.devices.disks:
        address = disk.address
        if disk.target.bus is DiskBus.SCSI and isinstance(address, DriveAddress) and address.bus == address.target == 0:
            taken.add((address.controller, address.unit))
    controllers = sorted(
        one.index for one in domain.devices.controllers if one.type is ControllerType.SCSI and one.index is not None
    )
    units = [unit for unit in range(16) if unit != 7] if rules.wide_scsi else list(range(7))
    number = controllers[-1] + 1 if controllers else 0
    for index in (*controllers, *range(number, number + len(taken) + 1)):
        for unit in units:
            if (index, unit) not in taken:
                return DriveAddress(controller=index, unit=unit)
    raise AssertionError("more units than devices")
