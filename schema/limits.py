"""What is refused before a driver is asked: amounts that no reply of libvirt's protocol can hold, and what libvirt's
public functions refuse by themselves.

A driver would reserve the room first and fail at the reply, so it is not asked.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any, Final

from schema.errors import ErrorDomain, InternalError, RpcError
from schema.model import Procedure
from schema.public_checks import public_check

Check = Callable[[Any], None]

_COUNTS: Final = ("maxnames", "maxids", "maxuuids", "maxcells", "maxerrors")
_MAPS: Final = ("maxinfo", "ncpumaps")
_SHORT: Final = ("nparams", "ncpus", "maxerrors")
_BY_RPC: Final = ("maxnames", "maxids", "maxuuids", "maxcells")
_BY_DAEMON: Final = ("nparams", "maxinfo", "ncpumaps", "maplen")
_UNSET: Final = ("node_get_sev_info", "network_port_get_parameters")
"""The daemon does not look at their `nparams`; libvirt's own client sends the first one's uninitialised."""
_CPU_STATS: Final = {"nparams": 16, "ncpus": 128}


@cache
def limit_of(procedure: Procedure) -> Check | None:
    """What raises for arguments that ask for too much or that libvirt's public function refuses; None where there is
    nothing to check.

    It raises InternalError, RpcError and InvalidArguments.
    """
    checks = [check for check in (_negative(procedure), _amount(procedure), public_check(procedure)) if check]
    if len(checks) < 2:
        return checks[0] if checks else None

    def all_checks(args: Any) -> None:
        for check in checks:
            check(args)

    return all_checks


def _negative(procedure: Procedure) -> Check | None:
    signed = {item.name for item in procedure.args if item.type == "int" and not item.is_list}
    if procedure.name in _UNSET:
        return None
    by_rpc = [name for name in _BY_RPC if name in signed]
    by_daemon = [name for name in _BY_DAEMON if name in signed]
    if not by_rpc and not by_daemon:
        return None

    def check(args: Any) -> None:
        for name in by_rpc:
            if getattr(args, name) < 0:
                raise RpcError(f"{name} must be non-negative")
        for other in by_daemon:
            if getattr(args, other) < 0:
                raise InternalError(f"{other} must be non-negative", domain=ErrorDomain.RPC)

    return check


def _amount(procedure: Procedure) -> Check | None:
    args = {item.name for item in procedure.args}
    wanted: list[tuple[tuple[str, ...], int]] = []
    for item in procedure.ret:
        if item.max is None:
            continue
        if item.is_bytes and "maplen" in args:
            wanted.append((("maplen", *(name for name in _MAPS if name in args)), item.max))
        elif item.is_bytes and "size" in args:
            wanted.append((("size",), item.max))
        elif item.is_list and item.name == "params" and procedure.name not in _UNSET:
            counts = _CPU_STATS if procedure.name == "domain_get_cpu_stats" else {"nparams": item.max}
            wanted += [((name,), most) for name, most in counts.items() if name in args]
        elif item.is_list:
            wanted += [((name,), item.max) for name in (*_COUNTS, *_MAPS) if name in args]
    return _check(wanted) if wanted else None


def _check(wanted: list[tuple[tuple[str, ...], int]]) -> Check:
    def check(args: Any) -> None:
        for names, most in wanted:
            amount = 1
            for name in names:
                amount *= max(0, getattr(args, name))
            if amount > most and names[0] in _SHORT:
                raise InternalError(f"{names[0]} too large", domain=ErrorDomain.RPC)
            if amount > most and names == ("size",):
                raise InternalError("size > maximum buffer size", domain=ErrorDomain.RPC)
            if amount > most:
                raise InternalError(f"{' * '.join(names)} is {amount}, more than {most}", domain=ErrorDomain.RPC)

    return check
