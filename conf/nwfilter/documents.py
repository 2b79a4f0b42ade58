"""Network filters and their bindings between text and object."""

from __future__ import annotations

import re
from typing import Any, Final
from uuid import uuid4

from conf.document import parse_document
from conf.nwfilter.matches import PAIRS, IpMatch, Ipv6Match, Match
from conf.nwfilter.nwfilter import NO_UUID, FilterBinding, NWFilter, Rule
from conf.nwfilter.reference import FilterRef, tidy_parameters
from conf.nwfilter.values import Variable
from conf.origin import told_by
from schema.errors import ErrorDomain, InternalError, InvalidArguments

_PRIORITIES: Final = {
    "root": 0,
    "mac": -800,
    "stp": -810,
    "vlan": -750,
    "ipv4": -700,
    "ipv6": -600,
    "arp": -500,
    "rarp": -400,
}
_LIMIT: Final = 1000
_MAX_CHAIN: Final = 12
_CHAIN = re.compile(r"[a-zA-Z0-9_.:-]*\Z").match
_PREFIXES: Final = ("mac", "vlan", "stp", "arp", "rarp", "ipv4", "ipv6")
_WITH_PORTS: Final = frozenset({6, 17, 33, 132})
_PORTS: Final = ("source_port_start", "source_port_end", "target_port_start", "target_port_end")


@told_by(ErrorDomain.NWFILTER)
def parse_nwfilter(xml: str | bytes, *, validate: bool = False) -> NWFilter:
    """The filter that a document describes.

    Raises XmlDetailError and XmlError for a document that cannot be read, InternalError and InvalidArguments for rules
    that say what no packet can be, as libvirt does.
    """
    filter = NWFilter.parse(parse_document(xml, name="nwfilter_definition", root="filter", validate=validate))
    if filter.uuid == NO_UUID:
        filter.uuid = uuid4()
    prefix = _checked_chain(filter.chain)
    if filter.priority is None:
        filter.priority = _PRIORITIES[prefix]
    elif not -_LIMIT <= filter.priority <= _LIMIT:
        raise InvalidArguments(f"Priority '{filter.priority}' is outside valid range of [{-_LIMIT},{_LIMIT}]")
    for entry in filter.entries:
        if isinstance(entry, FilterRef):
            tidy_parameters(entry)
        else:
            _tidy_rule(entry)
    return filter


def write_nwfilter(filter: NWFilter) -> str:
    """The document of a filter, as libvirt writes it."""
    return filter.to_xml()


@told_by(ErrorDomain.NWFILTER)
def parse_filter_binding(xml: str | bytes, *, validate: bool = False) -> FilterBinding:
    """The binding that a document describes. Raises XmlDetailError, XmlError, InternalError."""
    binding = FilterBinding.parse(
        parse_document(xml, name="nwfilterbinding_definition", root="filterbinding", validate=validate)
    )
    tidy_parameters(binding.filterref)
    return binding


def write_filter_binding(binding: FilterBinding) -> str:
    """The document of a binding, as libvirt writes it."""
    return binding.to_xml()


def _checked_chain(chain: str) -> str:
    """The protocol that a chain is for. Raises InvalidArguments for a name that no chain can have."""
    if len(chain) > _MAX_CHAIN:
        raise InvalidArguments(f"Name of chain is longer than {_MAX_CHAIN} characters")
    if _CHAIN(chain) is None:
        raise InvalidArguments("Chain name contains invalid characters")
    for prefix in _PRIORITIES:
        if chain == prefix or (prefix != "root" and chain.startswith(prefix)):
            if len(chain) == len(prefix) + 1 and chain.endswith("-"):
                break
            return prefix
    raise InvalidArguments(
        f"Invalid chain name '{chain}'. Please use a chain name called 'root' or any of the following prefixes: "
        f"{', '.join(_PREFIXES)}"
    )


def _tidy_rule(rule: Rule) -> None:
    """Brings the matches of a rule into the order in which libvirt writes them, and checks them."""
    if not rule.matches:
        return
    first = type(rule.matches[0])
    facts: dict[str, tuple[Any, bool]] = {}
    for match in rule.matches:
        if type(match) is not first:
            continue
        for one in first.declared[1:]:
            said = getattr(match, one.name)
            if said is not None:
                facts[one.name] = (said, match.negated)
        _check_ports(first, facts)
    for name, leader in PAIRS.items():
        if name in facts and leader in facts:
            facts[name] = (facts[name][0], facts[leader][1])
    if ("ipset" in facts) != ("ipset_flags" in facts):
        facts.pop("ipset", None)
        facts.pop("ipset_flags", None)
    rule.matches = _split(first, facts)


def _split(cls: type[Match], facts: dict[str, tuple[Any, bool]]) -> list[Match]:
    """The facts as elements, a new one wherever a fact is negated and the one before it is not, or the reverse."""
    matches: list[Match] = [cls()]
    is_started = False
    for one in cls.declared[1:]:
        if one.name not in facts:
            continue
        said, negated = facts[one.name]
        if is_started and matches[-1].negated != negated:
            matches.append(cls())
        is_started = True
        matches[-1].negated = negated
        setattr(matches[-1], one.name, said)
    return matches


def _check_ports(cls: type[Match], facts: dict[str, tuple[Any, bool]]) -> None:
    if cls not in (IpMatch, Ipv6Match) or not any(name in facts for name in _PORTS):
        return
    protocol = facts.get("protocol", (None, False))[0]
    if not isinstance(protocol, Variable) and protocol not in _WITH_PORTS:
        name = "IP" if cls is IpMatch else "IPv6"
        raise InternalError(
            f"{name} rule with port specification requires protocol specification with protocol to be either one of "
            "tcp(6), udp(17), dccp(33), or sctp(132)"
        )
