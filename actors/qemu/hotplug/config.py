"""Devices of the definition for a guest's next start: one more, one less, one that is different."""

from __future__ import annotations

from typing import Any

from actors.qemu.hotplug import update
from actors.qemu.hotplug.fits import check_fits
from actors.qemu.hotplug.lists import insert, kind_of, remove, replace, siblings
from actors.qemu.hotplug.match import find, find_controller, find_interface, is_same_port
from actors.qemu.rules import QemuRules
from conf.domain.aliases import clear_aliases
from conf.domain.chardev import CharDevice, Console
from conf.domain.chardev_users import RedirDev, Rng
from conf.domain.controller import Controller
from conf.domain.device import Device, is_user_alias
from conf.domain.disk import Disk
from conf.domain.documents import complete_domain
from conf.domain.domain import Domain
from conf.domain.filesystem import Filesystem
from conf.domain.graphics import Graphics
from conf.domain.hostdev import Hostdev
from conf.domain.interface import Interface
from conf.domain.memory_device import MemoryDevice
from conf.domain.shmem import Shmem
from conf.domain.small_devices import Input, Lease, Vsock, Watchdog
from conf.domain.sound import Sound
from conf.element import Element
from conf.flags import ParseFlags
from schema.errors import DeviceMissing, DomainStateError, InvalidArguments, OperationUnsupported, XmlError

_KINDS = (
    Disk,
    Interface,
    Sound,
    Hostdev,
    Lease,
    Controller,
    CharDevice,
    Filesystem,
    Rng,
    MemoryDevice,
    RedirDev,
    Shmem,
    Watchdog,
    Input,
    Vsock,
)


def attach(config: Domain, device: Element, rules: QemuRules) -> None:
    """Adds a device, which is changed; the definition is complete and checked again afterwards.

    Raises OperationUnsupported for kinds that cannot be added, DomainStateError for what is there already, and what
    reading a definition raises.
    """
    if not isinstance(device, _KINDS):
        raise OperationUnsupported(f"persistent attach of device '{kind_of(device)}' is not supported")
    check_fits(config, device)
    if isinstance(device, Device):
        _check_new(config, device)
        if device.alias is not None and is_user_alias(device.alias):
            if any(one.alias == device.alias for one in config.devices.all()):
                raise XmlError(f"non unique alias detected: {device.alias}")
        else:
            device.alias = None
    if isinstance(device, Controller) and device.index is None:
        known = [one.index or 0 for one in config.devices.controllers if one.type is device.type]
        device.index = max(known, default=-1) + 1
    insert(config, device)
    if isinstance(device, MemoryDevice):
        config.memory.kib += device.target.size_kib
        if config.current_memory_kib is not None:
            config.current_memory_kib += device.target.size_kib
    _complete(config, rules)


def _check_new(config: Domain, device: Device) -> None:
    others = siblings(config, device)
    match device:
        case Disk():
            if any(one.target.dev == device.target.dev for one in others):
                raise DomainStateError(f"target {device.target.dev} already exists")
        case Hostdev():
            if any(one.source == device.source for one in others):
                raise DomainStateError("device is already in the domain configuration")
        case Controller():
            if device.index is not None and find_controller(config, device.type, device.index) is not None:
                raise DomainStateError(f"controller index='{device.index}' already exists")
        case CharDevice():
            is_serial = isinstance(device, Console) and (
                device.target is None or device.target.type in (None, "serial")
            )
            if is_serial and others:
                raise OperationUnsupported("attaching serial console is not supported")
            if any(is_same_port(one, device) for one in others):
                raise DomainStateError("chardev already exists")
        case Filesystem():
            if any(one.target_dir == device.target_dir for one in others):
                raise DomainStateError("Target already exists")
        case Shmem():
            if any(one.name == device.name for one in others):
                raise DomainStateError("device is already in the domain configuration")
        case Watchdog() if others:
            raise DomainStateError("domain already has a watchdog")
        case Vsock() if others:
            raise DomainStateError("domain already has a vsock device")
        case _:
            pass


