"""XDR for the fields of the table: a reader and a writer per procedure, error and event, compiled when first asked for.

What a message means is in `schema/`; here are only its bytes. Texts that are not UTF-8 come out with surrogates
(`surrogateescape`) and go back to the same bytes. Bytes behind the last field are ignored, as libvirt does; padding
may hold anything. Every count is compared with its bound and with what is left before anything is allocated.

The table and what compiles are loaded when the first codec is asked for: who only imports this waits for neither.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rpc.xdr_source import Source
    from schema.model import Event, Field, Procedure


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
            reader = self._reader = self._compile_reader()
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
            writer = self._writer = self._compile_writer()
        try:
            return writer(values)
        except (struct.error, AttributeError, KeyError, TypeError, UnicodeEncodeError) as exc:
            raise XdrError(f"{self._owner}: {exc}") from exc

    def _compile_reader(self) -> Callable[[bytes], Any]:
        from rpc.xdr_source import reader_source

        return _compiled(reader_source(self._owner, self._fields, self._make), "read")

    def _compile_writer(self) -> Callable[[Any], bytes]:
        from rpc.xdr_writer_source import writer_source

        return _compiled(writer_source(self._owner, self._fields, self._make is None), "write")


def _compiled(source: Source, name: str) -> Callable[..., Any]:
    from rpc.xdr_values import RUNTIME

    names: dict[str, Any] = {**source.names, "XdrError": XdrError, **RUNTIME}
    exec(compile(source.text, f"<xdr {source.owner}>", "exec"), names)
    function: Callable[..., Any] = names[name]
    return function


# --- the codecs of the table ---


@cache
def args_codec(procedure: Procedure) -> XdrCodec:
    """The arguments of a call, as its `args_struct`."""
    from schema.body import args_struct

    return XdrCodec(procedure.name, procedure.args, args_struct(procedure))


@cache
def result_codec(procedure: Procedure) -> XdrCodec:
    """The result of a call, as its `result_struct`."""
    from schema.body import result_struct

    return XdrCodec(procedure.name, procedure.ret, result_struct(procedure))


@cache
def event_codec(event: Event) -> XdrCodec:
    """The data of an event as a map, without the callback id that stands before it in most."""
    return XdrCodec(event.name, event.fields)


@cache
def legacy_event_codec(event: Event) -> XdrCodec:
    """The data of an event's older message, as a map."""
    return XdrCodec(event.name, event.legacy_fields)


@cache
def error_codec() -> XdrCodec:
    """An error, as `ErrorRecord`."""
    from schema.objects import ErrorRecord
    from schema.table import need_struct

    fields = need_struct("error").fields
    return XdrCodec("error", fields, lambda **values: ErrorRecord(*(values[field.name] for field in fields)))


@cache
def hole_fields() -> tuple[Field, ...]:
    """What tells of a stretch of zeros in a sparse stream."""
    from schema.model import Field

    return (Field("length", "hyper"), Field("flags", "uint"))


@cache
def hole_codec() -> XdrCodec:
    """A stretch of zeros in a sparse stream, as a map."""
    return XdrCodec("stream_hole", hole_fields())


def fields_codec(owner: str, fields: tuple[Field, ...]) -> XdrCodec:
    """A codec for any fields, whose values are maps."""
    return XdrCodec(owner, fields)
