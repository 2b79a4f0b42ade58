"""Networks between text and object: what is left unsaid is filled in, what cannot be is refused."""

from __future__ import annotations

import ipaddress
from uuid import uuid4

from conf.document import parse_document
from conf.network.checks import check_entries
from conf.network.network import NO_UUID, Bridge, Forward, ForwardInterface, ForwardMode, Network
from conf.network.routes import check_routes
from conf.network.text_checks import check_text
from conf.origin import told_by
from conf.text import text_of
from conf.values import UUID_TEXT
from schema.errors import (
    ConfigUnsupported,
    ErrorCode,
    ErrorDomain,
    RefusedDocument,
    VirtError,
    XmlDetailError,
    XmlError,
)

_BRIDGED = (None, ForwardMode.NONE, ForwardMode.NAT, ForwardMode.ROUTE, ForwardMode.OPEN)
_NEEDS_ADDRESS = (ForwardMode.NAT, ForwardMode.ROUTE, ForwardMode.OPEN)
_ONE_INTERFACE = (ForwardMode.NONE, ForwardMode.NAT, ForwardMode.ROUTE)
MISSING_NAME = "missing name information"


@told_by(ErrorDomain.NETWORK)
def parse_network(xml: str | bytes, *, validate: bool = False) -> Network:
    """The network that a document describes.

    Raises XmlDetailError and XmlError for a document that cannot be read, ConfigUnsupported for one that cannot be had.
    """
    root = parse_document(xml, name="network_definition", root="network", validate=validate)
    name = root.find("name")
    if name is None or not text_of(name):
        raise _no_name()
    uuid = root.find("uuid")
    if uuid is not None and not _is_uuid(text_of(uuid)):
        raise RefusedDocument("malformed uuid element")
    check_text(root, text_of(name))
    network = Network.parse(root)
    if network.uuid == NO_UUID:
        network.uuid = uuid4()
    if "/" in network.name:
        raise XmlDetailError("invalid char in name: /")
    mode = forward_mode(network)
    _drop_empty(network)
    _fill_forward(network)
    if mode in _BRIDGED:
        bridge = network.bridge = network.bridge or Bridge()
        bridge.stp = True if bridge.stp is None else bridge.stp
        bridge.delay = bridge.delay or 0
    check_network(network)
    return network


def check_network(network: Network) -> None:
    """Raises XmlError for a network that contradicts itself."""
    _check_addresses(network)
    check_entries(network)
    check_routes(network)
    _check_forward(network)
    dns = network.dns
    if dns is not None and dns.enable is False and (dns.forwarders or dns.txts or dns.srvs or dns.hosts):
        raise XmlError(f"Extra data in disabled network '{network.name}'")


def write_network(network: Network) -> str:
    """The document of a network, as libvirt writes it."""
    return network.to_xml()


def forward_mode(network: Network) -> ForwardMode | None:
    """How packets leave the network; None when they do not. Raises ConfigUnsupported for an unknown word."""
    if network.forward is None:
        return None
    if network.forward.mode is None:
        return ForwardMode.NAT
    try:
        return ForwardMode(network.forward.mode)
    except ValueError:
        raise ConfigUnsupported(f"unknown forwarding type '{network.forward.mode}'") from None


def _drop_empty(network: Network) -> None:
    for host in network.dns.hosts if network.dns is not None else ():
        host.hostnames = [name for name in host.hostnames if name]
    for ip in network.ips:
        if ip.dhcp is not None and ip.dhcp.bootp is not None and not ip.dhcp.bootp.file:
            ip.dhcp.bootp = None


def _fill_forward(network: Network) -> None:
    forward: Forward | None = network.forward
    if forward is None:
        return
    forward.mode = forward.mode or ForwardMode.NAT.value
    if forward.dev is not None and not forward.interfaces:
        forward.interfaces = [ForwardInterface(dev=forward.dev)]
    elif forward.dev is None and forward.interfaces and forward.mode != ForwardMode.HOSTDEV:
        forward.dev = forward.interfaces[0].dev


def _check_forward(network: Network) -> None:
    forward = network.forward
    if forward is None:
        return
    mode = forward_mode(network)
    if forward.nat is not None and mode is not ForwardMode.NAT:
        raise XmlError(f"The <nat> element can only be used when <forward> 'mode' is 'nat' in network {network.name}")
    if forward.dev is not None and forward.interfaces and forward.dev != forward.interfaces[0].dev:
        raise XmlError(
            f"<forward dev='{forward.dev}'> must match first <interface dev='{forward.interfaces[0].dev}'/> "
            f"in network {network.name}"
        )
    if mode in _NEEDS_ADDRESS and not network.ips:
        raise XmlError(f"{mode.value} forwarding requested, but no IP address provided for network '{network.name}'")
    cards = [str(one) for one in forward.addresses]
    links = [one.dev for one in forward.interfaces]
    for what, names in (("PCI device", cards), ("interface", links)):
        for place, name in enumerate(names):
            if name in names[:place]:
                raise XmlError(f"{what} '{name}' can only be listed once in network {network.name}")
    if forward_mode(network) in _ONE_INTERFACE and len(links) > 1:
        raise XmlError(f"multiple forwarding interfaces specified for network '{network.name}', only one is supported")


def _check_addresses(network: Network) -> None:
    for ip in network.ips:
        if ip.address is None:
            continue
        try:
            version = ipaddress.ip_address(ip.address).version
        except ValueError:
            raise XmlError(f"Invalid address '{ip.address}' in network '{network.name}'") from None
        where = f"address '{ip.address}' in network '{network.name}'"
        if version == 6 and ip.family is None:
            raise ConfigUnsupported(f"no family specified for non-IPv4 {where}")
        if version == 6 and ip.family == "ipv4":
            raise ConfigUnsupported(f"ipv4 family specified for non-IPv4 {where}")
        if version == 4 and ip.family == "ipv6":
            raise ConfigUnsupported(f"Family 'ipv6' specified for non-IPv6 {where}")
        if ip.prefix is not None and ip.prefix > (32 if version == 4 else 128):
            raise ConfigUnsupported(f"Invalid IPv{version} prefix '{ip.prefix}' in network '{network.name}'")
        if ip.netmask is not None:
            _check_netmask(ip.netmask, network.name)


def _check_netmask(netmask: str, name: str) -> None:
    try:
        ipaddress.IPv4Address(netmask)
    except ValueError:
        raise XmlError(f"Invalid netmask '{netmask}' in network '{name}'") from None


def _is_uuid(text: str) -> bool:
    try:
        UUID_TEXT.parse(text)
    except ValueError:
        return False
    return True


def _no_name() -> VirtError:
    return VirtError(MISSING_NAME, code=ErrorCode.NO_NAME)
