"""Which device of a guest a document means: the one to take out or to change, in libvirt's words when there is none."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, TypeVar

from actors.qemu.hotplug.lists import kind_of, siblings
from conf.domain.address import Address, PciAddress
from conf.domain.chardev import Channel, CharDevice, Console, Parallel, PtySource, Serial, UnixSource
from conf.domain.chardev_users import RedirDev, Rng
from conf.domain.controller import Controller, ControllerType
from conf.domain.device import Device
from conf.domain.disk import Disk
from conf.domain.domain import Domain
from conf.domain.filesystem import Filesystem
from conf.domain.hostdev import Hostdev, MdevSource, PciHostSource, ScsiHostSource, UsbHostSource
from conf.domain.interface import Interface
from conf.domain.memory_device import MemoryDevice
from conf.domain.shmem import Shmem
from conf.domain.small_devices import Input, Vsock, Watchdog
from conf.element import Element
from schema.errors import DeviceMissing, DomainStateError, OperationFailed, OperationUnsupported

D = TypeVar("D", bound=Device)
_NULL = "(<null>)"


def find(domain: Domain, wanted: Element, doing: str) -> Any:
    """The guest's device that a document means; `doing` is the beginning of the refusal of a kind that never is one.

    Raises DeviceMissing when there is none, OperationFailed when there are several, OperationUnsupported.
    """
    match wanted:
        case Disk():
            return find_disk(domain, wanted)
        case Interface():
            return find_interface(domain, wanted)
        case Controller():
            number = -1 if wanted.index is None else wanted.index
            found = find_controller(domain, wanted.type, number)
            return _need(found, f"controller {wanted.type.value}:{number} not found")
        case Hostdev():
            return _need(_first(domain.devices.hostdevs, lambda one: _is_same_source(one, wanted)), _no_hostdev(wanted))
        case CharDevice():
            found_port = _first(siblings(domain, wanted), lambda one: is_same_port(one, wanted))
            missing = f"chr type '{wanted.tag_name}' device not present in domain configuration"
            return _need(found_port, missing)
        case Shmem():
            missing = f"model '{wanted.model}' shmem device not present in domain configuration"
            return _need(_first(domain.devices.shmems, lambda one: _is_same_shmem(one, wanted)), missing)
        case Watchdog():
            watchdog = domain.devices.watchdog
            if watchdog is None:
                raise DeviceMissing("watchdog device not present in domain configuration")
            is_same = (watchdog.model, watchdog.action) == (wanted.model, wanted.action) and _agrees(watchdog, wanted)
            if not is_same:
                raise DeviceMissing(f"model '{watchdog.model}' watchdog device not present in domain configuration")
            return watchdog
        case Rng():
            missing = f"model '{wanted.model.value}' RNG device not present in domain configuration"
            return _need(_first(domain.devices.rngs, lambda one: _is_same_rng(one, wanted)), missing)
        case MemoryDevice():
            missing = f"model '{wanted.model.value}' memory device not present in the domain configuration"
            return _need(_first(domain.devices.memories, lambda one: _is_same_memory(one, wanted)), missing)
        case RedirDev():
            found_redir = _first(domain.devices.redirdevs, lambda one: _is_same_redirected(one, wanted))
            if found_redir is None:
                raise DomainStateError("no matching redirdev was not found")
            return found_redir
        case Input():
            found_input = _first(domain.devices.inputs, lambda one: _is_same_input(one, wanted))
            return _need(found_input, "matching input device not found")
        case Vsock():
            vsock = domain.devices.vsock
            is_same = vsock is not None and vsock.model == wanted.model and vsock.cid == wanted.cid
            if vsock is None or not is_same or not _agrees(vsock, wanted):
                raise DeviceMissing("matching vsock device not found")
            return vsock
        case Filesystem():
            found_fs = _first(domain.devices.filesystems, lambda one: one.target_dir == wanted.target_dir)
            return _need(found_fs, "matching filesystem not found")
        case _:
            raise OperationUnsupported(f"{doing} of device '{kind_of(wanted)}' is not supported")


def _first(devices: Iterable[D], is_meant: Callable[[D], bool]) -> D | None:
    return next((one for one in devices if is_meant(one)), None)


def _need(found: D | None, missing: str) -> D:
    if found is None:
        raise DeviceMissing(missing)
    return found


def _agrees(device: Device, wanted: Device) -> bool:
    """The place and the name that a document gives, if it gives any, are the device's."""
    if wanted.alias is not None and device.alias is not None and wanted.alias != device.alias:
        return False
    return _is_same_place(device.address, wanted.address)


def _is_same_place(place: Address | None, wanted: Address | None) -> bool:
    if wanted is None or place is None:
        return True
    if isinstance(wanted, PciAddress) and isinstance(place, PciAddress):
        return wanted.is_empty or str(wanted) == str(place)
    return wanted == place


def find_disk(domain: Domain, wanted: Disk) -> Disk:
    """The disk of that name in the guest. Raises DeviceMissing."""
    name = wanted.target.dev
    return _need(_first(domain.devices.disks, lambda one: one.target.dev == name), f"disk {name} not found")


def find_controller(domain: Domain, kind: ControllerType, index: int) -> Controller | None:
    """The controller of that type and number."""
    return _first(domain.devices.controllers, lambda one: one.type is kind and (one.index or 0) == index)


