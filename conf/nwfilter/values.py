"""How the values of a filter's rules are written: numbers in two bases, names of protocols, masks, variables.

Every value can be a variable instead, `$NAME`, whose values come with the reference to the filter.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from conf.element import attr
from conf.faults import internal
from conf.values import Codec, parse_mac

MAX_ITERATOR: Final = 1000
MAX_COMMENT: Final = 256
MAX_IPSET_NAME: Final = 31
MAX_IPSET_FLAGS: Final = 6
_DECIMAL = re.compile(r"\s*\+?[0-9]+\Z").match
_HEXADECIMAL = re.compile(r"\s*\+?(?:0[xX])?([0-9a-fA-F]+)\Z").match
_ACCESS = re.compile(r"([a-zA-Z0-9_]+)(?:\[ *(@?) *\+?([0-9]+) *\])?\s*\Z").match
_IPSET_NAME = re.compile(rf"[a-zA-Z0-9_.:+ -]{{1,{MAX_IPSET_NAME}}}\Z").match


@dataclass(frozen=True, slots=True)
class Variable:
    """A variable's values, one after another (`[@2]`: by iterator 2), or one of them (`[2]`)."""

    name: str
    index: int = 0
    iterates: bool = True

    def __str__(self) -> str:
        if not self.iterates:
            return f"${self.name}[{self.index}]"
        return f"${self.name}[@{self.index}]" if self.index else f"${self.name}"


class Hex(int):
    """A number that is written in hexadecimal."""


Number: TypeAlias = int | Variable
Text: TypeAlias = str | Variable
Truth: TypeAlias = bool | Variable


def parse_variable(text: str) -> Variable:
    """The variable that a text without its dollar names. Raises ValueError."""
    found = _ACCESS(text)
    if found is None or len(text) > 256:
        raise ValueError(text)
    name, at, digits = found.groups()
    index = int(digits or 0)
    if (at and index > MAX_ITERATOR) or index >= 1 << 32:
        raise ValueError(text)
    return Variable(name, index, iterates=digits is None or bool(at))


def or_variable(parse: Callable[[str], Any], write: Callable[[Any], str] = str, *, escaped: bool = False) -> Codec[Any]:
    """The codec of a value that can be a variable instead."""

    def parse_either(text: str) -> Any:
        return parse_variable(text[1:]) if text.startswith("$") else parse(text)

    return Codec(
        parse_either, lambda value: str(value) if isinstance(value, Variable) else write(value), escaped=escaped
    )


def parse_number(text: str, last: int) -> int:
    """A number up to `last`, in hexadecimal where it is no decimal one. Raises ValueError."""
    if len(text) > 40:
        raise ValueError(text)
    if _DECIMAL(text) is not None:
        value = int(text)
    else:
        found = _HEXADECIMAL(text)
        if found is None:
            raise ValueError(text)
        value = Hex(found[1], 16)
    if value > last:
        raise ValueError(text)
    return value


def write_number(value: int) -> str:
    """In the base it was read in."""
    return f"0x{int(value):x}" if isinstance(value, Hex) else str(int(value))


def number(last: int, *, first: int = 0) -> Codec[Any]:
    """A number from `first` to `last`."""
    return named_number(last, {}, first=first)


def named_number(last: int, names: dict[str, int], *, first: int = 0) -> Codec[Any]:
    """A number, some of which have names; the name is written where there is one."""
    by_number = {value: name for name, value in names.items()}
    by_name = {name.lower(): value for name, value in names.items()}

    def parse(text: str) -> int:
        value = by_name.get(text.lower())
        if value is None:
            value = parse_number(text, last)
        if value < first:
            raise ValueError(text)
        return value

    return or_variable(parse, lambda value: by_number.get(int(value)) or write_number(value))


def _parse_mac_mask(text: str) -> str:
    mask = parse_mac(text)
    if "01" in f"{int(mask.replace(':', ''), 16):048b}":
        raise ValueError(text)
    return mask


def _parse_ipv4(text: str) -> str:
    return str(ipaddress.IPv4Address(text))


def _parse_ipv6(text: str) -> str:
    if len(text) > 64:
        raise ValueError(text)
    address = ipaddress.IPv6Address(text)
    value = int(address)
    if value >> 32 == 0xFFFF or (value >> 32 == 0 and value >> 16):
        dotted = ipaddress.IPv4Address(value & 0xFFFFFFFF)
        return f"::ffff:{dotted}" if value >> 32 else f"::{dotted}"
    return address.compressed


