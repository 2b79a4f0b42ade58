"""Plugging a device into a running guest."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Final

from actors.qemu.command import controllers, nets, passthrough, ports, small
from actors.qemu.command.blockdev import disk_nodes, is_empty, topmost
from actors.qemu.command.disks import disk_device
from actors.qemu.command.launch import Launch
from actors.qemu.hotplug import memory
from actors.qemu.hotplug.board import Board
from actors.qemu.hotplug.fits import check_disk_apart, check_fits
from actors.qemu.hotplug.lists import insert, kind_of, remove, siblings
from actors.qemu.hotplug.match import find_controller, is_same_port
from actors.qemu.hotplug.media import change_medium
from actors.qemu.hotplug.places import check_alias, settle
from actors.qemu.hotplug.steps import Steps, carry_out
from actors.qemu.live import throttle
from actors.qemu.transient import overlay_of
from conf.domain.address import DriveAddress
from conf.domain.chardev import (
    Channel,
    CharDevice,
    CharMode,
    CharType,
    Console,
    ConsoleTarget,
    PtySource,
    Serial,
    UnixSource,
)
from conf.domain.chardev_users import RedirDev, Rng
from conf.domain.controller import Controller, ControllerType
from conf.domain.defaults import complete_device
from conf.domain.device import Device
from conf.domain.disk import Disk, DiskBus, DiskDevice
from conf.domain.filesystem import Filesystem
from conf.domain.hostdev import Hostdev, HostdevType, ScsiHostSource
from conf.domain.interface import Interface, InterfaceType
from conf.domain.memory_device import MemoryDevice
from conf.domain.shmem import Shmem, ShmemServer
from conf.domain.small_devices import Input, InputBus, Lease, Vsock, Watchdog
from conf.domain.storage_source import VhostUserSource
from conf.element import Element
from conf.flags import ParseFlags
from schema.errors import ConfigUnsupported, DomainStateError, OperationFailed, OperationUnsupported, RefusedDocument

_DISK_BUSES: Final = (DiskBus.USB, DiskBus.VIRTIO, DiskBus.SCSI, DiskBus.IDE, DiskBus.SATA)
"""Whether the bus takes a disk while it runs is QEMU's to say."""
_MANY_QUEUES: Final = (InterfaceType.VHOSTUSER, InterfaceType.VDPA)
_RESERVATIONS: Final = "pr-helper0"
_HOST_DEVICES: Final = (
    HostdevType.PCI,
    HostdevType.USB,
    HostdevType.SCSI,
    HostdevType.SCSI_HOST,
    HostdevType.MDEV,
)


async def attach(board: Board, device: Element) -> Element:
    """Plugs a device in; it then stands in the board's definition. A medium for a drive that is there is inserted.

    The device as it is now is returned. Nothing is left of it when this fails. Raises OperationUnsupported for kinds
    that cannot be plugged in, XmlError and DomainStateError for what is taken, InternalError when QEMU refuses.
    """
    if isinstance(device, Lease):
        insert(board.domain, device)
        return device
    if not isinstance(device, Device):
        raise OperationUnsupported(f"live attach of device '{kind_of(device)}' is not supported")
    check_fits(board.domain, device)
    check_alias(board.domain, device)
    match device:
        case Disk():
            return await _attach_disk(board, device)
        case Interface():
            await _attach_interface(board, device)
        case Controller():
            await _attach_controller(board, device)
        case Hostdev():
            await _attach_hostdev(board, device)
        case CharDevice():
            await _attach_port(board, device)
        case MemoryDevice():
            await memory.attach(board, device)
        case Shmem():
            await _attach_shmem(board, device)
        case Watchdog():
            await _attach_watchdog(board, device)
        case Vsock():
            if board.domain.devices.vsock is not None:
                raise DomainStateError("the domain already has a vsock device")
            await _plug(board, device, small.add_vsock)
        case Rng():
            await _plug(board, device, small.add_rngs)
        case RedirDev():
            await _plug(board, device, passthrough.add_redirected)
        case Input() if device.bus in (InputBus.USB, InputBus.VIRTIO):
            await _plug(board, device, small.add_inputs)
        case Input():
            bus = device.bus.value if device.bus is not None else "none"
            raise OperationUnsupported(f"input device on bus '{bus}' cannot be hot plugged.")
        case Filesystem():
            if device.driver is None or device.driver.type != "virtiofs":
                raise OperationUnsupported("only virtiofs filesystems can be hotplugged")
            await _plug(board, device, passthrough.add_filesystems)
        case _:
            raise OperationUnsupported(f"live attach of device '{kind_of(device)}' is not supported")
    return device


