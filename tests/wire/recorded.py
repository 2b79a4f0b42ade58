"""What a recorded message of libvirt is by its own header, and whether our codec gives the same bytes back."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from rpc.packet import FDS_MAX, LENGTH_MIN, Packet, PacketError, PacketReader, PacketType, Program, Status, pack_packet
from rpc.xdr import (
    XdrCodec,
    XdrError,
    args_codec,
    error_codec,
    event_codec,
    hole_codec,
    hole_fields,
    legacy_event_codec,
    result_codec,
)
from schema.errors import UnknownProcedure
from schema.model import Event, Field
from schema.table import all_events, need_struct, need_union, procedure_by_number

PROGRAMS = {int(program): program.name.lower() for program in Program if program is not Program.KEEPALIVE}


class Recorded(NamedTuple):
    """A message of a file: where it stands, what it is said to be, its bytes, and its values if the file tells them."""

    where: str
    label: str
    data: bytes
    payload: Mapping[str, Any] | None
    serial: int | None
    fds: int | None


class Meaning(NamedTuple):
    """How a payload is read: its codec and fields, and how many bytes of a callback id stand before them."""

    codec: XdrCodec
    fields: tuple[Field, ...]
    skip: int = 0


def recorded_messages(document: Mapping[str, Any]) -> Iterator[Recorded]:
    """Every message of a file of the vectors' format that was kept whole, those of its sessions too.

    Raises ValueError for a document of another format.
    """
    if not isinstance(document, dict) or not ("vectors" in document or "flows" in document):
        raise ValueError("neither 'vectors' nor 'flows' in it")
    for index, vector in enumerate(document.get("vectors", ())):
        label = f"{vector.get('proc', '?')} {vector.get('type', '?')}"
        fds = vector.get("nfds", 0 if "serial" in vector else None)
        payload = vector.get("payload")
        data = bytes.fromhex(vector["hex"])
        yield Recorded(f"vectors[{index}]", label, data, payload, vector.get("serial"), fds)
    for name, flow in document.get("flows", {}).items():
        for index, (_, label, text, *size) in enumerate(flow["messages"]):
            data = bytes.fromhex(text)
            if not size or len(data) == size[0]:  # of long messages only the beginning was kept
                yield Recorded(f"flows[{name!r}][{index}]", label, data, None, None, None)


def difference(message: Recorded) -> str | None:
    """What is wrong with how a message is read and written back; nothing when all is well."""
    try:
        return _difference(message)
    except (PacketError, XdrError, UnknownProcedure, LookupError) as exc:
        return f"cannot be read: {exc}"


def _difference(message: Recorded) -> str | None:
    packet = only_packet(message.data)
    if pack_packet(packet) != message.data:
        return "framing is written back differently"
    if message.serial is not None and packet.serial != message.serial:
        return f"serial {packet.serial}, recorded {message.serial}"
    if message.fds is not None and packet.fds != message.fds:
        return f"{packet.fds} descriptors, recorded {message.fds}"
    meaning = meaning_of(packet)
    if meaning is None:
        return None
    values = meaning.codec.decode(packet.payload[meaning.skip :])
    written = packet.payload[: meaning.skip] + meaning.codec.encode(values)
    if written != packet.payload:
        return f"written back as {written.hex()}, recorded {packet.payload.hex()}"
    if message.payload is None:
        return None
    is_event = packet.type == PacketType.MESSAGE
    expected = flat(message.payload) if is_event else message.payload
    read = as_recorded_fields(meaning.fields, values)
    return None if read == expected else f"read as {read}, recorded {expected}"


def only_packet(data: bytes) -> Packet:
    """The one message that these bytes are. Raises PacketError when they are not exactly one."""
    reader = PacketReader()
    reader.feed(data)
    packet = reader.next_packet()
    if packet is None:
        reader.feed(bytes(_announced_fds(data)))  # the bytes that carry descriptors are not recorded
        packet = reader.next_packet()
    if packet is None:
        raise PacketError("the bytes end before the message does")
    if reader.buffered:
        raise PacketError(f"{reader.buffered} bytes behind the message")
    return packet


def _announced_fds(data: bytes) -> int:
    if len(data) < LENGTH_MIN + 4:
        return 0
    length, type_, count = (int.from_bytes(data[place : place + 4], "big") for place in (0, 16, LENGTH_MIN))
    is_whole = length == len(data) and type_ in (PacketType.CALL_WITH_FDS, PacketType.REPLY_WITH_FDS)
    return count if is_whole and count <= FDS_MAX else 0


def meaning_of(packet: Packet) -> Meaning | None:
    """How the payload is read; nothing for raw data and for what has no payload."""
    if packet.program == Program.KEEPALIVE:
        if packet.payload:
            raise PacketError("a keepalive message with a payload")
        return None
    program = PROGRAMS.get(packet.program)
    if program is None:
        raise LookupError(f"no program {packet.program:#x}")
    if packet.type == PacketType.STREAM_HOLE:
        return Meaning(hole_codec(), hole_fields())
    if packet.type == PacketType.STREAM and packet.status != Status.ERROR:
        return None
    if packet.status == Status.ERROR:
        # An abort by the client is an error without one.
        return Meaning(error_codec(), need_struct("error").fields) if packet.payload else None
    if packet.type == PacketType.MESSAGE:
        return _event_meaning(program, packet.procedure)
    row = procedure_by_number(program, packet.procedure)
    if packet.type in (PacketType.CALL, PacketType.CALL_WITH_FDS):
        return Meaning(args_codec(row), row.args)
    return Meaning(result_codec(row), row.ret)


def _event_meaning(program: str, number: int) -> Meaning:
    event, is_legacy = event_of(program, number)
    if is_legacy:
        return Meaning(legacy_event_codec(event), event.legacy_fields)
    return Meaning(event_codec(event), event.fields, 4 if event.has_callback else 0)


def event_of(program: str, number: int) -> tuple[Event, bool]:
    """The event of a message's number, and whether the message is the older one."""
    for event in all_events():
        if event.program == program and event.number == number:
            return event, False
        if event.program == program and event.legacy_number == number:
            return event, True
    raise LookupError(f"no event {number} of program {program}")


def flat(payload: Mapping[str, Any]) -> dict[str, Any]:
    """An event's values without its callback id; some carry their data in one inner record."""
    rest = {key: value for key, value in payload.items() if key != "callbackID"}
    inner = rest.pop("msg", None)
    return {**rest, **inner} if isinstance(inner, dict) else rest


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
    return as_recorded_fields(need_struct(item.type).fields, value)


def as_recorded_fields(fields: tuple[Field, ...], value: Any) -> dict[str, Any]:
    """The same of a record."""
    get = value.__getitem__ if isinstance(value, dict) else lambda name: getattr(value, name)
    return {item.name: as_recorded(item, get(item.name)) for item in fields}
