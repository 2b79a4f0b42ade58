"""What the last process of this driver left: block jobs that it was beginning or ending, or that went on without it."""

from __future__ import annotations

import asyncio

from actors.qemu.block.chain import Image, disk_of_index
from actors.qemu.block.jobs import END, settle_soon
from actors.qemu.block.keeping import find_job
from actors.qemu.block.nodes import close_images, forget_making, remove_file
from actors.qemu.guest import Guest
from actors.qemu.host import QemuHost
from actors.runtime.intents import UnfinishedIntent
from conf.domain.storage_source import FileSource


async def settle_guests(host: QemuHost) -> None:
    """Looks after the jobs of all running guests; to be begun when everything else has been restored."""
    await asyncio.sleep(0)  # until start() has returned nothing can be told
    for guest in list(host.guests.values()):
        if guest.run is not None and guest.monitor is not None and guest.monitor.is_open:
            settle_soon(host, guest)


async def settle_job_intent(host: QemuHost, guest: Guest, intent: UnfinishedIntent) -> None:
    """A block job that was being begun or ended: QEMU says whether it was told. Raises as `Guest.ask` does."""
    if guest.run is None or guest.monitor is None or not guest.monitor.is_open:
        await intent.undo()
        return
    name = str(intent.data.get("job", ""))
    known = {str(one.get("id")): str(one.get("status")) for one in await guest.ask("query-jobs")}
    if intent.kind == END:
        # one that is ready still was not told to end
        if known.get(name) in ("ready", "running", "paused", "standby"):
            await intent.undo()
        else:
            await intent.finish()
        return
    if name in known:
        await intent.finish()
        return
    if find_job(guest, name) is None or intent.data.get("stores"):
        await take_back_stores(guest, intent)
    await intent.undo()


async def take_back_stores(guest: Guest, intent: UnfinishedIntent) -> None:
    """Images that were made for a job which was never begun are closed and go."""
    for number, path in intent.data.get("stores", ()):
        image = Image(FileSource(file=str(path)), "qcow2", int(number))
        await forget_making(guest, [image])
        await close_images(guest, [image])
        found = disk_of_index(guest.live, int(number))
        if found is not None and found[0].mirror is not None:
            found[0].mirror = None
        if path:
            remove_file(str(path))
