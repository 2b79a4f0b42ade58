"""Helpers that come and go with devices of a running guest."""

from __future__ import annotations

from pathlib import Path

from actors.qemu.guest import Guest
from actors.qemu.helpers.crew import Crew, user_of
from actors.qemu.helpers.ends import Ends
from actors.qemu.host import QemuHost
from actors.qemu.traces import clear_run
from conf.domain.domain import Domain
from conf.element import Element


class GuestHelpers:
    """The helpers of a guest while devices come to it or go from it; `domain` is what its definition becomes."""

    def __init__(self, host: QemuHost, guest: Guest, domain: Domain, ends: Ends) -> None:
        self._host = host
        self._guest = guest
        self._domain = domain
        self._ends = ends
        self._run = guest.need_run()
        self._crew: Crew | None = None

    async def start(self, device: Element) -> None:
        """Starts what a device needs. Raises what the modules of the programs raise."""
        guest = self._guest
        run = guest.need_run()
        crew = self._crew = guest.crew or Crew(self._host, guest.name, Path(run.folder), user_of(run.pid))
        await crew.start_for(self._domain, device, self._ends)
        if guest.crew is None and crew.roles:
            crew.serve(guest)
        await crew.join_groups(run)

    async def end(self) -> None:
        """Ends what nothing of the definition needs any more."""
        run = self._guest.run
        if run is None or run.id != self._run.id:
            # the guest has ended meanwhile, and knew nothing of who came late
            if self._crew is not None:
                await self._crew.end()
                clear_run(Path(self._run.folder), "", partition=self._run.partition, group=self._run.group)
        elif self._guest.crew is not None:
            await self._guest.crew.end_for(self._domain)
