"""What no network can have: addresses and records that contradict themselves, in libvirt's words.

Entries that only name what is to be deleted are `partial`: they may leave open what they do not ask for.
"""

from __future__ import annotations

import ipaddress
import re
from typing import Final

from conf.network.network import DhcpHost, DhcpRange, DnsHost, DnsSrv, DnsTxt, Lease, Network, NetworkIp
from conf.values import parse_mac
from schema.errors import ConfigUnsupported, ErrorCode, RefusedDocument, VirtError, XmlDetailError, XmlError

Address = ipaddress.IPv4Address | ipaddress.IPv6Address

_LONGEST_SERVICE: Final = 482
_MOST_ADDRESSES: Final = 65535
_HIGHEST_NUMBER: Final = 65535
_OUTSIDE_ID: Final = re.compile("[^0-9a-fA-F:]").search
_OUTSIDE_SERVICE: Final = re.compile(r"[^-+/_0-9A-Za-z]").search
_OUTSIDE_TXT: Final = re.compile("[ ,]").search
_CLASSES: Final = ((0x80, 0x00, 8), (0xC0, 0x80, 16), (0xE0, 0xC0, 24))


def check_entries(network: Network) -> None:
    """Every DHCP and DNS entry. Raises XmlError, XmlDetailError, RefusedDocument."""
    for ip in network.ips:
        if ip.dhcp is not None:
            for lease in (*(one.lease for one in ip.dhcp.ranges), *(one.lease for one in ip.dhcp.hosts)):
                _settle_lease(lease)
            for lent in ip.dhcp.ranges:
                check_dhcp_range(lent, ip, network.name)
            for host in ip.dhcp.hosts:
                check_dhcp_host(host, ip, network.name)
            if ip.dhcp.bootp is not None and ip.dhcp.bootp.server and find_address(ip.dhcp.bootp.server) is None:
                raise _no_address(ip.dhcp.bootp.server)
    if network.dns is not None:
        for forwarder in network.dns.forwarders:
            if forwarder.addr is None and forwarder.domain is None:
                raise XmlError("Invalid forwarder element, must contain at least one of addr or domain")
            if forwarder.addr is not None and find_address(forwarder.addr) is None:
                raise XmlError(f"Invalid forwarder IP address '{forwarder.addr}' in network '{network.name}'")
        for txt in network.dns.txts:
            check_dns_txt(txt, network.name)
        for srv in network.dns.srvs:
            check_dns_srv(srv, network.name)
        for named in network.dns.hosts:
            check_dns_host(named, network.name)


_LEAST_SECONDS: Final = 120
_SECONDS: Final = {"seconds": 1, "minutes": 60, "hours": 3600}


def _settle_lease(lease: Lease | None) -> None:
    """A time is in minutes where no unit is given; none at all is for ever."""
    if lease is None:
        return
    if not lease.expiry:
        lease.unit = None
        return
    lease.unit = lease.unit or "minutes"
    if lease.expiry * _SECONDS[lease.unit] < _LEAST_SECONDS:
        raise ConfigUnsupported("The minimum lease time should be greater than 2 minutes")


def find_address(text: str | None) -> Address | None:
    """The address that a text says; None for anything else."""
    try:
        return ipaddress.ip_address(text or "")
    except ValueError:
        return None


def _no_address(text: str) -> VirtError:
    return VirtError(f"Cannot parse socket address '{text}': Name or service not known", code=ErrorCode.SYSTEM_ERROR)


def check_dhcp_host(host: DhcpHost, ip: NetworkIp, name: str, *, partial: bool = False) -> None:
    """The address of one guest. Raises XmlError."""
    is_ipv6 = (ip.family or "ipv4") == "ipv6"
    if host.mac is not None:
        _check_mac(host.mac, name)
        if is_ipv6:
            raise XmlError(
                f"Invalid to specify MAC address '{host.mac}' in network '{name}' IPv6 static host definition"
            )
    if host.id is not None and (wrong := _OUTSIDE_ID(host.id)):
        raise XmlError(f"Invalid character '{wrong[0]}' in id '{host.id}' of network '{name}'")
    if host.name is not None and not host.name[:1].isalnum():
        raise XmlError(f"Cannot use host name '{host.name}' in network '{name}'")
    if host.ip is not None and find_address(host.ip) is None:
        raise XmlError(f"Invalid IP address in static host definition for network '{name}'")
    if partial:
        if not (host.mac or host.name or host.ip):
            raise XmlError(
                f"At least one of name, mac, or ip attribute must be specified for static host definition "
                f"in network '{name}'"
            )
        return
    if is_ipv6 and not (host.id or host.name):
        raise XmlError(f"Static host definition in IPv6 network '{name}' must have id or name attribute")
    if not is_ipv6 and not (host.mac or host.name):
        raise XmlError(f"Static host definition in IPv4 network '{name}' must have mac or name attribute")
    if host.ip is None:
        raise XmlError(f"Missing IP address in static host definition for network '{name}'")


def _check_mac(mac: str, name: str) -> None:
    try:
        first = int(parse_mac(mac)[:2], 16)
    except ValueError:
        raise XmlError(f"Cannot parse MAC address '{mac}' in network '{name}'") from None
    if first & 1:
        raise XmlError(f"expected unicast mac address, found multicast '{mac}' in network '{name}'")


