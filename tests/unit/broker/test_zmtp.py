"""ZMTP as DEALER and ROUTER speak it: what is packed is read, in pieces of any size; what is not ZMTP is refused."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.zmtp import (
    FRAMES_MAX,
    FrameReader,
    ZmtpError,
    answer_to_command,
    check_greeting,
    greeting,
    pack_message,
    pack_three,
    ready_command,
    take_ready,
)

FRAMES = st.lists(st.binary(max_size=20) | st.integers(200, 600).map(bytes), min_size=1, max_size=6)


@given(st.lists(FRAMES, max_size=8), st.integers(1, 50))
def test_messages_come_out_whole_however_their_bytes_came_in(messages: list[list[bytes]], step: int) -> None:
    data = b"".join(pack_message(frames) for frames in messages)
    reader, found = FrameReader(10_000), []
    for at in range(0, len(data), step):
        found += reader.receive(data[at : at + step])
    assert found == messages


def test_a_long_frame_is_collected_without_looking_at_it_again_and_again() -> None:
    body = bytes(range(256)) * 40_000
    data = pack_message([b"test", body])
    reader, found = FrameReader(len(body)), []
    for at in range(0, len(data), 65_536):
        found += reader.receive(data[at : at + 65_536])
    assert found == [[b"test", body]]


def test_the_greeting_is_that_of_zmtp_3_without_security() -> None:
    data = greeting()
    assert len(data) == 64 and data[0] == 0xFF and data[9] == 0x7F and data[10] == 3
    check_greeting(data)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"HTTP/1.1 200 OK".ljust(64),
        greeting()[:63],
        greeting()[:10] + b"\1" + greeting()[11:],
        greeting()[:12] + b"CURVE".ljust(20, b"\0") + greeting()[32:],
    ],
)
def test_another_greeting_is_refused(data: bytes) -> None:
    with pytest.raises(ZmtpError):
        check_greeting(data)


@pytest.mark.parametrize("identity", [b"c" + b"1" * 16, b"n" * 250])
def test_the_handshakes_command_is_kept_apart_from_messages(identity: bytes) -> None:
    reader = FrameReader(1000)
    command = ready_command(b"DEALER", identity)
    assert reader.receive(command + pack_message([b"a", b"b"])) == [[b"a", b"b"]]
    (body,) = reader.commands
    assert body.startswith(b"\5READY") and identity in body and b"DEALER" in body


def test_a_frame_that_is_too_long_is_refused_before_it_is_there() -> None:
    with pytest.raises(ZmtpError):
        FrameReader(1000).receive(pack_message([bytes(1001)])[:20])


def test_a_refusal_of_the_other_side_is_told() -> None:
    with pytest.raises(ZmtpError, match="no way"):
        FrameReader(1000).receive(b"\4\x0d\5ERROR\6no way")


@given(st.lists(st.binary(max_size=40), max_size=10))
def test_random_bytes_are_messages_or_refused(pieces: list[bytes]) -> None:
    reader = FrameReader(1000)
    try:
        for piece in pieces:
            for message in reader.receive(piece):
                assert all(isinstance(frame, bytes) for frame in message)
    except ZmtpError:
        pass


@given(st.binary(max_size=255), st.binary(max_size=255), st.binary(max_size=20) | st.integers(200, 600).map(bytes))
def test_a_message_of_three_frames_is_packed_as_any_other(first: bytes, second: bytes, third: bytes) -> None:
    assert pack_three(first, second, third) == pack_message([first, second, third])


def test_of_a_message_of_very_many_frames_only_the_first_are_kept() -> None:
    assert FrameReader(1000).receive(pack_message([b"x"] * 1000) + pack_message([b"y"])) == [
        [b"x"] * FRAMES_MAX,
        [b"y"],
    ]


@pytest.mark.parametrize("identity", [b"", b"c" + b"1" * 16, b"n" * 250])
def test_a_ready_tells_who_it_is_and_what_follows(identity: bytes) -> None:
    data = ready_command(b"DEALER", identity) + b"rest"
    for length in range(len(data) - 4):
        assert take_ready(data[:length]) is None
    assert take_ready(data) == (identity, b"rest")


@pytest.mark.parametrize(
    "data",
    [
        pack_message([b"early"]),
        b"\4\6\5HELLO",
        b"\4\x08\5READY\xff\0",
        b"\6" + (1 << 40).to_bytes(8, "big"),
        b"\4\x0c\5READY\1a\0\0\1\0",
    ],
)
def test_what_is_no_ready_is_refused(data: bytes) -> None:
    with pytest.raises(ZmtpError):
        take_ready(data)


@given(st.binary(max_size=80))
def test_random_bytes_are_no_ready_or_an_incomplete_one(data: bytes) -> None:
    try:
        take_ready(data)
    except ZmtpError:
        pass


def test_a_ping_is_answered_with_its_context() -> None:
    assert answer_to_command(b"\4PING\0\x64context") == b"\4\x0c\4PONGcontext"
    assert answer_to_command(b"\4PONG") is None