Writer = Callable[[Launch, Steps], None]
"""Writes the options of a device."""


async def _plug(board: Board, device: Device, write: Writer) -> dict[str, Any]:
    """Gives the device its place and name, and has QEMU make what the writer writes; the values of the steps."""
    settle(board.domain, device, board.rules)
    try:
        await board.start_helper(device)
        steps = Steps()
        write(board.launch(device), steps)
        return await make(board, device, steps)
    except BaseException:
        remove(board.domain, device)
        await asyncio.shield(board.end_helpers())
        raise


async def make(board: Board, device: Device, steps: Steps) -> dict[str, Any]:
    """Has QEMU take the steps of a device, which are written down before."""
    await board.note(device, steps.undo)
    return await carry_out(board.talk, steps.ordered)


# --- disks -----------------------------------------------------------------------------------------------------------


async def _attach_disk(board: Board, disk: Disk) -> Element:
    if disk.device in (DiskDevice.CDROM, DiskDevice.FLOPPY):
        drive = next((one for one in board.domain.devices.disks if one.target.dev == disk.target.dev), None)
        if drive is not None:
            await change_medium(board, drive, disk, force=False)
            return drive
        if disk.device is DiskDevice.FLOPPY:
            raise OperationUnsupported("floppy device hotplug isn't supported")
    bus = disk.target.bus
    if bus not in _DISK_BUSES:
        raise OperationUnsupported(f"disk bus '{bus.value if bus is not None else 'none'}' cannot be hotplugged.")
    if bus is DiskBus.USB and disk.device is DiskDevice.LUN:
        raise ConfigUnsupported("disk device='lun' is not supported for usb bus")
    await board.read_chain(disk)
    check_disk_apart(board.domain, disk)
    if disk.transient is not None:
        await board.make_overlay(disk)
    if isinstance(disk.address, DriveAddress) and bus is DiskBus.SCSI:
        await _ensure_scsi_controllers(board, disk.address.controller)

    def write(launch: Launch, steps: Steps) -> None:
        number_disk(board, disk)
        _need_controller(board, disk)
        _write_disk(board, launch, steps, disk)

    await _plug(board, disk, write)
    return disk


def _need_controller(board: Board, disk: Disk) -> None:
    kind = {DiskBus.IDE: ControllerType.IDE, DiskBus.SATA: ControllerType.SATA}.get(disk.target.bus or DiskBus.USB)
    if kind is None or not isinstance(disk.address, DriveAddress):
        return
    if find_controller(board.domain, kind, disk.address.controller) is None:
        raise RefusedDocument(
            f"Could not find {kind.value} controller with index {disk.address.controller} required for device"
        )


def number_disk(board: Board, disk: Disk) -> None:
    """Gives the images of a disk numbers that no image of the guest has had."""
    if disk.source is None or isinstance(disk.source, VhostUserSource):
        return
    if overlay_of(disk) is None:
        disk.source.index = board.number()
    if is_empty(disk.source):
        disk.source.index = None
        return
    below = disk.backing_store
    while below is not None and below.source is not None:
        below.index = board.number()
        below = below.backing_store
    if disk.source.index is None:
        # as if it had been put on an image that was there before
        disk.source.index = board.number()


