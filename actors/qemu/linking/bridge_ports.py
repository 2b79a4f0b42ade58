"""Ports of the host's bridges: what a bridge is told of one of them."""

from __future__ import annotations

from typing import Final

from actors.runtime.rtnetlink import change, index_of
from schema.errors import HostSystemError
from util.netlink import SET_LINK, attribute, link_header, nested

_PORT: Final = 12
_ISOLATED: Final = 33
_BRIDGE: Final = 7
"""The kernel's family of messages about ports."""


def isolate_port(bridge: str, name: str) -> None:
    """Ports of a bridge that are isolated do not see each other. Raises HostSystemError."""
    try:
        body = link_header(index_of(name), family=_BRIDGE) + nested(_PORT, attribute(_ISOLATED, b"\1"))
        change(SET_LINK, 0, body)
    except OSError as exc:
        raise HostSystemError(exc.errno or 0, f"Unable to set bridge {bridge} port {name} isolated to 1") from exc
