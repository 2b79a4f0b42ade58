"""The kernel's routing messages: what is packed is read again, and nonsense is refused."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from util.netlink import (
    ERROR,
    BadMessage,
    attribute,
    attribute_map,
    attributes,
    index_in,
    link_header,
    nested,
    number,
    pack_message,
    read_messages,
    text,
)


@given(st.integers(0, 65535), st.integers(0, 65535), st.integers(0, 2**32 - 1), st.binary(max_size=64))
def test_messages_are_read_as_they_were_packed(kind: int, flags: int, sequence: int, body: bytes) -> None:
    data = pack_message(kind, flags, sequence, body)
    (message,) = read_messages(data)
    assert (message.kind, message.flags, message.sequence, message.body) == (kind, flags, sequence, body)


@given(st.lists(st.tuples(st.integers(1, 0x3FFF), st.binary(max_size=20))))
def test_attributes_are_read_as_they_were_packed(given: list[tuple[int, bytes]]) -> None:
    assert list(attributes(b"".join(attribute(kind, data) for kind, data in given))) == given


@given(st.binary(max_size=64))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    for read in (read_messages, attributes):
        try:
            list(read(data))
        except BadMessage:
            pass


def test_attributes_hold_attributes() -> None:
    data = nested(18, text(1, "macvtap"), nested(2, number(1, 4)))
    info = attribute_map(attribute_map(data)[18])
    assert info[1] == b"macvtap\0"
    assert attribute_map(info[2]) == {1: struct.pack("=I", 4)}


def test_a_link_s_message_names_the_link() -> None:
    assert index_in(link_header(7, flags=1, change=1)) == 7
    with pytest.raises(BadMessage):
        index_in(b"\0" * 15)


def test_an_error_has_the_kernel_s_number() -> None:
    (message,) = read_messages(pack_message(ERROR, 0, 1, struct.pack("=i", -95) + b"\0" * 16))
    assert message.error == 95
    (message,) = read_messages(pack_message(ERROR, 0, 1, b""))
    with pytest.raises(BadMessage):
        _ = message.error
