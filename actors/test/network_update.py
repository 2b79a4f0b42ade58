"""Changing one part of a network: a DHCP host or range, a DNS record, an interface, a port group."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from lxml import etree

from actors.test.flags import find_member
from conf.document import parse_document
from conf.element import Element
from conf.network.documents import check_network
from conf.network.network import (
    Dhcp,
    DhcpHost,
    DhcpRange,
    Dns,
    DnsHost,
    DnsSrv,
    DnsTxt,
    Forward,
    ForwardInterface,
    Network,
    NetworkIp,
    PortGroup,
)
from schema.enums.network import NetworkUpdateCommand as Command
from schema.enums.network import NetworkUpdateSection as Section
from schema.errors import DomainStateError, InvalidArguments, OperationUnsupported, XmlDetailError, XmlError

_NAME: Final = "network_update_xml"
_ADD_LAST: Final = 3
_WORDS: Final = {
    Section.BRIDGE: "bridge",
    Section.DOMAIN: "domain",
    Section.IP: "ip",
    Section.FORWARD: "forward",
    Section.FORWARD_PF: "forward pf",
}


@dataclass(frozen=True, slots=True)
class Part:
    """A list inside a network that can be changed: its element, what an error calls it, how two are the same."""

    element: type[Element]
    word: str
    list_of: Callable[[Network, int], list[Any]]
    same: Callable[[Any, Any], bool]

    def shown(self, xml: str) -> str:
        """What an error shows of an entry that is there; libvirt shows no more than the name of a port group."""
        return xml.strip().replace("/>", ">") if self.element is PortGroup else xml.strip()

    def missing(self, element: Any, name: str, command: int) -> str:
        """libvirt's words for an entry that is not there, which differ from part to part."""
        if self.element is DhcpHost and command == Command.MODIFY:
            marks = " ".join(f"\"{mark}='{getattr(element, mark) or '(null)'}'\"" for mark in ("mac", "name", "ip"))
            return f"couldn't locate an existing dhcp host entry with {marks} in network '{name}'"
        if self.element in (DnsHost, DnsTxt, DnsSrv):
            return f"couldn't locate a matching {self.word} record in network {name}"
        return f"couldn't locate a matching {self.word} entry in network '{name}'"


def update_network(network: Network, command: int, section: int, parent: int, xml: str) -> None:
    """Changes the network in place.

    Raises OperationUnsupported for a part that cannot be changed, XmlError, DomainStateError when what is to be added
    is there or what is to be changed is not, InvalidArguments for an unknown command.
    """
    kind = find_member(Section, section)
    part = _PARTS.get(kind) if kind is not None else None
    if part is None:
        word = _WORDS.get(kind) if kind is not None else None
        if word is None:
            raise OperationUnsupported("can't update unrecognized section of network")
        raise OperationUnsupported(f"can't update '{word}' section of network '{network.name}'")
    element = part.element.parse(_root(network, part, xml))
    found = part.list_of(network, parent)
    place = next((number for number, one in enumerate(found) if part.same(one, element)), None)
    if command in (_ADD_LAST, Command.ADD_FIRST):
        if place is not None:
            raise DomainStateError(
                f"there is an existing {part.word} entry in network '{network.name}' that matches \"{part.shown(xml)}\""
            )
        found.insert(0 if command == Command.ADD_FIRST else len(found), element)
    elif command == Command.DELETE or command == Command.MODIFY:
        if place is None:
            raise DomainStateError(part.missing(element, network.name, command))
        found[place : place + 1] = [element] if command == Command.MODIFY else []
    else:
        raise InvalidArguments(f"unrecognized network update command code {command}")
    _tidy(network)
    check_network(network)


def _root(network: Network, part: Part, xml: str) -> etree._Element:
    try:
        root = parse_document(xml, name=_NAME)
    except XmlDetailError as exc:
        error = XmlDetailError(exc.message.replace(f"({_NAME}):", f"{_NAME}:", 1))
        raise error from exc
    if root.tag != part.element.tag_name:
        wanted = part.element.tag_name
        raise XmlError(
            f"unexpected element <{root.tag}>, expecting <{wanted}>, while updating network '{network.name}'"
        )
    return root


def _dhcp(network: Network, parent: int) -> Dhcp:
    ips = network.ips
    if parent >= 0:
        if parent >= len(ips):
            raise DomainStateError(
                f"couldn't update dhcp host entry - no <ip> element found at index {parent} in network '{network.name}'"
            )
        chosen: NetworkIp | None = ips[parent]
    else:
        ipv4 = [ip for ip in ips if (ip.family or "ipv4") == "ipv4"]
        chosen = next((ip for ip in ipv4 if ip.dhcp is not None), ipv4[0] if ipv4 else None)
    if chosen is None:
        raise DomainStateError(f"couldn't update dhcp host entry - no <ip> element in network '{network.name}'")
    chosen.dhcp = chosen.dhcp or Dhcp()
    return chosen.dhcp


def _dns(network: Network) -> Dns:
    network.dns = network.dns or Dns()
    return network.dns


def _interfaces(network: Network) -> list[ForwardInterface]:
    network.forward = network.forward or Forward()
    return network.forward.interfaces


def _same_host(one: DhcpHost, other: DhcpHost) -> bool:
    same_mac = one.mac is not None and one.mac == other.mac
    return same_mac or (one.mac is None and other.mac is None and (one.id, one.name) == (other.id, other.name))


def _tidy(network: Network) -> None:
    """Leaves out what became empty, and names the first interface at `<forward>`."""
    for ip in network.ips:
        if ip.dhcp == Dhcp():
            ip.dhcp = None
    if network.dns == Dns():
        network.dns = None
    forward = network.forward
    if forward is not None and forward.mode != "hostdev":
        forward.dev = forward.interfaces[0].dev if forward.interfaces else None


def _check_txt(one: DnsTxt, other: DnsTxt) -> bool:
    if not other.name:
        raise XmlError("missing required name attribute in DNS TXT record")
    return one.name == other.name


_PARTS: Final[dict[Section, Part]] = {
    Section.IP_DHCP_HOST: Part(DhcpHost, "dhcp host", lambda n, p: _dhcp(n, p).hosts, _same_host),
    Section.IP_DHCP_RANGE: Part(
        DhcpRange, "dhcp range", lambda n, p: _dhcp(n, p).ranges, lambda a, b: (a.start, a.end) == (b.start, b.end)
    ),
    Section.FORWARD_INTERFACE: Part(
        ForwardInterface, "forward interface", lambda n, p: _interfaces(n), lambda a, b: bool(a.dev == b.dev)
    ),
    Section.PORTGROUP: Part(PortGroup, "portgroup", lambda n, p: n.portgroups, lambda a, b: bool(a.name == b.name)),
    Section.DNS_HOST: Part(DnsHost, "DNS HOST", lambda n, p: _dns(n).hosts, lambda a, b: bool(a.ip == b.ip)),
    Section.DNS_TXT: Part(DnsTxt, "DNS TXT", lambda n, p: _dns(n).txts, _check_txt),
    Section.DNS_SRV: Part(
        DnsSrv,
        "DNS SRV",
        lambda n, p: _dns(n).srvs,
        lambda a, b: (a.service, a.protocol, a.domain) == (b.service, b.protocol, b.domain),
    ),
}
