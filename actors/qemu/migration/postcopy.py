"""Guests that run over there while their memory still follows, and connections that break meanwhile.

Neither side is the guest alone then: where it was it stands still and must not go on, where it runs it may wait for
memory at any moment. So nobody ends it on either side until all has been sent; a broken connection is made anew with
the same steps as a migration (`VIR_MIGRATE_POSTCOPY_RESUME`).
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import Final

import msgspec

from actors.qemu import states
from actors.qemu.claims import release_leases
from actors.qemu.guest import Guest
from actors.qemu.host import QemuHost
from actors.qemu.job import Job
from actors.qemu.migration.tls import drop_credentials
from actors.qemu.records import Move
from schema.enums.domain_event import DomainEventResumedDetailType as Resumed
from schema.enums.domain_event import DomainEventSuspendedDetailType as Suspended
from schema.enums.domain_job import DomainJobOperation as Operation
from schema.enums.domain_state import DomainPausedReason, DomainRunningReason, DomainState
from schema.errors import DomainStateError, OperationFailed, VirtError

SWITCHING: Final = "switching"
FOLLOWS: Final = "postcopy"
BROKEN: Final = "broken"
PHASES: Final = (FOLLOWS, BROKEN)
STATUSES: Final = ("postcopy-active", "postcopy-paused", "postcopy-recover", "postcopy-recover-setup")
_POLL_S: Final = 0.05
_WATCH_S: Final = 0.5
_CONNECT_S: Final = 10.0
_SETTLE_POLLS: Final = 40
_NAMES: Final = {"out": "migration out job", "in": "migration in job"}


def has_switched(guest: Guest) -> bool:
    """Whether the guest runs over there while its memory follows, or was to."""
    return guest.run is not None and guest.run.move is not None and guest.run.move.phase in PHASES


def is_broken(guest: Guest) -> bool:
    """Whether its connection broke while memory followed."""
    return _phase(guest) == BROKEN


def cannot_stay(guest: Guest) -> bool:
    """The same, or QEMU has been told that it may go over at any moment."""
    return _phase(guest) in (SWITCHING, *PHASES)


def _phase(guest: Guest) -> str:
    return "" if guest.run is None or guest.run.move is None else guest.run.move.phase


def check_resumable(guest: Guest, way: str) -> Move:
    """The move of a guest whose connection broke. Raises DomainStateError when it did not."""
    move = guest.need_run().move
    if move is None or move.way != way:
        raise DomainStateError(f"domain '{guest.name}' is not being migrated")
    if move.phase not in PHASES:
        raise DomainStateError(f"migration of domain {guest.name} is not in post-copy phase")
    if move.phase != BROKEN:
        raise DomainStateError(f"post-copy migration of domain {guest.name} has not failed")
    return move


def failed(way: str) -> OperationFailed:
    """What the caller is told of a connection that broke."""
    return OperationFailed(f"job '{_NAMES[way]}' failed in post-copy phase")


# --- the side that it leaves -----------------------------------------------------------------------------------------


async def note_switch(host: QemuHost, guest: Guest, move: Move) -> None:
    """It stands still here, and runs over there from now on. Raises HostSystemError."""
    if move.phase != BROKEN:
        with contextlib.suppress(VirtError):
            await release_leases(host, guest)
    await _note_out(host, guest, move, FOLLOWS, DomainPausedReason.POSTCOPY, Suspended.POSTCOPY)


async def note_sent(host: QemuHost, guest: Guest, move: Move) -> None:
    """All of it is over there, and stands still on both sides until the last calls. Raises HostSystemError."""
    was_running = guest.state is DomainState.RUNNING
    sent = msgspec.structs.replace(move, phase="sent")
    record = guest.running(move=sent, state=int(DomainState.PAUSED), reason=int(DomainPausedReason.MIGRATION))
    await host.write(guest, record, completes=False)
    host.publish(guest, [states.suspended(guest, Suspended.MIGRATED)] if was_running else ())


async def note_break_out(host: QemuHost, guest: Guest) -> None:
    """The connection broke: it stands still here until it has been made anew. Raises HostSystemError."""
    move = guest.run.move if guest.run is not None else None
    if move is not None and move.phase == FOLLOWS:
        host.log.warning("a migration broke while memory followed", guest=guest.name)
        await _note_out(host, guest, move, BROKEN, DomainPausedReason.POSTCOPY_FAILED, Suspended.POSTCOPY_FAILED)


async def note_break_if_any(host: QemuHost, guest: Guest) -> None:
    """The caller takes the migration for failed; whether it broke is QEMU's to say. Raises as `Guest.ask` does."""
    for _ in range(_SETTLE_POLLS):
        state = (await guest.ask("query-migrate")).get("status")
        if state not in STATUSES:
            return
        if state == "postcopy-paused":
            await note_break_out(host, guest)
            return
        await asyncio.sleep(_POLL_S)


async def _note_out(
    host: QemuHost, guest: Guest, move: Move, phase: str, reason: DomainPausedReason, detail: Suspended
) -> None:
    now = msgspec.structs.replace(move, phase=phase)
    run = guest.need_run()
    is_known = guest.state is DomainState.PAUSED and run.reason == reason
    record = guest.running(move=now, state=int(DomainState.PAUSED), reason=int(reason), since=time.time())
    await host.write(guest, record, completes=False)
    host.publish(guest, () if is_known else [states.suspended(guest, detail)])


