"""Changing a device of a running guest: media, links, passwords of displays, the size of virtio memory."""

from __future__ import annotations

from typing import Any, Final

from actors.qemu.command.blockdev import is_empty
from actors.qemu.hotplug import memory
from actors.qemu.hotplug.board import Board
from actors.qemu.hotplug.fits import check_fits
from actors.qemu.hotplug.lists import kind_of
from actors.qemu.hotplug.match import find_interface
from actors.qemu.hotplug.media import change_medium
from actors.qemu.hotplug.nets import change_interface
from actors.qemu.live import display_commands
from conf.domain.compat import check_device_compatible
from conf.domain.device import Device
from conf.domain.disk import Disk, DiskDevice
from conf.domain.domain import Domain
from conf.domain.graphics import Graphics, GraphicsType, ListenType
from conf.domain.interface import Interface
from conf.domain.memory_device import MemoryDevice, MemoryModel
from conf.element import Element
from schema.errors import (
    ConfigUnsupported,
    DeviceMissing,
    InternalError,
    OperationDenied,
    OperationUnsupported,
)


async def update(board: Board, wanted: Element, *, force: bool = False) -> Element:
    """Makes a device of the guest what the document says; the device as it is now is returned.

    Raises OperationUnsupported for what cannot be changed while the guest runs, InternalError when QEMU refuses.
    """
    match wanted:
        case Disk():
            return await _update_disk(board, wanted, force=force)
        case Graphics():
            return await _update_display(board, wanted)
        case Interface():
            known = find_interface(board.domain, wanted)
            _check_alias(known, wanted)
            await change_interface(board, known, wanted)
            return known
        case MemoryDevice():
            return await _update_memory(board, wanted)
        case _:
            raise ConfigUnsupported(f"live update of device '{kind_of(wanted)}' is not supported")


def _check_alias(known: Device, wanted: Device) -> None:
    if wanted.alias is not None and known.alias is not None and wanted.alias != known.alias:
        raise OperationDenied("changing device alias is not allowed")


# --- disks -----------------------------------------------------------------------------------------------------------

_FIXED: Final = (
    ("device", "device"),
    ("target.bus", "bus"),
    ("target.removable", "removable"),
    ("geometry", "geometry"),
    ("blockio", "blockio"),
    ("readonly", "readonly"),
    ("shareable", "shared"),
    ("transient", "transient"),
    ("serial", "serial"),
    ("wwn", "wwn"),
    ("vendor", "vendor"),
    ("product", "product"),
    ("driver.cache", "cache"),
    ("driver.error_policy", "error_policy"),
    ("driver.rerror_policy", "rerror_policy"),
    ("driver.io", "io"),
    ("driver.ioeventfd", "ioeventfd"),
    ("driver.event_idx", "event_idx"),
    ("driver.copy_on_read", "copy_on_read"),
    ("driver.discard", "discard"),
    ("driver.iothread", "iothread"),
    ("driver.detect_zeroes", "detect_zeroes"),
    ("driver.queues", "queues"),
    ("driver.queue_size", "queue_size"),
)


def check_disk_change(known: Disk, wanted: Disk) -> None:
    """Raises OperationUnsupported for a difference that a running guest cannot be given."""
    for path, name in _FIXED:
        old, new = _part(known, path), _part(wanted, path)
        if old != new and (new is not None or name not in _MAY_BE_LEFT_OUT):
            raise OperationUnsupported(f"cannot modify field '{name}' of the disk")
    if wanted.address is not None and known.address is not None and wanted.address != known.address:
        raise OperationUnsupported("cannot modify field 'address' of the disk")
    wanted_boot = wanted.boot.order if wanted.boot is not None else None
    if wanted_boot is not None and wanted_boot != (known.boot.order if known.boot is not None else None):
        raise OperationUnsupported("cannot modify field 'boot order' of the disk")


_MAY_BE_LEFT_OUT: Final = ("error_policy", "rerror_policy", "ioeventfd", "event_idx", "queues", "queue_size", "serial")


def _part(element: Any, path: str) -> Any:
    for name in path.split("."):
        element = getattr(element, name, None)
    return element


def same_place(one: Disk, other: Disk) -> bool:
    """The two have the same image, whatever else differs."""
    lacks = [disk.source is None or is_empty(disk.source) for disk in (one, other)]
    if any(lacks):
        return all(lacks)
    if type(one.source) is not type(other.source):
        return False
    names = ("file", "dev", "dir", "protocol", "name", "hosts", "pool", "volume", "path", "address")
    return all(getattr(one.source, name, None) == getattr(other.source, name, None) for name in names)


