"""The guest's disks: the device that the guest sees of each, above the nodes of its images."""

from __future__ import annotations

from typing import Final

from actors.qemu.command.blockdev import (
    cache_of,
    disk_nodes,
    guest_write_cache,
    has_overlay,
    number_descriptor_sets,
    number_images,
    topmost,
)
from actors.qemu.command.device import add_device, address_properties, virtio_driver, virtio_properties
from actors.qemu.command.launch import Launch, alias_of, is_pseries, is_q35
from actors.qemu.command.line import CommandLine, Properties, comma_doubled
from conf.domain.address import DriveAddress
from conf.domain.controller import ControllerType, ScsiModel
from conf.domain.disk import Disk, DiskBus, DiskDevice, ErrorPolicy
from conf.domain.storage_source import FileSource, VhostUserSource
from schema.errors import ConfigUnsupported

_CONTROLLERS: Final = {
    DiskBus.IDE: ControllerType.IDE,
    DiskBus.SATA: ControllerType.SATA,
    DiskBus.SCSI: ControllerType.SCSI,
    DiskBus.FDC: ControllerType.FDC,
}


def add_disks(launch: Launch, line: CommandLine) -> None:
    """All disks in the order of the definition. Raises ConfigUnsupported for what QEMU cannot have."""
    number_images(launch.domain)
    number_descriptor_sets(launch)
    floppies = [disk for disk in launch.domain.devices.disks if disk.target.bus is DiskBus.FDC]
    if floppies and is_pseries(launch.arch, launch.machine):
        raise ConfigUnsupported("PowerPC pseries machines do not support floppy device")
    if floppies:
        _add_floppy_controller(launch, line, floppies)
    for disk in launch.domain.devices.disks:
        if disk.transient is not None and disk.transient.share_backing and not has_overlay(disk):
            continue  # nobody but this guest may have its image
        if disk.target.bus is DiskBus.SD:
            _add_sd_card(disk, line)
            continue
        if isinstance(disk.source, VhostUserSource):
            line.add("-chardev", _vhost_user_chardev(disk, disk.source))
            add_device(launch, line, disk, disk_device(launch, disk, None))
            continue
        nodes = disk_nodes(launch, disk)
        for node in reversed(nodes):
            node.write_descriptors(line)
        for node in nodes:
            node.write(line)
        add_device(launch, line, disk, disk_device(launch, disk, topmost(nodes)))


def add_reservations_helper(launch: Launch, line: CommandLine) -> None:
    """The helper that keeps persistent reservations for the guest's disks, if any wants it."""
    if _has_managed_reservations(launch):
        path = str(launch.folder / "pr-helper0.sock")
        line.add_json("-object", {"qom-type": "pr-manager-helper", "id": "pr-helper0", "path": path})


def _has_managed_reservations(launch: Launch) -> bool:
    for disk in launch.domain.devices.disks:
        wanted = getattr(disk.source, "reservations", None)
        if wanted is not None and wanted.managed:
            return True
    return False


def _vhost_user_chardev(disk: Disk, source: VhostUserSource) -> str:
    words = f"socket,id=chr-vu-{alias_of(disk)},path={comma_doubled(source.path or '')}"
    if source.reconnect is not None and source.reconnect.enabled is not None:
        words += f",reconnect={source.reconnect.timeout_s if source.reconnect.enabled else 0}"
    return words


def _add_sd_card(disk: Disk, line: CommandLine) -> None:
    if not isinstance(disk.source, FileSource) or disk.source.file is None:
        raise ConfigUnsupported("an SD card needs a file")
    kind = (disk.driver.type if disk.driver is not None else None) or "raw"
    number = ord(disk.target.dev[-1]) - ord("a")
    line.add("-drive", f"file={comma_doubled(disk.source.file)},format={kind},if=sd,index={number}")


def _add_floppy_controller(launch: Launch, line: CommandLine, floppies: list[Disk]) -> None:
    """The floppy controller: part of an old PC, a device of its own on others; it alone knows the boot order."""
    letters = {}
    for disk in floppies:
        index = launch.boot_index(disk)
        unit = disk.address.unit if isinstance(disk.address, DriveAddress) else 0
        if index is not None:
            letters["AB"[unit]] = index
    if is_q35(launch.machine):
        properties: Properties = {"driver": "isa-fdc"}
        properties.update({f"bootindex{letter}": index for letter, index in letters.items()})
        line.add_json("-device", properties)
        return
    for letter, index in letters.items():
        line.add("-global", f"isa-fdc.bootindex{letter}={index}")


