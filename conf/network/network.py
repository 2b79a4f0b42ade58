"""A virtual network: `<network>`."""

from __future__ import annotations

from enum import StrEnum
from uuid import UUID

from lxml import etree

from conf.element import Element, Empty, attr, child, children, text, texts, value, verbatim
from conf.faults import lacking
from conf.network.parts import Bandwidth, Route, VirtualPort, Vlan
from conf.values import ADDRESS, ANY_BASE32, MAC, UINT, UUID_TEXT, YES_NO, Codec, hexadecimal, parse_uint32, words
from schema.errors import XmlError

NO_UUID = UUID(int=0)
"""Stands for "not chosen yet"; `parse_network` never leaves it."""


DNSMASQ = ("dnsmasq", "http://libvirt.org/schemas/network/dnsmasq/1.0")


class ForwardMode(StrEnum):
    """How packets leave the network."""

    NONE = "none"
    NAT = "nat"
    ROUTE = "route"
    OPEN = "open"
    BRIDGE = "bridge"
    PRIVATE = "private"
    VEPA = "vepa"
    PASSTHROUGH = "passthrough"
    HOSTDEV = "hostdev"


def _no_interface(node: etree._Element) -> XmlError:
    """The error for an interface without a name, in a network and on its own."""
    top = node.getroottree().getroot()
    if top is node:
        return XmlError("missing dev attribute in <interface> element")
    name = top.findtext("name")
    return XmlError(f"Missing required dev attribute in <forward> <interface> element of network {name}")


class AddressRange(Element, tag="address"):
    """Addresses that packets leave with."""

    start: str = attr("start", str)
    end: str = attr("end", str)


class PortRange(Element, tag="port"):
    """Ports that packets leave with."""

    start: int = attr("start", UINT)
    end: int = attr("end", UINT)


class Nat(Element, tag="nat", empty=Empty.OMIT):
    """How addresses are translated."""

    ipv6: bool | None = attr("ipv6", YES_NO, default=None)
    address: AddressRange | None = child(AddressRange, default=None)
    port: PortRange | None = child(PortRange, default=None)


class ForwardAddress(Element, tag="address", type="pci"):
    """A card of the host that is given to guests."""

    domain: int = attr("domain", hexadecimal(4), default=0)
    bus: int = attr("bus", hexadecimal(2), default=0)
    slot: int = attr("slot", hexadecimal(2), default=0)
    function: int = attr("function", hexadecimal(1), default=0)

    def __str__(self) -> str:
        return f"{self.domain:04x}:{self.bus:02x}:{self.slot:02x}.{self.function:x}"


class ForwardInterface(Element, tag="interface"):
    """An interface of the host through which packets leave."""

    dev: str = attr("dev", str, missing=_no_interface)


class ForwardFunction(Element, tag="pf"):
    """A card whose virtual functions are given to guests."""

    dev: str = attr("dev", str)


class Forward(Element, tag="forward"):
    """How packets leave the network, and through which interfaces of the host."""

    dev: str | None = attr("dev", str, default=None, blank=True)
    mode: str | None = attr("mode", str, default=None, blank=True)
    managed: bool | None = attr("managed", YES_NO, default=None)
    driver: str | None = value("driver", "name", str, default=None)
    nat: Nat | None = child(Nat, default=None)
    pfs: list[ForwardFunction] = children(ForwardFunction, default=[])
    interfaces: list[ForwardInterface] = children(ForwardInterface, default=[])
    addresses: list[ForwardAddress] = children(ForwardAddress, default=[])


class DnsmasqOption(Element, tag="option", namespace=DNSMASQ):
    """A line of dnsmasq's configuration."""

    value: str = attr("value", str)


class DnsmasqOptions(Element, tag="options", namespace=DNSMASQ):
    """Lines added to dnsmasq's configuration."""

    options: list[DnsmasqOption] = children(DnsmasqOption, default=[])


NOT_OFF: Codec[bool] = Codec(lambda text: text != "off", lambda value: "on" if value else "off")
"""Whatever is not `off` means on."""


class Bridge(Element, tag="bridge"):
    """The host's bridge that stands for the network."""

    name: str | None = attr("name", str, default=None)
    zone: str | None = attr("zone", str, default=None)
    stp: bool | None = attr("stp", NOT_OFF, default=None)
    delay: int | None = attr("delay", UINT, default=None, blank=True)
    mac_table_manager: str | None = attr("macTableManager", words("kernel", "libvirt"), default=None, blank=True)


class DnsDomain(Element, tag="domain", empty=Empty.OMIT):
    """The DNS domain of the guests."""

    name: str | None = attr("name", str, default=None)
    local_only: bool | None = attr("localOnly", YES_NO, default=None)


class Forwarder(Element, tag="forwarder"):
    """A server that is asked for other domains."""

    domain: str | None = attr("domain", str, default=None)
    addr: str | None = attr("addr", str, default=None)


class DnsTxt(Element, tag="txt"):
    """A TXT record; `name` is left open by nothing that a network keeps."""

    name: str | None = attr("name", str, default=None)
    value: str | None = attr("value", str, default=None)


def _parse_number(text: str) -> int:
    """A number of an SRV record; -1 stands for what is none, for a check to refuse."""
    try:
        return parse_uint32(text)
    except ValueError:
        return -1


SRV_NUMBER = Codec(_parse_number, str)


