"""Block jobs: how they begin, what becomes of a guest's disks when they end, and who is told.

A job is written down before QEMU is told of it, and QEMU keeps one that has ended until it is told to forget it. So a
successor of this process finds out what became of each by asking QEMU, and does what is left to do.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any, Final

import msgspec

from actors.qemu.block import finish
from actors.qemu.block.chain import disk_of_target, path_of
from actors.qemu.block.keeping import drop_job, find_job, keep_end, keep_now, put_job
from actors.qemu.block.nodes import dismiss_job, job_error, next_status
from actors.qemu.guest import Guest
from actors.qemu.host import QemuHost
from actors.qemu.records import BlockJob
from conf.domain.disk import Disk
from schema.enums.domain_block import DomainBlockJobType as JobType
from schema.errors import (
    BlockCopyActive,
    DomainStateError,
    HostSystemError,
    HypervisorGone,
    InvalidArguments,
    OperationUnsupported,
    VirtError,
)

COMPLETED: Final = 0
FAILED: Final = 1
CANCELED: Final = 2
READY: Final = 3

PULL: Final = "pull"
COMMIT: Final = "commit"
ACTIVE_COMMIT: Final = "active-commit"
COPY: Final = "copy"
BACKUP: Final = "backup"

TYPES: Final = {
    PULL: JobType.PULL,
    COMMIT: JobType.COMMIT,
    ACTIVE_COMMIT: JobType.ACTIVE_COMMIT,
    COPY: JobType.COPY,
    BACKUP: JobType.BACKUP,
}
BEGIN: Final = "block-job"
END: Final = "block-job-end"
_TELLING: Final = frozenset({"ready", "concluded"})
"""The statuses of a job that somebody may wait for."""


def job_of(guest: Guest, disk: Disk) -> BlockJob | None:
    """The block job on a disk."""
    run = guest.run
    target = disk.target.dev
    return None if run is None else next((job for job in run.jobs if job.disk == target), None)


def check_no_job(guest: Guest, disk: Disk) -> None:
    """Raises BlockCopyActive and OperationUnsupported when a block job is on the disk."""
    if disk.mirror is not None:
        raise BlockCopyActive(f"disk '{disk.target.dev}' already in active block job")
    if job_of(guest, disk) is not None:
        raise OperationUnsupported(f"disk '{disk.target.dev}' already in active block job")


async def begin_job(host: QemuHost, guest: Guest, job: BlockJob, command: str, arguments: dict[str, Any]) -> None:
    """Begins a block job. Nothing is left of it when QEMU refuses.

    Raises HostSystemError when it cannot be written down, and as `Guest.ask` does.
    """
    async with host.intents.change(BEGIN, {"uuid": guest.record.uuid, "job": job.name}):
        await begin_noted_job(host, guest, job, command, arguments)


async def begin_noted_job(host: QemuHost, guest: Guest, job: BlockJob, command: str, arguments: dict[str, Any]) -> None:
    """The same for one whose beginning is written down already, with what was made for it."""
    put_job(guest, job)
    disk = disk_of_target(guest.live, job.disk)
    try:
        await keep_now(host, guest)
        await guest.ask(command, {"job-id": job.name, "auto-dismiss": False, **arguments})
    except BaseException:
        if guest.run is not None:
            drop_job(guest, job.name)
            if disk is not None and job.kind in (COPY, ACTIVE_COMMIT):
                disk.mirror = None
            host.keep_soon(guest)
        raise
    now = find_job(guest, job.name)
    if now is not None and now.state == "new":
        put_job(guest, msgspec.structs.replace(now, state="running"))
    host.keep_soon(guest)


def on_job_status(host: QemuHost, guest: Guest, data: dict[str, Any]) -> None:
    """QEMU tells how far a job is."""
    name, status = str(data.get("id", "")), str(data.get("status", ""))
    if status not in _TELLING:
        return
    job = find_job(guest, name)
    if job is not None and status == "ready":
        become_ready(host, guest, job)
    if guest.waiters.tell(name, status):
        return
    if job is not None and status == "concluded":
        host.runtime.spawn(_settle_later(host, guest, name), f"end of block job {name} of {guest.name}")


def on_job_end(host: QemuHost, guest: Guest, data: dict[str, Any]) -> None:
    """QEMU tells how a block job ended, just before it tells that it has."""
    job = find_job(guest, str(data.get("device", "")))
    if job is not None and job.kind == PULL:
        guest.waiters.note(job.name, str(data.get("error", "")))


def become_ready(host: QemuHost, guest: Guest, job: BlockJob) -> None:
    """The copy is complete, and is kept so."""
    if job.state not in ("new", "running"):
        return
    put_job(guest, msgspec.structs.replace(job, state="ready"))
    disk = disk_of_target(guest.live, job.disk)
    if disk is not None and disk.mirror is not None:
        disk.mirror.ready = "yes"
    host.keep_soon(guest)
    tell_job(host, guest, job, READY, _path_of(disk))


async def _settle_later(host: QemuHost, guest: Guest, name: str) -> None:
    try:
        async with host.runtime.mailbox(("domain", guest.key)).change("block job"):
            job = find_job(guest, name)
            if job is not None:
                await settle_job(host, guest, job)
    except VirtError as exc:
        host.log.warning("a block job that has ended is left", guest=guest.name, job=name, error=exc.message)


async def settle_job(host: QemuHost, guest: Guest, job: BlockJob) -> int:
    """A job has ended: the disk is what it made of it, and subscribers hear of it. Gives what they hear.

    The caller holds the guest's change lane. Raises as `Guest.ask` does.
    """
    error = await _error_of(host, guest, job)
    if job.kind == BACKUP:
        from actors.qemu.block.backup import end_part

        await end_part(host, guest, job, error)
        return FAILED if error else COMPLETED
    if error is not None:
        status = CANCELED if job.state == "aborting" or "ancel" in error else FAILED
    else:
        status = CANCELED if job.state == "aborting" else COMPLETED
        if job.kind in (COPY, ACTIVE_COMMIT):
            # QEMU knows whether the guest goes on with the other image
            status = COMPLETED if await finish.is_done(guest, job) else CANCELED
    if error is not None and status == FAILED:
        host.log.warning("a block job failed", guest=guest.name, job=job.name, error=error)
    if status == COMPLETED:
        left = await finish.complete(host, guest, job)
    else:
        left = finish.abandon(guest, job)
    # not before it is written down what the job did: a successor asks QEMU
    with contextlib.suppress(HypervisorGone):
        await dismiss_job(guest, job.name)
    await finish.let_go(host, guest, job, left, done=status == COMPLETED)
    if guest.run is None:
        return status
    if job.snapshot and status == COMPLETED:
        from actors.qemu.moments.delete import forget_if_gone

        with contextlib.suppress(HostSystemError):
            await forget_if_gone(host, guest, job.snapshot)
    with contextlib.suppress(HostSystemError):
        await keep_end(host, guest, job.name)
    host.publish(guest)
    tell_job(host, guest, job, status, _path_of(disk_of_target(guest.live, job.disk)))
    return status


async def _error_of(host: QemuHost, guest: Guest, job: BlockJob) -> str | None:
    if job.kind != PULL:
        return await job_error(guest, job.name)
    told = guest.waiters.take_outcome(job.name)
    if told is None:
        return None if await finish.is_done(guest, job) else "nobody heard how it ended"
    return told or None


def _path_of(disk: Disk | None) -> str | None:
    return path_of(disk.source) if disk is not None else None


def tell_job(host: QemuHost, guest: Guest, job: BlockJob, status: int, path: str | None) -> None:
    """Both events of a block job: the old one names the image, the new one the disk."""
    try:
        entry = host.need_domain(guest.key)
    except VirtError:
        return
    kind = int(TYPES[job.kind])
    facts = {"dom": guest.ref, "type": kind, "status": status}
    host.emit("domain_event_block_job", {**facts, "path": path or ""}, object=entry, origin="guest")
    host.emit("domain_event_block_job_2", {**facts, "dst": job.disk}, object=entry, origin="guest")


async def wait_for_end(host: QemuHost, guest: Guest, name: str, waits: asyncio.Future[str]) -> int:
    """Waits until a job has ended and is settled; gives what subscribers hear of it. Raises as `Guest.ask` does."""
    try:
        while await next_status(guest, waits) != "concluded":
            waits = guest.waiters.expect(name)
    except BaseException:
        guest.waiters.leave(name)
        if guest.run is not None and guest.monitor is not None and guest.monitor.is_open:
            # whoever waited has gone away: the end is looked after like that of any other job
            host.runtime.spawn(_look_again(host, guest, name), f"block job {name} of {guest.name}")
        raise
    job = find_job(guest, name)
    return FAILED if job is None else await settle_job(host, guest, job)


async def _look_again(host: QemuHost, guest: Guest, name: str) -> None:
    try:
        for one in await guest.ask("query-jobs"):
            if one.get("id") == name and one.get("status") == "concluded":
                await _settle_later(host, guest, name)
    except VirtError as exc:
        host.log.warning("a block job cannot be looked after", guest=guest.name, job=name, error=exc.message)


def need_job(guest: Guest, disk: Disk) -> BlockJob:
    """The block job on a disk. Raises InvalidArguments when there is none."""
    job = job_of(guest, disk)
    if job is None:
        raise InvalidArguments(f"disk {disk.target.dev} does not have an active block job")
    return job


def check_not_ending(job: BlockJob) -> None:
    """Raises DomainStateError for a job that is told to end already."""
    if job.state in ("pivoting", "aborting"):
        raise DomainStateError(f"block job on disk '{job.disk}' is still being ended")


# --- after a restart of this process ---------------------------------------------------------------------------------


def settle_soon(host: QemuHost, guest: Guest) -> None:
    """A guest's monitor was connected to again: what became of its jobs is looked at in the background."""
    run = guest.run
    if run is not None and (run.jobs or run.backup is not None):
        host.runtime.spawn(_settle_all(host, guest), f"block jobs of {guest.name}")


