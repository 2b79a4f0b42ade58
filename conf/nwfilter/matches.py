"""What a packet must be for a rule to apply: one element per protocol."""

from __future__ import annotations

from conf.element import Element, attr
from conf.nwfilter.values import (
    ARP_OPCODE,
    COMMENT,
    DSCP,
    ETHERTYPE,
    IP_PROTOCOL,
    IPSET_FLAGS,
    IPSET_NAME,
    IPV4,
    IPV4_MASK,
    IPV6,
    IPV6_MASK,
    MAC,
    MAC_MASK,
    STATES,
    TCP_FLAGS,
    TRUTH,
    U8,
    U16,
    U32,
    VLAN_ID,
    Number,
    Text,
    Truth,
    fact,
)
from conf.values import Codec

_NEGATED = Codec(lambda text: text == "no", lambda value: "no" if value else "yes")


class Match(Element):
    """All that is said must be so; `negated`: nothing of it."""

    negated: bool = attr("match", _NEGATED, default=False, when="self.negated")


class CommentedMatch(Match, trailing=True):
    """A match with a remark."""

    comment: Text | None = fact("comment", COMMENT)


class FrameMatch(CommentedMatch):
    """Ends of an Ethernet frame."""

    source_mac: Text | None = fact("srcmacaddr", MAC)
    source_mac_mask: Text | None = fact("srcmacmask", MAC_MASK)
    target_mac: Text | None = fact("dstmacaddr", MAC)
    target_mac_mask: Text | None = fact("dstmacmask", MAC_MASK)


class MacMatch(FrameMatch, tag="mac"):
    """An Ethernet frame."""

    protocol_id: Number | None = fact("protocolid", ETHERTYPE)


class VlanMatch(FrameMatch, tag="vlan"):
    """A frame in a VLAN."""

    vlan_id: Number | None = fact("vlanid", VLAN_ID)
    encap_protocol: Number | None = fact("encap-protocol", ETHERTYPE)


class StpMatch(CommentedMatch, tag="stp"):
    """A message of the spanning tree protocol; `..._hi` is the end of a range."""

    source_mac: Text | None = fact("srcmacaddr", MAC)
    source_mac_mask: Text | None = fact("srcmacmask", MAC_MASK)
    type: Number | None = fact("type", U8)
    flags: Number | None = fact("flags", U8)
    root_priority: Number | None = fact("root-priority", U16)
    root_priority_hi: Number | None = fact("root-priority-hi", U16)
    root_address: Text | None = fact("root-address", MAC)
    root_address_mask: Text | None = fact("root-address-mask", MAC_MASK)
    root_cost: Number | None = fact("root-cost", U32)
    root_cost_hi: Number | None = fact("root-cost-hi", U32)
    sender_priority: Number | None = fact("sender-priority", U16)
    sender_priority_hi: Number | None = fact("sender-priority-hi", U16)
    sender_address: Text | None = fact("sender-address", MAC)
    sender_address_mask: Text | None = fact("sender-address-mask", MAC_MASK)
    port: Number | None = fact("port", U16)
    port_hi: Number | None = fact("port-hi", U16)
    age: Number | None = fact("age", U16)
    age_hi: Number | None = fact("age-hi", U16)
    max_age: Number | None = fact("max-age", U16)
    max_age_hi: Number | None = fact("max-age-hi", U16)
    hello_time: Number | None = fact("hello-time", U16)
    hello_time_hi: Number | None = fact("hello-time-hi", U16)
    forward_delay: Number | None = fact("forward-delay", U16)
    forward_delay_hi: Number | None = fact("forward-delay-hi", U16)


class ArpMatch(FrameMatch, tag="arp"):
    """A question for, or answer with, an address."""

    hw_type: Number | None = fact("hwtype", U16)
    protocol_type: Number | None = fact("protocoltype", U16)
    opcode: Number | None = fact("opcode", ARP_OPCODE)
    arp_source_mac: Text | None = fact("arpsrcmacaddr", MAC)
    arp_target_mac: Text | None = fact("arpdstmacaddr", MAC)
    arp_source_ip: Text | None = fact("arpsrcipaddr", IPV4)
    arp_source_ip_mask: Number | None = fact("arpsrcipmask", IPV4_MASK)
    arp_target_ip: Text | None = fact("arpdstipaddr", IPV4)
    arp_target_ip_mask: Number | None = fact("arpdstipmask", IPV4_MASK)
    gratuitous: Truth | None = fact("gratuitous", TRUTH)


