"""References to objects are kept once they were read; nothing is told of them that is not in the bytes."""

from __future__ import annotations

import struct

import pytest

from rpc import xdr_source
from rpc.xdr import XdrError, args_codec
from schema.objects import DomainRef
from schema.table import need_procedure

CODEC = args_codec(need_procedure("domain_get_info"))


def payload(name: bytes, uuid: bytes = bytes(16), number: int = -1, pad: bytes = b"\0") -> bytes:
    return struct.pack(">I", len(name)) + name + pad * (-len(name) % 4) + uuid + struct.pack(">i", number)


def read(data: bytes) -> DomainRef:
    dom: DomainRef = CODEC.decode(data).dom
    return dom


def test_a_reference_is_read_twice_as_once() -> None:
    for _ in range(2):
        assert read(payload(b"web1", b"u" * 16, 7)) == DomainRef("web1", b"u" * 16, 7)
        assert read(payload(b"web2", b"u" * 16, 7)) == DomainRef("web2", b"u" * 16, 7)
        assert read(payload(b"web1", b"v" * 16, 7)) == DomainRef("web1", b"v" * 16, 7)
        assert read(payload(b"web1", b"u" * 16, 8)) == DomainRef("web1", b"u" * 16, 8)


def test_padding_may_hold_anything() -> None:
    for pad in (b"\0", b"x", b"\0"):
        assert read(payload(b"a", pad=pad)) == DomainRef("a", bytes(16), -1)


def test_what_ends_too_early_is_refused_though_its_beginning_is_known() -> None:
    whole = payload(b"known", b"k" * 16, 3)
    assert read(whole).name == "known"
    for end in range(len(whole)):
        with pytest.raises(XdrError):
            read(whole[:end])
    assert read(whole).name == "known"


@pytest.mark.parametrize("name", [b"a\0b", b"\0"])
def test_a_name_that_is_refused_is_refused_again(name: bytes) -> None:
    for _ in range(2):
        with pytest.raises(XdrError, match="NUL"):
            read(payload(name))


def test_what_is_kept_is_bounded() -> None:
    known = xdr_source.KNOWN["domain"]
    for number in range(xdr_source.KNOWN_MAX + 10):
        assert read(payload(b"bounded", number=number)).id == number
    assert len(known) <= xdr_source.KNOWN_MAX
    long = b"n" * (xdr_source.KNOWN_NAME_MAX + 1)
    assert read(payload(long)).name == long.decode()
    assert max(map(len, known)) <= xdr_source.KNOWN_NAME_MAX + 24
