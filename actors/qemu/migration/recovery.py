"""Guests that were on their way when the last process of this driver ended: each runs on one side, and one only.

| how far it was | what is done |
|---|---|
| `asking`, `sending` | it is called off, and the guest goes on here: nobody was told yet that it had arrived |
| `sent`, and this side made all calls | the other side is asked until it says where the guest runs |
| `sent`, and the caller made them | the guest stands still until the caller's last call |
| `gone` | it ends here |
| `waiting` for its memory | it ends here: it goes on where it came from |
| `starting`, and it runs | it stays |
| `starting`, and it does not run yet | it ends here, for the same reason |
| `running` | it stays |
"""

from __future__ import annotations

import asyncio
from typing import Final

import msgspec

from actors.qemu.claims import release_leases
from actors.qemu.guest import Guest
from actors.qemu.host import QemuHost
from actors.qemu.migration.destination import discard, give_up_late
from actors.qemu.migration.journey import find_out
from actors.qemu.migration.parameters import MigrationParameters
from actors.qemu.migration.peer import peer_of
from actors.qemu.migration.source import go_on, leave, write_move
from actors.qemu.records import Move
from schema.errors import NoSuchDomain, VirtError

_RETRY_S: Final = 0.5
_TELLS: Final = 20
_POST_COPY: Final = ("postcopy-active", "postcopy-paused", "postcopy-recover")


async def recover(host: QemuHost) -> None:
    """Looks after all of them, each beside the others."""
    await asyncio.sleep(0)  # until start() has returned nothing can be told
    for guest in list(host.guests.values()):
        if guest.run is not None and guest.run.move is not None:
            host.runtime.spawn(_recover(host, guest), f"migration of {guest.name}")


async def _recover(host: QemuHost, guest: Guest) -> None:
    while guest.run is not None and guest.run.move is not None:
        move = guest.run.move
        try:
            async with host.runtime.mailbox(("domain", guest.key)).change("domain_migrate"):
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
    elif run.move.phase == "sent" and run.move.peer is not None:
        await find_out(host, guest)


async def _settle(host: QemuHost, guest: Guest, move: Move) -> None:
    if move.way == "in":
        if move.phase == "waiting":
            await discard(host, guest)
        elif move.phase == "starting":
            if (await guest.ask("query-status")).get("running"):
                await write_move(host, guest, msgspec.structs.replace(move, phase="running"))
            else:
                await discard(host, guest)
        return
    if move.phase == "gone":
        await leave(host, guest, move.flags)
        return
    if move.phase in ("asking", "sending"):
        migration = await guest.ask("query-migrate")
        if migration.get("status") in _POST_COPY:
            # it runs over there already: what is missing here is only the caller's last call
            await write_move(host, guest, msgspec.structs.replace(move, phase="sent"))
            await release_leases(host, guest)
            return
        await guest.ask("migrate_cancel")
        await _wait_for_cancel(guest)
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
