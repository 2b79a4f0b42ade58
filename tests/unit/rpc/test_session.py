from __future__ import annotations

import pytest

from rpc.packet import (
    PING_BYTES,
    Packet,
    PacketReader,
    PacketType,
    Program,
    Status,
    keepalive,
    pack_packet,
)
from rpc.session import (
    BUFFER_WHILE_BLOCKED,
    Auth,
    CallReceived,
    CallRefused,
    Event,
    HoleReceived,
    LocalProtocolError,
    PingReceived,
    PongReceived,
    RemoteProtocolError,
    ServerSession,
    StreamReceived,
)

CALL = Packet(Program.REMOTE, 1, 3, PacketType.CALL, 0, 0, b"")


def fed(session: ServerSession, *packets: Packet | bytes) -> list[Event]:
    for packet in packets:
        session.feed(packet if isinstance(packet, bytes) else pack_packet(packet))
    events = []
    while (event := session.next_event()) is not None:
        events.append(event)
    return events


def test_calls_pings_and_streams_are_told_apart() -> None:
    stream = CALL._replace(type=PacketType.STREAM, status=Status.CONTINUE, payload=b"data")
    hole = CALL._replace(type=PacketType.STREAM_HOLE, status=Status.CONTINUE, payload=bytes(12))
    events = fed(ServerSession(), CALL, PING_BYTES, keepalive(2), stream, hole)
    assert [type(event) for event in events] == [CallReceived, PingReceived, PongReceived, StreamReceived, HoleReceived]


def test_no_more_calls_are_given_out_than_may_be_open_and_pings_pass_them() -> None:
    session = ServerSession(pending_max=2)
    calls = [CALL._replace(serial=number) for number in range(5)]
    events = fed(session, *calls, PING_BYTES)
    assert [event.serial for event in events if isinstance(event, CallReceived)] == [0, 1]
    assert isinstance(events[-1], PingReceived)
    session.reply(Program.REMOTE, 3, 0, b"")
    (event,) = fed(session)
    assert isinstance(event, CallReceived)
    assert event.serial == 2
    session.reply(Program.REMOTE, 3, 1, b"")
    session.reply(Program.REMOTE, 3, 2, b"")
    assert [event.serial for event in fed(session) if isinstance(event, CallReceived)] == [3, 4]
    assert session.buffered == 0


def test_reading_pauses_when_too_much_waits() -> None:
    session = ServerSession(pending_max=1)
    fed(session, CALL)
    assert not session.wants_pause
    fed(session, *[CALL._replace(payload=bytes(BUFFER_WHILE_BLOCKED // 4))] * 6)
    assert session.wants_pause
    assert session.next_event() is None
    for number in range(6):
        session.reply(Program.REMOTE, 3, 0, b"")
        (event,) = fed(session)
        assert isinstance(event, CallReceived), number
    assert session.buffered == 0
    assert not session.wants_pause


def test_other_programs_and_versions_are_refused_but_counted() -> None:
    session = ServerSession()
    events = fed(session, CALL._replace(program=5), CALL._replace(version=2))
    assert all(isinstance(event, CallRefused) for event in events)
    assert session.pending == 2


def test_only_open_calls_pass_before_authentication() -> None:
    session = ServerSession(auth=Auth.NEEDED, open_calls={(int(Program.REMOTE), 66)})
    refused, passed = fed(session, CALL, CALL._replace(procedure=66))
    assert isinstance(refused, CallRefused)
    assert refused.reason == "authentication required"
    assert isinstance(passed, CallReceived)
    session.auth = Auth.DONE
    assert isinstance(fed(session, CALL)[0], CallReceived)


@pytest.mark.parametrize(
    "packet",
    [
        CALL._replace(status=Status.ERROR),
        CALL._replace(type=PacketType.REPLY),
        CALL._replace(type=PacketType.MESSAGE),
        CALL._replace(program=Program.KEEPALIVE, type=PacketType.MESSAGE, procedure=3),
        CALL._replace(program=Program.KEEPALIVE),
    ],
)
def test_what_a_client_does_not_send_ends_the_connection(packet: Packet) -> None:
    with pytest.raises(RemoteProtocolError):
        fed(ServerSession(), packet)


def test_nothing_is_answered_twice() -> None:
    session = ServerSession()
    fed(session, CALL)
    session.reply(Program.REMOTE, 3, 0, b"")
    with pytest.raises(LocalProtocolError):
        session.reply(Program.REMOTE, 3, 0, b"")
    with pytest.raises(LocalProtocolError):
        session.error(Program.REMOTE, 1, 3, 0, b"")


def test_streams_live_from_their_opening_to_their_end() -> None:
    session = ServerSession()
    with pytest.raises(LocalProtocolError):
        session.stream_data(7, b"x")
    session.open_stream(Program.REMOTE, 201, 7)
    reader = PacketReader()
    reader.feed(session.stream_data(7, b"x") + session.stream_hole(7, bytes(12)) + session.stream_finished(7))
    data, hole, end = (reader.next_packet() for _ in range(3))
    assert data == Packet(Program.REMOTE, 1, 201, PacketType.STREAM, 7, Status.CONTINUE, b"x")
    assert hole is not None
    assert hole.type == PacketType.STREAM_HOLE
    assert end == Packet(Program.REMOTE, 1, 201, PacketType.STREAM, 7, Status.OK, b"")
    with pytest.raises(LocalProtocolError):
        session.stream_finished(7)
    session.open_stream(Program.REMOTE, 201, 8)
    session.stream_failed(8, b"")
    with pytest.raises(LocalProtocolError):
        session.stream_failed(8, b"")
