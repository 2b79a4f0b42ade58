"""Changing one part of a network: a DHCP host or range, a DNS record, an interface, a port group."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, TypeVar

from lxml import etree

from conf.document import parse_document
from conf.element import Element
from conf.network.checks import (
    check_dhcp_host,
    check_dhcp_range,
    check_dns_host,
    check_dns_srv,
    check_dns_txt,
    find_address,
)
from conf.network.network import (
    Dhcp,
    DhcpHost,
    DhcpRange,
    Dns,
    DnsHost,
    DnsSrv,
    DnsTxt,
    ForwardInterface,
    Network,
    NetworkIp,
    PortGroup,
)
from conf.origin import told_by
from schema.enums.network import NetworkUpdateCommand as Command
from schema.enums.network import NetworkUpdateSection as Section
from schema.errors import (
    DomainStateError,
    ErrorDomain,
    InvalidArguments,
    OperationUnsupported,
    XmlDetailError,
    XmlError,
)

E = TypeVar("E", bound=Element)

ADD_LAST: Final = 3
"""Also what libvirt's enumeration calls ADD_LAST."""
_NAME: Final = "network_update_xml"
_FIXED: Final = {
    Section.BRIDGE: "bridge",
    Section.DOMAIN: "domain",
    Section.IP: "ip",
    Section.FORWARD: "forward",
    Section.FORWARD_PF: "forward pf",
}


@told_by(ErrorDomain.NETWORK)
def update_network(network: Network, command: int, section: int, parent: int, xml: str) -> None:
    """Changes the network in place; `parent` is the place of the `<ip>` that is meant, -1 for the one that fits.

    Raises OperationUnsupported for a part that cannot be changed (so), XmlError and XmlDetailError for an entry that
    cannot be read, DomainStateError when what is to be added is there or what is to be changed is not,
    InvalidArguments for an unknown command. The network is then not to be used any more.
    """
    try:
        root = parse_document(xml, name=_NAME)
    except XmlDetailError as exc:
        raise XmlDetailError(exc.message.replace(f"({_NAME}):", f"{_NAME}:", 1), domain=ErrorDomain.NETWORK) from exc
    update = _UPDATES.get(section)
    if update is None:
        word = _FIXED.get(Section(section)) if section in _FIXED else None
        if word is None:
            raise OperationUnsupported("can't update unrecognized section of network")
        raise OperationUnsupported(f"can't update '{word}' section of network '{network.name}'")
    if command not in (Command.MODIFY, Command.DELETE, Command.ADD_FIRST, ADD_LAST):
        raise InvalidArguments(f"unrecognized network update command code {command}")
    update(network, command, parent, root)
    _tidy(network)


def _adds(command: int) -> bool:
    return command in (ADD_LAST, Command.ADD_FIRST)


def _put(entries: list[E], entry: E, command: int) -> None:
    entries.insert(0 if command == Command.ADD_FIRST else len(entries), entry)


def _read(network: Network, root: etree._Element, cls: type[E]) -> E:
    """The entry of the expected kind. Raises XmlError for another."""
    if root.tag != cls.tag_name:
        raise XmlError(
            f"unexpected element <{root.tag}>, expecting <{cls.tag_name}>, while updating network '{network.name}'"
        )
    return cls.parse(root)


def _no_change(command: int, what: str) -> None:
    if command == Command.MODIFY:
        raise OperationUnsupported(f"{what} cannot be modified, only added or deleted")


