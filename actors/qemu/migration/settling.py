"""Guests on their way that no call sees to any more: each runs on one side in the end, and one only.

That is so when the driver ended meanwhile, or the call that made all steps. What is found, and what is done:

| how far it was | what is done |
|---|---|
| `asking`, `sending` | it is called off, and the guest goes on here: nobody was told yet that it had arrived |
| `switching` | it goes over, if QEMU still can; else it is called off |
| `sent`, and this side made all calls | the other side is asked until it says where the guest runs |
| `sent`, and the caller made them | the guest stands still until the caller's last call |
| `postcopy`, `broken` | it stands still here; it ends when all its memory is over there |
| `gone` | it ends here |
| `waiting` for its memory | it ends here: it goes on where it came from |
| `waiting`, and memory follows | it waits on, and goes on by itself if nobody makes the last call: it cannot go back |
| `starting`, and it runs | it stays |
| `starting`, and it does not run yet | it ends here if it can go on where it came from, else it goes on here |
| `postcopy`, `broken` here | it stays, and what becomes of its memory is seen to |
| `running` | it stays |
"""

from __future__ import annotations

import asyncio
from typing import Final

import msgspec

from actors.qemu.guest import Guest
from actors.qemu.host import QemuHost
from actors.qemu.migration.arrival import discard, give_up_late, let_go_on, may_go_on_elsewhere
from actors.qemu.migration.departure import confirm, go_on, leave, see_it_leave, write_move
from actors.qemu.migration.parameters import MigrationParameters
from actors.qemu.migration.peer import NOT_OVER_THERE, peer_of
from actors.qemu.migration.postcopy import BROKEN, FOLLOWS, STATUSES, SWITCHING, has_switched, keep_job, note_switch
from actors.qemu.migration.storage import give_up_mirrors
from actors.qemu.migration.switching import see_switch
from actors.qemu.migration.tls import drop_credentials
from actors.qemu.records import Move
from schema.errors import DeadlinePassed, HypervisorGone, NoSuchDomain, VirtError

_RETRY_S: Final = 0.5
_TELLS: Final = 20
_ASK_AGAIN_S: Final = 1.0
_ASK_AGAIN_MAX_S: Final = 30.0
_CANCEL_POLLS: Final = 200
_POLL_S: Final = 0.05


async def settle(host: QemuHost, guest: Guest) -> None:
    """Returns when the guest runs on one side, or a caller has the next word."""
    while guest.run is not None and guest.run.move is not None:
        move = guest.run.move
        try:
            async with host.runtime.mailbox(("domain", guest.key)).change("domain_migrate"):
                await asyncio.sleep(0)  # until start() has returned nothing can be told
                if guest.run is None or guest.run.move != move:
                    continue
                await (_settle_arrival if move.way == "in" else _settle_departure)(host, guest, move)
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
        return
    if run.move.phase in ("sent", FOLLOWS) and run.move.peer is not None:
        await find_out(host, guest)
    if has_switched(guest):
        await see_it_leave(host, guest, guest.id)


async def _settle_arrival(host: QemuHost, guest: Guest, move: Move) -> None:
    if move.phase == "waiting":
        if await may_go_on_elsewhere(host, guest):
            await discard(host, guest)
    elif move.phase == "starting":
        status, migration = await guest.ask_all([("query-status", None), ("query-migrate", None)])
        if status.get("running"):
            phase = FOLLOWS if migration.get("status") in STATUSES else "running"
            await write_move(host, guest, msgspec.structs.replace(move, phase=phase))
        elif await may_go_on_elsewhere(host, guest):
            await discard(host, guest)
        else:
            await let_go_on(host, guest, move, None, move.flags)


async def _settle_departure(host: QemuHost, guest: Guest, move: Move) -> None:
    if move.phase == "gone":
        await leave(host, guest, move.flags)
    elif move.phase in (FOLLOWS, BROKEN):
        keep_job(guest)
        if move.phase == BROKEN and (await guest.ask("query-migrate")).get("status") != "postcopy-paused":
            await note_switch(host, guest, move)  # it was made anew, and that had not been noted yet
    elif move.phase in ("asking", "sending") or (move.phase == SWITCHING and not await see_switch(host, guest, move)):
        await _call_off(host, guest, move)


async def _call_off(host: QemuHost, guest: Guest, move: Move) -> None:
    await guest.ask("migrate_cancel")
    for _ in range(_CANCEL_POLLS):
        if (await guest.ask("query-migrate")).get("status") not in ("cancelling", "active", "setup", "device"):
            break
        await asyncio.sleep(_POLL_S)
    await give_up_mirrors(guest)
    await drop_credentials(guest)
    await go_on(host, guest, ran=move.ran)
    if move.peer is not None:
        await _tell_peer(host, guest, move)


async def _tell_peer(host: QemuHost, guest: Guest, move: Move) -> None:
    """Tells the other side; one that is not told gives up by itself."""
    name = move.name or guest.name
    try:
        async with peer_of(move.peer or "") as peer:
            for _ in range(_TELLS):
                try:
                    await peer.finish(name, MigrationParameters(), b"", move.flags & ~NOT_OVER_THERE, cancelled=True)
                except NoSuchDomain:
                    # it may only be about to make a process for it
                    await asyncio.sleep(_RETRY_S)
                    continue
                break
    except VirtError as exc:
        host.log.info("a migration was called off", guest=guest.name, answer=exc.message)


async def find_out(host: QemuHost, guest: Guest) -> None:
    """Asks the other side until it says whether the guest runs there; then it ends here, or goes on here."""
    wait_s = _ASK_AGAIN_S
    while guest.run is not None and guest.run.move is not None and guest.run.move.phase in ("sent", FOLLOWS):
        move = guest.run.move
        try:
            runs = await _runs_there(guest, move)
            async with host.runtime.mailbox(("domain", guest.key)).change("domain_migrate"):
                if guest.run is None or guest.run.move != move:
                    return
                await confirm(host, guest, move.flags, cancelled=not runs)
            return
        except VirtError as exc:
            host.log.warning("where a guest runs is not known", guest=guest.name, error=exc.message)
        await asyncio.sleep(wait_s)
        wait_s = min(2 * wait_s, _ASK_AGAIN_MAX_S)


async def _runs_there(guest: Guest, move: Move) -> bool:
    """Has the last call but one made again. Raises VirtError when the other side cannot be reached."""
    async with peer_of(move.peer or "") as peer:
        try:
            await peer.finish(
                move.name or guest.name, MigrationParameters(), b"", move.flags & ~NOT_OVER_THERE, cancelled=False
            )
        except (HypervisorGone, DeadlinePassed):
            raise
        except VirtError:
            # it was finished before, or given up
            return await peer.has_running(guest.key)
        return True