class RarpMatch(ArpMatch, tag="rarp"):
    """The reverse question or answer."""


class IpMatch(FrameMatch, tag="ip"):
    """An IPv4 packet, looked at on the bridge."""

    source_ip: Text | None = fact("srcipaddr", IPV4)
    source_ip_mask: Number | None = fact("srcipmask", IPV4_MASK)
    target_ip: Text | None = fact("dstipaddr", IPV4)
    target_ip_mask: Number | None = fact("dstipmask", IPV4_MASK)
    protocol: Number | None = fact("protocol", IP_PROTOCOL)
    source_port_start: Number | None = fact("srcportstart", U16)
    source_port_end: Number | None = fact("srcportend", U16)
    target_port_start: Number | None = fact("dstportstart", U16)
    target_port_end: Number | None = fact("dstportend", U16)
    dscp: Number | None = fact("dscp", DSCP)


class Ipv6Match(FrameMatch, tag="ipv6"):
    """An IPv6 packet, looked at on the bridge."""

    source_ip: Text | None = fact("srcipaddr", IPV6)
    source_ip_mask: Number | None = fact("srcipmask", IPV6_MASK)
    target_ip: Text | None = fact("dstipaddr", IPV6)
    target_ip_mask: Number | None = fact("dstipmask", IPV6_MASK)
    protocol: Number | None = fact("protocol", IP_PROTOCOL)
    source_port_start: Number | None = fact("srcportstart", U16)
    source_port_end: Number | None = fact("srcportend", U16)
    target_port_start: Number | None = fact("dstportstart", U16)
    target_port_end: Number | None = fact("dstportend", U16)
    icmp_type: Number | None = fact("type", U8)
    icmp_type_end: Number | None = fact("typeend", U8)
    icmp_code: Number | None = fact("code", U8)
    icmp_code_end: Number | None = fact("codeend", U8)


class PacketMatch(CommentedMatch):
    """Ends and state of an IPv4 connection."""

    source_mac: Text | None = fact("srcmacaddr", MAC)
    source_ip: Text | None = fact("srcipaddr", IPV4)
    source_ip_mask: Number | None = fact("srcipmask", IPV4_MASK)
    target_ip: Text | None = fact("dstipaddr", IPV4)
    target_ip_mask: Number | None = fact("dstipmask", IPV4_MASK)
    source_ip_from: Text | None = fact("srcipfrom", IPV4)
    source_ip_to: Text | None = fact("srcipto", IPV4)
    target_ip_from: Text | None = fact("dstipfrom", IPV4)
    target_ip_to: Text | None = fact("dstipto", IPV4)
    dscp: Number | None = fact("dscp", DSCP)
    connlimit_above: Number | None = fact("connlimit-above", U16)
    state: Text | None = fact("state", STATES)
    ipset: Text | None = fact("ipset", IPSET_NAME)
    ipset_flags: Text | None = fact("ipsetflags", IPSET_FLAGS)


class Packet6Match(PacketMatch):
    """Ends and state of an IPv6 connection."""

    source_ip: Text | None = fact("srcipaddr", IPV6)
    source_ip_mask: Number | None = fact("srcipmask", IPV6_MASK)
    target_ip: Text | None = fact("dstipaddr", IPV6)
    target_ip_mask: Number | None = fact("dstipmask", IPV6_MASK)
    source_ip_from: Text | None = fact("srcipfrom", IPV6)
    source_ip_to: Text | None = fact("srcipto", IPV6)
    target_ip_from: Text | None = fact("dstipfrom", IPV6)
    target_ip_to: Text | None = fact("dstipto", IPV6)