def check_dhcp_range(lent: DhcpRange, ip: NetworkIp, name: str) -> None:
    """Addresses to lend. Raises XmlError, and RefusedDocument for a range that is none or not of the network."""
    ends = []
    for word, text in (("start", lent.start), ("end", lent.end)):
        if text is None:
            raise XmlError(f"Missing '{word}' attribute in dhcp range for network '{name}'")
        address = find_address(text)
        if address is None:
            raise _no_address(text)
        ends.append(address)
    _check_ends(ends[0], ends[1], ip)


def _check_ends(start: Address, end: Address, ip: NetworkIp) -> None:
    words = f"{start} - {end}"
    if start.version != end.version:
        raise RefusedDocument(f"mismatch of address family in range {words}")
    own = find_address(ip.address)
    if own is not None:
        prefix = prefix_of(ip)
        where = f"{words} in network {own}/{prefix}"
        if own.version != start.version:
            raise RefusedDocument(f"mismatch of address family in range {words} for network {own}")
        if prefix is None:
            raise RefusedDocument(f"bad prefix {prefix} for network {own} when checking range {words}")
        network = ipaddress.ip_network(f"{own}/{prefix}", strict=False)
        if start not in network or end not in network:
            raise RefusedDocument(f"range {words} is not entirely within network {own}/{prefix}")
        if start.version == 4 and prefix < 31:
            if start == network.network_address:
                raise RefusedDocument(f"start of range {where} is the network address")
            if end == network.broadcast_address:
                raise RefusedDocument(f"end of range {where} is the broadcast address")
    if int(end) < int(start):
        raise RefusedDocument(f"range {words} is reversed")
    if int(end) - int(start) > _MOST_ADDRESSES:
        raise RefusedDocument(f"range {words} is too large (> {_MOST_ADDRESSES})")


def prefix_of(ip: NetworkIp) -> int | None:
    """How many bits of an address are the network's: as written, else by the class of the address."""
    if ip.prefix is not None:
        return ip.prefix
    if ip.netmask is not None:
        try:
            return ipaddress.ip_network(f"0.0.0.0/{ip.netmask}").prefixlen
        except ValueError:
            return None
    own = find_address(ip.address)
    if isinstance(own, ipaddress.IPv6Address):
        return 64
    if own is None:
        return None
    first = own.packed[0]
    return next((bits for mask, found, bits in _CLASSES if first & mask == found), None)


def check_dns_host(host: DnsHost, name: str, *, partial: bool = False) -> None:
    """Names of an address. Raises XmlDetailError."""
    if host.ip is None and not partial:
        raise XmlDetailError(f"Missing IP address in network '{name}' DNS HOST record")
    if host.ip is not None and find_address(host.ip) is None:
        raise XmlDetailError(f"Invalid IP address in network '{name}' DNS HOST record")
    if not partial and not host.hostnames:
        raise XmlDetailError(f"Missing hostname in network '{name}' DNS HOST record")
    if host.ip is None and not host.hostnames:
        raise XmlDetailError(f"Missing ip and hostname in network '{name}' DNS HOST record")


def check_dns_txt(txt: DnsTxt, name: str, *, partial: bool = False) -> None:
    """A TXT record. Raises XmlDetailError."""
    if not txt.name:
        raise XmlDetailError(f"missing required name attribute in DNS TXT record of network {name}")
    if _OUTSIDE_TXT(txt.name):
        raise XmlDetailError(f"prohibited character in DNS TXT record name '{txt.name}' of network {name}")
    if txt.value is None and not partial:
        raise XmlDetailError(f"missing required value attribute in DNS TXT record named '{txt.name}' of network {name}")


def check_dns_srv(srv: DnsSrv, name: str, *, partial: bool = False) -> None:
    """An SRV record. Raises XmlDetailError."""
    if srv.service is None and not partial:
        raise XmlDetailError(f"missing required service attribute in DNS SRV record of network '{name}'")
    if _OUTSIDE_SERVICE(srv.service or ""):
        raise XmlDetailError(
            f"invalid character in service attribute '{srv.service}' in DNS SRV record of network '{name}'"
        )
    if len(srv.service or "") > _LONGEST_SERVICE:
        raise XmlDetailError(
            f"service attribute '{srv.service}' in network '{name}' is too long, limit is {_LONGEST_SERVICE} bytes"
        )
    if srv.protocol is None and not partial:
        raise XmlDetailError(
            f"missing required protocol attribute in DNS SRV record '{srv.service}' of network '{name}'"
        )
    if _OUTSIDE_SERVICE(srv.protocol or ""):
        raise XmlDetailError(
            f"invalid character in protocol attribute '{srv.protocol}' in DNS SRV record of network '{name}'"
        )
    for word, bad_word, number, least in (
        ("port", "invalid", srv.port, 1),
        ("priority", "Invalid", srv.priority, 0),
        ("weight", "invalid", srv.weight, 0),
    ):
        if number is None:
            continue
        if not least <= number <= _HIGHEST_NUMBER:
            raise XmlDetailError(f"{bad_word} DNS SRV {word} attribute for service '{srv.service}' in network '{name}'")
        if srv.target is None:
            raise XmlDetailError(
                f"DNS SRV {word} attribute not permitted without target for service '{srv.service or '(null)'}' "
                f"in network '{name}'"
            )
