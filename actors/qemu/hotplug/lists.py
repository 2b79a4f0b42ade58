"""Where devices stand in a definition, and how one comes in and goes out."""

from __future__ import annotations

from typing import Any, Final

from conf.domain.chardev import Channel, Console, Parallel, Serial
from conf.domain.chardev_users import RedirDev, Rng, Smartcard, Tpm
from conf.domain.controller import Controller
from conf.domain.defaults_controller import insert_controller
from conf.domain.defaults_disk import sort_disks
from conf.domain.disk import Disk
from conf.domain.domain import Devices, Domain
from conf.domain.filesystem import Filesystem
from conf.domain.graphics import Graphics
from conf.domain.hostdev import Hostdev
from conf.domain.interface import Interface
from conf.domain.memory_device import MemoryDevice
from conf.domain.shmem import Shmem
from conf.domain.small_devices import Crypto, Hub, Input, Iommu, Lease, MemBalloon, Nvram, Panic, Vsock, Watchdog
from conf.domain.sound import Audio, Sound
from conf.domain.video import Video
from conf.element import Element

_NAMES: Final[dict[type[Element], str]] = {
    Disk: "disks",
    Controller: "controllers",
    Lease: "leases",
    Filesystem: "filesystems",
    Interface: "interfaces",
    Smartcard: "smartcards",
    Serial: "serials",
    Parallel: "parallels",
    Console: "consoles",
    Channel: "channels",
    Input: "inputs",
    Tpm: "tpms",
    Graphics: "graphics",
    Sound: "sounds",
    Audio: "audios",
    Video: "videos",
    Hostdev: "hostdevs",
    RedirDev: "redirdevs",
    Hub: "hubs",
    Watchdog: "watchdog",
    MemBalloon: "memballoon",
    Rng: "rngs",
    Nvram: "nvram",
    Panic: "panics",
    Shmem: "shmems",
    MemoryDevice: "memories",
    Crypto: "cryptos",
    Iommu: "iommu",
    Vsock: "vsock",
}

_KINDS: Final[dict[type[Element], str]] = {
    Serial: "chr",
    Parallel: "chr",
    Console: "chr",
    Channel: "chr",
}


def kind_of(device: Element) -> str:
    """libvirt's word for a kind of device, as its refusals have it."""
    return _KINDS.get(type(device), device.tag_name)


def siblings(domain: Domain, device: Element) -> list[Any]:
    """The guest's devices of that kind."""
    found = getattr(domain.devices, _NAMES[type(device)])
    if isinstance(found, list):
        return found
    return [] if found is None else [found]


def insert(domain: Domain, device: Element) -> None:
    """Adds a device where a definition that is read anew would have it."""
    if isinstance(device, Controller):
        insert_controller(domain, device)
        return
    name = _NAMES[type(device)]
    known = getattr(domain.devices, name)
    if isinstance(known, list):
        known.append(device)
    else:
        setattr(domain.devices, name, device)
    if isinstance(device, Disk):
        sort_disks(domain)


def remove(domain: Domain, device: Element) -> None:
    """Takes that very device out."""
    name = _NAMES[type(device)]
    known = getattr(domain.devices, name)
    if isinstance(device, Serial):
        _forget_console(domain, device)
    if isinstance(known, list):
        setattr(domain.devices, name, [one for one in known if one is not device])
    else:
        setattr(domain.devices, name, None)


def _forget_console(domain: Domain, port: Serial) -> None:
    """The first console stands for the first serial port, and goes with it."""
    devices = domain.devices
    if not devices.serials or devices.serials[0] is not port or not devices.consoles:
        return
    target = devices.consoles[0].target
    if target is None or target.type in (None, "serial"):
        del devices.consoles[0]


def replace(domain: Domain, known: Element, other: Element) -> None:
    """Puts another device of the same kind where that very device was."""
    name = _NAMES[type(known)]
    setattr(domain.devices, name, [other if one is known else one for one in getattr(domain.devices, name)])


def narrowed(domain: Domain, device: Element) -> Domain:
    """The guest with this device alone, on its controllers: what the writers of command lines are given."""
    only: Domain = Domain.__new__(Domain)
    only.__dict__.update(domain.__dict__)
    only.devices = Devices(
        emulator=domain.devices.emulator,
        controllers=domain.devices.controllers,
        redirfilter=domain.devices.redirfilter,
    )
    # what is plugged in has a turn at boot only if it says so itself
    only.os = domain.os.copy()
    only.os.boots = []
    if not isinstance(device, Controller):
        name = _NAMES[type(device)]
        many = isinstance(getattr(domain.devices, name), list)
        setattr(only.devices, name, [device] if many else device)
    return only


def by_alias(domain: Domain, alias: str) -> Any:
    """The device of that alias; None when there is none. A console that stands for a serial port is that port."""
    found = [device for device in domain.devices.all() if device.alias == alias]
    return next((one for one in found if not isinstance(one, Console)), found[0] if found else None)
