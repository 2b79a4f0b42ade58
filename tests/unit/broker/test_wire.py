"""The bytes between processes: what is read back, what is refused."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker import wire
from broker.wire import CallPrologue, Cursor, Kind, Position, ReplyPrologue, WireError

NUMBERS = st.integers(0, 2**64 - 1)
TEXTS = st.text(max_size=50)


@given(st.sampled_from(Kind), NUMBERS, st.integers(0, 2**32 - 1), st.integers(0, 7))
def test_a_header_is_read_back(kind: Kind, correlation: int, ttl_ms: int, flags: int) -> None:
    data = wire.pack_header(kind, correlation, ttl_ms, flags)
    assert len(data) == 16
    assert wire.unpack_header(data) == (kind, flags, ttl_ms, correlation)


def test_a_time_to_live_beyond_the_field_is_the_longest_possible() -> None:
    assert wire.unpack_header(wire.pack_header(1, 1, 2**40)).ttl_ms == 2**32 - 1


@pytest.mark.parametrize(
    "data", [b"", b"x" * 15, b"x" * 17, b"\x02" + b"\1" * 15, b"\1\0" + b"\0" * 14, b"\1\x0c" + b"\0" * 14]
)
def test_a_header_of_another_form_is_refused(data: bytes) -> None:
    with pytest.raises(WireError):
        wire.unpack_header(data)


@given(TEXTS, TEXTS, st.none() | TEXTS | st.binary(max_size=50), st.none() | TEXTS, st.none() | TEXTS)
def test_a_calls_prologue_is_read_back(
    procedure: str, scope: str, key: bytes | str | None, idempotency: str | None, trace: str | None
) -> None:
    prologue = CallPrologue(procedure, scope, key, idempotency, trace, {"uid": 1})
    assert wire.unpack_call_prologue(wire.pack_call_prologue(prologue)) == prologue


@pytest.mark.parametrize(
    "value",
    [
        [],
        ["p"],
        ["p", "", None, None, None],
        ["p", "", None, None, None, None, None],
        [1, "", None, None, None, None],
        ["p", None, None, None, None, None],
        ["p", "", 5, None, None, None],
        ["p", "", ["x"], None, None, None],
        ["p", "", None, b"", None, None],
        ["p", "", None, None, 5, None],
        ["p", "", None, None, None, []],
        {"procedure": "p"},
        "p",
    ],
)
def test_a_calls_prologue_of_another_form_is_refused(value: Any) -> None:
    with pytest.raises(WireError):
        wire.unpack_call_prologue(wire.pack_value(value))


@pytest.mark.parametrize("value", [[], [1, 2], [1, 2, None, 4], ["1", 2, None], [1, 2, []], [1.5, 2, None], None])
def test_a_replys_prologue_of_another_form_is_refused(value: Any) -> None:
    with pytest.raises(WireError):
        wire.unpack_reply_prologue(wire.pack_value(value))


def test_a_replys_prologue_is_read_back() -> None:
    prologue = ReplyPrologue(3, 2**40, {"path": "/run/x", "token": b"t"})
    assert wire.unpack_reply_prologue(wire.pack_reply_prologue(prologue)) == prologue


@given(st.binary(max_size=200))
def test_random_bytes_are_refused_or_read_but_never_anything_else(data: bytes) -> None:
    for read in (
        wire.unpack_header,
        wire.unpack_call_prologue,
        wire.unpack_reply_prologue,
        wire.unpack_record_head,
        wire.unpack_position,
        wire.unpack_value,
        wire.split_body,
    ):
        try:
            read(data)
        except WireError:
            pass


@pytest.mark.parametrize(
    "key",
    [
        b"\x80",
        b"\x90",
        b"\x91\x80",
        b"\xc4\x01x",
        b"\xc0",
        b"\xcb" + bytes(8),
        b"\xc7\x01\x05x",
        b"\xd6\xff" + bytes(4),
    ],
)
def test_odd_keys_of_maps_are_refused_or_read(key: bytes) -> None:
    odd = b"\x81" + key + b"\x00"
    for data, read in (
        (odd, wire.unpack_value),
        (b"\x96\xa1p\xa0\xc0\xc0\xc0" + odd, wire.unpack_call_prologue),
        (b"\x96\xa1p\xa0\xc0\xc0\xc0\x81\xa1k" + odd, wire.unpack_call_prologue),
        (b"\x93\x01\x02\x81\xa1k" + odd, wire.unpack_reply_prologue),
        (b"\x84\xa6source\xa1x\xa5epoch\x01\xa3seq\x01\xa1d" + odd, wire.unpack_record_head),
    ):
        try:
            read(data)
        except WireError:
            pass


def test_deep_nesting_is_refused() -> None:
    for data in (b"\x91" * 100_000, b"\x96" + b"\x91" * 100_000, b"\x81\xa1x" * 50_000):
        for read in (wire.unpack_value, wire.unpack_call_prologue, wire.unpack_record_head):
            with pytest.raises(WireError):
                read(data)


@given(st.binary(max_size=100), st.binary(max_size=100))
def test_a_body_is_split_where_it_was_joined(prologue: bytes, rest: bytes) -> None:
    assert wire.split_body(wire.join_body(prologue, rest)) == (prologue, rest)


def test_a_prologue_is_bounded() -> None:
    with pytest.raises(WireError):
        wire.join_body(bytes(4097), b"")
    with pytest.raises(WireError):
        wire.split_body((4097).to_bytes(2, "big") + bytes(5000))
    with pytest.raises(WireError):
        wire.split_body(b"\0\5abcd")


@given(NUMBERS, NUMBERS, NUMBERS, NUMBERS, st.integers(0, 255))
def test_a_position_is_read_back(generation: int, offset: int, epoch: int, seq: int, what: int) -> None:
    position = Position(generation, offset, epoch, seq, what)
    assert wire.unpack_position(wire.pack_position(position)) == position


@given(NUMBERS, NUMBERS)
def test_a_cursor_is_read_back_from_its_text(generation: int, offset: int) -> None:
    assert Cursor.parse(str(Cursor(generation, offset))) == Cursor(generation, offset)


@pytest.mark.parametrize("text", ["", "1", "1:", ":1", "a:b", "1:-2", "1:2:3", "1.5:2"])
def test_a_cursor_of_another_form_is_refused(text: str) -> None:
    with pytest.raises(WireError):
        Cursor.parse(text)


@given(st.lists(st.dictionaries(st.text(max_size=5), st.integers(0, 9), max_size=3), max_size=5), st.integers(1, 7))
def test_door_messages_come_out_whole_however_they_came_in(messages: list[dict[str, int]], step: int) -> None:
    data = b"".join(wire.pack_door(message) for message in messages)
    buffer, found = bytearray(), []
    for at in range(0, len(data), step):
        buffer += data[at : at + step]
        while (message := wire.take_door(buffer)) is not None:
            found.append(message)
    assert found == messages and not buffer


def test_door_messages_are_bounded_maps() -> None:
    with pytest.raises(WireError):
        wire.take_door(bytearray(b"\xff\xff\xff\xff"))
    with pytest.raises(WireError):
        wire.take_door(bytearray(b"\0\0\0\1\x05"))
    with pytest.raises(WireError):
        wire.pack_door({"x": bytes(70_000)})


def test_the_public_id_does_not_tell_the_routing_id() -> None:
    assert wire.public_id(b"c" + b"1" * 16) == wire.public_id(b"c" + b"1" * 16)
    assert wire.public_id(b"c" + b"1" * 16) != wire.public_id(b"c" + b"2" * 16)
    assert len(wire.public_id(b"x")) == 16


def test_a_record_head_is_read_from_a_whole_record_only() -> None:
    record = wire.pack_value({"source": "qemu", "epoch": 3, "seq": 9, "kind": "changed", "data": {"x": [1, 2]}})
    head = wire.unpack_record_head(record)
    assert (head.source, head.epoch, head.seq) == ("qemu", 3, 9)
    for broken in (record[:-1], record + b"\0", wire.pack_value({"source": "qemu", "epoch": 3})):
        with pytest.raises(WireError):
            wire.unpack_record_head(broken)
