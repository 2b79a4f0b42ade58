"""What a saved guest needs beside its definition: `<cookie>`."""

from __future__ import annotations

from actors.qemu.guest import Guest
from actors.qemu.live_processor import actual_processor
from conf.cpu.cpu import GuestCpu
from conf.document import parse_document
from conf.domain.interface import InterfaceType
from conf.element import Element, Empty, child, flag


class SaveCookie(Element, tag="cookie", empty=Empty.OPEN):
    """The processor that the guest really had, where its definition names it less exactly."""

    cpu: GuestCpu | None = child(GuestCpu, default=None)
    slirp_helper: bool = flag("slirpHelper", default=False)


def cookie_of(guest: Guest) -> SaveCookie:
    """The cookie of a running guest; libvirt's driver looks in it whether user networking was QEMU's own."""
    own = any(net.type is InterfaceType.USER for net in guest.live.devices.interfaces)
    return SaveCookie(cpu=actual_processor(guest), slirp_helper=not own)


def parse_cookie(xml: str) -> SaveCookie:
    """The cookie of a saved guest. Raises XmlDetailError and XmlError."""
    return SaveCookie.parse(parse_document(xml, name="save_cookie", root="cookie"))
