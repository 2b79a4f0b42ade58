"""Typed parameters: those that a call brings, checked, and those that it asks for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from actors.qemu.guest import Guest
from actors.qemu.states import Told
from schema.enums.typed_parameter import TypedParameterType as Type
from schema.errors import ArgumentUnsupported, InvalidArguments
from schema.objects import TypedParam

STRING_OKAY: Final = 4
"""The caller understands parameters that are strings."""

_TYPES: Final = {
    "int": Type.INT,
    "uint": Type.UINT,
    "llong": Type.LLONG,
    "ullong": Type.ULLONG,
    "double": Type.DOUBLE,
    "boolean": Type.BOOLEAN,
    "string": Type.STRING,
}
_NAMES: Final = {kind: name for name, kind in _TYPES.items()}


def read_parameters(params: Sequence[TypedParam], known: Mapping[str, str]) -> dict[str, Any]:
    """The values by name.

    Raises ArgumentUnsupported for an unknown name, InvalidArguments for a wrong type or one that is said twice.
    """
    values: dict[str, Any] = {}
    for param in params:
        kind = known.get(param.field)
        if kind is None:
            raise ArgumentUnsupported(f"parameter '{param.field}' not supported")
        if param.type != _TYPES[kind]:
            raise InvalidArguments(
                f"invalid type '{_NAMES[Type(param.type)]}' for parameter '{param.field}', expected '{kind}'"
            )
        if param.field in values:
            raise InvalidArguments(f"parameter '{param.field}' occurs multiple times")
        values[param.field] = param.value
    return values


def asked_for(found: list[TypedParam], nparams: int) -> dict[str, Any]:
    """The answer to a call that first asks for the number of parameters, and then for that many."""
    if nparams == 0:
        return {"params": [], "nparams": len(found)}
    return {"params": found[:nparams], "nparams": min(nparams, len(found))}


def tuned(guest: Guest, params: list[TypedParam]) -> Told:
    """What subscribers hear of a change of a running guest's resources."""
    return "domain_event_tunable", {"dom": guest.ref, "params": params}
