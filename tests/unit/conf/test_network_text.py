"""What a network's text must not say, and what an empty attribute means."""

from __future__ import annotations

import pytest

from conf.network.documents import parse_network, write_network
from schema.enums.error import ErrorCode
from schema.errors import VirtError

_IP = "<ip address='10.1.1.1' netmask='255.255.255.0'>{}</ip>"
_REFUSED = {
    "a delay that is no number": ("<bridge delay='x'/>", ErrorCode.XML_ERROR, "Invalid delay value in network 'n'"),
    "a bridge's manager": (
        "<bridge macTableManager='x'/>",
        ErrorCode.XML_ERROR,
        "Invalid macTableManager setting 'x' in network 'n'",
    ),
    "an address that is missing": ("<ip/>", ErrorCode.XML_ERROR, "Missing required address attribute in network 'n'"),
    "a family that is missing": (
        "<ip address='::1' prefix='64'/>",
        ErrorCode.CONFIG_UNSUPPORTED,
        "no family specified for non-IPv4 address '::1' in network 'n'",
    ),
    "too long a prefix": (
        "<ip family='ipv6' address='::1' prefix='129'/>",
        ErrorCode.CONFIG_UNSUPPORTED,
        "Invalid IPv6 prefix '129' in network 'n'",
    ),
    "no address to translate to": (
        "<forward mode='nat'/>",
        ErrorCode.XML_ERROR,
        "nat forwarding requested, but no IP address provided for network 'n'",
    ),
    "ports to translate to": (
        "<forward><nat><port start='1' end='x'/></nat></forward>" + _IP,
        ErrorCode.XML_DETAIL,
        "Missing or invalid 'end' attribute in <port> in <nat> in <forward> in network n",
    ),
    "another first interface": (
        "<forward mode='bridge' dev='a'><interface dev='b'/></forward>",
        ErrorCode.XML_ERROR,
        "<forward dev='a'> must match first <interface dev='b'/> in network n",
    ),
    "too short a lease": (
        _IP.format("<dhcp><range start='10.1.1.2' end='10.1.1.9'><lease expiry='1'/></range></dhcp>"),
        ErrorCode.CONFIG_UNSUPPORTED,
        "The minimum lease time should be greater than 2 minutes",
    ),
    "a route to a host": (
        _IP + "<route address='10.2.0.1' prefix='24' gateway='10.1.1.2'/>",
        ErrorCode.XML_ERROR,
        "n: Address '10.2.0.1' in route definition is not a network address",
    ),
    "a gateway elsewhere": (
        _IP + "<route address='10.2.0.0' prefix='24' gateway='10.3.1.2'/>",
        ErrorCode.CONFIG_UNSUPPORTED,
        "unreachable static route gateway '10.3.1.2' specified for network 'n'",
    ),
}


@pytest.mark.parametrize("case", _REFUSED)
def test_networks_that_cannot_be_are_refused(case: str) -> None:
    part, code, message = _REFUSED[case]
    with pytest.raises(VirtError) as caught:
        parse_network(f"<network><name>n</name>{part.replace('{}', '')}</network>")
    assert (caught.value.code, str(caught.value).endswith(message)) == (code, True), str(caught.value)


@pytest.mark.parametrize(
    ("part", "kept"),
    [
        ("<bridge stp='x' delay=''/>", "<bridge stp='on' delay='0'/>"),
        ("<forward mode=''/>" + _IP, "<forward mode='nat'/>"),
        (
            _IP.format("<dhcp><range start='10.1.1.2' end='10.1.1.9'><lease expiry='2'/></range></dhcp>"),
            "<lease expiry='2' unit='minutes'/>",
        ),
    ],
)
def test_what_is_left_open_is_filled_in(part: str, kept: str) -> None:
    assert kept in write_network(parse_network(f"<network><name>n</name>{part.replace('{}', '')}</network>"))
