"""Guests that were on their way when the last process of this driver ended: each runs on one side, and one only.

| how far it was | what is done |
|---|---|
| `asking`, `sending` | it is called off, and the guest goes on here: nobody was told yet that it had arrived |
| `sent`, and this side made all calls | the other side is asked until it says where the guest runs |
| `sent`, and the caller made them | the guest stands still until the caller's last call |
| `postcopy`, `broken` | it stands still here; it ends when all its memory is over there |
| `gone` | it ends here |
| `waiting` for its memory | it ends here: it goes on where it came from |
| `starting`, and it runs | it stays |
| `starting`, and it does not run yet | it ends here, for the same reason |
| `postcopy`, `broken` here | it stays, and what becomes of its memory is seen to |
| `running` | it stays |
"""

from __future__ import annotations

import asyncio
from typing import Final

import msgspec

from actors.qemu.guest import Guest
from actors.qemu.host import QemuHost
from actors.qemu.migration.destination import discard, give_up_late
from actors.qemu.migration.journey import find_out
from actors.qemu.migration.parameters import MigrationParameters
from actors.qemu.migration.peer import peer_of
from actors.qemu.migration.postcopy import FOLLOWS, PHASES, STATUSES, keep_job, note_switch
from actors.qemu.migration.source import LEAVE, go_on, leave, see_it_leave, undefine, write_move
from actors.qemu.migration.tls import drop_credentials
from actors.qemu.records import Move
from actors.runtime.intents import UnfinishedIntent
from schema.enums.domain_job import DomainMigrateFlags as Flags
from schema.errors import NoSuchDomain, VirtError

_RETRY_S: Final = 0.5
_TELLS: Final = 20


def recover(host: QemuHost) -> None:
    """Looks after all of them, each beside the others, and before any call that comes then. Called at the start."""
    for intent in host.intents.open:
        if intent.kind == LEAVE:
            intent.take_over()
            host.runtime.spawn(_let_leave(host, intent), "a guest that has left")
    for guest in list(host.guests.values()):
        if guest.run is not None and guest.run.move is not None:
            host.runtime.spawn(_recover(host, guest), f"migration of {guest.name}")


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


async def _recover(host: QemuHost, guest: Guest) -> None:
    while guest.run is not None and guest.run.move is not None:
        move = guest.run.move
        try:
            async with host.runtime.mailbox(("domain", guest.key)).change("domain_migrate"):
                await asyncio.sleep(0)  # until start() has returned nothing can be told
                if guest.run is None or guest.run.move != move:
                    continue
                await _settle(host, guest, move)
        except VirtError as exc:
            host.log.warning("a guest on its way is not settled yet", guest=guest.name, error=exc.message)
            await asyncio.sleep(_RETRY_S)
            continue
        break
    run = guest.run
    if run is None or run.move is None:
        return
    if run.move.way == "in":
        await give_up_late(host, guest, guest.id)
    elif run.move.phase in ("sent", FOLLOWS) and run.move.peer is not None:
        await find_out(host, guest)
    elif run.move.phase == FOLLOWS:
        await see_it_leave(host, guest, guest.id)


async def _settle(host: QemuHost, guest: Guest, move: Move) -> None:
    if move.way == "in":
        if move.phase == "waiting":
            if (await guest.ask("query-migrate")).get("status") in STATUSES:
                return  # where it came from it cannot go on any more
            await discard(host, guest)
        elif move.phase == "starting":
            status, migration = await guest.ask_all([("query-status", None), ("query-migrate", None)])
            if status.get("running"):
                phase = FOLLOWS if migration.get("status") in STATUSES else "running"
                await write_move(host, guest, msgspec.structs.replace(move, phase=phase))
            else:
                await discard(host, guest)
        return
    if move.phase == "gone":
        await leave(host, guest, move.flags)
        return
    if move.phase in PHASES:
        keep_job(guest)
        return
    if move.phase in ("asking", "sending"):
        migration = await guest.ask("query-migrate")
        if migration.get("status") in STATUSES:
            # it runs over there already, or was about to
            keep_job(guest)
            await note_switch(host, guest, move)
            return
        await guest.ask("migrate_cancel")
        await _wait_for_cancel(guest)
        await drop_credentials(guest)
        await go_on(host, guest, ran=move.ran)
        if move.peer is not None:
            await _call_off(host, guest, move)


async def _wait_for_cancel(guest: Guest) -> None:
    for _ in range(200):
        if (await guest.ask("query-migrate")).get("status") not in ("cancelling", "active", "setup", "device"):
            return
        await asyncio.sleep(0.05)


async def _call_off(host: QemuHost, guest: Guest, move: Move) -> None:
    """Tells the other side; one that is not told gives up by itself."""
    name = move.name or guest.name
    try:
        async with peer_of(move.peer or "") as peer:
            for _ in range(_TELLS):
                try:
                    await peer.finish(name, MigrationParameters(), b"", move.flags, cancelled=True)
                except NoSuchDomain:
                    # it may only be about to make a process for it
                    await asyncio.sleep(_RETRY_S)
                    continue
                break
    except VirtError as exc:
        host.log.info("a migration was called off", guest=guest.name, answer=exc.message)
