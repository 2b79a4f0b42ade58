"""The files of the host that a guest's process opens by itself, each with what its definition says of its owner.

Files that are opened for it and handed over (logs, files behind serial ports, sockets that listen) are not among them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from actors.qemu.block.chain import images_below, mirror_images
from actors.qemu.owning.identity import MODEL
from conf.domain.chardev import CharDevice, CharMode, CharSource, PathSource, UnixSource
from conf.domain.chardev_users import RedirDev, Rng, Smartcard
from conf.domain.disk import Disk
from conf.domain.domain import Domain
from conf.domain.graphics import Graphics
from conf.domain.hostdev import Hostdev, MdevSource, PciHostSource, ScsiHostSource, UsbHostSource
from conf.domain.interface import HostdevSource, Interface
from conf.domain.memory_device import MemoryDevice
from conf.domain.seclabel import SourceSeclabel
from conf.domain.small_devices import Input
from conf.domain.storage_source import BlockSource, FileSource, NvmeSource, StorageSource
from conf.element import Element

_PIPE_ENDS: Final = (".in", ".out")


@dataclass(frozen=True, slots=True)
class GuestFile:
    """One file; `remembers` says whether it can go back when the guest ends."""

    path: str
    label: SourceSeclabel | None = None
    remembers: bool = True
    may_be_absent: bool = False


def files_of_guest(domain: Domain) -> Iterator[GuestFile]:
    """All files of a guest."""
    for device in domain.devices.all():
        yield from files_of_device(device)
    system = domain.os
    for path in (system.kernel, system.initrd, system.dtb):
        if path:
            yield GuestFile(path)
    for table in system.acpi_tables:
        if table.path:
            yield GuestFile(table.path)
    if system.nvram is not None:
        if system.nvram.source is not None:
            yield from files_of_image(system.nvram.source, remembers=True)
        elif system.nvram.path:
            yield GuestFile(system.nvram.path, may_be_absent=True)
    for info in domain.sysinfos:
        yield from (GuestFile(entry.file) for entry in info.entries if entry.file)


def files_of_device(device: Element) -> Iterator[GuestFile]:
    """The files behind one device."""
    match device:
        case Disk():
            yield from files_of_disk(device)
        case Hostdev():
            yield from _files_of_hostdev(device)
        case CharDevice() | RedirDev() | Smartcard():
            yield from _files_of_port(device.source)
        case Rng():
            yield from _files_of_port(device.backend.source)
        case Graphics():
            if device.gl is not None and device.gl.rendernode:
                yield GuestFile(device.gl.rendernode, remembers=False)
        case MemoryDevice():
            path = device.source.path if device.source is not None else None
            if path:
                yield GuestFile(path)
        case Input():
            source = device.source
            path = (source.evdev or source.dev) if source is not None else None
            if path:
                yield GuestFile(path)
        case Interface() if isinstance(device.source, HostdevSource):
            for path in _group_nodes(device.source.address):
                yield GuestFile(path, may_be_absent=True)


def files_of_disk(disk: Disk) -> Iterator[GuestFile]:
    """The images of a disk: what lies below the top one is shared with others, and so stays when the guest ends."""
    shared = disk.readonly or disk.shareable
    if disk.source is not None:
        yield from files_of_image(disk.source, remembers=not shared)
    for image in images_below(disk.backing_store):
        yield from files_of_image(image.source, remembers=False)
    if disk.mirror is not None:
        for place, image in enumerate(mirror_images(disk.mirror)):
            yield from files_of_image(image.source, remembers=place == 0)


def files_of_image(source: StorageSource, *, remembers: bool) -> Iterator[GuestFile]:
    """Where one image is."""
    if isinstance(source, NvmeSource):
        for node in _group_nodes(source.address):
            yield GuestFile(node, may_be_absent=True)
        return
    path = source.file if isinstance(source, FileSource) else source.dev if isinstance(source, BlockSource) else None
    if path is None or getattr(source, "fdgroup", None) is not None:
        return
    yield GuestFile(path, label_for(getattr(source, "seclabels", ())), remembers)


def label_for(labels: Sequence[SourceSeclabel]) -> SourceSeclabel | None:
    """What is said of a file's owner."""
    return next((one for one in labels if one.model in (MODEL, None)), None)


def _files_of_port(source: CharSource | None) -> Iterator[GuestFile]:
    if isinstance(source, UnixSource) and source.path and source.mode is CharMode.CONNECT:
        yield GuestFile(source.path, label_for(source.seclabels), may_be_absent=True)
    elif isinstance(source, PathSource) and source.path and not _is_opened_for_it(source.path):
        label = label_for(source.seclabels)
        ends = [source.path + end for end in _PIPE_ENDS]
        paths = ends if all(Path(end).exists() for end in ends) else [source.path]
        for path in paths:
            yield GuestFile(path, label, may_be_absent=True)


def _is_opened_for_it(path: str) -> bool:
    """A plain file behind a port is opened by the driver; devices and pipes QEMU opens itself."""
    has_ends = Path(path + _PIPE_ENDS[0]).exists()
    return not has_ends and (Path(path).is_file() or not Path(path).exists())


def _files_of_hostdev(device: Hostdev) -> Iterator[GuestFile]:
    for path in nodes_of_hostdev(device):
        shared = device.readonly or device.shareable if isinstance(device.source, ScsiHostSource) else False
        yield GuestFile(path, remembers=not shared, may_be_absent=True)


def nodes_of_hostdev(device: Hostdev) -> list[str]:
    """The device nodes through which a device of the host is used; none for one that is not there."""
    source = device.source
    match source:
        case UsbHostSource() if source.address is not None:
            return [f"/dev/bus/usb/{source.address.bus:03d}/{source.address.device:03d}"]
        case PciHostSource():
            return _group_nodes(source.address)
        case MdevSource() if source.address is not None:
            return _group_node(Path(f"/sys/bus/mdev/devices/{source.address.uuid}"))
        case ScsiHostSource():
            return _generic_node(source)
        case _:
            return []


def _group_nodes(address: object) -> list[str]:
    return [] if address is None else _group_node(Path(f"/sys/bus/pci/devices/{address}"))


def _group_node(folder: Path) -> list[str]:
    try:
        return [f"/dev/vfio/{(folder / 'iommu_group').resolve(strict=True).name}"]
    except OSError:
        return []


def _generic_node(source: ScsiHostSource) -> list[str]:
    address, adapter = source.address, source.adapter
    if address is None or adapter is None:
        return []
    host = adapter.name.removeprefix("scsi_host")
    folder = Path(f"/sys/bus/scsi/devices/{host}:{address.bus}:{address.target}:{address.unit}/scsi_generic")
    try:
        return [f"/dev/{name}" for name in sorted(one.name for one in folder.iterdir())]
    except OSError:
        return []