class DnsSrv(Element, tag="srv"):
    """An SRV record; what names one to delete may leave parts open."""

    service: str | None = attr("service", str, default=None)
    protocol: str | None = attr("protocol", str, default=None)
    domain: str | None = attr("domain", str, default=None)
    target: str | None = attr("target", str, default=None)
    port: int | None = attr("port", SRV_NUMBER, default=None)
    priority: int | None = attr("priority", SRV_NUMBER, default=None)
    weight: int | None = attr("weight", SRV_NUMBER, default=None)


class DnsHost(Element, tag="host"):
    """An address and its names; what names one to delete may leave the address open."""

    ip: str | None = attr("ip", ADDRESS, default=None)
    hostnames: list[str] = texts("hostname", str, default=[])


class Dns(Element, tag="dns", empty=Empty.OMIT):
    """What the network's DNS server answers."""

    enable: bool | None = attr("enable", YES_NO, default=None)
    forward_plain_names: bool | None = attr("forwardPlainNames", YES_NO, default=None)
    forwarders: list[Forwarder] = children(Forwarder, default=[])
    txts: list[DnsTxt] = children(DnsTxt, default=[])
    srvs: list[DnsSrv] = children(DnsSrv, default=[])
    hosts: list[DnsHost] = children(DnsHost, default=[])


class Lease(Element, tag="lease"):
    """How long an address is lent."""

    expiry: int = attr("expiry", ANY_BASE32, default=0)
    unit: str | None = attr("unit", words("seconds", "minutes", "hours"), default=None)


class DhcpRange(Element, tag="range"):
    """Addresses that are lent; a network has both ends."""

    start: str | None = attr("start", ADDRESS, default=None)
    end: str | None = attr("end", ADDRESS, default=None)
    lease: Lease | None = child(Lease, default=None)


class DhcpHost(Element, tag="host"):
    """The address that one guest gets; `mac` is kept as it was written."""

    id: str | None = attr("id", str, default=None)
    mac: str | None = attr("mac", str, default=None)
    name: str | None = attr("name", str, default=None)
    ip: str | None = attr("ip", ADDRESS, default=None)
    lease: Lease | None = child(Lease, default=None)


class Bootp(Element, tag="bootp"):
    """What guests boot from the network; without a file it says nothing."""

    file: str | None = attr("file", str, default=None)
    server: str | None = attr("server", ADDRESS, default=None)


class Dhcp(Element, tag="dhcp", empty=Empty.OMIT):
    """Addresses for guests."""

    ranges: list[DhcpRange] = children(DhcpRange, default=[])
    hosts: list[DhcpHost] = children(DhcpHost, default=[])
    bootp: Bootp | None = child(Bootp, default=None)


class NetworkIp(Element, tag="ip", empty=Empty.OPEN):
    """An address of the host in the network, and what it serves there."""

    family: str | None = attr("family", words("ipv4", "ipv6"), default=None, blank=True)
    address: str | None = attr("address", ADDRESS, default=None)
    netmask: str | None = attr("netmask", str, default=None, blank=True)
    prefix: int | None = attr("prefix", UINT, default=None)
    local_ptr: bool | None = attr("localPtr", YES_NO, default=None)
    tftp_root: str | None = value("tftp", "root", str, default=None)
    dhcp: Dhcp | None = child(Dhcp, default=None)


class PortGroup(Element, tag="portgroup", empty=Empty.OPEN):
    """Settings that a guest's interface can choose."""

    name: str = attr("name", str, missing=lacking(XmlError, "Missing required name attribute in portgroup"))
    default: bool | None = attr("default", YES_NO, default=None, shown=lambda self, flags: self.default or None)
    trust_guest_rx_filters: bool | None = attr("trustGuestRxFilters", YES_NO, default=None)
    vlan: Vlan | None = child(Vlan, default=None)
    virtualport: VirtualPort | None = child(VirtualPort, default=None)
    bandwidth: Bandwidth | None = child(Bandwidth, default=None)


class Network(Element, tag="network", root=True):
    """A virtual network."""

    ipv6: bool | None = attr("ipv6", YES_NO, default=None, blank=True, shown=lambda self, flags: self.ipv6 or None)
    trust_guest_rx_filters: bool | None = attr("trustGuestRxFilters", YES_NO, default=None)
    name: str = text("name", str)
    uuid: UUID = text("uuid", UUID_TEXT, default=NO_UUID)
    metadata: str | None = verbatim("metadata", default=None)
    forward: Forward | None = child(Forward, default=None)
    bridge: Bridge | None = child(Bridge, default=None)
    mtu: int | None = value("mtu", "size", UINT, default=None, blank=True)
    mac: str | None = value("mac", "address", MAC, default=None, blank=True)
    domain: DnsDomain | None = child(DnsDomain, default=None)
    dns: Dns | None = child(Dns, default=None)
    bandwidth: Bandwidth | None = child(Bandwidth, default=None)
    vlan: Vlan | None = child(Vlan, default=None)
    port_isolated: bool | None = value("port", "isolated", YES_NO, default=None)
    ips: list[NetworkIp] = children(NetworkIp, default=[])
    routes: list[Route] = children(Route, default=[])
    virtualport: VirtualPort | None = child(VirtualPort, default=None)
    portgroups: list[PortGroup] = children(PortGroup, default=[])
    dnsmasq_options: DnsmasqOptions | None = child(DnsmasqOptions, default=None)
