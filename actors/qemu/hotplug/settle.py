"""What a driver that died in the middle of plugging left behind, and what guests did while nobody listened.

QEMU is the truth: what it has stands in the definition, what it has not does not, and parts of devices that never came
about are taken out.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

from actors.qemu.guest import Guest
from actors.qemu.host import QemuHost
from actors.qemu.hotplug import memory
from actors.qemu.hotplug.board import Board
from actors.qemu.hotplug.guest_board import GuestTalk, added, commit, open_board, removed
from actors.qemu.hotplug.images import image_parts
from actors.qemu.hotplug.lists import by_alias, insert
from actors.qemu.hotplug.processors import read_entities
from actors.qemu.hotplug.removal import finish
from actors.qemu.hotplug.steps import quietly
from actors.qemu.hotplug.vcpus import look, take_threads
from actors.qemu.hotplug.vcpus import refresh as refresh_vcpus
from actors.qemu.live import learn_ptys
from actors.qemu.states import Told
from actors.qemu.transient import drop_overlays
from actors.runtime.intents import UnfinishedIntent
from conf.document import parse_document
from conf.domain.chardev import Channel, CharMode, Console, UnixSource
from conf.domain.chardev_users import RedirDev, Rng
from conf.domain.controller import Controller, ControllerType
from conf.domain.device import Device
from conf.domain.disk import Disk, DiskBus
from conf.domain.documents import DEVICE_CLASSES
from conf.domain.domain import Domain
from conf.domain.hostdev import Hostdev
from conf.domain.interface import Interface
from conf.domain.memory_device import MemoryDevice
from conf.domain.shmem import Shmem
from conf.domain.small_devices import Input, InputBus, Vsock, Watchdog
from conf.domain.storage_source import FileSource, SourceType
from conf.flags import ParseFlags
from schema.errors import OperationFailed, VirtError

KINDS: Final = ("attach", "detach", "update", "vcpus", "iothread")
ANSWER_S: Final = 5.0
"""How long a guest may hold up other changes of it by not saying what devices it has."""
_PERIPHERAL: Final = "/machine/peripheral"


async def settle_plugs(host: QemuHost) -> None:
    """Gives every change of devices that was under way its end. A guest that does not answer delays nobody."""
    for intent in host.intents.open:
        if intent.kind in KINDS:
            guest = next((one for one in host.guests.values() if one.record.uuid == intent.data["uuid"]), None)
            try:
                await _settle(host, guest, intent)
            except VirtError as exc:
                host.log.warning("a change of devices could not be settled", kind=intent.kind, error=exc.message)
                await intent.undo(exc)


async def _settle(host: QemuHost, guest: Guest | None, intent: UnfinishedIntent) -> None:
    if guest is None or guest.run is None:
        await intent.undo()
        return
    if guest.monitor is None or not guest.monitor.is_open:
        await intent.undo(OperationFailed(f"guest '{guest.name}' does not say what became of it"))
        return
    if await _is_done(host, guest, intent):
        await intent.finish(None)
    else:
        await intent.undo()


async def _is_done(host: QemuHost, guest: Guest, intent: UnfinishedIntent) -> bool:
    match intent.kind:
        case "attach":
            return await _settle_attach(host, guest, intent.data)
        case "detach":
            return await _settle_detach(host, guest, intent.data)
        case "update":
            return await _settle_update(host, guest, intent.data)
        case "vcpus":
            return await _settle_vcpus(host, guest, intent.data)
        case _:
            return await _settle_iothread(host, guest, intent.data)


def _config(data: dict[str, Any]) -> Domain | None:
    text = data.get("config") or ""
    if not text:
        return None
    return Domain.parse(parse_document(text, name="domain_definition", root="domain"), ParseFlags.INACTIVE)


def _noted(data: dict[str, Any]) -> list[Device]:
    """The devices that were about to be plugged in, in order; the last one is what was asked for."""
    found = []
    for text in data.get("devices", ()):
        node = parse_document(text, name="device_definition")
        device = DEVICE_CLASSES[str(node.tag)].parse(node, ParseFlags.STATUS)
        if isinstance(device, Device):
            found.append(device)
    return found


async def peripheral(guest: Guest) -> set[str]:
    """The aliases of the devices that QEMU has. Raises as `Guest.ask` does."""
    return {str(one["name"]) for one in await guest.ask("qom-list", {"path": _PERIPHERAL})}


async def _take_back(guest: Guest, data: dict[str, Any]) -> None:
    """Takes out what stands of a device that did not come about; what is not there need not go."""
    for name, arguments in data.get("undo", ()):
        if name != "device_del":
            await quietly(GuestTalk(guest), (name, arguments))


# --- devices ---------------------------------------------------------------------------------------------------------


async def _settle_attach(host: QemuHost, guest: Guest, data: dict[str, Any]) -> bool:
    devices = _noted(data)
    if not devices:
        return False
    wanted = devices[-1]
    known = by_alias(guest.live, wanted.alias or "")
    if isinstance(known, Disk) and isinstance(wanted, Disk):
        if known.source == wanted.source:
            return True  # it was written down already
        return await _settle_medium(host, guest, known, wanted, data)
    names = await peripheral(guest)
    is_done = (wanted.alias or "") in names
    if not is_done:
        await _take_back(guest, data)
        drop_overlays(one for one in devices if isinstance(one, Disk))
        _drop_sockets(devices)
    new = [one for one in devices if one.alias in names and by_alias(guest.live, one.alias or "") is None]
    if new:
        async with open_board(host, guest) as board:
            for device in new:
                await _take_in(board, device)
        told = [added(guest, device) for device in new]
        await _write(host, guest, board.domain, _config(data) if is_done else None, told)
    return is_done


def _drop_sockets(devices: Iterable[Device]) -> None:
    """Nobody listens any more at sockets that were made for devices which did not come about."""
    for device in devices:
        source = getattr(device, "source", None)
        if isinstance(source, UnixSource) and source.mode is CharMode.BIND and source.path:
            with contextlib.suppress(OSError):
                Path(source.path).unlink()


async def _take_in(board: Board, device: Device) -> None:
    insert(board.domain, device)
    if isinstance(device, MemoryDevice):
        board.domain.memory.kib += device.target.size_kib
        if board.domain.current_memory_kib is not None:
            board.domain.current_memory_kib += device.target.size_kib
        await memory.refresh(board)
    elif isinstance(device, Channel | Console):
        learn_ptys(board.domain, await board.talk.ask("query-chardev"))


async def _write(host: QemuHost, guest: Guest, live: Domain, config: Domain | None, told: list[Told]) -> None:
    """Writes it down; it is told as soon as this process can tell anything."""
    await commit(host, guest, live=live, config=config, publishes=False)
    host.untold.append((guest, told))


async def _settle_detach(host: QemuHost, guest: Guest, data: dict[str, Any]) -> bool:
    alias = str(data.get("alias") or "")
    device = by_alias(guest.live, alias)
    if device is None:
        return True
    if alias in await peripheral(guest):
        return False
    from actors.qemu.hotplug.detach import clean_up

    async with open_board(host, guest) as board:
        await clean_up(board, by_alias(board.domain, alias))
    await _write(host, guest, board.domain, _config(data), [removed(guest, device)])
    return True


async def _settle_update(host: QemuHost, guest: Guest, data: dict[str, Any]) -> bool:
    for wanted in _noted(data):
        known = by_alias(guest.live, wanted.alias or "")
        if isinstance(known, Disk) and isinstance(wanted, Disk):
            if known.source == wanted.source:
                return True
            return await _settle_medium(host, guest, known, wanted, data)
    # links and sizes are set to what the definition says, which is what they were
    for interface in guest.live.devices.interfaces:
        await guest.ask("set_link", {"name": interface.alias, "up": interface.link_state != "down"})
    return False


async def _settle_medium(host: QemuHost, guest: Guest, known: Disk, wanted: Disk, data: dict[str, Any]) -> bool:
    """The drive holds the new medium, the old one or none: its definition says so from now on."""
    node = await _inserted(guest, known.alias or "")
    old, new = (disk.source.index if disk.source is not None else None for disk in (known, wanted))
    is_new = node == f"libvirt-{new}-format"
    if not is_new and node is not None and node == f"libvirt-{old}-format":
        await _take_back(guest, data)
        await _close(guest, known)
        return False
    is_ejected = node is None and (wanted.source is None or getattr(wanted.source, "file", None) is None)
    if not is_new:
        await _take_back(guest, data)
    for name, arguments in image_parts(known):
        await quietly(GuestTalk(guest), (name, arguments))
    async with open_board(host, guest) as board:
        drive: Disk = by_alias(board.domain, known.alias or "")
        drive.type, drive.source = wanted.type, wanted.source
        drive.backing_store, drive.driver = wanted.backing_store, wanted.driver or drive.driver
        if not is_new:
            drive.type, drive.source, drive.backing_store = SourceType.FILE, FileSource(), None
    await _close(guest, known)
    is_done = is_new or is_ejected
    await _write(host, guest, board.domain, _config(data) if is_done else None, [])
    return is_done


async def _inserted(guest: Guest, alias: str) -> str | None:
    for one in await guest.ask("query-block"):
        if str(one.get("qdev", "")).removeprefix(f"{_PERIPHERAL}/") == alias:
            name = (one.get("inserted") or {}).get("node-name")
            return None if name is None else str(name)
    return None


async def _close(guest: Guest, drive: Disk) -> None:
    await quietly(GuestTalk(guest), ("blockdev-close-tray", {"id": drive.alias}))


# --- processors and threads ------------------------------------------------------------------------------------------


async def _settle_vcpus(host: QemuHost, guest: Guest, data: dict[str, Any]) -> bool:
    async with open_board(host, guest) as board:
        entities = await look(board)
    online = {number for one in entities if one.is_online for number in range(one.first, one.first + one.count)}
    if "count" in data:
        is_done = len(online) == int(data["count"])
    else:
        wanted = bool(data["enable"])
        is_done = all((number in online) == wanted for number in data["numbers"])
    if board.domain != guest.live or is_done:
        await take_threads(guest)
        await _write(host, guest, board.domain, _config(data) if is_done else None, [])
    return is_done


async def _settle_iothread(host: QemuHost, guest: Guest, data: dict[str, Any]) -> bool:
    from actors.qemu.hotplug.iothreads import add_thread, drop_thread, has_thread

    number, is_wanted = int(data["number"]), bool(data["add"])
    names = {str(one["id"]) for one in await guest.ask("query-iothreads")}
    if (f"iothread{number}" in names) != is_wanted:
        return False
    if has_thread(guest.live, number) != is_wanted:
        live = guest.live.copy()
        (add_thread if is_wanted else drop_thread)(live, number)
        await _write(host, guest, live, _config(data), [])
    return True


# --- what guests did meanwhile ---------------------------------------------------------------------------------------


async def look_after_all(host: QemuHost) -> None:
    """Takes over from each guest what it did with its devices while this driver was away."""
    await asyncio.sleep(0)  # until start() has returned nothing can be told
    untold, host.untold = host.untold, []
    for guest, told in untold:
        if host.guests.get(guest.key) is guest:
            host.publish(guest, told)
    for guest in list(host.guests.values()):
        if guest.run is not None and guest.monitor is not None and guest.monitor.is_open:
            host.runtime.spawn(look_after(host, guest), f"devices of {guest.name}")


async def look_after(host: QemuHost, guest: Guest) -> None:
    """Devices that the guest let go while nobody listened leave its definition now."""
    async with host.runtime.mailbox(("domain", guest.key)).change("devices"):
        if guest.run is None or host.guests.get(guest.key) is not guest:
            return
        try:
            async with asyncio.timeout(ANSWER_S):
                names = await peripheral(guest)
            for device in [one for one in guest.live.devices.all() if _is_plugged(one) and one.alias not in names]:
                await finish(host, guest, device.alias or "")
            if guest.live.vcpus is not None and await _differs(guest):
                await refresh_vcpus(host, guest)
        except (TimeoutError, VirtError) as exc:
            host.log.warning("a guest does not say what devices it has", guest=guest.name, error=str(exc))


async def _differs(guest: Guest) -> bool:
    slots, cpus = await guest.ask_all([("query-hotpluggable-cpus", None), ("query-cpus-fast", None)])
    online = {one.first for one in read_entities(slots, cpus) if one.is_online}
    known = guest.live.vcpus.vcpus if guest.live.vcpus is not None else []
    return any(one.enabled and one.hotpluggable and one.id not in online for one in known if _leads(slots, one.id))


def _leads(slots: list[dict[str, Any]], number: int) -> bool:
    """The first of the processors that come and go together stands for them."""
    first = 0
    for slot in reversed(slots):
        if first == number:
            return True
        first += int(slot.get("vcpus-count", 1))
    return False


def _is_plugged(device: Device) -> bool:
    """QEMU knows the device by its alias, and the guest can let it go."""
    match device:
        case Disk():
            return device.target.bus in (DiskBus.VIRTIO, DiskBus.SCSI, DiskBus.USB)
        case Input():
            return device.bus in (InputBus.USB, InputBus.VIRTIO)
        case Controller():
            return device.type is ControllerType.SCSI
        case Watchdog():
            return device.model == "i6300esb"
        case Console() | Channel():
            return device.target is not None and device.target.type == "virtio"
        case Shmem():
            return device.model in ("ivshmem-plain", "ivshmem-doorbell")
        case Interface() | Rng() | MemoryDevice() | Hostdev() | RedirDev() | Vsock():
            return True
        case _:
            return False
