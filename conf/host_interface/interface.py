"""A network interface of the host as it is configured: `<interface>`."""

from __future__ import annotations

from enum import StrEnum

from conf.element import Element, Empty, attr, child, children, flag, value
from conf.faults import lacking, malformed
from conf.values import INT32, ON_OFF, UINT, YES_NO, words
from schema.errors import XmlError


class InterfaceType(StrEnum):
    """What the interface is."""

    ETHERNET = "ethernet"
    BRIDGE = "bridge"
    BOND = "bond"
    VLAN = "vlan"


class Dhcp(Element, tag="dhcp"):
    """The address comes from a server."""

    peerdns: bool | None = attr("peerdns", YES_NO, default=None)


class ProtocolIp(Element, tag="ip"):
    """A fixed address."""

    address: str | None = attr("address", str, default=None)
    prefix: int | None = attr("prefix", INT32, default=None, shown=lambda self, flags: self.prefix or None)


class ProtocolRoute(Element, tag="route"):
    """The way out."""

    gateway: str = attr("gateway", str)


class Protocol(Element, tag="protocol", empty=Empty.OPEN):
    """How the interface takes part in IPv4 or IPv6."""

    family: str = attr(
        "family",
        words("ipv4", "ipv6"),
        missing=lacking(XmlError, "protocol misses the family attribute"),
        bad=malformed("unsupported protocol family '{}'"),
    )
    autoconf: bool = flag("autoconf", default=False)
    dhcp: Dhcp | None = child(Dhcp, default=None)
    ips: list[ProtocolIp] = children(ProtocolIp, default=[])
    route: ProtocolRoute | None = child(ProtocolRoute, default=None)


_NO_FREQ = "bond interface miimon freq missing or invalid"
_NO_INTERVAL = "bond interface arpmon interval missing or invalid"


class MiiMonitor(Element, tag="miimon"):
    """Links are watched by their carrier."""

    freq: int = attr("freq", INT32, missing=lacking(XmlError, _NO_FREQ), bad=malformed(_NO_FREQ))
    downdelay: int | None = attr(
        "downdelay", UINT, default=None, blank=True, shown=lambda self, flags: self.downdelay or None
    )
    updelay: int | None = attr(
        "updelay", UINT, default=None, blank=True, shown=lambda self, flags: self.updelay or None
    )
    carrier: str | None = attr(
        "carrier", words("ioctl", "netif"), default=None, blank=True, bad=malformed("unknown mii bonding carrier {}")
    )


class ArpMonitor(Element, tag="arpmon"):
    """Links are watched by asking for an address."""

    interval: int = attr("interval", INT32, missing=lacking(XmlError, _NO_INTERVAL), bad=malformed(_NO_INTERVAL))
    target: str = attr("target", str)
    validate: str | None = attr("validate", words("none", "active", "backup", "all"), default=None)


class Link(Element, tag="link"):
    """The state of the link."""

    speed: int | None = attr("speed", UINT, default=None, shown=lambda self, flags: self.speed or None)
    state: str | None = attr(
        "state",
        words("unknown", "notpresent", "down", "lowerlayerdown", "testing", "dormant", "up"),
        default=None,
    )


class BridgeParts(Element, tag="bridge", empty=Empty.OPEN):
    """What a bridge joins."""

    stp: bool | None = attr("stp", ON_OFF, default=None)
    delay: str | None = attr("delay", str, default=None)
    interfaces: list[HostInterface] = children(lambda: HostInterface, default=[])


class BondParts(Element, tag="bond", empty=Empty.OPEN):
    """What a bond joins."""

    mode: str | None = attr("mode", str, default=None)
    miimon: MiiMonitor | None = child(MiiMonitor, default=None)
    arpmon: ArpMonitor | None = child(ArpMonitor, default=None)
    interfaces: list[HostInterface] = children(lambda: HostInterface, default=[])


class VlanLink(Element, tag="interface"):
    """The interface that carries a VLAN."""

    name: str = attr("name", str)


class VlanParts(Element, tag="vlan"):
    """What a VLAN is part of."""

    tag: int = attr("tag", UINT)
    interface: VlanLink = child(VlanLink)


class HostInterface(Element, tag="interface", root=True, empty=Empty.OPEN):
    """A network interface of the host; inside a bridge or bond it has neither start mode nor protocols."""

    type: InterfaceType = attr("type", InterfaceType)
    name: str = attr("name", str, missing=lacking(XmlError, "interface has no name"))
    start: str | None = value(
        "start",
        "mode",
        words("onboot", "none", "hotplug"),
        default=None,
        blank=True,
        bad=malformed("unknown interface startmode {}"),
    )
    mtu: int | None = value("mtu", "size", UINT, default=None, blank=True, shown=lambda self, flags: self.mtu or None)
    protocols: list[Protocol] = children(Protocol, default=[])
    link: Link | None = child(Link, default=None)
    mac: str | None = value("mac", "address", str, default=None, blank=True)
    bridge: BridgeParts | None = child(BridgeParts, default=None)
    bond: BondParts | None = child(BondParts, default=None)
    vlan: VlanParts | None = child(VlanParts, default=None)
