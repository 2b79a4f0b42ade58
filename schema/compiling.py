"""Turning fields of the table into msgspec types, which check a body at the speed of C."""

from __future__ import annotations

from typing import Annotated, Any, Final

import msgspec
from msgspec import Meta

from schema import objects
from schema.model import Field

_SCALARS: Final[dict[str, Any]] = {
    "int": objects.Int,
    "uint": objects.Uint,
    "hyper": objects.Hyper,
    "uhyper": objects.Uhyper,
    "double": float,
    "char": objects.Char,
    "uchar": objects.Uchar,
    "short": objects.Short,
    "ushort": objects.Ushort,
    "string": objects.String,
    "uuid": objects.Uuid,
}
_NATIVE: Final[dict[str, Any]] = {
    "str": str,
    "bytes": bytes,
    "bool": bool,
    "float": float,
    "map": dict[str, Any],
    "any": Any,
}


def type_of_field(field: Field) -> Any:
    """The annotated Python type of a field."""
    type_ = _bounded_type(field)
    return type_ | None if field.optional and type_ is not Any else type_


def _bounded_type(field: Field) -> Any:
    if field.type in ("opaque", "char") and field.is_bytes:
        low = field.fixed or 0
        return Annotated[bytes, Meta(min_length=low, max_length=field.fixed or field.max)]
    element = _named_type(field.type)
    if field.max is None:
        return element
    return Annotated[list[element], Meta(max_length=field.max)]  # type: ignore[valid-type]


def _named_type(name: str) -> Any:
    if name.startswith("list<"):
        return list[_named_type(name[5:-1])]  # type: ignore[misc]
    known = _SCALARS.get(name) or _NATIVE.get(name)
    return objects.CLASSES[name] if known is None else known


def struct_of_fields(name: str, fields: tuple[Field, ...]) -> type[msgspec.Struct]:
    """A class with these fields, written as a map that must hold exactly them; optional ones may be left out."""
    return msgspec.defstruct(
        name,
        [
            (field.name, type_of_field(field), None) if field.optional else (field.name, type_of_field(field))
            for field in fields
        ],
        frozen=True,
        kw_only=True,
        forbid_unknown_fields=True,
    )
