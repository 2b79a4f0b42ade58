"""How a guest leaves this host for good when it runs elsewhere, or goes on here because it does not."""

from __future__ import annotations

import asyncio
from typing import Final

import msgspec

from actors.qemu import records, states
from actors.qemu.claims import ensure_leases
from actors.qemu.ending import end_process
from actors.qemu.guest import Guest
from actors.qemu.helpers.leavings import config_of, drop_tpm_of_moved
from actors.qemu.host import QemuHost
from actors.qemu.job_events import tell_completed
from actors.qemu.migration.cookie import read_cookie
from actors.qemu.migration.postcopy import (
    has_switched,
    is_broken,
    look_out,
    note_break_if_any,
    note_switch,
    wait_sent,
)
from actors.qemu.records import Move
from schema.enums.domain_event import DomainEventResumedDetailType as Resumed
from schema.enums.domain_job import DomainMigrateFlags as Flags
from schema.enums.domain_state import DomainRunningReason, DomainShutoffReason, DomainState
from schema.errors import InternalError, VirtError

LEAVE: Final = "leave"
"""The intent of a guest that ends here because it runs elsewhere."""
_WATCH_S: Final = 0.5


async def write_move(host: QemuHost, guest: Guest, move: Move | None) -> None:
    """Notes on disk how far the guest is on its way. Raises HostSystemError."""
    await host.write(guest, guest.running(move=move), completes=False)


async def go_on(host: QemuHost, guest: Guest, *, ran: bool) -> None:
    """The guest is not on its way any more, and runs again if it did. Raises VirtError when it does not answer."""
    status = (await guest.ask("query-status")).get("status")
    stands = status != "running"
    if ran and stands:
        await ensure_leases(host, guest, surely=True)
        guest.expected.add("RESUME")
        try:
            await guest.ask("cont")
        finally:
            guest.expected.discard("RESUME")
    if guest.run is None:
        return
    changed = ran and guest.state is not DomainState.RUNNING
    record = guest.running(move=None)
    if changed:
        reason = int(DomainRunningReason.MIGRATION_CANCELED)
        record = guest.running(move=None, state=int(DomainState.RUNNING), reason=reason)
    await host.write(guest, record, completes=False)
    host.publish(guest, [states.resumed(guest, Resumed.MIGRATED)] if changed else ())


async def confirm(host: QemuHost, guest: Guest, flags: int, *, cancelled: bool, cookie_in: bytes = b"") -> None:
    """The last step: the other side has the guest, so it ends here; or it has not, so it goes on here.

    A guest that was about to run over there, or does, cannot go on here: then nothing happens but that it is seen to.

    Raises DomainStateError when there is no such migration, OperationFailed when the process does not end.
    """
    if guest.run is None:
        left = flags & Flags.OFFLINE or guest.record.off_reason == DomainShutoffReason.MIGRATED
        if left and not cancelled and flags & Flags.UNDEFINE_SOURCE:
            await undefine(host, guest)
        return
    move = guest.run.move
    if has_switched(guest):
        if cancelled:
            await note_break_if_any(host, guest)
            return
        await wait_sent(host, guest)
    if cancelled:
        if move is not None and move.way == "out":
            await go_on(host, guest, ran=move.ran)
        return
    if move is None and flags & Flags.OFFLINE:
        return  # its definition alone has gone there
    if move is None or move.way != "out":
        raise InternalError(f"domain '{guest.name}' is not processing outgoing migration")
    told = read_cookie(cookie_in)
    if guest.completed_job is not None and told is not None and told.statistics is not None:
        guest.completed_job.delta_ms = told.statistics.delta
    async with host.intents.change(LEAVE, {"uuid": guest.record.uuid, "flags": flags}):
        await write_move(host, guest, msgspec.structs.replace(move, phase="gone"))
        await leave(host, guest, flags)


async def see_it_leave(host: QemuHost, guest: Guest, number: int) -> None:
    """Ends a guest here whose last memory is over there when nobody makes the last call, also after a break."""
    while guest.run is not None and guest.id == number and has_switched(guest):
        try:
            state = await look_out(host, guest)
            is_mended = state == "postcopy-active" and is_broken(guest)
            if state == "completed" or is_mended:
                async with host.runtime.mailbox(("domain", guest.key)).change("domain_migrate"):
                    await _see_on(host, guest, number, is_mended=is_mended)
        except VirtError as exc:
            host.log.info("a guest whose memory follows does not answer", guest=guest.name, error=exc.message)
        await asyncio.sleep(_WATCH_S)


async def _see_on(host: QemuHost, guest: Guest, number: int, *, is_mended: bool) -> None:
    move = guest.run.move if guest.run is not None and guest.id == number else None
    if move is None or not has_switched(guest):
        return
    if not is_mended:
        await confirm(host, guest, move.flags, cancelled=False)
    elif is_broken(guest):
        await note_switch(host, guest, move)


async def leave(host: QemuHost, guest: Guest, flags: int) -> None:
    """Ends the guest here, because it runs elsewhere. Raises OperationFailed when its process does not end."""
    guest.destroys = True
    await end_process(guest, force=True)
    if not guest.is_persistent:
        tell_completed(host, guest)  # it is not known any more afterwards
    await host.end(guest, DomainShutoffReason.MIGRATED, completes=False)
    if guest.is_persistent:
        tell_completed(host, guest)
    if flags & Flags.UNDEFINE_SOURCE and guest.is_persistent:
        await undefine(host, guest)


async def undefine(host: QemuHost, guest: Guest) -> None:
    """Forgets a guest that has moved away, which libvirt tells nobody as such. Raises HostSystemError."""
    config = config_of(guest)
    await host.store.remove(records.path_of(guest.record.uuid), completes=False)
    drop_tpm_of_moved(host, guest.record.uuid, config)
    host.forget(guest)
    host.objects.drop("domain", guest.key, scope=host.scope)
