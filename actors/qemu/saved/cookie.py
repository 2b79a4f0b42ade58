"""What a saved guest needs beside its definition: `<cookie>`."""

from __future__ import annotations

from conf.cpu.cpu import GuestCpu
from conf.document import parse_document
from conf.element import Element, Empty, child, flag


class SaveCookie(Element, tag="cookie", empty=Empty.OPEN):
    """The processor that the guest really had, where its definition names it less exactly."""

    cpu: GuestCpu | None = child(GuestCpu, default=None)
    slirp_helper: bool = flag("slirpHelper", default=False)


def parse_cookie(xml: str) -> SaveCookie:
    """The cookie of a saved guest. Raises XmlDetailError and XmlError."""
    return SaveCookie.parse(parse_document(xml, name="save_cookie", root="cookie"))
