"""What reading the text of a network interface settles or refuses, in libvirt's words."""

from __future__ import annotations

import pytest

from conf.domain.documents import parse_domain, write_domain
from conf.flags import ParseFlags
from schema.errors import VirtError

DOMAIN = (
    "<domain type='test'><name>a</name><memory>1024</memory><os><type>hvm</type></os><devices>"
    "<interface type='{type}'>{parts}</interface></devices></domain>"
)
BRIDGE = "<source bridge='b'/>"


def read(type: str, parts: str) -> str:
    return write_domain(parse_domain(DOMAIN.format(type=type, parts=parts), flags=ParseFlags.INACTIVE))


@pytest.mark.parametrize(
    ("type", "parts", "words"),
    [
        ("vhostuser", "<source type='tcp' path='/s' mode='client'/>", "Type='tcp' unsupported"),
        ("vhostuser", "<source type='unix' mode='client'/>", "Missing required attribute 'path' in element 'source'"),
        ("direct", "<source mode='vepa'/>", "Missing required attribute 'dev' in element 'source'"),
        ("client", "<source port='1'/>", "Missing required attribute 'address' in element 'source'"),
        ("mcast", "<source address='230.0.0.1'/>", "Missing required attribute 'port' in element 'source'"),
        ("udp", "<source address='1.2.3.4' port='1'/>", "'<local>' element missing for 'udp' socket interface"),
        ("user", "<link state='x'/>", "unknown interface link state 'x'"),
        ("user", "<model type='a b'/>", "Model name contains invalid characters"),
        ("user", "<ip address='x'/>", "Invalid address 'x' in <ip>"),
        ("user", "<ip address='1.2.3.4' prefix='33'/>", "Invalid prefix value '33' in <ip>"),
        ("bridge", f"{BRIDGE}<vlan/>", "missing tag id"),
        ("bridge", f"{BRIDGE}<vlan><tag id='4096'/></vlan>", "vlan tag id 4096 too large (maximum 4095)"),
        ("bridge", f"{BRIDGE}<tune><sndbuf>x</sndbuf></tune>", "sndbuf must be a positive integer"),
        (
            "bridge",
            f"{BRIDGE}<bandwidth><inbound average='x'/></bandwidth>",
            "could not convert bandwidth average value 'x'",
        ),
        (
            "bridge",
            f"{BRIDGE}<bandwidth><outbound average='1' floor='1'/></bandwidth>",
            "'floor' attribute allowed only in <inbound> element",
        ),
        (
            "bridge",
            f"{BRIDGE}<virtualport type='802.1Qbg'><parameters managerid='256'/></virtualport>",
            "value of managerid out of range",
        ),
        ("bridge", f"{BRIDGE}<virtualport type='802.1Qbh'/>", "missing profileid in <virtualport type='802.1Qbh'>"),
    ],
)
def test_what_is_wrong_with_an_interface_is_named(type: str, parts: str, words: str) -> None:
    with pytest.raises(VirtError) as caught:
        read(type, parts)
    assert words in caught.value.message


@pytest.mark.parametrize(
    ("type", "parts", "kept"),
    [
        ("direct", "<source dev='e'/>", "<source dev='e' mode='vepa'/>"),
        (
            "bridge",
            f"{BRIDGE}<virtualport type='openvswitch'/><vlan><tag id='1'/><tag id='2'/></vlan>",
            "<vlan trunk='yes'>",
        ),
        ("bridge", f"{BRIDGE}<alias name='ua-a_1'/>", "<alias name='ua-a_1'/>"),
    ],
)
def test_what_goes_without_saying_is_written(type: str, parts: str, kept: str) -> None:
    assert kept in read(type, parts)


def test_what_says_nothing_is_dropped() -> None:
    text = read("bridge", f"{BRIDGE}<mtu size='0'/><alias name='ua-a b'/>")
    assert "mtu" not in text and "alias" not in text
