"""Backups of a running guest's disks: pushed to images by QEMU, or offered to a client over NBD.

A backup is one job of QEMU's per disk, begun in one transaction so that all disks are of the same moment. It is over
when the last of them has ended.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Mapping
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, Final

import msgspec

from actors.qemu.block import bitmaps
from actors.qemu.block.backup_plan import Part, ask_server, complete_plan, plan_parts
from actors.qemu.block.backup_server import start_server, stop_server
from actors.qemu.block.bitmaps_live import ask_nodes
from actors.qemu.block.chain import Image, disk_of_target, images_of, path_of
from actors.qemu.block.jobs import CANCELED, COMPLETED, FAILED, tell_job
from actors.qemu.block.keeping import drop_job, keep_now, put_job, set_backup
from actors.qemu.block.nodes import (
    close_images,
    create_image,
    dismiss_job,
    launch_of,
    make_file,
    nodes_for,
    open_images,
    remove_file,
    size_of,
)
from actors.qemu.claims import claim_images, owner_of_new_file, settle_claims
from actors.qemu.flags import check_flags
from actors.qemu.guest import Guest
from actors.qemu.host import QemuHost
from actors.qemu.job import Job
from actors.qemu.records import BackupRun, BlockJob
from actors.runtime.calls import Calls
from actors.runtime.intents import UnfinishedIntent
from conf.domain.storage_source import FileSource
from conf.moment.backup import BackupMode
from conf.moment.backups import parse_backup, write_backup
from conf.moment.documents import parse_checkpoint, write_moment
from conf.moment.tree import MomentRecord
from conf.schemas import has_schema
from schema.enums.domain_job import DomainBackupBeginFlags as BeginFlags
from schema.enums.domain_job import DomainJobOperation as Operation
from schema.errors import (
    DomainStateError,
    HypervisorGone,
    InvalidArguments,
    NoSuchBackup,
    OperationUnsupported,
    VirtError,
)
from schema.objects import DomainRef, TypedParam

calls: Calls[QemuHost] = Calls()

INTENT: Final = "backup"
_CANCELED: Final = "Operation canceled"


@calls.handles(key="dom")
async def domain_backup_begin(
    host: QemuHost, dom: DomainRef, backup_xml: str, checkpoint_xml: str | None, flags: int
) -> None:
    """Begins to back disks up as they are at this moment, where a checkpoint may begin at the same time.

    Nothing is left of it when it fails. Raises NoSuchDomain, XmlError, ConfigUnsupported, OperationUnsupported when the
    guest is off, DomainStateError beside other long work, NoSuchCheckpoint and CheckpointInconsistent for one that the
    backup is to be since, InvalidArguments for images that are there already, InternalError when QEMU refuses.
    """
    from actors.qemu.moments.recording import prepare_checkpoint, remember_checkpoint

    check_flags(flags, int(BeginFlags.REUSE_EXTERNAL), "qemuBackupBegin")
    reuses = bool(flags & BeginFlags.REUSE_EXTERNAL)
    guest = host.guest(dom)
    # libvirt has every such document agree with its schema
    backup = parse_backup(backup_xml, validate=has_schema("domainbackup.rng"))
    if not guest.is_active:
        raise OperationUnsupported("cannot perform disk backup for inactive domain")
    if guest.job is not None or guest.need_run().backup is not None:
        raise DomainStateError("another job is already running on the domain")
    rules = host.rules(await host.emulator_for(guest.live.os.kind.arch, guest.need_run().emulator))
    checkpoint = (
        parse_checkpoint(checkpoint_xml, rules, validate=has_schema("domaincheckpoint.rng")) if checkpoint_xml else None
    )
    actions = prepare_checkpoint(guest, checkpoint) if checkpoint is not None else []
    suffix = (checkpoint.name if checkpoint is not None else None) or str(int(time.time()))
    complete_plan(guest, backup, suffix)
    parts = plan_parts(guest, backup, await ask_nodes(guest))
    await host.runtime.in_thread(_check_stores, parts, reuses)
    if backup.mode is BackupMode.PULL:
        await host.runtime.in_thread(ask_server, backup, str(guest.folder))
    stores = [[part.image.index, "" if reuses else part.image.path or ""] for part in parts]
    kept = write_moment(checkpoint, secure=True) if checkpoint is not None else ""
    facts = {
        "uuid": guest.record.uuid,
        "jobs": [part.job for part in parts],
        "stores": stores,
        "checkpoint": kept,
    }
    async with host.intents.change(INTENT, facts), AsyncExitStack() as undo:
        run = BackupRun(xml=write_backup(backup), began=time.time())
        made = await _open_stores(host, guest, parts, reuses=reuses, pulls=backup.mode is BackupMode.PULL, undo=undo)
        for part in parts:
            part.plan.index = part.image.index
        scratch = tuple((part.plan.name, part.image.index, part.image.path or "") for part in parts)
        run = msgspec.structs.replace(run, xml=write_backup(backup), made=made, scratch=scratch)
        if backup.mode is BackupMode.PULL and backup.server is not None:
            undo.push_async_callback(stop_server, guest)
            await start_server(host, guest, backup.server)
        undo.callback(_forget, guest, [part.job for part in parts])
        set_backup(guest, run)
        for part in parts:
            put_job(
                guest,
                BlockJob(
                    name=part.job,
                    kind="backup",
                    disk=part.plan.name,
                    top=part.top.index,
                    base=part.image.index,
                    bitmap=part.bitmap if part.since else "",
                ),
            )
        await keep_now(host, guest)
        steps = [action for part in parts for action in part.bitmap_actions]
        steps += actions
        steps += [part.action(pulls=backup.mode is BackupMode.PULL) for part in parts]
        _begin_job(host, guest, run)
        undo.callback(_drop_long_job, guest)
        await guest.ask("transaction", {"actions": steps})
        exports = []
        if backup.mode is BackupMode.PULL:
            undo.push_async_callback(_cancel_jobs, guest, [part.job for part in parts])
            for part in parts:
                await guest.ask("block-export-add", part.export())
                exports.append(part.export()["id"])
        set_backup(guest, msgspec.structs.replace(run, exports=tuple(exports)))
        await keep_now(host, guest)
        if checkpoint is not None:
            await remember_checkpoint(host, guest, checkpoint, kept)
        undo.pop_all()
    host.keep_soon(guest)


@calls.handles()
def domain_backup_get_xml_desc(host: QemuHost, dom: DomainRef, flags: int) -> str:
    """What the backup that goes on is. Raises NoSuchDomain, NoSuchBackup when there is none."""
    check_flags(flags, 0, "qemuBackupGetXMLDesc")
    run = host.guest(dom).run
    if run is None or run.backup is None:
        raise NoSuchBackup("no domain backup job present")
    return run.backup.xml


def _check_stores(parts: list[Part], reuses: bool) -> None:
    for part in parts:
        path = part.image.path
        if path is None or reuses or not isinstance(part.image.source, FileSource):
            continue
        try:
            Path(path).lstat()
        except OSError:
            continue
        raise InvalidArguments(f"store '{path}' for backup of '{part.plan.name}' exists")


async def _open_stores(
    host: QemuHost, guest: Guest, parts: list[Part], *, reuses: bool, pulls: bool, undo: AsyncExitStack
) -> tuple[str, ...]:
    """Makes and opens the images that the backup goes to, or that keep what the guest overwrites; gives those made."""
    launch = await launch_of(host, guest, *(part.image.source for part in parts))
    made: list[str] = []
    for part in parts:
        disk = disk_of_target(guest.live, part.plan.name)
        assert disk is not None
        node = nodes_for(launch, disk, [part.image])[-1]
        path = part.image.path
        below = part.top if pulls else None
        backing = part.top.format_node if pulls else None
        if reuses or not isinstance(part.image.source, FileSource):
            await claim_images(host, guest, disk, [part.image])
            undo.push_async_callback(settle_claims, host, guest)
            await open_images(guest, [node], backing=backing)
        else:
            if path is not None and await host.runtime.in_thread(make_file, path, owner_of_new_file(host, guest)):
                undo.callback(remove_file, path)
            await claim_images(host, guest, disk, [part.image])
            undo.push_async_callback(settle_claims, host, guest)
            if path is not None:
                made.append(path)
            size = await size_of(guest, part.top.format_node)
            await create_image(host, guest, node, part.image, size, below, backing=backing)
        undo.push_async_callback(close_images, guest, [part.image])
    return tuple(made)


def _forget(guest: Guest, jobs: list[str]) -> None:
    if guest.run is None:
        return
    for name in jobs:
        drop_job(guest, name)
    set_backup(guest, None)


async def _cancel_jobs(guest: Guest, jobs: list[str]) -> None:
    for name in jobs:
        with contextlib.suppress(VirtError):
            await guest.ask("job-cancel", {"id": name})


# --- while it goes on ------------------------------------------------------------------------------------------------


def _begin_job(host: QemuHost, guest: Guest, run: BackupRun) -> None:
    """The guest's long work is this backup."""

    async def abort() -> None:
        await abort_backup(host, guest)

    async def measure() -> Mapping[str, Any]:
        return await _measure(guest)

    began = time.monotonic() - max(0.0, time.time() - run.began)
    guest.job = Job(Operation.BACKUP, "backup job", abort, began=began, measure=measure, tell=_told)