def _write_disk(board: Board, launch: Launch, steps: Steps, disk: Disk) -> None:
    if wants_reservations(disk) and not any(
        wants_reservations(one) for one in board.domain.devices.disks if one is not disk
    ):
        path = str(board.folder / f"{_RESERVATIONS}.sock")
        steps.add_json("-object", {"qom-type": "pr-manager-helper", "id": _RESERVATIONS, "path": path})
    if isinstance(disk.source, VhostUserSource):
        steps.add("-chardev", f"socket,id=chr-vu-{disk.alias},path={(disk.source.path or '').replace(',', ',,')}")
        steps.add_json("-device", disk_device(launch, disk, None))
        return
    nodes = disk_nodes(launch, disk)
    for node in nodes:
        node.write_descriptors(steps)
        node.write(steps)
    steps.add_json("-device", disk_device(launch, disk, topmost(nodes)))
    if disk.iotune is not None:
        steps.add_command(*throttle(disk, disk.iotune))


def wants_reservations(disk: Disk) -> bool:
    """The disk's persistent reservations are kept by a helper of the guest."""
    wanted = getattr(disk.source, "reservations", None)
    return wanted is not None and bool(wanted.managed)


async def _ensure_scsi_controllers(board: Board, highest: int) -> None:
    """A disk may sit on a controller that is not there yet; there are no gaps before it either."""
    model = next((one.model for one in board.domain.devices.controllers if one.type is ControllerType.SCSI), None)
    for index in range(highest + 1):
        if find_controller(board.domain, ControllerType.SCSI, index) is None:
            controller = Controller(type=ControllerType.SCSI, index=index, model=model)
            await _attach_controller(board, controller)


# --- controllers -----------------------------------------------------------------------------------------------------


async def _attach_controller(board: Board, controller: Controller) -> None:
    if controller.type is not ControllerType.SCSI:
        raise OperationUnsupported(f"'{controller.type.value}' controller cannot be hot plugged.")
    if controller.index is None:
        known = [one.index or 0 for one in board.domain.devices.controllers if one.type is controller.type]
        controller.index = max(known, default=-1) + 1
    if find_controller(board.domain, controller.type, controller.index) is not None:
        raise OperationFailed(f"target {controller.type.value}:{controller.index} already exists")
    complete_device(controller, board.domain, board.rules, ParseFlags.NONE)
    await _plug(board, controller, lambda launch, steps: _write_controller(launch, steps, controller))


def _write_controller(launch: Launch, steps: Steps, controller: Controller) -> None:
    launch.domain.devices.controllers = [one for one in launch.domain.devices.controllers if one.type == "pci"]
    every = [*launch.domain.devices.controllers, controller]
    launch.domain.devices.controllers = every
    written = Steps()
    controllers.add_controllers(launch, written)
    # the buses it may sit on are there already
    steps.steps += [step for step in written.steps if step.arguments.get("id") == controller.alias]


# --- interfaces ------------------------------------------------------------------------------------------------------


async def _attach_interface(board: Board, interface: Interface) -> None:
    if interface.type is InterfaceType.HOSTDEV:
        if not board.has_vfio():
            raise ConfigUnsupported("host doesn't support passthrough of host PCI devices")
        await _plug(board, interface, lambda launch, steps: passthrough.add_hostdevs(launch, steps, 0))
        return
    if interface.type is InterfaceType.VHOSTUSER and not nets.is_virtio(interface):
        raise ConfigUnsupported("vhostuser requires virtio-net* frontend")
    queues = (interface.driver.queues if interface.driver is not None else None) or 0
    if queues > 1 and not nets.ends_in_tap(interface) and interface.type not in _MANY_QUEUES:
        mac = interface.mac.address if interface.mac is not None else ""
        raise ConfigUnsupported(
            f"interface {mac} - multiqueue is not supported for network interfaces of type {interface.type.value}"
        )
    await _plug(board, interface, lambda launch, steps: _write_interface(launch, steps, interface))


def _write_interface(launch: Launch, steps: Steps, interface: Interface) -> None:
    nets.add_interfaces(launch, steps)
    if interface.link_state == "down":
        steps.add_command("set_link", {"name": interface.alias, "up": False})


