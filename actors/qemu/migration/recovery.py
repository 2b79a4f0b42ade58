"""The driver starts, and some guests were on their way when its last process ended."""

from __future__ import annotations

import asyncio
from typing import Final

from actors.qemu.host import QemuHost
from actors.qemu.migration.departure import LEAVE, leave, undefine
from actors.qemu.migration.settling import settle
from actors.runtime.intents import UnfinishedIntent
from schema.enums.domain_job import DomainMigrateFlags as Flags
from schema.errors import VirtError

_RETRY_S: Final = 0.5


def recover(host: QemuHost) -> None:
    """Looks after all of them, each beside the others, and before any call that comes then. Called at the start."""
    for intent in host.intents.open:
        if intent.kind == LEAVE:
            intent.take_over()
            host.runtime.spawn(_let_leave(host, intent), "a guest that has left")
    for guest in list(host.guests.values()):
        if guest.run is not None and guest.run.move is not None:
            host.runtime.spawn(settle(host, guest), f"migration of {guest.name}")


async def _let_leave(host: QemuHost, intent: UnfinishedIntent) -> None:
    """Nothing of the guest stays here: all of it has arrived elsewhere."""
    guest = next((one for one in host.guests.values() if one.record.uuid == intent.data["uuid"]), None)
    flags = int(intent.data["flags"])
    while guest is not None:
        try:
            async with host.runtime.mailbox(("domain", guest.key)).change("domain_migrate"):
                await asyncio.sleep(0)  # until start() has returned nothing can be told
                if guest.run is not None:
                    await leave(host, guest, flags)
                elif flags & Flags.UNDEFINE_SOURCE:
                    await undefine(host, guest)
            break
        except VirtError as exc:
            host.log.warning("a guest that has left is still here", guest=guest.name, error=exc.message)
            await asyncio.sleep(_RETRY_S)
    await intent.finish()