def disk_device(launch: Launch, disk: Disk, node: str | None) -> Properties:
    """The device of a disk above its topmost node. Raises ConfigUnsupported for what QEMU cannot have."""
    alias = alias_of(disk)
    properties = _front(launch, disk)
    if isinstance(disk.source, VhostUserSource):
        properties["chardev"] = f"chr-vu-{alias}"
    if disk.shareable:
        properties["share-rw"] = True
    properties["drive"] = node
    properties["id"] = alias
    if disk.target.bus is not DiskBus.FDC:
        properties["bootindex"] = launch.boot_index(disk)
    if disk.blockio is not None:
        properties["logical_block_size"] = disk.blockio.logical_block_size or None
        properties["physical_block_size"] = disk.blockio.physical_block_size or None
    if disk.wwn is not None:
        properties["wwn"] = int(disk.wwn.removeprefix("0x"), 16)
    properties["rotation_rate"] = disk.target.rotation_rate or None
    properties["vendor"] = disk.vendor
    properties["product"] = disk.product
    if disk.target.bus is DiskBus.USB:
        properties["removable"] = bool(disk.target.removable)
    has_cache = disk.device not in (DiskDevice.FLOPPY, DiskDevice.LUN)
    if has_cache and not isinstance(disk.source, VhostUserSource):
        properties["write-cache"] = guest_write_cache(cache_of(disk))
    if disk.geometry is not None:
        properties["cyls"] = disk.geometry.cyls
        properties["heads"] = disk.geometry.heads
        properties["secs"] = disk.geometry.secs
        properties["bios-chs-trans"] = disk.geometry.trans
    properties.update(_error_policies(disk))
    if disk.serial:
        # blanks are masked, as they are by libvirt: guests have known these serial numbers for years
        properties["serial"] = disk.serial.replace(" ", "\\ ")
    return properties


def _error_policies(disk: Disk) -> Properties:
    driver = disk.driver
    if driver is None:
        return {}
    write = driver.error_policy if driver.error_policy is not ErrorPolicy.DEFAULT else None
    read = driver.rerror_policy if driver.rerror_policy is not ErrorPolicy.DEFAULT else None
    if read is None:
        # reading knows no "enospc"
        read = None if write is ErrorPolicy.ENOSPACE else write
    words = {
        ErrorPolicy.STOP: "stop",
        ErrorPolicy.REPORT: "report",
        ErrorPolicy.IGNORE: "ignore",
        ErrorPolicy.ENOSPACE: "enospc",
    }
    found = {}
    if write is not None:
        found["werror"] = words[write]
    if read is not None:
        found["rerror"] = words[read]
    return found


def _front(launch: Launch, disk: Disk) -> Properties:
    """The driver and where it sits."""
    bus = disk.target.bus
    if bus is DiskBus.VIRTIO:
        return _virtio(launch, disk)
    if bus is DiskBus.USB:
        return {"driver": "usb-storage", **address_properties(launch, disk)}
    if bus not in _CONTROLLERS or not isinstance(disk.address, DriveAddress):
        raise ConfigUnsupported(f"disk type of '{disk.target.dev}' does not support ejectable media")
    address = disk.address
    if bus is DiskBus.FDC:
        return {"driver": "floppy", "unit": address.unit}
    controller = launch.controller_alias(_CONTROLLERS[bus], address.controller)
    if bus is DiskBus.SCSI:
        return _scsi(launch, disk, address, controller)
    model = "ide-cd" if disk.device is DiskDevice.CDROM else "ide-hd"
    if bus is DiskBus.SATA:
        return {"driver": model, "bus": f"{controller}.{address.unit}"}
    return {"driver": model, "bus": f"{controller}.{address.bus}", "unit": address.unit}


def _virtio(launch: Launch, disk: Disk) -> Properties:
    driver = disk.driver
    base = "vhost-user-blk" if isinstance(disk.source, VhostUserSource) else "virtio-blk"
    model = disk.model.value if disk.model is not None else None
    properties: Properties = {"driver": virtio_driver(launch, base, disk, model)}
    if driver is not None:
        if driver.iothread is not None:
            properties["iothread"] = f"iothread{driver.iothread}"
        properties["ioeventfd"] = driver.ioeventfd
        properties["event_idx"] = driver.event_idx
        properties["num-queues"] = driver.queues or None
        properties["queue-size"] = driver.queue_size or None
    if launch.caps.has("virtio-blk-pci.scsi") and not isinstance(disk.source, VhostUserSource):
        if disk.device is DiskDevice.LUN:
            properties["scsi"] = True
        elif not launch.caps.has("virtio-blk-pci.scsi.default.disabled"):
            properties["scsi"] = False
    properties.update(virtio_properties(driver))
    properties.update(address_properties(launch, disk))
    return properties


def _scsi(launch: Launch, disk: Disk, address: DriveAddress, controller: str) -> Properties:
    if disk.device is DiskDevice.LUN:
        driver = "scsi-block"
    else:
        driver = "scsi-cd" if disk.device is DiskDevice.CDROM else "scsi-hd"
    properties: Properties = {"driver": driver, "bus": f"{controller}.0"}
    owner = launch.find_controller(ControllerType.SCSI, address.controller)
    if owner is not None and owner.model in _NARROW:
        if address.target != 0:
            raise ConfigUnsupported("target must be 0 for controller model 'lsilogic'")
        properties["scsi-id"] = address.unit
    else:
        properties |= {"channel": address.bus, "scsi-id": address.target, "lun": address.unit}
    if driver != "scsi-block":
        properties["device_id"] = disk.serial or f"drive-{alias_of(disk)}"
    return properties


# controllers whose disks are told apart by their number on the bus alone
_NARROW: Final = (ScsiModel.LSILOGIC, ScsiModel.NCR53C90, ScsiModel.DC390, ScsiModel.AM53C974)
