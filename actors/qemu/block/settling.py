"""What the last process of this driver left: block jobs that went on, or ended, while nobody listened."""

from __future__ import annotations

import asyncio

from actors.qemu.block.jobs import settle_soon
from actors.qemu.host import QemuHost


async def settle_guests(host: QemuHost) -> None:
    """Looks after the jobs of all running guests; to be begun when everything else has been restored."""
    await asyncio.sleep(0)  # until start() has returned nothing can be told
    for guest in list(host.guests.values()):
        if guest.run is not None and guest.monitor is not None and guest.monitor.is_open:
            settle_soon(host, guest)
