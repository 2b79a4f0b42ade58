"""A network interface of the host as it is configured: `<interface>`."""

from __future__ import annotations

from enum import StrEnum

from conf.element import Element, Empty, attr, child, children, flag, value
from conf.values import MAC, ON_OFF, UINT, YES_NO, words


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

    address: str = attr("address", str)
    prefix: int | None = attr("prefix", UINT, default=None)


class ProtocolRoute(Element, tag="route"):
    """The way out."""

    gateway: str = attr("gateway", str)


class Protocol(Element, tag="protocol", empty=Empty.OPEN):
    """How the interface takes part in IPv4 or IPv6."""

    family: str = attr("family", words("ipv4", "ipv6"))
    autoconf: bool = flag("autoconf", default=False)
    dhcp: Dhcp | None = child(Dhcp, default=None)
    ips: list[ProtocolIp] = children(ProtocolIp, default=[])
    route: ProtocolRoute | None = child(ProtocolRoute, default=None)


class MiiMonitor(Element, tag="miimon"):
    """Links are watched by their carrier."""

    freq: int = attr("freq", UINT)
    downdelay: int | None = attr("downdelay", UINT, default=None)
    updelay: int | None = attr("updelay", UINT, default=None)
    carrier: str | None = attr("carrier", words("ioctl", "netif"), default=None)


class ArpMonitor(Element, tag="arpmon"):
    """Links are watched by asking for an address."""

    interval: int = attr("interval", UINT)
    target: str = attr("target", str)
    validate: str | None = attr("validate", words("none", "active", "backup", "all"), default=None)


class Link(Element, tag="link"):
    """The state of the link."""

    speed: int | None = attr("speed", UINT, default=None)
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
    name: str = attr("name", str)
    start: str | None = value("start", "mode", words("onboot", "none", "hotplug"), default=None)
    mtu: int | None = value("mtu", "size", UINT, default=None)
    protocols: list[Protocol] = children(Protocol, default=[])
    link: Link | None = child(Link, default=None)
    mac: str | None = value("mac", "address", MAC, default=None)
    bridge: BridgeParts | None = child(BridgeParts, default=None)
    bond: BondParts | None = child(BondParts, default=None)
    vlan: VlanParts | None = child(VlanParts, default=None)
