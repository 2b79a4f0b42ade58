"""The side that a guest leaves: it sends the guest's memory, and takes it back if that fails."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Final

import msgspec

from actors.qemu.claims import release_leases
from actors.qemu.guest import Guest
from actors.qemu.host import QemuHost
from actors.qemu.job import Job, running_job
from actors.qemu.migration.checks import (
    check_rdma,
)
from actors.qemu.migration.cookie import our_cookie, read_cookie, write_cookie
from actors.qemu.migration.departure import go_on, see_it_leave, write_move
from actors.qemu.migration.outcome import statistics_of
from actors.qemu.migration.parameters import MigrationParameters
from actors.qemu.migration.postcopy import (
    STATUSES,
    cannot_stay,
    check_resumable,
    keep_job,
    note_sent,
    note_switch,
    resend,
)
from actors.qemu.migration.settings import configure
from actors.qemu.migration.storage import StorageCopy
from actors.qemu.migration.switching import Switch, switching
from actors.qemu.migration.tls import check_destination, drop_credentials
from actors.qemu.pausing import pause
from actors.qemu.records import Move
from schema.enums.domain_event import DomainEventSuspendedDetailType as Suspended
from schema.enums.domain_job import DomainJobOperation as Operation
from schema.enums.domain_job import DomainMigrateFlags as Flags
from schema.enums.domain_state import DomainPausedReason
from schema.errors import InvalidArguments, OperationFailed, VirtError

_POLL_S: Final = 0.05
_WORD: Final = "migration out job"


async def send(
    host: QemuHost,
    guest: Guest,
    params: MigrationParameters,
    cookie_in: bytes,
    flags: int,
    move: Move,
    drain: Callable[[], Awaitable[None]] | None = None,
) -> bytes:
    """Sends the guest's memory, and its disks if asked for; afterwards it stands still and only the other side may run.

    `drain` waits for what carries the memory, if that is not QEMU alone.

    With post-copy it returns as soon as the guest runs over there; the rest of its memory follows.

    Raises OperationFailed, OperationAborted when it did not come to that: then it goes on here.
    """
    guest.need_run()
    uri = move.uri or ""
    qemu_uri(uri)
    check_destination(params, uri, flags)
    capabilities = await host.emulator_for(guest.live.os.kind.arch, guest.live.devices.emulator)
    check_rdma(guest.live, uri, capabilities, incoming=False)
    peer = read_cookie(cookie_in)
    async with AsyncExitStack() as undo:
        # whatever happens from here on, a successor of this process finds a guest on its way
        await write_move(host, guest, move)
        undo.push_async_callback(_take_back, host, guest, move)
        if move.ran and not flags & Flags.LIVE:
            await pause(host, guest, DomainPausedReason.MIGRATION, Suspended.MIGRATED)
        guest.expected.add("STOP")
        undo.callback(guest.expected.discard, "STOP")

        async def abort() -> None:
            await guest.ask("migrate_cancel")

        with running_job(guest, Operation.MIGRATION_OUT, _WORD, abort) as job:
            job.is_outgoing, job.may_post_copy = True, bool(flags & Flags.POSTCOPY)
            undo.push_async_callback(drop_credentials, guest)
            await configure(host, guest, params, flags, incoming=False)
            storage = StorageCopy(host, guest, params, flags, peer, uri)
            undo.push_async_callback(storage.give_up)
            await storage.copy(job)
            job.check()
            await guest.ask("migrate", {"uri": qemu_uri(uri), "detach": True})
            with switching(job) as switch:
                try:
                    has_all = await _follow(host, guest, job, flags, storage, switch)
                except BaseException:
                    if cannot_stay(guest):
                        undo.pop_all()  # QEMU may go over at any moment, whatever becomes of this call
                    elif guest.run is not None:
                        await asyncio.shield(asyncio.ensure_future(_cancel(guest)))
                    raise
            if drain is not None:
                await drain()
        guest.expected.discard("STOP")
        if not has_all:
            undo.pop_all()
            keep_job(guest, job)
            await note_switch(host, guest, move)
            host.runtime.spawn(see_it_leave(host, guest, guest.id), f"the last memory of {guest.name}")
            return write_cookie(our_cookie(host, guest))
        await drop_credentials(guest)
        await note_sent(host, guest, move)
        undo.pop_all()
    with contextlib.suppress(VirtError):
        await release_leases(host, guest)
    cookie = our_cookie(host, guest)
    cookie.statistics = statistics_of(job)
    return write_cookie(cookie)


async def resume(host: QemuHost, guest: Guest, params: MigrationParameters, uri: str) -> bytes:
    """Makes the connection anew that broke while memory followed. Raises DomainStateError, OperationFailed."""
    move = check_resumable(guest, "out")
    if params.postcopy_bandwidth is not None:
        await guest.ask("migrate-set-parameters", {"max-postcopy-bandwidth": params.postcopy_bandwidth << 20})
    keep_job(guest)
    await resend(guest, qemu_uri(uri))
    await note_switch(host, guest, msgspec.structs.replace(move, uri=uri))
    return write_cookie(our_cookie(host, guest))


def qemu_uri(uri: str) -> str:
    """The other side's address as QEMU wants it. Raises InvalidArguments for one that is none."""
    scheme, _, rest = uri.partition(":")
    if scheme == "unix":
        return f"unix:{rest.removeprefix('//')}" if rest else _no_uri(uri)
    if scheme in ("tcp", "rdma"):
        place = rest.removeprefix("//").rstrip("/")
        if ":" in place:
            return f"{scheme}:{place}"
    return _no_uri(uri)


def _no_uri(uri: str) -> str:
    raise InvalidArguments(f"unable to parse URI {uri}")


async def _follow(host: QemuHost, guest: Guest, job: Job, flags: int, storage: StorageCopy, switch: Switch) -> bool:
    """Whether all of it was sent; if not, the guest is to run over there and the rest follows."""
    is_let_on = False
    while True:
        await switch.begin_if_wanted(host, guest)
        job.status = await guest.ask("query-migrate")
        state = job.status.get("status")
        if state == "completed":
            return True
        if state in ("failed", "cancelled"):
            if cannot_stay(guest):
                await switch.call_off(host, guest)
            job.check()
            raise OperationFailed(f"{_WORD}: {job.status.get('error-desc', 'unexpectedly failed')}")
        if state == "pre-switchover" and not is_let_on:
            await storage.finish()
            await guest.ask("migrate-continue", {"state": "pre-switchover"})
            is_let_on = True  # QEMU says the same for a moment, and refuses to be told twice
            continue
        if state in STATUSES:
            return False
        if flags & Flags.ABORT_ON_ERROR and guest.run is not None and guest.run.reason == DomainPausedReason.IOERROR:
            raise OperationFailed(f"{_WORD}: failed due to I/O error")
        await asyncio.sleep(_POLL_S)


async def _cancel(guest: Guest) -> None:
    await guest.ask("migrate_cancel")
    for _ in range(100):
        if (await guest.ask("query-migrate")).get("status") in ("cancelled", "failed", "completed", None):
            return
        await asyncio.sleep(_POLL_S)


async def _take_back(host: QemuHost, guest: Guest, move: Move) -> None:
    """It did not come to it: the guest goes on here as before. A guest that ended meanwhile stays so."""
    if guest.run is None:
        return
    try:
        await go_on(host, guest, ran=move.ran)
    except VirtError as exc:
        host.log.warning("a guest that was not moved does not go on", guest=guest.name, error=exc.message)
