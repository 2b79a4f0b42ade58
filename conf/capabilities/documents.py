"""Capabilities between text and object: `<capabilities>`, the host and what it can run."""

from __future__ import annotations

from conf.capabilities.guest import GuestPart
from conf.capabilities.host import HostPart
from conf.document import parse_document
from conf.element import Element, Empty, child, children


class HostCapabilities(Element, tag="capabilities", empty=Empty.OPEN):
    """The host, and the kinds of guests it can run."""

    host: HostPart = child(HostPart, default_factory=HostPart)
    guests: list[GuestPart] = children(GuestPart, default=[])


def parse_capabilities(xml: str | bytes, *, validate: bool = False) -> HostCapabilities:
    """The capabilities that a document tells. Raises XmlDetailError and XmlError."""
    return HostCapabilities.parse(parse_document(xml, name="capabilities", root="capabilities", validate=validate))


def write_capabilities(capabilities: HostCapabilities) -> str:
    """The document, as libvirt writes it: with empty lines between its parts."""
    out = ["<capabilities>\n\n"]
    for part in (capabilities.host, *capabilities.guests):
        part.write(out, "  ")
        out.append("\n")
    out.append("</capabilities>\n")
    return "".join(out)
