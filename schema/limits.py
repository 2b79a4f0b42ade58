"""How much a caller may ask for in one call: never more than the reply of libvirt's protocol can hold.

A driver would reserve the room first and fail at the reply, so it is not asked.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any, Final

from schema.errors import ErrorDomain, InternalError
from schema.model import Procedure

Check = Callable[[Any], None]

# not `nparams`: it reserves nothing here, and libvirt's own client sends it uninitialised (virNodeGetSEVInfo)
_COUNTS: Final = ("maxnames", "maxids", "maxuuids", "maxcells", "maxerrors")
_MAPS: Final = ("maxinfo", "ncpumaps")


@cache
def limit_of(procedure: Procedure) -> Check | None:
    """What raises InternalError for arguments that ask for too much; nothing where no argument asks for an amount."""
    args = {item.name for item in procedure.args}
    wanted: list[tuple[tuple[str, ...], int]] = []
    for item in procedure.ret:
        if item.max is None:
            continue
        if item.is_bytes and "maplen" in args:
            wanted.append((("maplen", *(name for name in _MAPS if name in args)), item.max))
        elif item.is_bytes and "size" in args:
            wanted.append((("size",), item.max))
        elif item.is_list:
            wanted += [((name,), item.max) for name in (*_COUNTS, *_MAPS) if name in args]
    return _check(wanted) if wanted else None


def _check(wanted: list[tuple[tuple[str, ...], int]]) -> Check:
    def check(args: Any) -> None:
        for names, most in wanted:
            amount = 1
            for name in names:
                amount *= max(0, getattr(args, name))
            if amount > most:
                raise InternalError(f"{' * '.join(names)} is {amount}, more than {most}", domain=ErrorDomain.RPC)

    return check
