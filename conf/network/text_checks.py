"""What a network's text must not say, looked at before it is read: libvirt's words name the network."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from lxml import etree

from conf.values import parse_mac, parse_uint, parse_uint32
from schema.errors import ErrorDomain, VirtError, XmlDetailError, XmlError


def _one_of(*words: str) -> Callable[[str], object]:
    return words.index


def _ipv4(text: str) -> object:
    return ipaddress.IPv4Address(text)


def _port(text: str) -> object:
    if parse_uint32(text) > 65535:
        raise ValueError(text)
    return text


@dataclass(frozen=True)
class _Value:
    """An attribute: `read` raises ValueError for what it cannot be, `message` has {0} for the text, {1} for the name.

    An empty one is absent where `blank` says so; `missing` is the message for one that must be there.
    """

    path: str
    attribute: str
    read: Callable[[str], object]
    message: str
    blank: bool = True
    missing: str = ""
    detail: bool = False


_VALUES: Final = (
    _Value(".", "ipv6", _one_of("yes", "no"), "Invalid ipv6 setting '{0}' in network '{1}'"),
    _Value("bridge", "delay", parse_uint, "Invalid delay value in network '{1}'"),
    _Value(
        "bridge",
        "macTableManager",
        _one_of("kernel", "libvirt"),
        "Invalid macTableManager setting '{0}' in network '{1}'",
    ),
    _Value("mtu", "size", parse_uint32, "Invalid mtu size '{0}' in network '{1}'"),
    _Value("mac", "address", parse_mac, "Invalid bridge mac address '{0}' in network '{1}'"),
    _Value("ip", "family", _one_of("ipv4", "ipv6"), "Unrecognized family '{0}' in network '{1}'"),
    _Value("ip", "address", str, "", missing="Missing required address attribute in network '{1}'"),
    _Value(
        "route", "family", _one_of("ipv4", "ipv6"), "{1}: Unrecognized family '{0}' in route definition", blank=False
    ),
    *(
        _Value(
            "forward/nat/address",
            end,
            _ipv4,
            f"Bad ipv4 {end} address '{{0}}' in <nat> in <forward> in network '{{1}}'",
            blank=False,
            missing=f"missing '{end}' attribute in <address> element in <nat> in <forward> in network {{1}}",
        )
        for end in ("start", "end")
    ),
    *(
        _Value(
            "forward/nat/port",
            end,
            _port,
            f"Missing or invalid '{end}' attribute in <port> in <nat> in <forward> in network {{1}}",
            blank=False,
            missing=f"Missing or invalid '{end}' attribute in <port> in <nat> in <forward> in network {{1}}",
            detail=True,
        )
        for end in ("start", "end")
    ),
)

_SINGLES: Final = (
    ("forward/nat", "Only one <nat> element is allowed in <forward> of network {}"),
    ("forward/nat/address", "Only one <address> element is allowed in <nat> in <forward> in network {}"),
    ("forward/nat/port", "Only one <port> element is allowed in <nat> in <forward> in network {}"),
)


def check_text(root: etree._Element, name: str) -> None:
    """Raises XmlError, or XmlDetailError for a range of ports, for the first value that cannot be."""
    for path, message in _SINGLES:
        if len(root.findall(path)) > 1:
            raise XmlError(message.format(name))
    for one in _VALUES:
        for node in [root] if one.path == "." else root.findall(one.path):
            _check_value(node, one, name)


def _check_value(node: etree._Element, one: _Value, name: str) -> None:
    text = node.get(one.attribute)
    if text is None or (one.blank and not text):
        if one.missing:
            raise _error(one, one.missing, text, name)
        return
    try:
        one.read(text)
    except ValueError:
        raise _error(one, one.message, text, name) from None


def _error(one: _Value, message: str, text: str | None, name: str) -> VirtError:
    words = message.format(text, name)
    return XmlDetailError(words, domain=ErrorDomain.NETWORK) if one.detail else XmlError(words)