def _drop_long_job(guest: Guest) -> None:
    guest.job = None


async def _measure(guest: Guest) -> dict[str, Any]:
    run = guest.run
    if run is None or run.backup is None:
        return {}
    total = done = 0
    names = {job.name for job in run.jobs if job.kind == "backup"}
    for _, _, size in run.backup.outcomes:
        total += size
        done += size
    for one in await guest.ask("query-block-jobs"):
        if one.get("device") in names:
            total += int(one["len"])
            done += int(one["offset"])
    pulls = "mode='pull'" in run.backup.xml.partition("\n")[0]
    return {"disk": {"total": total, "transferred": done, "remaining": total - done}, "pulls": pulls}


def _told(job: Job) -> list[TypedParam]:
    """What clients are told of a backup."""
    disk = job.status.get("disk") or {}
    found = [
        TypedParam.of_int("operation", int(job.operation)),
        TypedParam.of_ullong("time_elapsed", job.elapsed_ms),
    ]
    total, done = int(disk.get("total", 0)), int(disk.get("transferred", 0))
    if job.status.get("pulls"):
        found.append(TypedParam.of_ullong("disk_temp_used", done))
        found.append(TypedParam.of_ullong("disk_temp_total", total))
    elif total:
        found.append(TypedParam.of_ullong("disk_total", total))
        found.append(TypedParam.of_ullong("disk_processed", done))
        found.append(TypedParam.of_ullong("disk_remaining", max(0, total - done)))
    if "success" in job.status:
        found.append(TypedParam.of_boolean("success", bool(job.status["success"])))
    if job.status.get("error"):
        found.append(TypedParam.of_string("errmsg", str(job.status["error"])))
    return found