class PortMatch(PacketMatch):
    """An IPv4 connection between ports."""

    source_port_start: Number | None = fact("srcportstart", U16)
    source_port_end: Number | None = fact("srcportend", U16)
    target_port_start: Number | None = fact("dstportstart", U16)
    target_port_end: Number | None = fact("dstportend", U16)


class Port6Match(Packet6Match):
    """An IPv6 connection between ports."""

    source_port_start: Number | None = fact("srcportstart", U16)
    source_port_end: Number | None = fact("srcportend", U16)
    target_port_start: Number | None = fact("dstportstart", U16)
    target_port_end: Number | None = fact("dstportend", U16)


class TcpMatch(PortMatch, tag="tcp"):
    """TCP over IPv4."""

    option: Number | None = fact("option", U8)
    flags: Text | None = fact("flags", TCP_FLAGS)


class UdpMatch(PortMatch, tag="udp"):
    """UDP over IPv4."""


class SctpMatch(PortMatch, tag="sctp"):
    """SCTP over IPv4."""


class IcmpMatch(PacketMatch, tag="icmp"):
    """ICMP."""

    type: Number | None = fact("type", U8)
    code: Number | None = fact("code", U8)


class IgmpMatch(PacketMatch, tag="igmp"):
    """IGMP."""


class AllMatch(PacketMatch, tag="all"):
    """Anything over IPv4."""


class EspMatch(PacketMatch, tag="esp"):
    """ESP over IPv4."""


class AhMatch(PacketMatch, tag="ah"):
    """AH over IPv4."""


class UdpliteMatch(PacketMatch, tag="udplite"):
    """UDP-Lite over IPv4."""


class Tcp6Match(Port6Match, tag="tcp-ipv6"):
    """TCP over IPv6."""

    option: Number | None = fact("option", U8)
    flags: Text | None = fact("flags", TCP_FLAGS)


class Udp6Match(Port6Match, tag="udp-ipv6"):
    """UDP over IPv6."""


class Sctp6Match(Port6Match, tag="sctp-ipv6"):
    """SCTP over IPv6."""


class Icmp6Match(Packet6Match, tag="icmpv6"):
    """ICMPv6."""

    type: Number | None = fact("type", U8)
    code: Number | None = fact("code", U8)


class All6Match(Packet6Match, tag="all-ipv6"):
    """Anything over IPv6."""


class Esp6Match(Packet6Match, tag="esp-ipv6"):
    """ESP over IPv6."""


class Ah6Match(Packet6Match, tag="ah-ipv6"):
    """AH over IPv6."""


class Udplite6Match(Packet6Match, tag="udplite-ipv6"):
    """UDP-Lite over IPv6."""


MATCHES: tuple[type[Match], ...] = (
    *(MacMatch, VlanMatch, StpMatch, ArpMatch, RarpMatch, IpMatch, Ipv6Match),
    *(TcpMatch, UdpMatch, SctpMatch, IcmpMatch, IgmpMatch, AllMatch, EspMatch, AhMatch, UdpliteMatch),
    *(Tcp6Match, Udp6Match, Sctp6Match, Icmp6Match, All6Match, Esp6Match, Ah6Match, Udplite6Match),
)
"""Every protocol that rules can speak of."""

PAIRS: dict[str, str] = {
    **{f"{side}_{part}_mask": f"{side}_{part}" for side in ("source", "target") for part in ("mac", "ip")},
    **{f"{side}_port_end": f"{side}_port_start" for side in ("source", "target")},
    **{f"{side}_ip_to": f"{side}_ip_from" for side in ("source", "target")},
    **{f"arp_{side}_ip_mask": f"arp_{side}_ip" for side in ("source", "target")},
    **{f"{side}_address_mask": f"{side}_address" for side in ("root", "sender")},
    **{
        f"{name}_hi": name
        for name in (
            *("root_priority", "root_cost", "sender_priority"),
            *("port", "age", "max_age", "hello_time", "forward_delay"),
        )
    },
    "icmp_type_end": "icmp_type",
    "icmp_code": "icmp_type",
    "icmp_code_end": "icmp_type",
    "code": "type",
    "ipset_flags": "ipset",
}
"""What is negated together with what it belongs to."""
