"""The parameters of QEMU's migration: as QEMU tells them, as it is told, and as a guest's status keeps them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from conf.element import Element, Empty, attr, children

PARAMETERS: Final[dict[str, type]] = {
    "compress-level": int,
    "compress-threads": int,
    "decompress-threads": int,
    "cpu-throttle-initial": int,
    "cpu-throttle-increment": int,
    "tls-creds": str,
    "tls-hostname": str,
    "max-bandwidth": int,
    "downtime-limit": int,
    "block-incremental": bool,
    "xbzrle-cache-size": int,
    "max-postcopy-bandwidth": int,
    "multifd-channels": int,
}
"""Those that are kept, in their order."""


class KeptParameter(Element, tag="param"):
    """A parameter as it was before a move."""

    name: str = attr("name", str)
    value: str = attr("value", str)


class KeptParameters(Element, tag="migParams", empty=Empty.OPEN):
    """All of them."""

    parameters: list[KeptParameter] = children(KeptParameter, default=[])


def parameters_from_reply(reply: Mapping[str, Any]) -> dict[str, Any]:
    """What is kept of QEMU's answer to `query-migrate-parameters`; it is also what `migrate-set-parameters` takes."""
    found = {}
    for name, kind in PARAMETERS.items():
        value = reply.get(name)
        # True is a number to Python, but none to QEMU
        if isinstance(value, kind) and (kind is bool or not isinstance(value, bool)):
            found[name] = value
    return found


def kept_parameters(parameters: Mapping[str, Any]) -> KeptParameters:
    """Parameters as a status document has them."""
    return KeptParameters(
        parameters=[
            KeptParameter(name=name, value=str(int(value)) if isinstance(value, bool) else str(value))
            for name, value in parameters.items()
        ]
    )


def parameters_from_kept(kept: KeptParameters) -> dict[str, Any]:
    """Parameters of a status document; unknown ones and damaged ones are left out."""
    found: dict[str, Any] = {}
    for one in kept.parameters:
        kind = PARAMETERS.get(one.name)
        if kind is str:
            found[one.name] = one.value
        elif kind is not None and one.value.isascii() and one.value.isdecimal():
            found[one.name] = kind(int(one.value))
    return found
