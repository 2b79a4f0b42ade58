"""A definition as older hosts understand it: without what every one of them adds by itself."""

from __future__ import annotations

from pathlib import Path

from actors.qemu.command.blockdev import is_empty
from conf.domain.chardev import UnixSource
from conf.domain.controller import Controller, ControllerType
from conf.domain.domain import Domain

_X86 = ("x86_64", "i686")


def without_implied(definition: Domain, channels: Path) -> Domain:
    """A copy without places that are this host's own choice (`channels`: its folder of sockets), and on a PC without
    the default USB controller, PCI root, PS/2 keyboard and silent audio.
    """
    copy = definition.copy()
    devices = copy.devices
    for channel in devices.channels:
        source = channel.source
        if isinstance(source, UnixSource) and (source.path or "").startswith(f"{channels}/"):
            channel.source = None
    for disk in devices.disks:
        if (disk.source is None or is_empty(disk.source)) and disk.driver is not None:
            disk.driver.type = disk.driver.type or "raw"
    if definition.os.kind.arch not in _X86:
        return copy
    usb = [one for one in devices.controllers if one.type is ControllerType.USB]
    implied = [one for one in usb if len(usb) == 1 and one.index == 0 and one.model == "piix3-uhci"]
    implied += [one for one in devices.controllers if _is_plain_root(one)]
    devices.controllers = [one for one in devices.controllers if one not in implied]
    devices.inputs = [one for one in devices.inputs if not (one.type == "keyboard" and one.bus == "ps2")]
    devices.audios = [one for one in devices.audios if not (one.type == "none" and one.id == 1)]
    return copy


def _is_plain_root(one: Controller) -> bool:
    return one.type is ControllerType.PCI and one.index == 0 and one.model == "pci-root"