def detach(config: Domain, wanted: Element, rules: QemuRules) -> None:
    """Takes out the device that a document means. Raises DeviceMissing, OperationUnsupported."""
    device = choose(config, wanted)
    drop(config, device, rules)


def choose(config: Domain, wanted: Element) -> Any:
    """The device of a definition that a document means. Raises DeviceMissing, OperationUnsupported and others."""
    match wanted:
        case Disk():
            found = next((one for one in config.devices.disks if one.target.dev == wanted.target.dev), None)
            if found is None:
                raise DeviceMissing(f"no target device {wanted.target.dev}")
            return found
        case Console() if wanted.target is None or wanted.target.type in (None, "serial"):
            raise DomainStateError("detaching serial console is not supported")
        case Watchdog():
            if config.devices.watchdog is None:
                raise DeviceMissing("domain has no watchdog")
            return config.devices.watchdog
        case Sound() | Lease():
            known = next((one for one in siblings(config, wanted) if _is_same(one, wanted)), None)
            if known is None:
                raise DeviceMissing("device not present in domain configuration")
            return known
        case _:
            try:
                return find(config, wanted, "persistent detach")
            except DeviceMissing as exc:
                raise _missing(wanted, exc) from None


def _is_same(known: Element, wanted: Element) -> bool:
    if isinstance(known, Sound) and isinstance(wanted, Sound):
        return known.model == wanted.model
    return known == wanted


def _missing(wanted: Element, error: DeviceMissing) -> DeviceMissing | InvalidArguments:
    """A definition lacks a device in other words than a running guest."""
    text = "device not present in domain configuration"
    match wanted:
        case CharDevice():
            return _invalid(text)
        case Controller():
            return DeviceMissing(text)
        case MemoryDevice():
            return DeviceMissing("matching memory device was not found")
        case Shmem():
            return DeviceMissing("matching shmem device was not found")
        case _:
            return error


def drop(config: Domain, device: Element, rules: QemuRules) -> None:
    """Takes that very device out."""
    if not isinstance(device, _KINDS):
        raise OperationUnsupported(f"persistent detach of device '{kind_of(device)}' is not supported")
    remove(config, device)
    if isinstance(device, MemoryDevice):
        config.memory.kib -= device.target.size_kib
        if config.current_memory_kib is not None:
            config.current_memory_kib = min(config.current_memory_kib, config.memory.kib)
    _complete(config, rules)


def change(config: Domain, wanted: Element, rules: QemuRules) -> None:
    """Puts another device in the place of one. Raises DeviceMissing, InvalidArguments, OperationUnsupported."""
    known = _known(config, wanted)
    check_fits(config, wanted, instead=known)
    if isinstance(known, Device) and isinstance(wanted, Device):
        wanted.alias = wanted.alias if wanted.alias is not None and is_user_alias(wanted.alias) else None
    replace(config, known, wanted)
    _complete(config, rules)


def _known(config: Domain, wanted: Element) -> Element:
    match wanted:
        case Disk():
            found = next((one for one in config.devices.disks if one.target.dev == wanted.target.dev), None)
            if found is None:
                raise _invalid(f"target {wanted.target.dev} doesn't exist.")
            return found
        case Graphics():
            display = next((one for one in config.devices.graphics if one.type is wanted.type), None)
            if display is None:
                raise _invalid(f"cannot find existing graphics type '{wanted.type.value}' device to modify")
            return display
        case Interface():
            return find_interface(config, wanted)
        case MemoryDevice():
            module = update.find_module(config, wanted)
            if module is None:
                raise _invalid("memory not found")
            return module
        case _:
            raise OperationUnsupported(f"persistent update of device '{kind_of(wanted)}' is not supported")


def _invalid(text: str) -> InvalidArguments:
    error = InvalidArguments()
    error.message = f"invalid argument: {text}"
    return error


def _complete(config: Domain, rules: QemuRules) -> None:
    clear_aliases(config)
    complete_domain(config, rules, ParseFlags.INACTIVE | ParseFlags.ABI_UPDATE)
