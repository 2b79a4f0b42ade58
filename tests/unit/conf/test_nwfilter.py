"""Network filters: values in two bases, variables, negation, chains."""

from __future__ import annotations

import pytest

from conf.nwfilter.documents import parse_filter_binding, parse_nwfilter, write_filter_binding, write_nwfilter
from conf.nwfilter.matches import TcpMatch
from conf.nwfilter.nwfilter import Action, Direction, NWFilter, Rule
from conf.nwfilter.values import Hex, Variable, parse_variable
from schema.errors import InternalError, InvalidArguments, VirtError

UUID = "5c6d49af-b071-6127-b4ec-6f8ed4b55335"


def filter_of(rule: str, attributes: str = "") -> NWFilter:
    return parse_nwfilter(f"<filter name='f'{attributes}><uuid>{UUID}</uuid>{rule}</filter>")


def matches_of(inside: str) -> str:
    written = write_nwfilter(filter_of(f"<rule action='drop' direction='in'>{inside}</rule>"))
    return written.split("priority='500'>\n", 1)[1].split("  </rule>", 1)[0]


def test_numbers_keep_their_base_and_names_win() -> None:
    assert matches_of("<mac protocolid='0x0800'/>") == "    <mac protocolid='ipv4'/>\n"
    assert matches_of("<ip protocol='17' dscp='0x2F'/>") == "    <ip protocol='udp' dscp='0x2f'/>\n"
    assert matches_of("<tcp srcportstart='ff'/>") == "    <tcp srcportstart='0xff'/>\n"


def test_masks_are_lengths() -> None:
    assert "srcipmask='20'" in matches_of("<tcp srcipmask='255.255.240.0'/>")
    assert "srcipmask='113'" in matches_of("<tcp-ipv6 srcipmask='ffff:ffff:ffff:ffff:ffff:ffff:ffff:8000'/>")


@pytest.mark.parametrize("text", ["::ffff:10.1.2.3", "::10.1.2.3", "::1", "a:b:c::d:e:f", "::"])
def test_addresses_are_written_as_the_c_library_does(text: str) -> None:
    assert f"srcipaddr='{text}'" in matches_of(f"<all-ipv6 srcipaddr='{text}'/>")


def test_flags_of_tcp() -> None:
    assert "flags='FIN,SYN/ALL'" in matches_of("<tcp flags='syn,fin/FIN,SYN,RST,PSH,ACK,URG'/>")
    assert "flags='PSH/NONE'" in matches_of("<tcp flags='PSH/'/>")


def test_variables() -> None:
    assert parse_variable("A[@0]") == Variable("A") == parse_variable("A")
    assert parse_variable("A[2]") == Variable("A", 2, iterates=False)
    for bad in ("", "A[", "A[@1001]", "A-B", "A[x]"):
        with pytest.raises(ValueError):
            parse_variable(bad)


def test_negated_facts_stand_apart_and_take_their_companions() -> None:
    inside = "<tcp match='no' srcipaddr='10.0.0.1' dscp='1'/><tcp srcipmask='8' dstipaddr='10.0.0.2'/>"
    assert matches_of(inside) == (
        "    <tcp match='no' srcipaddr='10.0.0.1' srcipmask='8'/>\n"
        "    <tcp dstipaddr='10.0.0.2'/>\n"
        "    <tcp match='no' dscp='1'/>\n"
    )


def test_the_first_protocol_counts() -> None:
    assert matches_of("<tcp dscp='1'/><udp dscp='2'/>") == "    <tcp dscp='1'/>\n"


@pytest.mark.parametrize(
    ("chain", "written"),
    [
        ("", " chain='root'"),
        (" chain='mac'", " chain='mac' priority='-800'"),
        (" chain='ipv4-ip' priority='-710'", " chain='ipv4-ip' priority='-710'"),
        (" chain='arp-x'", " chain='arp-x' priority='-500'"),
    ],
)
def test_chains_have_a_place(chain: str, written: str) -> None:
    assert write_nwfilter(filter_of("", chain)).startswith(f"<filter name='f'{written}>\n")


@pytest.mark.parametrize(
    ("document", "error", "words"),
    [
        ("<filter/>", InternalError, "filter has no name"),
        ("<filter name='f' chain='xyz'/>", InvalidArguments, "Invalid chain name 'xyz'"),
        ("<filter name='f' chain='mac' priority='2000'/>", InvalidArguments, "outside valid range"),
        ("<filter name='f' priority='x'/>", InvalidArguments, "Could not parse chain priority 'x'"),
        ("<filter name='f'><rule direction='in'/></filter>", InternalError, "requires action"),
        (
            "<filter name='f'><rule action='drop' direction='in'><tcp dscp='64'/></rule></filter>",
            InternalError,
            "dscp has illegal value 64",
        ),
        (
            "<filter name='f'><rule action='drop' direction='in'><ip srcportstart='1'/></rule></filter>",
            InternalError,
            "IP rule with port specification requires protocol",
        ),
    ],
)
def test_refusals_in_libvirts_words(document: str, error: type[VirtError], words: str) -> None:
    with pytest.raises(error, match=words):
        parse_nwfilter(document)


@pytest.mark.parametrize("value", ["$", "0x", "-1", "65536", "1" * 5000, "٣", "{}", "$A[" + "9" * 300 + "]"])
def test_odd_values_are_refused(value: str) -> None:
    with pytest.raises(VirtError):
        matches_of(f"<tcp srcportstart='{value}'/>")


def test_what_is_built_is_what_is_read() -> None:
    rule = Rule(
        action=Action.ACCEPT,
        direction=Direction.OUT,
        matches=[TcpMatch(source_port_start=Hex(0x20), target_port_start=Variable("P", 1))],
    )
    built = NWFilter(name="f", entries=[rule])
    read = parse_nwfilter(write_nwfilter(built))
    assert read.entries == built.entries


def test_bindings() -> None:
    text = f"""<filterbinding>
  <owner>
    <name>web</name>
    <uuid>{UUID}</uuid>
  </owner>
  <portdev name='vnet0'/>
  <linkdev name='eth0'/>
  <mac address='52:54:00:7b:35:93'/>
  <filterref filter='clean-traffic'>
    <parameter name='A' value='1'/>
    <parameter name='A' value='2'/>
    <parameter name='B' value='3'/>
  </filterref>
</filterbinding>
"""
    mixed = text.replace(
        "<parameter name='A' value='1'/>", "<parameter name='B' value='3'/><parameter name='A' value='1'/>"
    ).replace("    <parameter name='B' value='3'/>\n  ", "  ", 1)
    assert write_filter_binding(parse_filter_binding(text)) == text
    assert write_filter_binding(parse_filter_binding(mixed)) == text