def keep_job(guest: Guest, job: Job | None = None) -> None:
    """The work goes on until all memory is over there: nobody else begins one, and it can be looked at."""
    job = job or guest.job or Job(Operation.MIGRATION_OUT, _NAMES["out"])
    job.is_outgoing = job.is_post_copy = job.may_post_copy = True
    job.ended_ms = None
    guest.job, guest.completed_job = job, None


async def wait_sent(host: QemuHost, guest: Guest) -> None:
    """Returns when all memory is over there. Raises OperationFailed when the connection broke."""
    while guest.run is not None:
        status = await guest.ask("query-migrate")
        state = status.get("status")
        if guest.job is not None:
            guest.job.status = status
        if state == "completed":
            job, guest.job = guest.job, None
            if job is not None:
                job.ended_ms = job.elapsed_ms
            guest.completed_job = job
            return
        if state == "postcopy-paused" or state not in STATUSES:
            await note_break_out(host, guest)
            raise failed("out")
        await asyncio.sleep(_POLL_S)


async def resend(guest: Guest, uri: str) -> None:
    """Makes the connection anew. Raises OperationFailed when that does not come to it."""
    await guest.ask("migrate", {"uri": uri, "detach": True, "resume": True})
    connects_until = time.monotonic() + _CONNECT_S
    has_begun = False
    while True:
        state = (await guest.ask("query-migrate")).get("status")
        if state in ("postcopy-active", "completed"):
            return
        has_begun = has_begun or state != "postcopy-paused"
        # it is connected beside this, and QEMU does not say when nobody answers
        if state == "postcopy-paused" and (has_begun or time.monotonic() > connects_until):
            raise failed("out")
        await asyncio.sleep(_POLL_S)


# --- the side where it runs ------------------------------------------------------------------------------------------


async def wait_received(host: QemuHost, guest: Guest) -> None:
    """Returns when all memory is here, and everybody knows. Raises OperationFailed when the connection broke."""
    while guest.run is not None:
        state = await look_in(host, guest)
        if state == "postcopy-paused":
            raise failed("in")
        if state not in STATUSES:
            return
        await asyncio.sleep(_POLL_S)


async def look_in(host: QemuHost, guest: Guest) -> str | None:
    """How the memory of a guest that runs here follows; what changed is noted. Raises as `Guest.ask` does."""
    state: str | None = (await guest.ask("query-migrate")).get("status")
    if state == "postcopy-paused":
        await note_break_in(host, guest)
    elif state not in STATUSES:
        await _note_whole(host, guest)
    elif state == "postcopy-active" and is_broken(guest):
        await _note_in(host, guest, FOLLOWS, DomainRunningReason.POSTCOPY, Resumed.POSTCOPY)
    return state


async def note_break_in(host: QemuHost, guest: Guest) -> None:
    """The connection broke: it runs on here as long as it needs no memory that is missing. Raises HostSystemError."""
    move = guest.run.move if guest.run is not None else None
    if move is not None and move.phase == FOLLOWS:
        host.log.warning("a migration broke while memory followed", guest=guest.name)
        await _note_in(host, guest, BROKEN, DomainRunningReason.POSTCOPY_FAILED, Resumed.POSTCOPY_FAILED)


async def _note_whole(host: QemuHost, guest: Guest) -> None:
    await drop_credentials(guest)
    await _note_in(host, guest, "running", DomainRunningReason.MIGRATED, Resumed.MIGRATED)


async def _note_in(host: QemuHost, guest: Guest, phase: str, reason: DomainRunningReason, detail: Resumed) -> None:
    move = guest.run.move if guest.run is not None else None
    if move is None or guest.run is None:
        return
    now = msgspec.structs.replace(move, phase=phase)
    runs = guest.state is DomainState.RUNNING
    record = guest.running(move=now, reason=int(reason)) if runs else guest.running(move=now)
    await host.write(guest, record, completes=False)
    host.publish(guest, [states.resumed(guest, detail)] if runs else ())


# --- when nobody asks ------------------------------------------------------------------------------------------------


async def watch_in(host: QemuHost, guest: Guest, number: int) -> None:
    """Sees to a guest here whose memory follows when no call does."""
    while guest.run is not None and guest.id == number and has_switched(guest):
        try:
            async with host.runtime.mailbox(("domain", guest.key)).change("domain_migrate"):
                if guest.run is not None and has_switched(guest):
                    await look_in(host, guest)
        except VirtError as exc:
            host.log.info("a guest whose memory follows does not answer", guest=guest.name, error=exc.message)
        await asyncio.sleep(_WATCH_S)


async def look_out(host: QemuHost, guest: Guest) -> str | None:
    """How far the memory of a guest is that runs over there; a break is noted. Raises as `Guest.ask` does."""
    state: str | None = (await guest.ask("query-migrate")).get("status")
    if state == "postcopy-paused":
        await note_break_out(host, guest)
    return state