async def _settle_all(host: QemuHost, guest: Guest) -> None:
    try:
        await settle_all(host, guest)
    except VirtError as exc:
        host.log.warning("block jobs cannot be looked after", guest=guest.name, error=exc.message)


async def settle_all(host: QemuHost, guest: Guest) -> None:
    """The monitor was connected to again: what became of the jobs meanwhile is asked and taken up."""
    run = guest.run
    if run is None or not run.jobs:
        return
    if run.backup is not None:
        from actors.qemu.block.backup import resume_backup

        resume_backup(host, guest)
    known = {str(one.get("id")): one for one in await guest.ask("query-jobs")}
    for job in run.jobs:
        found = known.get(job.name)
        status = str(found.get("status")) if found is not None else None
        if status == "ready":
            _stay_ready(host, guest, job)
        elif status == "concluded" or (status is None and job.state == "new"):
            host.runtime.spawn(_settle_lost(host, guest, job.name, known=found is not None), f"block job {job.name}")
        elif status is None:
            host.runtime.spawn(_settle_lost(host, guest, job.name, known=False), f"block job {job.name}")
        elif job.state == "new":
            put_job(guest, msgspec.structs.replace(job, state="running"))
            host.keep_soon(guest)


def _stay_ready(host: QemuHost, guest: Guest, job: BlockJob) -> None:
    """A copy is complete, and QEMU has not been told to end it: also when that was about to be done."""
    if job.state in ("new", "running"):
        become_ready(host, guest, job)
        return
    put_job(guest, msgspec.structs.replace(job, state="ready"))
    disk = disk_of_target(guest.live, job.disk)
    if disk is not None and disk.mirror is not None:
        disk.mirror.ready = "yes"
    host.keep_soon(guest)


async def _settle_lost(host: QemuHost, guest: Guest, name: str, *, known: bool) -> None:
    """A job that ended while nobody looked; one that QEMU does not know was never begun, or is forgotten already."""
    try:
        async with host.runtime.mailbox(("domain", guest.key)).change("block job"):
            job = find_job(guest, name)
            if job is None:
                return
            if known:
                await settle_job(host, guest, job)
                return
            if job.kind == BACKUP:
                from actors.qemu.block.backup import end_part

                await end_part(host, guest, job, "the backup was lost")
                return
            done = await finish.is_done(guest, job)
            left = await finish.complete(host, guest, job) if done else finish.abandon(guest, job)
            await finish.let_go(host, guest, job, left, done=done)
            if job.snapshot and done:
                from actors.qemu.moments.delete import forget_if_gone

                await forget_if_gone(host, guest, job.snapshot)
            await keep_end(host, guest, name)
            host.publish(guest)
            if job.state != "new" or done:
                path = _path_of(disk_of_target(guest.live, job.disk))
                tell_job(host, guest, job, COMPLETED if done else FAILED, path)
    except VirtError as exc:
        host.log.warning("a block job that has ended is left", guest=guest.name, job=name, error=exc.message)
