"""XDR for the fields of the table: a reader and a writer per procedure, error and event, compiled when first asked for.

What a message means is in `schema/`; here are only its bytes. Texts that are not UTF-8 come out with surrogates
(`surrogateescape`) and go back to the same bytes. Bytes behind the last field are ignored, as libvirt does; padding
may hold anything. Every count is compared with its bound and with what is left before anything is allocated.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from functools import cache
from typing import Any, Final

from rpc.xdr_source import Names, Source, reader_source, writer_source
from schema.body import args_struct, result_struct
from schema.model import Event, Field, Procedure
from schema.objects import ErrorRecord, TypedParam
from schema.table import need_struct


class XdrError(ValueError):
    """The bytes are not such a message, or the values cannot be one; the text names message and field."""


class XdrCodec:
    """Reads and writes one kind of message."""

    __slots__ = ("_fields", "_make", "_owner", "_reader", "_writer")

    def __init__(self, owner: str, fields: tuple[Field, ...], make: Callable[..., Any] | None = None) -> None:
        self._owner = owner
        self._fields = fields
        self._make = make
        self._reader: Callable[[bytes], Any] | None = None
        self._writer: Callable[[Any], bytes] | None = None

    def decode(self, payload: bytes) -> Any:
        """The message's values. Raises XdrError."""
        reader = self._reader
        if reader is None:
            reader = self._reader = _compiled(reader_source(self._owner, self._fields, self._make), "read")
        try:
            return reader(payload)
        except struct.error as exc:
            raise XdrError(f"{self._owner}: the message ends too early") from exc

    def encode(self, values: Any) -> bytes:
        """The message's bytes; values are attributes, or items of a map where the codec was made without a class.

        Raises XdrError.
        """
        writer = self._writer
        if writer is None:
            writer = self._writer = _compiled(writer_source(self._owner, self._fields, self._make is None), "write")
        try:
            return writer(values)
        except (struct.error, AttributeError, KeyError, TypeError, UnicodeEncodeError) as exc:
            raise XdrError(f"{self._owner}: {exc}") from exc


def _compiled(source: Source, name: str) -> Callable[..., Any]:
    names: Names = {**source.names, "XdrError": XdrError, **_RUNTIME}
    exec(compile(source.text, f"<xdr {source.owner}>", "exec"), names)
    function: Callable[..., Any] = names[name]
    return function


# --- what compiled code calls ---

_PAD: Final = (b"", b"\0\0\0", b"\0\0", b"\0")
_CHARS: Final = tuple(struct.pack(">i", byte - 256 if byte > 127 else byte) for byte in range(256))
_word = struct.Struct(">I")
_word_double = struct.Struct(">Id")
_heads: dict[tuple[str, int], bytes] = {}
_HEADS_MAX: Final = 8192
_VALUES: Final = (
    None,
    struct.Struct(">i"),
    struct.Struct(">I"),
    struct.Struct(">q"),
    struct.Struct(">Q"),
    struct.Struct(">d"),
    struct.Struct(">i"),
)


def _typed_head(field: str, kind: int) -> bytes:
    """Name and type of a typed parameter; names repeat, so their bytes are kept (their number is bounded)."""
    head = _heads.get((field, kind))
    if head is None:
        name = field.encode("utf-8", "surrogateescape")
        head = _word.pack(len(name)) + name + _PAD[len(name) & 3] + _word.pack(kind)
        if len(_heads) >= _HEADS_MAX:
            _heads.clear()
        if len(name) <= 256:
            _heads[field, kind] = head
    return head


def _write_typed(add: Callable[[bytes], None], params: list[TypedParam], most: int, what: str) -> None:
    if len(params) > most:
        raise XdrError(f"{what}: {len(params)} parameters, at most {most} are allowed")
    add(_word.pack(len(params)))
    for param in params:
        kind = param.type
        add(_typed_head(param.field, kind))
        if kind == 7:
            text = param.value.encode("utf-8", "surrogateescape")  # type: ignore[union-attr]
            add(_word.pack(len(text)))
            add(text)
            add(_PAD[len(text) & 3])
        else:
            add(_VALUES[kind].pack(param.value))  # type: ignore[union-attr]


def _typed(field: str, kind: int, value: Any, what: str) -> TypedParam:
    try:
        return TypedParam(field, kind, (1 if value else 0) if kind == 6 else value)
    except ValueError as exc:
        raise XdrError(f"{what}: {exc}") from exc


_RUNTIME: Final[Names] = {
    "PAD": _PAD,
    "CHARS": _CHARS,
    "write_typed": _write_typed,
    "typed": _typed,
    "Struct": struct.Struct,
    "unpack_from": struct.unpack_from,
    "pack": struct.pack,
}


# --- the codecs of the table ---


@cache
def args_codec(procedure: Procedure) -> XdrCodec:
    """The arguments of a call, as its `args_struct`."""
    return XdrCodec(procedure.name, procedure.args, args_struct(procedure))


@cache
def result_codec(procedure: Procedure) -> XdrCodec:
    """The result of a call, as its `result_struct`."""
    return XdrCodec(procedure.name, procedure.ret, result_struct(procedure))


@cache
def event_codec(event: Event) -> XdrCodec:
    """The data of an event as a map, without the callback id that stands before it in most."""
    return XdrCodec(event.name, event.fields)


@cache
def legacy_event_codec(event: Event) -> XdrCodec:
    """The data of an event's older message, as a map."""
    return XdrCodec(event.name, event.legacy_fields)


def _error_record(**values: Any) -> ErrorRecord:
    return ErrorRecord(*(values[field.name] for field in need_struct("error").fields))


@cache
def error_codec() -> XdrCodec:
    """An error, as `ErrorRecord`."""
    return XdrCodec("error", need_struct("error").fields, _error_record)


STREAM_HOLE_FIELDS: Final = (Field("length", "hyper"), Field("flags", "uint"))


@cache
def hole_codec() -> XdrCodec:
    """A stretch of zeros in a sparse stream, as a map."""
    return XdrCodec("stream_hole", STREAM_HOLE_FIELDS)


def fields_codec(owner: str, fields: tuple[Field, ...]) -> XdrCodec:
    """A codec for any fields, whose values are maps."""
    return XdrCodec(owner, fields)
