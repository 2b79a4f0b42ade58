"""Bodies of calls, results and events: msgpack maps, checked against the table on both sides.

The map's keys are the field names of the procedure, so that a body explains itself; records inside it are positional
arrays (`schema/objects.py`). Nothing wrong is sent: what was packed is read back with the same check that the receiver
makes, which costs less than checking Python values one by one.

Values are exact: an `int` field takes no `bool` and no `float`, a text no bytes, a text must be valid Unicode.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any, Final

import msgspec

from schema.compiling import struct_of_fields
from schema.errors import InvalidArguments, InvalidMessage, VirtError
from schema.faults import fault_of
from schema.model import Field, Procedure
from schema.table import need_event

_encoder: Final = msgspec.msgpack.Encoder()
_parts_decoder: Final = msgspec.msgpack.Decoder(dict[str, list[msgspec.Raw]])


class Codec:
    """Writes and reads one kind of body; `word` is what an error calls a field of it."""

    __slots__ = ("_decoder", "_error", "_owner", "_word", "fields", "struct")

    def __init__(self, owner: str, part: str, word: str, fields: tuple[Field, ...], error: type[VirtError]) -> None:
        self.fields = fields
        self.struct = struct_of_fields(f"{owner}_{part}", fields)
        self._decoder: msgspec.msgpack.Decoder[Any] = msgspec.msgpack.Decoder(self.struct)
        self._owner = owner
        self._word = word
        self._error = error

    def pack(self, values: Mapping[str, object] | msgspec.Struct) -> bytes:
        """The body of these values.

        Raises the codec's error when a value is not what the table says.
        """
        try:
            body = _encoder.encode(values)
        except (TypeError, ValueError, OverflowError, msgspec.MsgspecError) as exc:
            raise self._fault(exc, self._unwritable_field(values)) from exc
        self.unpack(body)
        return body

    def unpack(self, body: bytes | memoryview) -> Any:
        """The struct that a body holds, its fields as attributes.

        Raises the codec's error when the body is not what the table says.
        """
        try:
            return self._decoder.decode(body)
        except msgspec.MsgspecError as exc:
            raise self._fault(exc) from exc
        except UnicodeDecodeError as exc:
            raise self._fault(exc, self._unreadable_field(body)) from exc

    def convert(self, values: Mapping[str, object]) -> Any:
        """The struct of a map that was already read from msgpack, checked.

        Raises the codec's error when a value is not what the table says.
        """
        try:
            return msgspec.convert(values, self.struct)
        except msgspec.MsgspecError as exc:
            raise self._fault(exc) from exc

    def _fault(self, exc: Exception, field: str | None = None) -> VirtError:
        return self._error(fault_of(exc, self._owner, self._word, self.fields, field))

    def _unwritable_field(self, values: object) -> str | None:
        if isinstance(values, msgspec.Struct):
            values = msgspec.structs.asdict(values)
        if isinstance(values, Mapping):
            for name, value in values.items():
                try:
                    _encoder.encode(value)
                except (TypeError, ValueError, OverflowError, msgspec.MsgspecError):
                    return str(name)
        return None

    def _unreadable_field(self, body: bytes | memoryview) -> str | None:
        try:
            parts = msgspec.msgpack.decode(body, type=dict[str, msgspec.Raw])
        except (msgspec.MsgspecError, UnicodeDecodeError):
            return None
        for name, part in parts.items():
            try:
                msgspec.msgpack.decode(part)
            except UnicodeDecodeError:
                return name
        return None


@cache
def _args_codec(procedure: Procedure) -> Codec:
    return Codec(procedure.name, "args", "argument", procedure.args, InvalidArguments)


@cache
def _result_codec(procedure: Procedure) -> Codec:
    return Codec(procedure.name, "ret", "result", procedure.ret, InvalidMessage)


@cache
def _event_codec(name: str) -> Codec:
    return Codec(name, "event", "field", need_event(name).fields, InvalidMessage)


def args_struct(procedure: Procedure) -> type[msgspec.Struct]:
    """The class of a procedure's arguments."""
    return _args_codec(procedure).struct


def result_struct(procedure: Procedure) -> type[msgspec.Struct]:
    """The class of a procedure's result."""
    return _result_codec(procedure).struct


def pack_args(procedure: Procedure, values: Mapping[str, object] | msgspec.Struct) -> bytes:
    """The body of a call.

    Raises InvalidArguments, naming procedure and argument, for anything the table does not allow.
    """
    return _args_codec(procedure).pack(values)


def unpack_args(procedure: Procedure, body: bytes | memoryview) -> Any:
    """The arguments of a call as an `args_struct`.

    Raises InvalidArguments, naming procedure and argument, for anything the table does not allow.
    """
    return _args_codec(procedure).unpack(body)


FILES: Final = "files"
"""The member of a call's body that says where the open files can be had which belong to the call."""


def add_files(body: bytes, ticket: Mapping[str, object]) -> bytes:
    """The body of a call to which open files belong."""
    parts = msgspec.msgpack.decode(body, type=dict[str, msgspec.Raw])
    return _encoder.encode({**parts, FILES: ticket})


