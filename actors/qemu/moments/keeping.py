"""How the snapshots and checkpoints of a guest become real on disk, and known."""

from __future__ import annotations

import msgspec

from actors.qemu.guest import Guest
from actors.qemu.host import QemuHost
from actors.qemu.moments import records
from actors.qemu.moments.records import Moments
from schema.errors import VirtError


def load_moments(host: QemuHost) -> None:
    """Reads what every guest has; what cannot be read is left where it is, and the guest goes without."""
    by_uuid = {guest.record.uuid: guest for guest in host.guests.values()}
    for path in host.store.list(records.FOLDER, ".json"):
        guest = by_uuid.get(path.rpartition("/")[2].removesuffix(".json"))
        data = host.store.read(path)
        if guest is None:
            # the guest went away just before its driver did
            host.store.path(path).unlink(missing_ok=True)
            continue
        if data is None:
            continue
        try:
            guest.moments = records.decode(data)
        except msgspec.DecodeError as exc:
            host.log.error("a guest's snapshots cannot be read", guest=guest.name, path=path, error=str(exc))


async def keep_moments(host: QemuHost, guest: Guest, moments: Moments) -> None:
    """Puts them on disk, then lists show them. Raises HostSystemError; nothing changed then."""
    path = records.path_of(guest.record.uuid)
    if moments.are_none:
        await host.store.remove(path, completes=False)
    else:
        await host.store.write(path, records.encode(moments), completes=False)
    guest.moments = moments
    if host.guests.get(guest.key) is guest:
        host.publish(guest)


async def forget_moments(host: QemuHost, guest: Guest) -> None:
    """The guest is gone, and with it what was known of its snapshots; their data stays in the images."""
    if guest.moments.are_none:
        return
    guest.moments = Moments()
    try:
        await host.store.remove(records.path_of(guest.record.uuid), completes=False)
    except VirtError as exc:
        host.log.warning("what was known of snapshots could not be removed", guest=guest.name, error=exc.message)