def _dhcp_host(network: Network, command: int, parent: int, root: etree._Element) -> None:
    name = network.name
    host = _read(network, root, DhcpHost)
    ip = _ip_of(network, parent)
    check_dhcp_host(host, ip, name, partial=command == Command.DELETE)
    _check_family(host, ip)
    hosts = _dhcp_of(ip).hosts
    mac = host.mac and host.mac.lower()

    def same_guest(one: DhcpHost) -> bool:
        return bool((mac and one.mac and one.mac.lower() == mac) or (host.name and one.name == host.name))

    def same_address(one: DhcpHost) -> bool:
        return host.ip is not None and find_address(one.ip) == find_address(host.ip)

    if command == Command.MODIFY:
        place = next((number for number, one in enumerate(hosts) if same_guest(one)), None)
        if place is None:
            marks = f"\"mac='{host.mac or 'unknown'}'\" \"name='{host.name or '(null)'}'\" \"ip='{host.ip}'\""
            raise DomainStateError(f"couldn't locate an existing dhcp host entry with {marks} in network '{name}'")
        hosts[place] = host
    elif command == Command.DELETE:
        for number, one in enumerate(hosts):
            if (
                (not mac or one.mac is None or one.mac.lower() == mac)
                and (not host.name or one.name == host.name)
                and (host.ip is None or same_address(one))
            ):
                del hosts[number]
                return
        raise DomainStateError(f"couldn't locate a matching dhcp host entry in network '{name}'")
    else:
        _check_only_dhcp(network, ip)
        if any(same_guest(one) or same_address(one) for one in hosts):
            shown = f"<host mac='{host.mac or 'unknown'}' name='{host.name or '(null)'}' ip='{host.ip}'/>"
            raise DomainStateError(f"there is an existing dhcp host entry in network '{name}' that matches \"{shown}\"")
        _put(hosts, host, command)


def _dhcp_range(network: Network, command: int, parent: int, root: etree._Element) -> None:
    name = network.name
    lent = _read(network, root, DhcpRange)
    ip = _ip_of(network, parent)
    check_dhcp_range(lent, ip, name)
    _no_change(command, "dhcp ranges")
    ranges = _dhcp_of(ip).ranges
    ends = (find_address(lent.start), find_address(lent.end))
    place = next((n for n, one in enumerate(ranges) if (find_address(one.start), find_address(one.end)) == ends), None)
    if _adds(command):
        _check_only_dhcp(network, ip)
        if place is not None:
            shown = f"<range start='{ends[0]}' end='{ends[1]}'/>"
            raise DomainStateError(
                f"there is an existing dhcp range entry in network '{name}' that matches \"{shown}\""
            )
        _put(ranges, lent, command)
    elif place is None:
        raise DomainStateError(f"couldn't locate a matching dhcp range entry in network '{name}'")
    else:
        del ranges[place]


def _ip_of(network: Network, parent: int) -> NetworkIp:
    if parent >= 0:
        if parent < len(network.ips):
            return network.ips[parent]
        raise DomainStateError(
            f"couldn't update dhcp host entry - no <ip> element found at index {parent} in network '{network.name}'"
        )
    found = next((ip for ip in network.ips if ip.dhcp is not None and (ip.dhcp.ranges or ip.dhcp.hosts)), None)
    for family in ("ipv4", "ipv6"):
        found = found or next((ip for ip in network.ips if (ip.family or "ipv4") == family), None)
    if found is None:
        raise DomainStateError(f"couldn't update dhcp host entry - no <ip> element found in network '{network.name}'")
    return found


def _dhcp_of(ip: NetworkIp) -> Dhcp:
    ip.dhcp = ip.dhcp or Dhcp()
    return ip.dhcp


def _check_family(host: DhcpHost, ip: NetworkIp) -> None:
    address, own = find_address(host.ip), find_address(ip.address)
    if address is not None and own is not None and address.version != own.version:
        raise DomainStateError(
            "the address family of a host entry IP must match the address family of the dhcp element's parent"
        )


def _check_only_dhcp(network: Network, ip: NetworkIp) -> None:
    """Addresses of a family are lent from one `<ip>` alone."""
    family = ip.family or "ipv4"
    for other in network.ips:
        lends = other.dhcp is not None and (other.dhcp.ranges or other.dhcp.hosts)
        if other is not ip and lends and (other.family or "ipv4") == family:
            word = "IPv4" if family == "ipv4" else "IPv6"
            raise DomainStateError(f"dhcp is supported only for a single {word} address on each network")


def _forward_interface(network: Network, command: int, parent: int, root: etree._Element) -> None:
    name = network.name
    interface = _read(network, root, ForwardInterface)
    _no_change(command, "forward interface entries")
    # a network that forwards nothing keeps no interfaces either
    interfaces = network.forward.interfaces if network.forward is not None else []
    place = next((number for number, one in enumerate(interfaces) if one.dev == interface.dev), None)
    if _adds(command):
        if place is not None:
            shown = f"<interface dev='{interface.dev}'>"
            raise DomainStateError(f"there is an existing interface entry in network '{name}' that matches \"{shown}\"")
        _put(interfaces, interface, command)
    elif place is None:
        raise DomainStateError(
            f"couldn't find an interface entry in network '{name}' matching <interface dev='{interface.dev}'>"
        )
    else:
        del interfaces[place]