def _mask(bits: int, parse: Callable[[str], Any]) -> Callable[[str], int]:
    """Reads a number of bits, or a mask of them without a gap."""

    def parse_mask(text: str) -> int:
        if len(text) <= 24 and _DECIMAL(text) is not None:
            length = int(text)
            if length > bits:
                raise ValueError(text)
            return length
        digits = f"{int(parse(text)):0{bits}b}"
        if "01" in digits:
            raise ValueError(text)
        return digits.count("1")

    return parse_mask


def _parse_truth(text: str) -> bool:
    lower = text.lower()
    if lower not in ("true", "yes", "1", "false", "no", "0"):
        raise ValueError(text)
    return lower in ("true", "yes", "1")


def _parse_listed(text: str, known: tuple[str, ...]) -> frozenset[str]:
    """Words behind each other, with or without commas between them, in any case."""
    found, rest = set(), text.strip()
    while rest:
        word = next((one for one in known if rest.upper().startswith(one)), None)
        if word is None:
            raise ValueError(text)
        found.add(word)
        rest = rest[len(word) :].lstrip()
        if rest.startswith(","):
            rest = rest[1:].lstrip()
    return frozenset(found)


_STATES: Final = ("NEW", "ESTABLISHED", "RELATED", "INVALID", "NONE")
_TCP_FLAGS: Final = ("FIN", "SYN", "RST", "PSH", "ACK", "URG")


def _parse_states(text: str) -> str:
    found = _parse_listed(text, _STATES)
    return ",".join(one for one in _STATES if one in found)


def _parse_tcp_flags(text: str) -> str:
    if len(text) > 256 or "/" not in text:
        raise ValueError(text)
    return "/".join(_tidy_flags(part) for part in text.split("/", 1))


def _tidy_flags(text: str) -> str:
    found = _parse_listed(text, (*_TCP_FLAGS, "ALL", "NONE"))
    if "ALL" in found or found >= frozenset(_TCP_FLAGS):
        return "ALL"
    return ",".join(one for one in _TCP_FLAGS if one in found) or "NONE"


def _parse_ipset_name(text: str) -> str:
    if _IPSET_NAME(text) is None:
        raise ValueError(text)
    return text


def _parse_ipset_flags(text: str) -> str:
    words = [one.lower() for one in text.split(",", MAX_IPSET_FLAGS + 1)]
    if len(words) > MAX_IPSET_FLAGS or not set(words) <= {"src", "dst"}:
        raise ValueError(text)
    return ",".join(words)


def _cut(text: str) -> str:
    return text.encode()[:MAX_COMMENT].decode(errors="ignore")


U8 = number(0xFF)
U16 = number(0xFFFF)
U32 = number(0xFFFFFFFF)
DSCP = number(63)
VLAN_ID = number(4095)
_ETHERTYPES: Final = {"arp": 0x0806, "rarp": 0x8035, "ipv4": 0x0800, "ipv6": 0x86DD, "vlan": 0x8100}
ETHERTYPE = named_number(0xFFFF, _ETHERTYPES, first=0x600)
IP_PROTOCOL = named_number(
    0xFF,
    {"tcp": 6, "udp": 17, "udplite": 136, "esp": 50, "ah": 51, "icmp": 1, "igmp": 2, "icmpv6": 58, "sctp": 132},
)
ARP_OPCODE = named_number(
    0xFFFF,
    {
        "Request": 1,
        "Reply": 2,
        "Request_Reverse": 3,
        "Reply_Reverse": 4,
        "DRARP_Request": 5,
        "DRARP_Reply": 6,
        "DRARP_Error": 7,
        "InARP_Request": 8,
        "ARP_NAK": 9,
    },
)
MAC = or_variable(parse_mac)
MAC_MASK = or_variable(_parse_mac_mask)
IPV4 = or_variable(_parse_ipv4)
IPV4_MASK = or_variable(_mask(32, ipaddress.IPv4Address))
IPV6 = or_variable(_parse_ipv6)
IPV6_MASK = or_variable(_mask(128, ipaddress.IPv6Address))
TRUTH = or_variable(_parse_truth, lambda value: "true" if value else "false")
STATES = or_variable(_parse_states)
TCP_FLAGS = or_variable(_parse_tcp_flags)
IPSET_NAME = or_variable(_parse_ipset_name)
IPSET_FLAGS = or_variable(_parse_ipset_flags)
COMMENT = or_variable(_cut, escaped=True)


def fact(xml: str, kind: Codec[Any]) -> Any:
    """An attribute of a match that need not be there; what it cannot be, libvirt calls illegal."""
    return attr(xml, kind, default=None, bad=internal(f"{xml} has illegal value {{}}"))
