"""A change of a guest's definitions: the running one, the one for the next start, or both, written in one go."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from actors.qemu import records
from actors.qemu.guest import Guest
from actors.qemu.host import QemuHost
from actors.qemu.states import Told
from conf.domain.documents import write_domain
from conf.domain.domain import Domain
from conf.flags import XmlFlags
from schema.enums.domain import DomainModificationImpact as Impact


class Draft:
    """Copies of the definitions that a change concerns; nothing is real before `commit`."""

    def __init__(self, guest: Guest, which: int) -> None:
        self.guest = guest
        self.live: Domain | None = guest.live.copy() if which & Impact.LIVE else None
        self.config: Domain | None = guest.config.copy() if which & Impact.CONFIG else None

    @property
    def definitions(self) -> list[Domain]:
        """The copies, to be changed alike."""
        return [one for one in (self.live, self.config) if one is not None]

    async def commit(self, host: QemuHost, told: Sequence[Told] = ()) -> None:
        """Writes what was changed, then tells it. Raises HostSystemError."""
        guest, record = self.guest, self.guest.record
        if self.live is not None and record.run is not None:
            xml = write_domain(self.live, XmlFlags.SECURE, id=record.run.id)
            facts = records.facts_of(self.live)
            record = msgspec.structs.replace(record, run=msgspec.structs.replace(record.run, xml=xml, facts=facts))
        if self.config is not None:
            xml = write_domain(self.config, XmlFlags.INACTIVE | XmlFlags.SECURE)
            record = msgspec.structs.replace(record, xml=xml, facts=records.facts_of(self.config))
        await host.write(guest, record, live=self.live, config=self.config)
        host.publish(guest, told)
