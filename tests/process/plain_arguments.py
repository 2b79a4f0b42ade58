"""Arguments for any call: the plainest values that its fields allow."""

from __future__ import annotations

from typing import Any

from schema.body import args_struct
from schema.model import Field, Procedure
from schema.objects import CLASSES
from schema.table import need_struct
from tests.unit.gateway.records import uuid_of

_SCALARS: dict[str, Any] = {"string": "a", "double": 0.0}


def plain_args(procedure: Procedure, **values: Any) -> Any:
    """The call's arguments, with some of them as given."""
    plain = {item.name: plain_value(item) for item in procedure.args}
    return args_struct(procedure)(**{**plain, **{k: v for k, v in values.items() if k in plain}})


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
