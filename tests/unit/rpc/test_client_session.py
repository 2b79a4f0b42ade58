from __future__ import annotations

import struct
from typing import Any

import pytest

from rpc.client_session import (
    Ask,
    ClientSession,
    Event,
    Failed,
    Opened,
    Pinged,
    Ponged,
    Replied,
    StreamData,
    StreamEnded,
    StreamHole,
    Told,
    error_of,
    is_unknown_procedure,
    opening,
)
from rpc.packet import PING_BYTES, Packet, PacketType, Program, Status, keepalive, pack_packet
from rpc.session import LocalProtocolError, RemoteProtocolError
from rpc.xdr import error_codec
from schema.errors import AuthUnavailable, DomainStateError, ErrorCode, ErrorDomain, VirtError
from schema.objects import ErrorRecord

REMOTE = int(Program.REMOTE)


def drained(session: ClientSession, *packets: Packet | bytes) -> list[Event]:
    for packet in packets:
        session.feed(packet if isinstance(packet, bytes) else pack_packet(packet))
    events = []
    while (event := session.next_event()) is not None:
        events.append(event)
    return events


def reply(serial: int, procedure: int = 3, status: int = Status.OK, payload: bytes = b"") -> Packet:
    return Packet(REMOTE, 1, procedure, PacketType.REPLY, serial, status, payload)


def test_serials_begin_at_zero_and_replies_come_in_any_order() -> None:
    session = ClientSession()
    serials = [session.call(REMOTE, 3, b"")[0] for _ in range(3)]
    assert serials == [0, 1, 2]
    events = drained(session, reply(2), reply(0, payload=b"abcd"))
    assert events == [Replied(2, b""), Replied(0, b"abcd")]
    assert session.pending == 1


@pytest.mark.parametrize(
    "packet",
    [
        reply(7),
        reply(0, procedure=4),
        reply(0, status=Status.CONTINUE),
        reply(0)._replace(program=int(Program.QEMU)),
        reply(0)._replace(type=PacketType.CALL),
        Packet(Program.KEEPALIVE, 1, 3, PacketType.MESSAGE, 0, 0, b""),
    ],
)
def test_what_no_daemon_may_send_ends_the_connection(packet: Packet) -> None:
    session = ClientSession()
    session.call(REMOTE, 3, b"")
    with pytest.raises(RemoteProtocolError):
        drained(session, packet)


def test_pings_and_pongs_are_told() -> None:
    assert drained(ClientSession(), PING_BYTES, keepalive(2)) == [Pinged(), Ponged()]


def test_an_event_of_an_unknown_program_is_passed_over() -> None:
    event = Packet(0x1234, 1, 5, PacketType.MESSAGE, 1, 0, b"")
    assert drained(ClientSession(), event, event._replace(program=REMOTE)) == [Told(REMOTE, 5, b"")]


def test_an_error_keeps_every_value_and_finds_its_class() -> None:
    record = ErrorRecord(55, 20, "Requested operation is not valid: x", 2, None, "f: %s", "x", "y", 4, 5, None)
    session = ClientSession()
    session.call(REMOTE, 3, b"")
    (event,) = drained(session, reply(0, status=Status.ERROR, payload=error_codec().encode(record)))
    assert isinstance(event, Failed)
    error = event.error
    assert isinstance(error, DomainStateError)
    assert (error.code, error.domain, error.message) == (55, 20, "Requested operation is not valid: x")
    assert (error.str1, error.str2, error.str3, error.int1, error.int2) == ("f: %s", "x", "y", 4, 5)


def test_a_code_that_has_no_class_stays_that_code() -> None:
    error = error_of(ErrorRecord(4711, 7, None, 2, None, None, None, None, -1, -1, None))
    assert type(error) is VirtError
    assert (error.code, error.message) == (4711, "")


def test_an_old_daemon_does_not_know_a_procedure() -> None:
    known = ErrorRecord(int(ErrorCode.RPC), int(ErrorDomain.RPC), "no", 2, None, None, None, None, -1, -1, None)
    unknown = ErrorRecord(
        int(ErrorCode.RPC), int(ErrorDomain.RPC), "unknown procedure: 999", 2, None, None, None, None, -1, -1, None
    )
    assert not is_unknown_procedure(error_of(known))
    assert is_unknown_procedure(error_of(unknown))