def find_interface(domain: Domain, wanted: Interface) -> Interface:
    """The interface of that address. Raises DeviceMissing, OperationFailed when several have it."""
    mac = wanted.mac.address if wanted.mac is not None else None
    place = wanted.address if isinstance(wanted.address, PciAddress) and not wanted.address.is_empty else None
    found = [
        one
        for one in domain.devices.interfaces
        if (mac is None or (one.mac is not None and one.mac.address == mac)) and _agrees(one, wanted)
    ]
    if not found:
        raise DeviceMissing(
            f"no device found at address '{place or _NULL}' matching MAC address '{mac or _NULL}' "
            f"and alias '{wanted.alias or _NULL}'"
        )
    if len(found) > 1:
        raise OperationFailed(f"multiple devices matching MAC address {mac} found")
    return found[0]


def is_same_port(port: CharDevice, wanted: CharDevice) -> bool:
    """The two stand for one port in the guest, with the same host end as far as that is said."""
    if type(port) is not type(wanted):
        return False
    if isinstance(port, Serial | Parallel | Console) and isinstance(wanted, Serial | Parallel | Console):
        is_same = (port.target and port.target.port) == (wanted.target and wanted.target.port)
        if isinstance(port, Console) and isinstance(wanted, Console):
            is_same = is_same and (port.target and port.target.type) == (wanted.target and wanted.target.type)
    elif isinstance(port, Channel) and isinstance(wanted, Channel):
        is_same = _is_same_channel(port, wanted)
    else:
        return False
    return is_same and port.type is wanted.type and _is_same_end(port, wanted)


def _is_same_channel(port: Channel, wanted: Channel) -> bool:
    mine, other = port.target, wanted.target
    if mine is None or other is None or mine.type != other.type:
        return False
    return (mine.name, mine.address, mine.port) == (other.name, other.address, other.port)


def _is_same_end(port: CharDevice, wanted: CharDevice) -> bool:
    mine, other = port.source, wanted.source
    if isinstance(mine, UnixSource | PtySource | None) and isinstance(other, UnixSource | PtySource | None):
        return (mine.path if mine is not None else None) == (other.path if other is not None else None)
    return mine == other


def _is_same_source(hostdev: Hostdev, wanted: Hostdev) -> bool:
    mine, other = hostdev.source, wanted.source
    if isinstance(mine, UsbHostSource) and isinstance(other, UsbHostSource):
        if other.address is not None and mine.address is not None:
            return mine.address == other.address
        return (mine.vendor, mine.product) == (other.vendor, other.product)
    if isinstance(mine, PciHostSource) and isinstance(other, PciHostSource):
        return mine.address == other.address
    return mine == other


def _no_hostdev(wanted: Hostdev) -> str:
    source = wanted.source
    if isinstance(source, PciHostSource) and source.address is not None:
        a = source.address
        return f"host pci device {a.domain:04x}:{a.bus:02x}:{a.slot:02x}.{a.function:x} not found"
    if isinstance(source, UsbHostSource):
        if source.address is not None:
            return f"host usb device {source.address.bus:03}.{source.address.device:03} not found"
        vendor = source.vendor.id if source.vendor is not None else 0
        product = source.product.id if source.product is not None else 0
        return f"host usb device vendor=0x{vendor:04x} product=0x{product:04x} not found"
    if isinstance(source, ScsiHostSource):
        if source.protocol == "iscsi":
            return f"host scsi iSCSI path {source.name} not found"
        adapter = source.adapter.name if source.adapter is not None else ""
        at = source.address
        return (
            f"host scsi device {adapter}:{at.bus}:{at.target}.{at.unit} not found"
            if at
            else "host scsi device not found"
        )
    if isinstance(source, MdevSource):
        return f"mediated device '{source.address.uuid if source.address is not None else ''}' not found"
    return "host device not found"


def _is_same_shmem(shmem: Shmem, wanted: Shmem) -> bool:
    if (shmem.name, shmem.model) != (wanted.name, wanted.model):
        return False
    if wanted.size is not None and shmem.size is not None and wanted.size != shmem.size:
        return False
    if (wanted.role or "peer") != (shmem.role or "peer"):
        return False
    path = wanted.server.path if wanted.server is not None else None
    mine = shmem.server.path if shmem.server is not None else None
    return (path is None or path == mine) and _agrees(shmem, wanted)


def _is_same_rng(rng: Rng, wanted: Rng) -> bool:
    if (rng.model, rng.rate, rng.backend.model, rng.backend.path) != (
        wanted.model,
        wanted.rate,
        wanted.backend.model,
        wanted.backend.path,
    ):
        return False
    return rng.backend.source == wanted.backend.source and _agrees(rng, wanted)


def _is_same_memory(module: MemoryDevice, wanted: MemoryDevice) -> bool:
    mine, other = module.target, wanted.target
    if module.model is not wanted.model or mine.size_kib != -(-other.size_kib // 2048) * 2048:
        return False
    if (mine.node or 0) != (other.node or 0) or mine.label != other.label:
        return False
    if wanted.source is not None and module.source != wanted.source:
        return False
    return _agrees(module, wanted)


def _is_same_redirected(device: RedirDev, wanted: RedirDev) -> bool:
    if (device.bus, device.type) != (wanted.bus, wanted.type):
        return False
    return (wanted.source is None or device.source == wanted.source) and _agrees(device, wanted)


def _is_same_input(device: Input, wanted: Input) -> bool:
    if (device.type, device.bus) != (wanted.type, wanted.bus):
        return False
    if wanted.model is not None and wanted.model != device.model:
        return False
    return (wanted.source is None or device.source == wanted.source) and _agrees(device, wanted)
