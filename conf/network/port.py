"""A port of a virtual network, which one interface of a guest is plugged into: `<networkport>`."""

from __future__ import annotations

from uuid import UUID

from conf.document import parse_document
from conf.domain.address import SourcePciAddress
from conf.element import Element, attr, child, text, value
from conf.network.parts import Bandwidth, VirtualPort, Vlan
from conf.origin import told_by
from conf.values import MAC, UUID_TEXT, YES_NO, words
from schema.errors import ErrorDomain


class PortOwner(Element, tag="owner"):
    """The guest."""

    name: str = text("name", str)
    uuid: UUID = text("uuid", UUID_TEXT)


class Plug(Element, tag="plug"):
    """What the interface is connected to; which parts count depends on `type`."""

    type: str = attr("type", words("none", "network", "bridge", "direct", "hostdev-pci"))
    bridge: str | None = attr("bridge", str, default=None)
    mac_table_manager: str | None = attr("macTableManager", words("kernel", "libvirt"), default=None)
    dev: str | None = attr("dev", str, default=None)
    mode: str | None = attr("mode", words("vepa", "private", "bridge", "passthrough"), default=None)
    managed: bool | None = attr("managed", YES_NO, default=None)
    driver: str | None = value("driver", "name", words("kvm", "vfio", "xen"), default=None)
    address: SourcePciAddress | None = child(SourcePciAddress, default=None)


class NetworkPort(Element, tag="networkport"):
    """A port of a network."""

    uuid: UUID = text("uuid", UUID_TEXT)
    owner: PortOwner | None = child(PortOwner, default=None)
    group: str | None = text("group", str, default=None)
    mac: str | None = value("mac", "address", MAC, default=None)
    virtualport: VirtualPort | None = child(VirtualPort, default=None)
    bandwidth: Bandwidth | None = child(Bandwidth, default=None)
    vlan: Vlan | None = child(Vlan, default=None)
    isolated: bool | None = value("port", "isolated", YES_NO, default=None)
    trust_guest: bool | None = value("rxfilters", "trustGuest", YES_NO, default=None)
    plug: Plug | None = child(Plug, default=None)


@told_by(ErrorDomain.NETWORK)
def parse_network_port(xml: str | bytes, *, validate: bool = False) -> NetworkPort:
    """The port that a document describes. Raises XmlDetailError and XmlError."""
    return NetworkPort.parse(parse_document(xml, name="networkport_definition", root="networkport", validate=validate))


def write_network_port(port: NetworkPort) -> str:
    """The document of a port, as libvirt writes it."""
    return port.to_xml()
