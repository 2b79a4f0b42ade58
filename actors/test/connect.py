"""Connections: which scopes there are, and what becomes of them when the last of libvirt's clients leaves."""

from __future__ import annotations

from typing import Final

from actors.runtime.calls import Calls
from actors.runtime.context import current_call
from actors.test import scopes
from actors.test.host import TestHost
from schema.errors import InvalidArguments

calls: Calls[TestHost] = Calls()

TYPE: Final = "TEST"
VERSION: Final = 2


@calls.handles()
async def connect_open(host: TestHost, name: str | None, flags: int) -> None:
    """Makes sure that the scope of this connection exists. The flags are a matter between client and daemon.

    Raises InvalidArguments for a URI without a path, XmlError and HostSystemError for a node description that cannot be
    used.
    """
    scope = name or current_call().scope
    path = scope.partition("://")[2].partition("?")[0]
    if not path.removeprefix("/"):
        raise InvalidArguments("testOpen: supply a path or use test:///default")
    await scopes.open_scope(host, scope)


@calls.handles()
async def connect_close(host: TestHost) -> None:
    """The last of libvirt's clients has left the scope: what they changed is forgotten, unless it is to be kept."""
    await scopes.leave_scope(host, current_call().scope)


@calls.handles()
def connect_get_type(host: TestHost) -> str:
    """The driver's name as libvirt writes it."""
    return TYPE


@calls.handles()
def connect_get_version(host: TestHost) -> int:
    """The fake hypervisor's version."""
    return VERSION
