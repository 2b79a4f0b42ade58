"""Typed parameters: those that a call brings, checked, and those that it asks for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from schema.enums.typed_parameter import TypedParameterType as Type
from schema.error_root import NO_DOMAIN
from schema.errors import ArgumentUnsupported, InvalidArguments
from schema.objects import TypedParam

_TYPES: Final = {
    "int": Type.INT,
    "uint": Type.UINT,
    "llong": Type.LLONG,
    "ullong": Type.ULLONG,
    "double": Type.DOUBLE,
    "boolean": Type.BOOLEAN,
    "string": Type.STRING,
}
STRING_OKAY: Final = 4
_NAMES: Final = {kind: name for name, kind in _TYPES.items()}


class Parameters:
    """What a call brings, by name."""

    def __init__(self, params: Sequence[TypedParam], known: Mapping[str, str]) -> None:
        """Raises ArgumentUnsupported for an unknown name, InvalidArguments for a wrong type or one said twice."""
        self.values: dict[str, Any] = {}
        for param in sorted(params, key=lambda param: param.field):
            kind = known.get(param.field)
            if kind is None:
                raise ArgumentUnsupported(f"parameter '{param.field}' not supported", domain=NO_DOMAIN)
            if param.field in self.values:
                raise InvalidArguments(f"parameter '{param.field}' occurs multiple times", domain=NO_DOMAIN)
            if param.type != _TYPES[kind]:
                raise InvalidArguments(
                    f"invalid type '{_NAMES[Type(param.type)]}' for parameter '{param.field}', expected '{kind}'",
                    domain=NO_DOMAIN,
                )
            self.values[param.field] = param.value


def asked_for(found: list[TypedParam], nparams: int) -> dict[str, Any]:
    """The answer to a call that asks for that many parameters."""
    return {"params": found[:nparams], "nparams": 0}


def counted(number: int) -> dict[str, Any]:
    """The answer to a call that first asks for the number of parameters, without looking at anything else."""
    return {"params": [], "nparams": number}
