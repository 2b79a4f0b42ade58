"""Secrets, host interfaces and filters: what is refused, in which words."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from conf.host_interface.documents import parse_host_interface
from conf.nwfilter.documents import parse_nwfilter
from conf.secret.documents import parse_secret
from schema.enums.error import ErrorCode
from schema.errors import VirtError

_RULE = "<filter name='f'><rule action='{}' direction='{}'>{}</rule></filter>"


@pytest.mark.parametrize(
    ("parse", "document", "code", "message"),
    [
        (parse_secret, "<secret ephemeral='x'/>", ErrorCode.XML_ERROR, "invalid value of 'ephemeral'"),
        (parse_secret, "<secret><uuid>x</uuid></secret>", ErrorCode.INTERNAL_ERROR, "malformed uuid element"),
        (
            parse_secret,
            "<secret><usage type='ceph'/></secret>",
            ErrorCode.INTERNAL_ERROR,
            "Ceph usage specified, but name is missing",
        ),
        (parse_host_interface, "<interface type='ethernet'/>", ErrorCode.XML_ERROR, "interface has no name"),
        (
            parse_host_interface,
            "<interface type='ethernet' name='e'><start mode='x'/></interface>",
            ErrorCode.XML_ERROR,
            "unknown interface startmode x",
        ),
        (
            parse_host_interface,
            "<interface type='bond' name='e'><bond><miimon/></bond></interface>",
            ErrorCode.XML_ERROR,
            "bond interface miimon freq missing or invalid",
        ),
        (parse_nwfilter, "<filter name=''/>", ErrorCode.INTERNAL_ERROR, "filter has no name"),
        (
            parse_nwfilter,
            "<filter name='f' priority='x'/>",
            ErrorCode.INVALID_ARG,
            "Could not parse chain priority 'x'",
        ),
        (
            parse_nwfilter,
            _RULE.format("x", "in", ""),
            ErrorCode.CONFIG_UNSUPPORTED,
            "unknown rule action attribute value",
        ),
        (
            parse_nwfilter,
            "<filter name='f' chain='x'/>",
            ErrorCode.INVALID_ARG,
            "called 'root' or any of the following prefixes: mac, vlan, stp, arp, rarp, ipv4, ipv6",
        ),
    ],
)
def test_host_documents_that_cannot_be_are_refused(
    parse: Callable[[str], object], document: str, code: ErrorCode, message: str
) -> None:
    with pytest.raises(VirtError) as caught:
        parse(document)
    assert (caught.value.code, str(caught.value).endswith(message)) == (code, True), str(caught.value)
