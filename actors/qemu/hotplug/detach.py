"""Taking a device out of a running guest: it is asked to let go, and what stood behind the device goes after it."""

from __future__ import annotations

from typing import Final

from actors.qemu.hotplug import memory
from actors.qemu.hotplug.attach import wants_reservations
from actors.qemu.hotplug.board import Board
from actors.qemu.hotplug.departures import Removal
from actors.qemu.hotplug.images import image_parts
from actors.qemu.hotplug.lists import kind_of, remove
from actors.qemu.hotplug.match import find
from actors.qemu.hotplug.steps import Talk, quietly, take_out
from actors.qemu.monitor.link import Command
from actors.qemu.transient import drop_overlays
from conf.domain.address import DriveAddress, PciAddress
from conf.domain.chardev import CharDevice, Console
from conf.domain.chardev_users import RedirDev, Rng, Smartcard
from conf.domain.controller import Controller, ControllerType
from conf.domain.device import Device
from conf.domain.disk import Disk, DiskBus, DiskDevice
from conf.domain.domain import Domain
from conf.domain.filesystem import Filesystem
from conf.domain.hostdev import Hostdev, ScsiHostSource
from conf.domain.interface import Interface, InterfaceType
from conf.domain.memory_device import MemoryDevice
from conf.domain.shmem import Shmem
from conf.domain.small_devices import Input, InputBus, Vsock, Watchdog
from conf.element import Element
from schema.errors import InternalError, OperationFailed, OperationUnsupported

_DISKS: Final = (DiskBus.VIRTIO, DiskBus.USB, DiskBus.SCSI)


def choose(domain: Domain, wanted: Element) -> Device:
    """The device to take out. Raises DeviceMissing, and OperationUnsupported for what cannot be taken out."""
    if isinstance(wanted, Controller) and wanted.type is not ControllerType.SCSI:
        raise OperationUnsupported(f"'{wanted.type.value}' controller cannot be hot unplugged.")
    device: Device = find(domain, wanted, "live detach")
    check_removable(domain, device)
    return device


def check_removable(domain: Domain, device: Device) -> None:
    """Raises OperationUnsupported and OperationFailed for a device that a running guest cannot lose."""
    match device:
        case Disk():
            _check_disk(device)
        case Controller():
            if device.type is not ControllerType.SCSI:
                raise OperationUnsupported(f"'{device.type.value}' controller cannot be hot unplugged.")
            if _is_busy(domain, device):
                raise OperationFailed("device cannot be detached: device is busy")
        case Watchdog():
            if device.model != "i6300esb":
                raise OperationUnsupported(f"hot unplug of watchdog of model {device.model} is not supported")
        case Shmem():
            if device.model not in ("ivshmem-plain", "ivshmem-doorbell"):
                raise OperationUnsupported(f"live detach of shmem model '{device.model}' is not supported")
        case Input():
            if device.bus not in (InputBus.USB, InputBus.VIRTIO):
                bus = device.bus.value if device.bus is not None else "none"
                raise OperationUnsupported(f"input device on bus '{bus}' cannot be detached")
        case Console() if device.target is None or device.target.type in (None, "serial"):
            raise OperationUnsupported("detaching serial console is not supported")
        case Interface() | Hostdev() | CharDevice() | Rng() | MemoryDevice() | RedirDev() | Vsock() | Filesystem():
            pass
        case _:
            raise OperationUnsupported(f"live detach of device '{kind_of(device)}' is not supported")
    address = device.address
    if isinstance(address, PciAddress) and address.multifunction:
        raise OperationUnsupported(f"cannot hot unplug multifunction PCI device with address '{address}'")
    if device.alias is None:
        raise OperationFailed("device cannot be detached without a device alias")


def _check_disk(disk: Disk) -> None:
    is_fixed = disk.device in (DiskDevice.DISK, DiskDevice.LUN)
    if is_fixed and disk.target.bus not in _DISKS:
        raise OperationUnsupported("This type of disk cannot be hot unplugged")
    if not is_fixed and (disk.device is DiskDevice.FLOPPY or disk.target.bus not in (DiskBus.USB, DiskBus.SCSI)):
        raise OperationUnsupported(f"disk device type '{disk.device.value}' cannot be detached")