def _portgroup(network: Network, command: int, parent: int, root: etree._Element) -> None:
    group = _read(network, root, PortGroup)
    groups = network.portgroups
    place = next((number for number, one in enumerate(groups) if one.name == group.name), None)
    default = next((number for number, one in enumerate(groups) if one.default), None)
    shown = f"<portgroup name='{group.name}'>"
    if place is None and not _adds(command):
        raise DomainStateError(f"couldn't find a portgroup entry in network '{network.name}' matching {shown}")
    if place is not None and _adds(command):
        raise DomainStateError(
            f"there is an existing portgroup entry in network '{network.name}' that matches \"{shown}\""
        )
    if command != Command.DELETE and group.default and default is not None and default != place:
        raise DomainStateError(
            f"a different portgroup entry in network '{network.name}' is already set as the default. "
            "Only one default is allowed."
        )
    if place is None:
        _put(groups, group, command)
    else:
        groups[place : place + 1] = [group] if command == Command.MODIFY else []


def _dns_of(network: Network) -> Dns:
    network.dns = network.dns or Dns()
    return network.dns


def _dns_host(network: Network, command: int, parent: int, root: etree._Element) -> None:
    name = network.name
    _no_change(command, "DNS HOST records")
    host = _read(network, root, DnsHost)
    check_dns_host(host, name, partial=not _adds(command))
    hosts = _dns_of(network).hosts
    address, names = find_address(host.ip), set(host.hostnames)
    found = [
        number
        for number, one in enumerate(hosts)
        if (address is not None and find_address(one.ip) == address)
        or (not _adds(command) and names.intersection(one.hostnames))
    ]
    if not _adds(command):
        del hosts[
            _the_one(found, f"DNS HOST record in network {name}", f"DNS HOST records were found in network {name}")
        ]
        return
    if found:
        raise DomainStateError(f"there is already at least one DNS HOST record with a matching field in network {name}")
    _put(hosts, host, command)


def _the_one(found: list[int], record: str, records: str) -> int:
    if not found:
        raise DomainStateError(f"couldn't locate a matching {record}")
    if len(found) > 1:
        raise DomainStateError(f"multiple matching {records}")
    return found[0]


def _dns_srv(network: Network, command: int, parent: int, root: etree._Element) -> None:
    name = network.name
    _no_change(command, "DNS SRV records")
    srv = _read(network, root, DnsSrv)
    check_dns_srv(srv, name, partial=not _adds(command))
    srvs = _dns_of(network).srvs
    asked = [(key, getattr(srv, key)) for key in ("domain", "service", "protocol", "target") if getattr(srv, key)]
    found = [number for number, one in enumerate(srvs) if all(getattr(one, key) == word for key, word in asked)]
    if _adds(command):
        if found:
            raise DomainStateError(
                f"there is already at least one DNS SRV record matching all specified fields in network {name}"
            )
        _put(srvs, srv, command)
    elif len(found) > 1:
        raise DomainStateError(f"multiple DNS SRV records matching all specified fields were found in network {name}")
    else:
        del srvs[_the_one(found, f"DNS SRV record in network {name}", "")]


def _dns_txt(network: Network, command: int, parent: int, root: etree._Element) -> None:
    name = network.name
    _no_change(command, "DNS TXT records")
    txt = _read(network, root, DnsTxt)
    check_dns_txt(txt, name, partial=not _adds(command))
    txts = _dns_of(network).txts
    found = [number for number, one in enumerate(txts) if one.name == txt.name]
    if not _adds(command):
        del txts[_the_one(found[:1], f"DNS TXT record in network {name}", "")]
        return
    if found:
        raise DomainStateError(f"there is already a DNS TXT record with name '{txt.name}' in network {name}")
    _put(txts, txt, command)


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


_UPDATES: Final[dict[int, Callable[[Network, int, int, etree._Element], None]]] = {
    Section.IP_DHCP_HOST: _dhcp_host,
    Section.IP_DHCP_RANGE: _dhcp_range,
    Section.FORWARD_INTERFACE: _forward_interface,
    Section.PORTGROUP: _portgroup,
    Section.DNS_HOST: _dns_host,
    Section.DNS_TXT: _dns_txt,
    Section.DNS_SRV: _dns_srv,
}
