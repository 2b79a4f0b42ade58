"""Host interfaces between text and object."""

from __future__ import annotations

from conf.document import parse_document
from conf.host_interface.interface import HostInterface, InterfaceType
from conf.origin import told_by
from schema.errors import ErrorDomain, XmlError


@told_by(ErrorDomain.INTERFACE)
def parse_host_interface(xml: str | bytes, *, validate: bool = False) -> HostInterface:
    """The interface that a document describes. Raises XmlDetailError and XmlError."""
    interface = HostInterface.parse(
        parse_document(xml, name="interface_definition", root="interface", validate=validate)
    )
    if interface.type is not InterfaceType.ETHERNET:
        interface.mac = None  # libvirt keeps the address of plain interfaces only
    parts = {"bridge": interface.bridge, "bond": interface.bond, "vlan": interface.vlan}
    for kind, part in parts.items():
        if kind != interface.type:
            setattr(interface, kind, None)
        elif part is None:
            raise XmlError(f"{kind} interface misses the {kind} element")
    return interface


def write_host_interface(interface: HostInterface) -> str:
    """The document of an interface, as libvirt writes it."""
    return interface.to_xml()