# --- streams ---


def stream(serial: int, status: int, data: bytes = b"", type_: int = PacketType.STREAM) -> Packet:
    return Packet(REMOTE, 1, 209, type_, serial, status, data)


def with_stream() -> ClientSession:
    session = ClientSession()
    session.call(REMOTE, 209, b"", has_stream=True)
    drained(session, reply(0, 209))
    return session


def test_a_stream_ends_when_the_daemon_confirms_it() -> None:
    session = with_stream()
    hole = struct.pack(">qI", 4096, 0)
    events = drained(
        session,
        stream(0, Status.CONTINUE, b"data"),
        stream(0, Status.CONTINUE, hole, PacketType.STREAM_HOLE),
        stream(0, Status.CONTINUE),
    )
    assert events == [StreamData(0, b"data"), StreamHole(0, 4096), StreamData(0, b"")]
    session.stream_finish(0)
    assert drained(session, stream(0, Status.OK)) == [StreamEnded(0)]
    with pytest.raises(LocalProtocolError):
        session.stream_data(0, b"late")


def test_what_a_stream_sends_after_its_end_is_passed_over() -> None:
    session = with_stream()
    record = ErrorRecord(38, 1, "no", 2, None, None, None, None, 2, -1, None)
    failed = stream(0, Status.ERROR, error_codec().encode(record))
    (event,) = drained(session, failed, stream(0, Status.CONTINUE, b"late"))
    assert isinstance(event, Failed) and event.of_stream


def test_a_failed_call_opens_no_stream() -> None:
    session = ClientSession()
    session.call(REMOTE, 209, b"", has_stream=True)
    record = ErrorRecord(38, 1, "no", 2, None, None, None, None, 2, -1, None)
    drained(session, reply(0, 209, Status.ERROR, error_codec().encode(record)))
    with pytest.raises(LocalProtocolError):
        session.stream_data(0, b"x")


@pytest.mark.parametrize("size", [0, 262121])
def test_a_piece_has_a_size_that_old_daemons_take(size: int) -> None:
    with pytest.raises(LocalProtocolError):
        with_stream().stream_data(0, bytes(size))


# --- opening ---


def run_opening(answers: dict[str, Any], name: str = "test:///default") -> tuple[list[Ask], Opened]:
    asked: list[Ask] = []
    steps = opening(name)
    step = next(steps)
    try:
        while True:
            asked.append(step)
            key = f"{step.procedure} {step.args['feature']}" if "feature" in step.args else step.procedure
            answer = answers.get(key, answers.get(step.procedure))
            step = steps.throw(answer) if isinstance(answer, VirtError) else steps.send(answer)
    except StopIteration as done:
        return asked, done.value


class Answer:
    def __init__(self, **values: Any) -> None:
        self.__dict__.update(values)


YES = Answer(supported=1)


def test_the_first_calls_come_in_libvirts_order() -> None:
    asked, opened = run_opening({"auth_list": Answer(types=[0]), "connect_supports_feature": YES})
    assert [(ask.procedure, ask.args.get("feature")) for ask in asked] == [
        ("auth_list", None),
        ("connect_supports_feature", 10),
        ("connect_open", None),
        ("connect_supports_feature", 14),
        ("connect_supports_feature", 15),
    ]
    assert opened == Opened(True, True, True, "test:///default")


def test_an_error_counts_as_a_feature_that_is_not_there() -> None:
    _, opened = run_opening(
        {"auth_list": Answer(types=[]), "connect_supports_feature": YES, "connect_supports_feature 14": VirtError("x")}
    )
    assert not opened.has_event_callbacks
    assert opened.has_close_callback


def test_without_a_name_the_daemon_is_asked_which_it_chose() -> None:
    asked, opened = run_opening(
        {"auth_list": Answer(types=[0]), "connect_supports_feature": YES, "connect_get_uri": Answer(uri="qemu:///x")},
        name="",
    )
    assert opened.uri == "qemu:///x"
    assert [ask.procedure for ask in asked].index("connect_get_uri") == 3


def test_an_authentication_that_is_not_known_is_refused() -> None:
    with pytest.raises(AuthUnavailable):
        run_opening({"auth_list": Answer(types=[1])})