def split_files(body: bytes | memoryview) -> tuple[bytes | memoryview, dict[str, Any] | None]:
    """The body without the ticket for its files, and the ticket, if it has one.

    Raises InvalidArguments for what is no ticket.
    """
    try:
        parts = msgspec.msgpack.decode(body, type=dict[str, msgspec.Raw])
        if FILES not in parts:
            return body, None
        ticket = msgspec.msgpack.decode(parts.pop(FILES), type=dict[str, Any])
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as exc:
        raise InvalidArguments(f"the call does not say where its files are: {exc}") from exc
    return _encoder.encode(parts), ticket


def pack_result(procedure: Procedure, value: object) -> bytes:
    """The body of a reply.

    `value` is a map, a `result_struct`, None where the result is void, or, where it is a single field, that field's
    value itself. Where the result is a list and its length (`need_results`), the list alone will do.
    Raises InvalidMessage, naming procedure and field, for anything the table does not allow.
    """
    if type(value) is Packed:
        return value.body
    codec = _result_codec(procedure)
    return codec.pack(_whole_result(codec, value))


class Packed:
    """A result that was made of parts (`packed_parts`), each of which was checked when it was packed."""

    __slots__ = ("body",)

    def __init__(self, procedure: Procedure, parts: Sequence[msgspec.Raw]) -> None:
        """The result of a call that answers one list. Raises InvalidMessage for more parts than it may have."""
        (item,) = procedure.ret
        if len(parts) > (item.max or 0):
            raise InvalidMessage(f"{procedure.name}: {len(parts)} parts of '{item.name}', at most {item.max} fit")
        self.body = _encoder.encode({item.name: parts})


def packed_parts(procedure: Procedure, items: Sequence[object]) -> list[msgspec.Raw]:
    """Items of a result that is one list, each as bytes: an item that stays the same needs to be packed only once.

    Raises InvalidMessage for anything the table does not allow.
    """
    return [part.copy() for part in split_parts(procedure, pack_result(procedure, items))]


def split_parts(procedure: Procedure, body: bytes | memoryview) -> list[msgspec.Raw]:
    """The items of a result that is one list, unread. Raises InvalidMessage for what is no such result."""
    (item,) = procedure.ret
    try:
        parts = _parts_decoder.decode(body)[item.name]
    except (msgspec.MsgspecError, KeyError, UnicodeDecodeError) as exc:
        raise InvalidMessage(f"{procedure.name}: the result has no list '{item.name}': {exc}") from exc
    if len(parts) > (item.max or 0):
        raise InvalidMessage(f"{procedure.name}: {len(parts)} parts of '{item.name}', at most {item.max} fit")
    return parts


def join_parts(procedure: Procedure, parts: Sequence[msgspec.Raw]) -> bytes:
    """The body of a result that is one list of these items, which may be unchecked yet."""
    return _encoder.encode({procedure.ret[0].name: parts})


def _whole_result(codec: Codec, value: object) -> Mapping[str, object] | msgspec.Struct:
    if isinstance(value, (dict, codec.struct, Mapping)):
        return value
    fields = codec.fields
    if value is None and (not fields or not fields[0].optional):
        return {}
    if len(fields) == 1:
        return {fields[0].name: value}
    if len(fields) == 2 and isinstance(value, list) and fields[0].is_list and fields[1].name == "ret":
        return {fields[0].name: value, "ret": len(value)}
    raise InvalidMessage(f"a result of {len(fields)} fields cannot be made of {type(value).__name__}")


def unpack_result(procedure: Procedure, body: bytes | memoryview) -> Any:
    """The result of a call as a `result_struct`.

    Raises InvalidMessage, naming procedure and field, for anything the table does not allow.
    """
    return _result_codec(procedure).unpack(body)


def pack_event(name: str, values: Mapping[str, object] | msgspec.Struct) -> bytes:
    """The data of an event as a body of its own.

    Raises InvalidMessage, naming event and field, and UnknownProcedure for an event that the table lacks.
    """
    return _event_codec(name).pack(values)


def unpack_event(name: str, body: bytes | memoryview) -> Any:
    """The data of an event, its fields as attributes.

    Raises InvalidMessage, naming event and field, and UnknownProcedure for an event that the table lacks.
    """
    return _event_codec(name).unpack(body)


def convert_event(name: str, data: Mapping[str, object]) -> Any:
    """The data of an event that came inside a larger record, its fields as attributes.

    Raises InvalidMessage, naming event and field, and UnknownProcedure for an event that the table lacks.
    """
    return _event_codec(name).convert(data)


def event_data(name: str, values: Mapping[str, object] | msgspec.Struct) -> dict[str, Any]:
    """The data of an event as plain values (maps, lists, texts, bytes, numbers), to be put inside a larger record.

    Raises InvalidMessage, naming event and field, and UnknownProcedure for an event that the table lacks.
    """
    data: dict[str, Any] = msgspec.msgpack.decode(_event_codec(name).pack(values))
    return data
