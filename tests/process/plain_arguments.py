"""Arguments for any call: the plainest values that its fields, and the checks of libvirt's functions, allow."""

from __future__ import annotations

from typing import Any

from schema.body import args_struct
from schema.errors import VirtError
from schema.limits import limit_of
from schema.model import Field, Procedure
from schema.objects import CLASSES, TypedParam
from schema.table import need_struct
from tests.unit.gateway.records import uuid_of

_SCALARS: dict[str, Any] = {"string": "a", "double": 0.0}
_INTEGERS = ("int", "uint", "hyper", "uhyper")
_PARAM = TypedParam.of_ullong("a", 1)


def plain_args(procedure: Procedure, **values: Any) -> Any:
    """The call's arguments, with some of them as given."""
    given = {k: v for k, v in values.items() if k in {item.name for item in procedure.args}}
    make = args_struct(procedure)
    plain = make(**{**{item.name: plain_value(item) for item in procedure.args}, **given})
    check = limit_of(procedure)
    if check is None:
        return plain
    try:
        check(plain)
    except VirtError:
        return make(**{**{item.name: fuller_value(item) for item in procedure.args}, **given})
    return plain


def plain_value(item: Field) -> Any:
    """A value of a field: numbers are nought, texts and names are `a`, lists are empty."""
    if item.type == "uuid":
        return uuid_of("a")
    if item.is_bytes:
        return bytes(item.fixed or 0)
    if item.is_list:
        return []
    if item.type in CLASSES and item.type != "typed_param":
        return CLASSES[item.type](*(plain_value(field) for field in need_struct(item.type).fields))
    return _SCALARS.get(item.type, 0)


def fuller_value(item: Field) -> Any:
    """A value where nought and nothing are refused: numbers but flags are one, lists have one element."""
    if item.is_bytes:
        return bytes(item.fixed or 1)
    if item.is_list:
        return [_PARAM if item.type == "typed_param" else {"string": "a"}.get(item.type, 1)]
    if item.optional and item.type == "string":
        return None
    if item.type in _INTEGERS:
        return 0 if item.name == "flags" else 1
    return plain_value(item)
