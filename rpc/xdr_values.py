"""What the compiled readers and writers of XDR call: typed parameters, padding, characters."""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Final

from rpc.xdr import XdrError
from rpc.xdr_source import Names
from schema.objects import TypedParam

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


def _typed(field: str, kind: int, value: float | str, what: str) -> TypedParam:
    try:
        return TypedParam(field, kind, (1 if value else 0) if kind == 6 else value)
    except ValueError as exc:
        raise XdrError(f"{what}: {exc}") from exc


RUNTIME: Final[Names] = {
    "PAD": _PAD,
    "CHARS": _CHARS,
    "write_typed": _write_typed,
    "typed": _typed,
    "Struct": struct.Struct,
    "unpack_from": struct.unpack_from,
    "pack": struct.pack,
}
