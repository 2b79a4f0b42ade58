"""What is no message is refused as such, whatever it is; what is read is written back to what reads the same."""

from __future__ import annotations

import os

import pytest

from rpc.packet import PacketError, PacketReader
from rpc.session import RemoteProtocolError, ServerSession
from rpc.xdr import XdrError
from tests.wire.random_messages import RandomMessages

QUICK = 20_000
SOAK = 1_000_000


def fuzz_codec(source: RandomMessages, inputs: int) -> tuple[int, int]:
    """How many inputs were read, and how many refused."""
    read = refused = 0
    for _ in range(inputs):
        codec, good = source.payload()
        data = source.spoil(good)
        try:
            values = codec.decode(data)
        except XdrError:
            assert data != good
            refused += 1
            continue
        read += 1
        written = codec.encode(values)
        assert len(written) <= len(data) + 3, "an answer is never longer than what it was read from"
        assert codec.encode(codec.decode(written)) == written
        if data == good:
            assert written == good
    return read, refused


def fuzz_session(source: RandomMessages, inputs: int) -> int:
    """How many connections were ended by what came."""
    ended = 0
    session = ServerSession(pending_max=10_000)
    for serial in range(inputs):
        data = source.call(serial) if source.random.random() < 0.8 else source.other(serial)
        cut = source.random.randrange(len(data) + 1)
        try:
            for part in (data[:cut], data[cut:]):
                session.feed(part)
                while session.next_event() is not None:
                    pass
        except (PacketError, RemoteProtocolError):
            ended += 1
            session = ServerSession(pending_max=10_000)
        if session.buffered > 1 << 16 or session.pending > 5000:
            session = ServerSession(pending_max=10_000)  # it waits for the rest of what was never meant
    return ended


def test_the_codec_survives_anything() -> None:
    read, refused = fuzz_codec(RandomMessages(1), QUICK)
    assert read > QUICK // 5
    assert refused > QUICK // 5


def test_the_session_survives_anything() -> None:
    assert fuzz_session(RandomMessages(2), QUICK // 4) > 50


def test_a_reader_holds_no_more_than_it_was_fed() -> None:
    source = RandomMessages(3)
    for _ in range(2000):
        reader = PacketReader()
        data = source.spoil(source.call(0))
        reader.feed(data)
        try:
            while reader.next_packet() is not None:
                pass
        except PacketError:
            continue
        assert reader.buffered <= len(data)


@pytest.mark.soak
def test_the_codec_survives_a_million_inputs() -> None:
    seed = int.from_bytes(os.urandom(4), "big")
    print(f"seed {seed}")
    fuzz_codec(RandomMessages(seed), SOAK)
    fuzz_session(RandomMessages(seed), SOAK // 10)
