"""The remote driver: guests and everything else of other hosts, by libvirt's own protocol to their daemons.

Every call of the protocol goes to the daemon that its scope names, and comes back as that daemon answered it; reads
too, because much of what changes over there has no event. What the actor keeps of the objects serves its events alone:
it is compared with the daemon after each connection, now and then, and after each change that passed here.
"""

from __future__ import annotations

from typing import ClassVar, Final

from actors.remote import connect, forward
from actors.remote.host import RemoteHost
from actors.runtime.actor import Actor
from actors.runtime.calls import Calls
from actors.runtime.runtime import Runtime
from schema.enums.error import ErrorDomain
from schema.errors import HypervisorGone

UNKNOWN_END: Final = "the driver ended during the call: whether the other host did it is not known"


class RemoteActor(Actor[RemoteHost]):
    """Serves URIs with a transport or a host: `qemu+ssh://host/system`, `test+unix:///default?socket=S`."""

    name = "remote"
    serves = ()
    calls: ClassVar[tuple[Calls[RemoteHost], ...]] = (connect.calls, forward.calls)
    error_domain = ErrorDomain.REMOTE

    async def start(self, runtime: Runtime) -> RemoteHost:
        """Knows its objects as they were last told, and looks for the daemons again in the background."""
        host = RemoteHost(runtime)
        await host.start()
        for intent in runtime.intents.open:
            await intent.undo(HypervisorGone(UNKNOWN_END))
        return host

    async def stop(self, host: RemoteHost) -> None:
        """Takes leave of the daemons."""
        await host.stop()
