"""A definition as older hosts understand it: without what every one of them adds by itself."""

from __future__ import annotations

from conf.domain.controller import Controller, ControllerType
from conf.domain.domain import Domain

_X86 = ("x86_64", "i686")


def without_implied(definition: Domain) -> Domain:
    """A copy without the default USB controller, PCI root, PS/2 keyboard and silent audio of a PC."""
    if definition.os.kind.arch not in _X86:
        return definition
    copy = definition.copy()
    devices = copy.devices
    usb = [one for one in devices.controllers if one.type is ControllerType.USB]
    implied = [one for one in usb if len(usb) == 1 and one.index == 0 and one.model == "piix3-uhci"]
    implied += [one for one in devices.controllers if _is_plain_root(one)]
    devices.controllers = [one for one in devices.controllers if one not in implied]
    devices.inputs = [one for one in devices.inputs if not (one.type == "keyboard" and one.bus == "ps2")]
    devices.audios = [one for one in devices.audios if not (one.type == "none" and one.id == 1)]
    return copy


def _is_plain_root(one: Controller) -> bool:
    return one.type is ControllerType.PCI and one.index == 0 and one.model == "pci-root"
