"""Connections to other hosts: opened by name, kept until the driver ends."""

from __future__ import annotations

from actors.remote.host import RemoteHost
from actors.runtime.calls import Calls
from actors.runtime.context import current_call

calls: Calls[RemoteHost] = Calls()


@calls.handles()
async def connect_open(host: RemoteHost, name: str | None, flags: int) -> None:
    """Makes sure that the daemon answers. Raises what `RemoteHost.open` raises."""
    await host.open(current_call().scope)


@calls.handles()
def connect_close(host: RemoteHost) -> None:
    """The connection stays: subscribers hear of what happens over there whether or not a client looks."""