async def _update_disk(board: Board, wanted: Disk, *, force: bool) -> Disk:
    known = next((one for one in board.domain.devices.disks if one.target.dev == wanted.target.dev), None)
    if known is None:
        raise InternalError(f"disk '{wanted.target.dev}' not found")
    check_fits(board.domain, wanted, instead=known)
    _check_alias(known, wanted)
    check_disk_change(known, wanted)
    if same_place(known, wanted):
        if known.source is not None and wanted.source is not None:
            policy = getattr(wanted.source, "startup_policy", None)
            if hasattr(known.source, "startup_policy"):
                known.source.startup_policy = policy
        known.snapshot = wanted.snapshot or known.snapshot
        return known
    if known.device not in (DiskDevice.CDROM, DiskDevice.FLOPPY):
        raise ConfigUnsupported("disk source can be changed only in removable drives")
    await change_medium(board, known, wanted, force=force)
    return known


# --- displays --------------------------------------------------------------------------------------------------------


def find_display(domain: Domain, wanted: Graphics) -> Graphics:
    """The display of that type. Raises DeviceMissing."""
    for known in domain.devices.graphics:
        if known.type is wanted.type:
            return known
    raise DeviceMissing(f"cannot find existing graphics device to modify of type '{wanted.type.value}'")


def check_display_change(known: Graphics, wanted: Graphics) -> None:
    """Raises OperationUnsupported for a difference that takes a new start."""
    kind = known.type.value
    if len(known.listens) != len(wanted.listens):
        raise OperationUnsupported(f"cannot change the number of listen addresses on '{kind}' graphics")
    for old, new in zip(known.listens, wanted.listens, strict=True):
        if old.type is not new.type:
            raise OperationUnsupported(f"cannot change the type of listen address on '{kind}' graphics")
        if old.type is ListenType.ADDRESS and old.address != new.address:
            raise OperationUnsupported(f"cannot change listen address setting on '{kind}' graphics")
        if old.network != new.network:
            raise OperationUnsupported(f"cannot change listen address setting on '{kind}' graphics")
        if new.socket is not None and old.socket != new.socket:
            raise OperationUnsupported(f"cannot change listen socket setting on '{kind}' graphics")
    if known.type not in (GraphicsType.VNC, GraphicsType.SPICE):
        raise OperationUnsupported(f"unable to change config on '{kind}' graphics type")
    moves = bool(known.autoport) != bool(wanted.autoport)
    moves |= not wanted.autoport and (known.port, known.tls_port) != (wanted.port, wanted.tls_port)
    if moves:
        raise OperationUnsupported(f"cannot change port settings on {kind} graphics")
    if known.keymap != wanted.keymap:
        raise OperationUnsupported(f"cannot change keymap setting on {kind} graphics")


async def _update_display(board: Board, wanted: Graphics) -> Graphics:
    known = find_display(board.domain, wanted)
    check_display_change(known, wanted)
    if _secrets(known) != _secrets(wanted):
        for name, arguments in display_commands(wanted):
            await board.talk.ask(name, dict(arguments or {}))
        known.passwd, known.passwd_valid_to = wanted.passwd, wanted.passwd_valid_to
        known.connected = wanted.connected
    return known


def _secrets(graphics: Graphics) -> tuple[str | None, str | None, str | None]:
    return graphics.passwd, graphics.passwd_valid_to, graphics.connected


# --- memory ----------------------------------------------------------------------------------------------------------


async def _update_memory(board: Board, wanted: MemoryDevice) -> MemoryDevice:
    known = find_module(board.domain, wanted)
    if known is None:
        raise ConfigUnsupported(f"memory '{wanted.alias or '(null)'}' not found")
    check_module_change(known, wanted)
    if known.target.requested_kib != wanted.target.requested_kib:
        await memory.resize(board, known, wanted)
    return known


def find_module(domain: Domain, wanted: MemoryDevice) -> MemoryDevice | None:
    """The module that has the name or the place that a document says."""
    for known in domain.devices.memories:
        by_name = wanted.alias is not None and wanted.alias == known.alias
        by_place = wanted.address is not None and wanted.address == known.address
        if known.model is wanted.model and (by_name or by_place):
            return known
    return None


def check_module_change(known: MemoryDevice, wanted: MemoryDevice) -> None:
    """Raises ConfigUnsupported and OperationUnsupported for what cannot change."""
    if known.model is not MemoryModel.VIRTIO_MEM:
        raise OperationUnsupported(f"cannot modify memory of model '{known.model.value}'")
    wanted.address = wanted.address or known.address
    check_device_compatible(known, wanted)
    target = wanted.target
    if target.requested_kib is None:
        raise ConfigUnsupported("requested size must be given")
    if target.block_kib and target.requested_kib % target.block_kib:
        raise ConfigUnsupported("requested size must be an integer multiple of block size")
    if target.requested_kib > target.size_kib:
        raise ConfigUnsupported("requested size must be smaller than or equal to size")