def _is_busy(domain: Domain, controller: Controller) -> bool:
    users: list[Device] = [one for one in domain.devices.disks if one.target.bus is DiskBus.SCSI]
    users += [one for one in domain.devices.hostdevs if isinstance(one.source, ScsiHostSource)]
    return any(
        isinstance(one.address, DriveAddress) and one.address.controller == (controller.index or 0) for one in users
    )


async def detach(board: Board, device: Device, *, waits: bool = True) -> Removal:
    """Asks the guest to let a device go, and waits for that if `waits`; then nothing of it is left.

    Raises OperationFailed when the guest refuses, InternalError when QEMU does.
    """
    alias = device.alias or ""
    # QEMU may tell of the end before it answers; where nobody waits, what it tells is taken up as it comes
    departure = board.expect(alias) if waits else None
    try:
        await board.talk.ask("device_del", {"id": alias})
        outcome = await departure.wait() if departure is not None else Removal.PENDING
    except InternalError as exc:
        if "not found" not in exc.message:
            raise
        outcome = Removal.GONE  # it went away unheard
    finally:
        if departure is not None:
            departure.close()
    if outcome is Removal.REFUSED:
        raise OperationFailed("unplug of device was rejected by the guest")
    if outcome is Removal.GONE:
        await clean_up(board, device)
    return outcome


async def clean_up(board: Board, device: Device) -> None:
    """The guest has let the device go: what stood behind it goes too, and it leaves the definition."""
    talk = board.talk
    if isinstance(device, Hostdev) and isinstance(device.source, ScsiHostSource):
        for command in await _backends(talk):
            await quietly(talk, command)
    else:
        await take_out(talk, parts_of(device))
    if isinstance(device, CharDevice):
        await _drop_sets(talk, {f"{device.alias}-source", f"{device.alias}-log"})
    elif isinstance(device, Interface) and device.type is InterfaceType.VDPA:
        await _drop_sets(talk, {f"{device.alias}-vdpa", str(getattr(device.source, "dev", ""))})
    remove(board.domain, device)
    if isinstance(device, Disk):
        drop_overlays([device])
    if isinstance(device, Disk) and wants_reservations(device):
        if not any(wants_reservations(one) for one in board.domain.devices.disks):
            await quietly(talk, ("object-del", {"id": "pr-helper0"}))
    elif isinstance(device, MemoryDevice):
        memory.forget(board, device)
    await board.end_helpers()


def parts_of(device: Device) -> list[Command]:
    """What takes out the parts behind a device that is gone, in order."""
    alias = device.alias
    match device:
        case Disk():
            return image_parts(device)
        case Interface():
            commands: list[Command] = [("netdev_del", {"id": f"host{alias}"})]
            if device.type is InterfaceType.VHOSTUSER:
                commands.append(("chardev-remove", {"id": f"char{alias}"}))
            return commands
        case Rng():
            parts: list[Command] = [("object-del", {"id": f"obj{alias}"})]
            if device.backend.model == "egd":
                parts.append(("chardev-remove", {"id": f"char{alias}"}))
            return parts
        case MemoryDevice():
            return [("object-del", {"id": f"mem{alias}"})]
        case Shmem() if device.model == "ivshmem-plain":
            return [("object-del", {"id": f"shmmem-{alias}"})]
        case Shmem() | RedirDev() | CharDevice() | Smartcard():
            return [("chardev-remove", {"id": f"char{alias}"})]
        case Filesystem():
            return [("chardev-remove", {"id": f"chr-vu-{alias}"})]
        case _:
            return []


async def _backends(talk: Talk) -> list[Command]:
    """The nodes of SCSI devices of the host that no device uses."""
    nodes = await talk.ask("query-named-block-nodes", {"flat": True})
    names = [str(one.get("node-name", "")) for one in nodes]
    unused = [name for name in names if name.startswith("libvirt-") and name.endswith("-backend")]
    # QEMU refuses to drop one that is in use
    return [("blockdev-del", {"node-name": name}) for name in unused]


async def _drop_sets(talk: Talk, opaque: set[str]) -> None:
    for one in await talk.ask("query-fdsets"):
        if any(fd.get("opaque") in opaque for fd in one.get("fds", ())):
            await quietly(talk, ("remove-fd", {"fdset-id": one["fdset-id"]}))
