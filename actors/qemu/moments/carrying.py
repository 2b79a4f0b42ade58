"""Reverts that the last process of this driver was at: they are carried on to their end.

The journal decides. A revert that was written down had been found possible, and the guest may have ended for it
already, so that there is no way back: the way forward is the same from wherever it was, since each of its steps can be
done again. A guest that stands with the snapshot's memory already is not made anew.
"""

from __future__ import annotations

import asyncio

from actors.qemu import records
from actors.qemu.guest import Guest
from actors.qemu.host import QemuHost
from actors.qemu.moments.records import decode
from actors.qemu.moments.revert import INTENT, let_run, remember, revert, state_after
from actors.qemu.moments.snapshots import read_snapshot
from actors.runtime.intents import UnfinishedIntent
from schema.errors import NoSuchSnapshot, VirtError

_REACH_S = 30.0


def carry_on_reverts(host: QemuHost) -> None:
    """Takes them over; each is done in its guest's lane, before any call that comes then. Called at the start."""
    for intent in host.intents.open:
        if intent.kind == INTENT:
            intent.take_over()
            host.runtime.spawn(_carry_on(host, intent), f"revert to {intent.data['name']}")


async def _carry_on(host: QemuHost, intent: UnfinishedIntent) -> None:
    uuid = str(intent.data["uuid"])
    guest = next((one for one in host.guests.values() if one.record.uuid == uuid), None)
    if guest is None:
        guest = _made_again(host, intent)
    elif isinstance(kept := intent.data.get("moments"), bytes) and guest.moments.are_none:
        guest.moments = decode(kept)  # it was made again, but what was known of its snapshots was not kept yet
    if guest is None:
        await intent.undo()
        return
    try:
        async with host.runtime.mailbox(("domain", guest.key)).change("revert"):
            await asyncio.sleep(0)  # until the start is over nothing can be told
            try:
                await _forward(host, guest, intent)
            except VirtError as exc:
                host.log.warning("a revert could not be carried on", guest=guest.name, error=exc.message)
                await intent.undo(exc)
            else:
                await intent.finish()
    except VirtError as exc:
        host.log.error("what became of a revert is not written down", guest=guest.name, error=exc.message)
    if guest.run is None and not guest.is_persistent and host.guests.get(guest.key) is guest:
        host.forget(guest)
        host.objects.drop("domain", guest.key, scope=host.scope)


async def _forward(host: QemuHost, guest: Guest, intent: UnfinishedIntent) -> None:
    data, name = intent.data, str(intent.data["name"])
    if name not in guest.moments.snapshots:
        raise NoSuchSnapshot(f"no domain snapshot with matching name '{name}'")
    runs, paused = bool(data["runs"]), bool(data["paused"])
    if guest.run is None or guest.id != data.get("reverted"):
        await revert(host, guest, name, intent, runs=runs, paused=paused)
        return
    # a process that is gone is noticed by whoever watches it
    for _ in range(int(_REACH_S / 0.1)):
        if guest.run is None or (guest.monitor is not None and guest.monitor.is_open):
            break
        await asyncio.sleep(0.1)
    if guest.run is not None:
        if not paused and not (await guest.ask("query-status")).get("running"):
            await let_run(guest)
        has_memory = read_snapshot(guest.moments.snapshots[name]).state in ("running", "paused")
        state, reason = state_after(has_memory=has_memory, paused=paused)
        guest.adopt(guest.running(state=int(state), reason=reason))
        host.publish(guest)  # that it has started was told with what this process found
        host.keep_soon(guest)
    await remember(host, guest, name)


def _made_again(host: QemuHost, intent: UnfinishedIntent) -> Guest | None:
    """A transient guest that had ended for its revert."""
    record, moments = intent.data.get("guest"), intent.data.get("moments")
    if not isinstance(record, bytes) or not isinstance(moments, bytes):
        return None
    guest = Guest(records.decode(record), host.scope)
    if guest.name in host.names:
        return None
    guest.moments = decode(moments)
    host.add(guest)
    return guest
