"""The steps of a migration in their order, where this side makes all of them, and the one in the middle where not."""

from __future__ import annotations

import asyncio
import base64
from typing import Final

import msgspec

from actors.qemu.guest import Guest
from actors.qemu.host import QemuHost
from actors.qemu.migration.leaving import keep
from actors.qemu.migration.parameters import MigrationParameters
from actors.qemu.migration.peer import Peer, peer_of
from actors.qemu.migration.postcopy import FOLLOWS, has_switched, note_break_out
from actors.qemu.migration.source import begin, check_begin, confirm, go_on, resume, send, write_move
from actors.qemu.migration.tunnel import Tunnel
from actors.qemu.records import Move
from schema.enums.domain_job import DomainMigrateFlags as Flags
from schema.enums.domain_state import DomainState
from schema.errors import DeadlinePassed, DomainStateError, HypervisorGone, InvalidArguments, OperationFailed, VirtError

_NOT_OVER_THERE: Final = int(Flags.ABORT_ON_ERROR | Flags.AUTO_CONVERGE)
_ASK_AGAIN_S: Final = 1.0
_ASK_AGAIN_MAX_S: Final = 30.0


async def perform(
    host: QemuHost, guest: Guest, dconnuri: str | None, params: MigrationParameters, cookie_in: bytes, flags: int
) -> bytes:
    """The step in the middle; with PEER2PEER all of them.

    Raises what the other side and the steps raise; the guest then goes on here.
    """
    if not guest.is_active and not flags & Flags.OFFLINE:
        raise DomainStateError("domain is not running")
    leaving = await keep(host, guest)
    leaving.work = asyncio.current_task()
    is_over = True
    try:
        if guest.run is not None and guest.run.move is not None and guest.run.move.phase in ("asking", "sending"):
            raise DomainStateError("the last migration of the domain is not settled yet")
        if flags & Flags.PEER2PEER:
            await _all_steps(host, guest, dconnuri, params, flags)
            return b""
        if flags & Flags.POSTCOPY_RESUME:
            cookie = await resume(host, guest, params, params.uri or "")
            is_over = False
            return cookie
        check_begin(guest, params, flags)
        if flags & Flags.OFFLINE:
            return b""
        cookie = await send(host, guest, params, cookie_in, flags, _move(guest, params.uri or "", flags))
        is_over = False
        return cookie
    finally:
        leaving.work = None
        if is_over:
            leaving.release()


def _move(guest: Guest, uri: str, flags: int) -> Move:
    return Move("out", "sending", flags=flags, ran=guest.state is DomainState.RUNNING, uri=uri)


async def _all_steps(
    host: QemuHost, guest: Guest, dconnuri: str | None, params: MigrationParameters, flags: int
) -> None:
    if not dconnuri:
        raise InvalidArguments("peer to peer migration needs the URI of the destination")
    name = params.dname or guest.name
    over_there = flags & ~_NOT_OVER_THERE
    is_resumed = bool(flags & Flags.POSTCOPY_RESUME)
    async with peer_of(dconnuri) as peer:
        await peer.check(offline=bool(flags & Flags.OFFLINE))
        cookie, xml = await begin(host, guest, params, flags if is_resumed else flags & ~Flags.CHANGE_PROTECTION)
        move = msgspec.structs.replace(_move(guest, "", flags), phase="asking", peer=dconnuri, name=name)
        try:
            if not flags & Flags.OFFLINE and not is_resumed:
                # a successor of this process knows whom to tell that nothing came of it
                await write_move(host, guest, move)
            if flags & Flags.TUNNELLED:
                cookie, stream = await peer.prepare_tunnel(name, xml, params, cookie, over_there)
                async with Tunnel(guest.folder / "tunnel.sock", stream) as tunnel:
                    sending = msgspec.structs.replace(move, phase="sending", uri=tunnel.uri)
                    cookie = await send(host, guest, params, cookie, flags, sending, tunnel.drain)
                uri = None
            else:
                cookie, uri = await peer.prepare(name, xml, params, cookie, over_there)
            if not flags & (Flags.OFFLINE | Flags.TUNNELLED):
                params.uri = uri or params.uri
                if params.uri is None:
                    raise OperationFailed("domainMigratePrepare3 did not set uri")
                if is_resumed:
                    cookie = await resume(host, guest, params, params.uri)
                else:
                    sending = msgspec.structs.replace(move, phase="sending", uri=params.uri)
                    cookie = await send(host, guest, params, cookie, flags, sending)
        except BaseException:
            if not has_switched(guest):
                await asyncio.shield(asyncio.ensure_future(_stay(host, guest, peer, name, params, over_there)))
            raise
        try:
            await peer.finish(name, params, cookie, over_there, cancelled=False)
        except (HypervisorGone, DeadlinePassed) as exc:
            # it may run over there: until that is known it must not run here
            host.runtime.spawn(find_out(host, guest), f"outcome of {guest.name}")
            raise OperationFailed(
                f"whether the guest runs on '{dconnuri}' is not known yet, it is asked again: {exc.message}"
            ) from exc
        except VirtError:
            if has_switched(guest):
                await note_break_out(host, guest)
            elif guest.run is not None and guest.run.move is not None:
                await go_on(host, guest, ran=guest.run.move.ran)
            raise
    await confirm(host, guest, flags, cancelled=False)


async def _stay(host: QemuHost, guest: Guest, peer: Peer, name: str, params: MigrationParameters, flags: int) -> None:
    try:
        if guest.run is not None and guest.run.move is not None:
            await write_move(host, guest, None)
        await peer.finish(name, params, b"", flags, cancelled=True)
    except VirtError as exc:
        host.log.info("a migration was called off", guest=name, answer=exc.message)


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
    flags = move.flags & ~_NOT_OVER_THERE
    async with peer_of(move.peer or "") as peer:
        try:
            await peer.finish(
                move.name or guest.name, MigrationParameters(), base64.b64decode(move.cookie), flags, cancelled=False
            )
        except (HypervisorGone, DeadlinePassed):
            raise
        except VirtError:
            # it was finished before, or given up
            return await peer.has_running(guest.key)
        return True