# --- devices of the host ---------------------------------------------------------------------------------------------


async def _attach_hostdev(board: Board, hostdev: Hostdev) -> None:
    if hostdev.type not in (
        HostdevType.PCI,
        HostdevType.USB,
        HostdevType.SCSI,
        HostdevType.SCSI_HOST,
        HostdevType.MDEV,
    ):
        raise OperationUnsupported(f"hotplug is not supported for hostdev subsys type '{hostdev.type.value}'")
    if hostdev.type is HostdevType.PCI and not board.has_vfio():
        raise ConfigUnsupported("host doesn't support passthrough of host PCI devices")
    if any(one.source == hostdev.source for one in board.domain.devices.hostdevs):
        raise DomainStateError("device is already in the domain configuration")
    if isinstance(hostdev.address, DriveAddress) and hostdev.type is HostdevType.SCSI:
        await _ensure_scsi_controllers(board, hostdev.address.controller)
    number = board.number() if isinstance(hostdev.source, ScsiHostSource) else 0
    await _plug(board, hostdev, lambda launch, steps: passthrough.add_hostdevs(launch, steps, number))


# --- character devices -----------------------------------------------------------------------------------------------


async def _attach_port(board: Board, port: CharDevice) -> None:
    if isinstance(port, Console) and (port.target is None or port.target.type in (None, "serial")):
        raise ConfigUnsupported("unsupported console target type serial")
    if any(is_same_port(one, port) for one in siblings(board.domain, port)):
        raise DomainStateError("chardev already exists")
    if isinstance(port, Channel):
        _place_socket(board, port)
    values = await _plug(board, port, _PORTS[port.tag_name])
    told = values.get(f"char{port.alias}") or {}
    if port.type is CharType.PTY and told.get("pty"):
        port.source = PtySource(path=str(told["pty"]))
    devices = board.domain.devices
    if isinstance(port, Serial) and len(devices.serials) == 1 and not devices.consoles:
        devices.consoles.append(_console_of(port))


def _console_of(serial: Serial) -> Console:
    """The console that stands for the guest's first serial port."""
    number = serial.target.port if serial.target is not None else None
    console = Console(
        type=serial.type,
        source=serial.source.copy() if serial.source is not None else None,
        protocol=serial.protocol,
        target=ConsoleTarget(type="serial", port=number or 0),
    )
    console.alias, console.address = serial.alias, serial.address
    return console


_PORTS: Final = {
    "serial": ports.add_serials,
    "parallel": ports.add_parallels,
    "channel": ports.add_channels,
    "console": ports.add_consoles,
}


def _place_socket(board: Board, channel: Channel) -> None:
    """A channel on a socket without a path gets one of ours, which listens."""
    if channel.type is not CharType.UNIX or channel.target is None:
        return
    source = channel.source if isinstance(channel.source, UnixSource) else UnixSource(mode=CharMode.BIND)
    if source.path is None:
        source.mode = CharMode.BIND
        source.path = str(board.channels / board.folder.name / (channel.target.name or "channel"))
    channel.source = source


# --- others ----------------------------------------------------------------------------------------------------------


async def _attach_shmem(board: Board, shmem: Shmem) -> None:
    if shmem.model not in ("ivshmem-plain", "ivshmem-doorbell"):
        raise OperationUnsupported(f"live attach of shmem model '{shmem.model}' is not supported")
    if shmem.model == "ivshmem-doorbell":
        shmem.server = shmem.server or ShmemServer()
        shmem.server.path = shmem.server.path or f"{board.options.shmem_folder}/shmem-{shmem.name}-sock"
    await _plug(board, shmem, passthrough.add_shmems)


async def _attach_watchdog(board: Board, watchdog: Watchdog) -> None:
    if board.domain.devices.watchdog is not None:
        raise DomainStateError("domain already has a watchdog")
    if watchdog.model != "i6300esb":
        raise OperationUnsupported(f"hotplug of watchdog of model {watchdog.model} is not supported")
    await _plug(board, watchdog, small.add_watchdog)