async def abort_backup(host: QemuHost, guest: Guest) -> None:
    """Ends a backup before its time; one that a client pulls has no other end. Raises as `Guest.ask` does."""
    run = guest.run
    if run is None or run.backup is None:
        return
    for job in run.jobs:
        if job.kind == "backup" and job.state != "aborting":
            put_job(guest, msgspec.structs.replace(job, state="aborting"))
            await guest.ask("job-cancel", {"id": job.name})
    host.keep_soon(guest)


# --- its end ---------------------------------------------------------------------------------------------------------


async def end_part(host: QemuHost, guest: Guest, job: BlockJob, error: str | None) -> None:
    """The job of one disk has ended; with the last one the backup is over. The caller holds the guest's change lane."""
    run = guest.need_run()
    if error is None and job.state == "aborting":
        error = _CANCELED
    backup = run.backup
    if backup is not None:
        size = await _size_of_job(guest, job.name)
        outcome = (job.disk, error or "", size)
        set_backup(guest, msgspec.structs.replace(backup, outcomes=(*backup.outcomes, outcome)))
    if job.bitmap:
        node = f"libvirt-{job.top}-format"
        if backup is None or not backup.exports:
            with contextlib.suppress(VirtError):
                await guest.ask("block-dirty-bitmap-remove", {"node": node, "name": job.bitmap})
    with contextlib.suppress(HypervisorGone):
        await dismiss_job(guest, job.name)
    drop_job(guest, job.name)
    status = COMPLETED if error is None else CANCELED if error == _CANCELED or job.state == "aborting" else FAILED
    disk = disk_of_target(guest.live, job.disk)
    tell_job(host, guest, job, status, path_of(disk.source) if disk is not None else None)
    run = guest.need_run()
    if backup is None:
        return
    others = [one for one in run.jobs if one.kind == "backup"]
    if error is not None:
        for other in others:
            if other.state != "aborting":
                put_job(guest, msgspec.structs.replace(other, state="aborting"))
                with contextlib.suppress(VirtError):
                    await guest.ask("job-cancel", {"id": other.name})
    if not others:
        await _finish(host, guest, job)
    else:
        host.keep_soon(guest)


async def _size_of_job(guest: Guest, name: str) -> int:
    for one in await guest.ask("query-block-jobs"):
        if one.get("device") == name:
            return int(one["len"])
    return 0


async def _finish(host: QemuHost, guest: Guest, last: BlockJob) -> None:
    run = guest.need_run()
    backup = run.backup
    assert backup is not None
    error = next((text for _, text, _ in backup.outcomes if text), "")
    pulls = bool(backup.exports)
    for name in backup.exports:
        with contextlib.suppress(VirtError):
            await guest.ask("block-export-del", {"id": name, "mode": "hard"})
    if pulls:
        await _wait_for_exports(guest, backup.exports)
        await stop_server(guest)
        for disk_name, _, _ in backup.scratch:
            disk = disk_of_target(guest.live, disk_name)
            if disk is not None:
                await _remove_exported(guest, images_of(disk)[0], f"backup-{disk_name}")
    images = [Image(FileSource(file=path), "qcow2", index) for _, index, path in backup.scratch]
    await close_images(guest, images)
    if pulls or error:
        for path in backup.made:
            await host.runtime.in_thread(remove_file, path)
    total = sum(size for _, _, size in backup.outcomes)
    job = guest.job
    status: dict[str, Any] = {
        "disk": {"total": total, "transferred": 0 if pulls else total},
        "pulls": pulls,
        "success": not error or (pulls and error == _CANCELED),
        "error": error,
    }
    set_backup(guest, None)
    await settle_claims(host, guest)
    with contextlib.suppress(VirtError):
        await keep_now(host, guest)
    if job is None or job.operation is not Operation.BACKUP:
        job = Job(Operation.BACKUP, "backup job", tell=_told)
    job.status = status
    job.ended_ms = job.elapsed_ms
    guest.completed_job, guest.job = job, None
    try:
        entry = host.need_domain(guest.key)
    except VirtError:
        return
    host.emit("domain_event_job_completed", {"dom": guest.ref, "params": _told(job)}, object=entry, origin="guest")


