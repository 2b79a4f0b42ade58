"""Every message recorded between libvirt's clients and its daemon is read as expected and written back alike."""

from __future__ import annotations

from typing import Any

import pytest

from rpc.packet import PacketReader, Program, pack_packet
from rpc.xdr import XdrCodec, args_codec, error_codec, event_codec, fields_codec, legacy_event_codec, result_codec
from schema.model import Event, Field
from schema.table import all_events, need_struct, need_union, procedure_by_number
from tests.shared import shared_json

VECTORS: list[dict[str, Any]] = shared_json("libvirt-rpc", "vectors.json")["vectors"]
PROGRAMS = {Program.REMOTE: "remote", Program.QEMU: "qemu", Program.LXC: "lxc", Program.ADMIN: "admin"}
HOLE = (Field("length", "hyper"), Field("flags", "uint"))


def as_recorded(item: Field, value: Any) -> Any:
    """A value in the form of the recording: bytes as hex, records as maps, unions as [type, value]."""
    if value is None:
        return None
    if item.is_bytes:
        if item.type == "char":
            return [byte - 256 if byte > 127 else byte for byte in value]
        return value.hex()
    if item.max is not None:
        return [as_recorded(Field(item.name, item.type), one) for one in value]
    if item.type == "typed_param":
        arm = need_union("typed_value").arm(value.type)
        assert arm is not None
        return {"field": value.field, "value": [value.type, value.value]}
    if isinstance(value, int | float | str):
        return value
    return record_as_recorded(need_struct(item.type).fields, value)


def record_as_recorded(fields: tuple[Field, ...], value: Any) -> dict[str, Any]:
    get = value.__getitem__ if isinstance(value, dict) else lambda name: getattr(value, name)
    return {item.name: as_recorded(item, get(item.name)) for item in fields}


def event_of(program: str, number: int) -> tuple[Event, bool]:
    for event in all_events():
        if event.program == program and event.number == number:
            return event, False
        if event.program == program and event.legacy_number == number:
            return event, True
    raise AssertionError(f"no event {number} of program {program}")


def codec_of(vector: dict[str, Any], program: int, procedure: int) -> tuple[XdrCodec, tuple[Field, ...], int]:
    """The codec, its fields, and how many bytes of a callback id stand before them."""
    if vector["status"] == "error":
        return error_codec(), need_struct("error").fields, 0
    if vector["type"] == "hole":
        return fields_codec("hole", HOLE), HOLE, 0
    if vector["type"] == "event":
        event, legacy = event_of(PROGRAMS[Program(program)], procedure)
        if legacy:
            return legacy_event_codec(event), event.legacy_fields, 0
        return event_codec(event), event.fields, 4 if event.has_callback else 0
    row = procedure_by_number(PROGRAMS[Program(program)], procedure)
    if vector["type"].startswith("call"):
        return args_codec(row), row.args, 0
    return result_codec(row), row.ret, 0


def flat(payload: dict[str, Any]) -> dict[str, Any]:
    """An event's payload without its callback id; older events carry their data in one inner record."""
    rest = {key: value for key, value in payload.items() if key != "callbackID"}
    inner = rest.pop("msg", None)
    return {**rest, **inner} if isinstance(inner, dict) else rest


@pytest.mark.parametrize("index", range(len(VECTORS)), ids=lambda i: f"{i}-{VECTORS[i]['proc']}-{VECTORS[i]['type']}")
def test_recorded_message_is_read_as_expected_and_written_back_alike(index: int) -> None:
    vector = VECTORS[index]
    data = bytes.fromhex(vector["hex"])
    reader = PacketReader()
    reader.feed(data)
    packet = reader.next_packet()
    assert packet is not None
    assert packet.serial == vector["serial"]
    assert packet.fds == vector.get("nfds", 0)
    assert pack_packet(packet) == data
    if packet.program == Program.KEEPALIVE or "payload" not in vector or vector["payload"] is None:
        if vector["type"] != "stream":
            assert packet.payload == b""
        return
    codec, fields, skip = codec_of(vector, packet.program, packet.procedure)
    values = codec.decode(packet.payload[skip:])
    expected = flat(vector["payload"]) if vector["type"] == "event" else vector["payload"]
    assert record_as_recorded(fields, values) == expected
    assert packet.payload[:skip] + codec.encode(values) == packet.payload


def test_the_recording_was_found_whole() -> None:
    assert len(VECTORS) == 913
