"""Parts of networks: added, changed, deleted, and refused in libvirt's words."""

from __future__ import annotations

import pytest

from conf.network.documents import parse_network, write_network
from conf.network.network import Network
from conf.network.sections import ADD_LAST, update_network
from schema.enums.network import NetworkUpdateCommand as Command
from schema.enums.network import NetworkUpdateSection as Section
from schema.errors import VirtError

HOST = "<host mac='52:54:00:00:00:01' name='a' ip='10.0.0.5'/>"


def network(*, dhcp: str = HOST, dns: str = "", more: str = "") -> Network:
    """A network with one address, and another of the other family."""
    return parse_network(
        f"<network><name>n</name><forward mode='nat'/><dns>{dns}</dns>"
        f"<ip address='10.0.0.1' netmask='255.255.255.0'><dhcp>{dhcp}</dhcp></ip>"
        f"<ip family='ipv6' address='fd00::1' prefix='64'/>{more}</network>"
    )


def change(net: Network, command: int, section: Section, xml: str, parent: int = -1) -> str:
    """The document after a change, or the refusal."""
    try:
        update_network(net, command, section, parent, xml)
    except VirtError as exc:
        return str(exc)
    return write_network(net)


@pytest.mark.parametrize(
    ("command", "section", "xml", "parent", "said"),
    [
        (ADD_LAST, Section.IP_DHCP_HOST, HOST, -1, "there is an existing dhcp host entry in network 'n' that matches"),
        (ADD_LAST, Section.IP_DHCP_HOST, "<host name='b' ip='10.0.0.5'/>", -1, "mac='unknown' name='b' ip='10.0.0.5'"),
        (ADD_LAST, Section.IP_DHCP_HOST, "<host name='b' ip='fd00::2'/>", 0, "must match the address family"),
        (ADD_LAST, Section.IP_DHCP_HOST, "<host name='b'/>", 0, "Missing IP address in static host definition"),
        (ADD_LAST, Section.IP_DHCP_HOST, "<host name='b' ip='10.0.0.6'/>", 7, "no <ip> element found at index 7"),
        (ADD_LAST, Section.IP_DHCP_HOST, "<hosts/>", 0, "unexpected element <hosts>, expecting <host>"),
        (ADD_LAST, Section.IP_DHCP_HOST, "<host mac='x' ip='10.0.0.6'/>", 0, "Cannot parse MAC address 'x'"),
        (Command.MODIFY, Section.IP_DHCP_HOST, "<host name='b' ip='10.0.0.6'/>", 0, "couldn't locate an existing"),
        (Command.DELETE, Section.IP_DHCP_HOST, "<host/>", 0, "At least one of name, mac, or ip attribute"),
        (Command.DELETE, Section.IP_DHCP_HOST, "<host ip='10.0.0.6'/>", 0, "couldn't locate a matching dhcp host"),
        (Command.MODIFY, Section.IP_DHCP_RANGE, "<range start='10.0.0.2' end='10.0.0.3'/>", 0, "cannot be modified"),
        (ADD_LAST, Section.IP_DHCP_RANGE, "<range start='10.0.1.2' end='10.0.1.3'/>", 0, "is not entirely within"),
        (ADD_LAST, Section.IP_DHCP_RANGE, "<range start='10.0.0.3' end='10.0.0.2'/>", 0, "is reversed"),
        (ADD_LAST, Section.IP_DHCP_RANGE, "<range start='10.0.0.0' end='10.0.0.2'/>", 0, "is the network address"),
        (Command.DELETE, Section.FORWARD_INTERFACE, "<interface dev='e'/>", 0, "couldn't find an interface entry"),
        (Command.DELETE, Section.PORTGROUP, "<portgroup name='p'/>", 0, "couldn't find a portgroup entry"),
        (ADD_LAST, Section.DNS_TXT, "<txt name='a b' value='c'/>", 0, "prohibited character in DNS TXT record name"),
        (ADD_LAST, Section.DNS_SRV, "<srv service='s' protocol='tcp' port='1'/>", 0, "not permitted without target"),
        (Command.DELETE, Section.DNS_HOST, "<host/>", 0, "Missing ip and hostname"),
        (ADD_LAST, Section.BRIDGE, "<bridge/>", 0, "can't update 'bridge' section of network 'n'"),
        (ADD_LAST, Section.NONE, "<bridge/>", 0, "can't update unrecognized section of network"),
        (9, Section.DNS_TXT, "<txt/>", 0, "unrecognized network update command code 9"),
    ],
)
def test_what_cannot_be_is_refused(command: int, section: Section, xml: str, parent: int, said: str) -> None:
    assert said in change(network(), command, section, xml, parent)


def test_addresses_of_a_family_are_lent_from_one_place() -> None:
    net = network(more="<ip address='10.1.0.1' netmask='255.255.255.0'/>")
    said = change(net, ADD_LAST, Section.IP_DHCP_HOST, "<host name='b' ip='10.1.0.2'/>", 2)
    assert "dhcp is supported only for a single IPv4 address on each network" in said
    assert "fd00::2" in change(network(), ADD_LAST, Section.IP_DHCP_HOST, "<host name='b' ip='fd00:0::2'/>", 1)


def test_a_guest_is_known_by_its_address_or_name() -> None:
    changed = change(
        network(), Command.MODIFY, Section.IP_DHCP_HOST, "<host mac='52:54:00:00:00:01' name='b' ip='10.0.0.9'/>"
    )
    assert "name='b' ip='10.0.0.9'" in changed
    assert "name='a'" not in changed
    assert "<dhcp>" not in change(network(), Command.DELETE, Section.IP_DHCP_HOST, "<host name='a'/>")


def test_records_are_put_first_or_last() -> None:
    net = network(dns="<txt name='b' value='1'/>")
    change(net, Command.ADD_FIRST, Section.DNS_TXT, "<txt name='a' value='1'/>")
    change(net, ADD_LAST, Section.DNS_TXT, "<txt name='c' value='1'/>")
    assert net.dns is not None
    assert [txt.name for txt in net.dns.txts] == ["a", "b", "c"]


def test_a_record_to_delete_must_be_the_only_one_that_fits() -> None:
    dns = "<srv service='a' protocol='tcp'/><srv service='b' protocol='tcp'/>"
    said = change(network(dns=dns), Command.DELETE, Section.DNS_SRV, "<srv protocol='tcp'/>")
    assert "multiple DNS SRV records matching all specified fields were found in network n" in said
    net = network(dns=dns)
    change(net, Command.DELETE, Section.DNS_SRV, "<srv service='a'/>")
    assert net.dns is not None
    assert [srv.service for srv in net.dns.srvs] == ["b"]


def test_only_one_group_is_the_default() -> None:
    net = network(more="<portgroup name='p' default='yes'/>")
    said = change(net, ADD_LAST, Section.PORTGROUP, "<portgroup name='q' default='yes'/>")
    assert "Only one default is allowed" in said
    assert "<portgroup name='p'>" in change(net, Command.MODIFY, Section.PORTGROUP, "<portgroup name='p'/>")