def end_with_guest(host: QemuHost, guest: Guest) -> None:
    """The guest has ended, and its backup with it: what was made for it goes, and subscribers hear of it."""
    run = guest.run
    if run is None or run.backup is None:
        return
    for path in run.backup.made:
        remove_file(path)
    job = guest.job if guest.job is not None and guest.job.operation is Operation.BACKUP else None
    job = job or Job(Operation.BACKUP, "backup job", tell=_told)
    job.status = {"success": False}
    guest.job = None
    try:
        entry = host.need_domain(guest.key)
    except VirtError:
        return
    host.emit("domain_event_job_completed", {"dom": guest.ref, "params": _told(job)}, object=entry, origin="guest")


async def _remove_exported(guest: Guest, top: Image, name: str) -> None:
    found = (await ask_nodes(guest)).get(top.format_node)
    if found is not None and found.find(name) is not None:
        with contextlib.suppress(VirtError):
            await guest.ask("block-dirty-bitmap-remove", bitmaps.remove(top.format_node, name)["data"])


async def _wait_for_exports(guest: Guest, names: tuple[str, ...]) -> None:
    for _ in range(100):
        with contextlib.suppress(VirtError):
            known = {str(one.get("id")) for one in await guest.ask("query-block-exports")}
            if not known & set(names):
                return
        await asyncio.sleep(0.05)


# --- after a restart of this process ---------------------------------------------------------------------------------


def resume_backup(host: QemuHost, guest: Guest) -> None:
    """The guest's backup goes on: clients may ask how far it is, and end it."""
    run = guest.run
    if run is not None and run.backup is not None and guest.job is None:
        _begin_job(host, guest, run.backup)


async def settle_backup(host: QemuHost, guest: Guest, intent: UnfinishedIntent) -> None:
    """A backup that the last process was beginning: it goes on if QEMU has begun it as a whole."""
    if guest.monitor is None or not guest.monitor.is_open or guest.run is None:
        await intent.undo()
        return
    jobs = [str(one) for one in intent.data.get("jobs", ())]
    known = {str(one.get("id")) for one in await guest.ask("query-jobs")}
    run = guest.run
    pulls = run.backup is not None and "mode='pull'" in run.backup.xml.partition("\n")[0]
    if run.backup is not None and all(name in known for name in jobs) and (not pulls or run.backup.exports):
        await _settle_checkpoint(host, guest, str(intent.data.get("checkpoint", "")), begun=True)
        await intent.finish()
        return
    if run.backup is not None:
        for name in jobs:
            if name in known:
                await guest.ask("job-cancel", {"id": name})
        for _ in range(100):
            left = [one for one in await guest.ask("query-jobs") if one.get("id") in jobs]
            if all(one.get("status") == "concluded" for one in left):
                break
            await asyncio.sleep(0.05)
        for name in jobs:
            await dismiss_job(guest, name)
        await stop_server(guest)
        _forget(guest, jobs)
        await keep_now(host, guest)
    from actors.qemu.block.settling import take_back_stores

    await _settle_checkpoint(host, guest, str(intent.data.get("checkpoint", "")), begun=False)
    await take_back_stores(guest, intent)
    await intent.undo()


async def _settle_checkpoint(host: QemuHost, guest: Guest, xml: str, *, begun: bool) -> None:
    """The checkpoint that was to begin with a backup has begun with it, or its recordings go."""
    from actors.qemu.moments.checkpoints import read_checkpoint
    from actors.qemu.moments.recording import remember_checkpoint

    if not xml:
        return
    checkpoint = read_checkpoint(MomentRecord(xml=xml))
    if begun:
        if checkpoint.name not in guest.moments.checkpoints:
            await remember_checkpoint(host, guest, checkpoint, xml)
        return
    for asked in checkpoint.disks:
        disk = disk_of_target(guest.live, asked.name)
        if disk is not None and asked.bitmap:
            await _remove_exported(guest, images_of(disk)[0], asked.bitmap)
