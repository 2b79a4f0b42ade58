"""What networks and interfaces of guests say in the same words: addresses, VLANs, ports of switches, bandwidth."""

from uuid import UUID

from conf.element import Element, Empty, Refused, attr, child, children
from conf.faults import unsupported
from conf.values import ANY_BASE, UINT, ULONG, UUID_TEXT, YES_NO, words


class IpAddress(Element, tag="ip"):
    """An address of an interface."""

    address: str = attr("address", str)
    family: str | None = attr("family", words("ipv4", "ipv6"), default=None)
    prefix: int | None = attr("prefix", UINT, default=None)
    peer: str | None = attr("peer", str, default=None)


class Route(Element, tag="route"):
    """A route."""

    family: str | None = attr("family", words("ipv4", "ipv6"), default=None)
    address: str | None = attr("address", str, default=None)
    netmask: str | None = attr("netmask", str, default=None)
    prefix: int | None = attr("prefix", UINT, default=None)
    gateway: str | None = attr("gateway", str, default=None)
    metric: int | None = attr("metric", UINT, default=None)


class VlanTag(Element, tag="tag"):
    """A VLAN."""

    id: int = attr("id", UINT)
    native_mode: str | None = attr("nativeMode", words("default", "tagged", "untagged"), default=None)


class Vlan(Element, tag="vlan"):
    """The VLANs of a port."""

    trunk: bool | None = attr("trunk", YES_NO, default=None)
    tags: list[VlanTag] = children(VlanTag, default=[])


class VirtualPortParameters(Element, tag="parameters", empty=Empty.OMIT):
    """What the switch wants to know of a port."""

    managerid: int | None = attr("managerid", ANY_BASE, default=None)
    typeid: int | None = attr("typeid", ANY_BASE, default=None)
    typeidversion: int | None = attr("typeidversion", ANY_BASE, default=None)
    instanceid: UUID | None = attr("instanceid", UUID_TEXT, default=None)
    interfaceid: UUID | None = attr("interfaceid", UUID_TEXT, default=None)
    profileid: str | None = attr("profileid", str, default=None)


class VirtualPort(Element, tag="virtualport"):
    """A port of a switch."""

    type: str | None = attr(
        "type",
        words("802.1Qbg", "802.1Qbh", "openvswitch", "midonet"),
        default=None,
        bad=unsupported("unknown virtualport type {}"),
    )
    parameters: VirtualPortParameters | None = child(VirtualPortParameters, default=None)


def _rate(name: str) -> Refused:
    return unsupported(f"could not convert bandwidth {name} value '{{}}'")


class Rate(Element):
    """The bandwidth of one direction, in KiB/s."""

    average: int | None = attr("average", ULONG, default=None, bad=_rate("average"))
    peak: int | None = attr("peak", ULONG, default=None, bad=_rate("peak"))
    floor: int | None = attr("floor", ULONG, default=None, bad=_rate("floor"))
    burst: int | None = attr("burst", ULONG, default=None, bad=_rate("burst"))


class InboundRate(Rate, tag="inbound"):
    """The bandwidth towards the guest."""


class OutboundRate(Rate, tag="outbound"):
    """The bandwidth from the guest."""


class Bandwidth(Element, tag="bandwidth", empty=Empty.OMIT):
    """Limits on bandwidth; `class_id` is the kernel's name for them."""

    class_id: int | None = attr("classID", UINT, default=None, live=True)
    inbound: InboundRate | None = child(InboundRate, default=None)
    outbound: OutboundRate | None = child(OutboundRate, default=None)
