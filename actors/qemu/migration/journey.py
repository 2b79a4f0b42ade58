"""The steps of a migration in their order, where this side makes all of them, and the one in the middle where not."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Iterator
from typing import Final

import msgspec

from actors.qemu.guest import Guest
from actors.qemu.host import QemuHost
from actors.qemu.migration.cookie import our_cookie, write_cookie
from actors.qemu.migration.departure import confirm, go_on, write_move
from actors.qemu.migration.leaving import keep
from actors.qemu.migration.offer import begin, check_begin
from actors.qemu.migration.parameters import MigrationParameters
from actors.qemu.migration.peer import NOT_OVER_THERE, Peer, peer_of
from actors.qemu.migration.postcopy import BROKEN, FOLLOWS, SWITCHING, failed, has_switched, note_break_if_any
from actors.qemu.migration.settling import settle
from actors.qemu.migration.source import resume, send
from actors.qemu.migration.tunnel import Tunnel
from actors.qemu.records import Move
from schema.enums.domain_job import DomainMigrateFlags as Flags
from schema.enums.domain_state import DomainState
from schema.errors import DeadlinePassed, DomainStateError, HypervisorGone, InvalidArguments, OperationFailed, VirtError

_UNSETTLED: Final = ("asking", "sending", SWITCHING)
_SETTLE_S: Final = 120.0
_POLL_S: Final = 0.05


async def perform(
    host: QemuHost,
    guest: Guest,
    dconnuri: str | None,
    params: MigrationParameters,
    cookie_in: bytes,
    flags: int,
    *,
    is_resend: bool,
) -> bytes:
    """The step in the middle; with PEER2PEER all of them. What the process before this one had done is not done again.

    Raises what the other side and the steps raise; the guest then goes on here.
    """
    if not guest.is_active and not flags & Flags.OFFLINE:
        raise DomainStateError("domain is not running")
    if is_resend and flags & Flags.PEER2PEER and await _has_been_settled(guest, flags):
        return b""
    leaving = await keep(host, guest)
    leaving.work = asyncio.current_task()
    is_over = True
    try:
        with _settled_if_it_fails(host, guest):
            if is_resend and _is_done(guest, flags):
                is_over = False
                return write_cookie(our_cookie(host, guest))
            if (move := _move_of(guest)) is not None and move.phase in _UNSETTLED:
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


async def _has_been_settled(guest: Guest, flags: int) -> bool:
    """Whether the guest has left by what the process before this one had begun; False when that came to nothing.

    Raises OperationFailed when its connection broke while memory followed, or it is not known for long.
    """
    end = time.monotonic() + _SETTLE_S
    while (move := _move_of(guest)) is not None and move.peer is not None and move.phase not in ("gone", BROKEN):
        if time.monotonic() > end:
            raise OperationFailed(f"whether the guest runs on '{move.peer}' is not known yet, it is asked again")
        await asyncio.sleep(_POLL_S)
    if move is None:
        return guest.run is None
    if move.phase == BROKEN and not flags & Flags.POSTCOPY_RESUME:
        raise failed("out")
    return move.phase == "gone"


def _move_of(guest: Guest) -> Move | None:
    return guest.run.move if guest.run is not None else None


def _is_done(guest: Guest, flags: int) -> bool:
    """Whether the middle step is done, and the caller, who makes all steps, has only to be told so."""
    move = _move_of(guest)
    if move is None or move.way != "out" or move.peer is not None:
        return False
    return move.phase == FOLLOWS or (move.phase in ("sent", BROKEN) and not flags & Flags.POSTCOPY_RESUME)


@contextlib.contextmanager
def _settled_if_it_fails(host: QemuHost, guest: Guest) -> Iterator[None]:
    """A failure that leaves it open where the guest goes on is seen to in the background."""

    def see_to_it() -> None:
        if _is_undecided(guest):
            host.runtime.spawn(settle(host, guest), f"migration of {guest.name}")

    with contextlib.ExitStack() as undo:
        undo.callback(see_to_it)
        yield
        undo.pop_all()


def _is_undecided(guest: Guest) -> bool:
    """Whether it may run over there, and no call of somebody else will say so."""
    move = _move_of(guest)
    return move is not None and (move.phase == SWITCHING or (move.peer is not None and move.phase in ("sent", FOLLOWS)))


def _move(guest: Guest, uri: str, flags: int) -> Move:
    return Move("out", "sending", flags=flags, ran=guest.state is DomainState.RUNNING, uri=uri)


async def _all_steps(
    host: QemuHost, guest: Guest, dconnuri: str | None, params: MigrationParameters, flags: int
) -> None:
    if not dconnuri:
        raise InvalidArguments("peer to peer migration needs the URI of the destination")
    name = params.dname or guest.name
    over_there = flags & ~NOT_OVER_THERE
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
            if not _is_undecided(guest) and not has_switched(guest):
                await asyncio.shield(asyncio.ensure_future(_stay(host, guest, peer, name, params, over_there)))
            raise
        try:
            _, cookie = await peer.finish(name, params, cookie, over_there, cancelled=False)
        except (HypervisorGone, DeadlinePassed) as exc:
            # it may run over there: until that is known it must not run here
            raise OperationFailed(
                f"whether the guest runs on '{dconnuri}' is not known yet, it is asked again: {exc.message}"
            ) from exc
        except VirtError:
            if has_switched(guest):
                await note_break_if_any(host, guest)
            elif (left := _move_of(guest)) is not None:
                await go_on(host, guest, ran=left.ran)
            raise
    await confirm(host, guest, flags, cancelled=False, cookie_in=cookie)


async def _stay(host: QemuHost, guest: Guest, peer: Peer, name: str, params: MigrationParameters, flags: int) -> None:
    try:
        if _move_of(guest) is not None:
            await write_move(host, guest, None)
        await peer.finish(name, params, b"", flags, cancelled=True)
    except VirtError as exc:
        host.log.info("a migration was called off", guest=name, answer=exc.message)
