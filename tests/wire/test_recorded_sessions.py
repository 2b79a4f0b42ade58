"""Whole recorded sessions, said again by the client's side of `rpc`, and the daemon's answers understood."""

from __future__ import annotations

import struct
from typing import Any

import pytest

from rpc.client_session import PROGRAMS, ClientSession, Replied
from rpc.packet import Packet, PacketReader, PacketType, Program, Status
from rpc.xdr import args_codec, result_codec
from schema.table import procedure_by_number
from tests.shared import shared_json

FLOWS: dict[str, Any] = shared_json("libvirt-rpc", "vectors.json")["flows"]
WITH_FDS = ("00000004", "00000005")
NAMES = {number: name for name, number in PROGRAMS.items()}


def is_whole(flow: dict[str, Any]) -> bool:
    """Whether a recording begins with the first call, is not shortened, and is of the programs that are spoken here."""
    messages = flow["messages"]
    first = bytes.fromhex(messages[0][2])
    return (
        all(len(message) == 3 and message[2][32:40] not in WITH_FDS for message in messages)
        and struct.unpack_from(">I", first, 4)[0] in NAMES
        and struct.unpack_from(">I", first, 20)[0] == 0
    )


def test_there_are_such_recordings() -> None:
    assert sum(is_whole(flow) for flow in FLOWS.values()) >= 20


@pytest.mark.parametrize("name", sorted(name for name, flow in FLOWS.items() if is_whole(flow)))
def test_a_recorded_session_is_said_again_and_understood(name: str) -> None:
    session = ClientSession()
    reader = PacketReader()
    calls: dict[int, Any] = {}
    said = understood = 0
    for direction, _, text in FLOWS[name]["messages"]:
        data = bytes.fromhex(text)
        if direction == "c2s":
            reader.feed(data)
            while (packet := reader.next_packet()) is not None:
                if packet.program != Program.KEEPALIVE:
                    said += 1
                    say(session, packet, data, calls)
            continue
        session.feed(data)
        while (event := session.next_event()) is not None:
            understood += 1
            if isinstance(event, Replied):
                codec = result_codec(calls.pop(event.serial))
                assert codec.encode(codec.decode(event.payload)) == event.payload
    assert said > 0
    assert understood > 0


def say(session: ClientSession, packet: Packet, data: bytes, calls: dict[int, Any]) -> None:
    """Says what the recorded client said, and compares the bytes."""
    if packet.type in (PacketType.CALL, PacketType.CALL_WITH_FDS):
        procedure = procedure_by_number(NAMES[packet.program], packet.procedure)
        calls[packet.serial] = procedure
        payload = args_codec(procedure).encode(args_codec(procedure).decode(packet.payload))
        serial, mine = session.call(packet.program, packet.procedure, payload, has_stream=procedure.stream is not None)
        assert serial == packet.serial
        if packet.type == PacketType.CALL:
            assert mine == data
    elif packet.type == PacketType.STREAM_HOLE:
        assert session.stream_hole(packet.serial, struct.unpack_from(">q", packet.payload)[0]) == data
    elif packet.status == Status.CONTINUE:
        assert session.stream_data(packet.serial, packet.payload) == data
    elif packet.status == Status.OK:
        assert session.stream_finish(packet.serial) == data
    else:
        assert session.stream_abort(packet.serial) == data
