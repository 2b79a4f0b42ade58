from __future__ import annotations

import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rpc.packet import (
    FDS_MAX,
    LENGTH_MAX,
    LENGTH_MIN,
    PAYLOAD_MAX,
    Packet,
    PacketError,
    PacketReader,
    PacketType,
    pack_packet,
    pack_parts,
)

CALL = Packet(0x20008086, 1, 66, PacketType.CALL, 0, 0, b"")


def read_all(reader: PacketReader) -> list[Packet]:
    packets = []
    while (packet := reader.next_packet()) is not None:
        packets.append(packet)
    return packets


def test_packet_is_read_as_it_was_written() -> None:
    reader = PacketReader()
    reader.feed(pack_packet(CALL))
    assert read_all(reader) == [CALL]
    assert reader.buffered == 0


@settings(max_examples=60, deadline=None, database=None, derandomize=True)
@given(st.lists(st.binary(max_size=90), min_size=1, max_size=6), st.integers(1, 40))
def test_packets_are_found_however_the_bytes_are_cut(payloads: list[bytes], size: int) -> None:
    packets = [CALL._replace(payload=payload, serial=number) for number, payload in enumerate(payloads)]
    data = b"".join(map(pack_packet, packets))
    reader = PacketReader()
    got = []
    for start in range(0, len(data), size):
        reader.feed(data[start : start + size])
        got += read_all(reader)
    assert got == packets


@settings(max_examples=60, deadline=None, database=None, derandomize=True)
@given(st.integers(0, 4), st.integers(1, 40))
def test_bytes_that_carry_descriptors_are_skipped(fds: int, size: int) -> None:
    with_fds = CALL._replace(type=PacketType.CALL_WITH_FDS, payload=b"abcd", fds=fds)
    data = pack_packet(with_fds) + b"\0" * fds + pack_packet(CALL)
    reader = PacketReader()
    got = []
    for start in range(0, len(data), size):
        reader.feed(data[start : start + size])
        got += read_all(reader)
    assert got == [with_fds, CALL]


def test_a_message_is_given_out_when_its_descriptors_have_come_too() -> None:
    reader = PacketReader()
    with_fds = CALL._replace(type=PacketType.CALL_WITH_FDS, payload=b"", fds=2)
    reader.feed(pack_packet(with_fds) + b"\0")
    assert reader.next_packet() is None
    reader.feed(b"\0")
    assert reader.next_packet() == with_fds
    assert reader.is_between_messages


@pytest.mark.parametrize("length", [0, 4, LENGTH_MIN - 1, LENGTH_MAX + 1, 2**32 - 1])
def test_impossible_length_is_refused_before_anything_is_held(length: int) -> None:
    reader = PacketReader()
    reader.feed(struct.pack(">I", length))
    with pytest.raises(PacketError, match="message length"):
        reader.next_packet()


@pytest.mark.parametrize(
    ("type_", "status", "words"), [(7, 0, "type"), (-1, 0, "type"), (0, 3, "status"), (0, -1, "status")]
)
def test_impossible_header_is_refused(type_: int, status: int, words: str) -> None:
    reader = PacketReader()
    reader.feed(pack_parts(1, 1, 1, type_, 0, status, b""))
    with pytest.raises(PacketError, match=words):
        reader.next_packet()


def test_number_of_descriptors_is_bounded_and_has_to_be_there() -> None:
    reader = PacketReader()
    reader.feed(pack_parts(1, 1, 1, PacketType.CALL_WITH_FDS, 0, 0, struct.pack(">I", FDS_MAX + 1)))
    with pytest.raises(PacketError, match="descriptors"):
        reader.next_packet()
    reader = PacketReader()
    reader.feed(pack_parts(1, 1, 1, PacketType.CALL_WITH_FDS, 0, 0, b""))
    with pytest.raises(PacketError, match="how many"):
        reader.next_packet()


def test_too_large_a_payload_is_not_sent() -> None:
    with pytest.raises(PacketError, match="at most"):
        pack_packet(CALL._replace(payload=bytes(PAYLOAD_MAX + 1)))
