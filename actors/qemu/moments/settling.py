"""What a snapshot was when the driver that took it died: it is there as a whole, or not at all."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

from actors.qemu.agent.asking import thaw
from actors.qemu.block.backup import settle_backup
from actors.qemu.block.chain import Image, disk_of_target, is_same_place
from actors.qemu.block.jobs import BEGIN, END
from actors.qemu.block.keeping import keep_now
from actors.qemu.block.nodes import close_images, dismiss_job, forget_making, remove_file, run_job
from actors.qemu.block.settling import settle_job_intent
from actors.qemu.guest import Guest
from actors.qemu.host import QemuHost
from actors.qemu.moments import offline
from actors.qemu.moments.create import inside_nodes, job_of, remember
from actors.qemu.moments.delete import forget_if_gone, pivot_now
from actors.qemu.moments.overlays import Overlay, put_overlays, top_numbers
from actors.qemu.moments.recording import settle_checkpoint
from actors.qemu.moments.snapshots import read_snapshot
from actors.runtime.intents import UnfinishedIntent
from conf.domain.storage_source import FileSource
from conf.moment.alignment import is_external, kept_inside
from conf.moment.documents import EXTERNAL
from conf.moment.moment import Snapshot
from conf.moment.tree import MomentRecord
from schema.enums.domain_state import DomainRunningReason, DomainState
from schema.errors import VirtError
from schema.objects import DomainSnapshotRef


async def settle_snapshots(host: QemuHost) -> None:
    """Finishes or takes back the snapshots that the last process was at. Called while the driver starts."""
    for intent in host.intents.open:
        if intent.kind not in ("snapshot", "snapshot-delete", "checkpoint", "backup", BEGIN, END):
            continue
        uuid = intent.data["uuid"]
        guest = next((one for one in host.guests.values() if one.record.uuid == uuid), None)
        if guest is None:
            await intent.undo()
            continue
        try:
            async with asyncio.timeout(30):
                if intent.kind == "snapshot":
                    await _settle(host, guest, intent)
                elif intent.kind in (BEGIN, END):
                    await settle_job_intent(host, guest, intent)
                elif intent.kind == "snapshot-delete":
                    await _settle_deletion(host, guest, intent)
                elif intent.kind == "checkpoint":
                    await settle_checkpoint(host, guest, intent)
                else:
                    await settle_backup(host, guest, intent)
        except (VirtError, TimeoutError) as exc:
            host.log.warning("a snapshot that was begun is left as it is", guest=guest.name, error=str(exc))
        if intent.data.get("quiesces") and guest.run is not None:
            # its file systems may be frozen; to thaw what is not does no harm
            host.runtime.spawn(thaw(host, guest), f"thaw {guest.name}")


async def _settle(host: QemuHost, guest: Guest, intent: UnfinishedIntent) -> None:
    data = intent.data
    snapshot = read_snapshot(MomentRecord(xml=str(data["xml"])))
    if not data["active"]:
        is_done = await _look_off(host, guest, snapshot, data)
    elif guest.monitor is None or not guest.monitor.is_open:
        # it ended, or it does not say: new images that nobody stands on do no harm
        is_done = guest.run is not None and _names_overlays(guest, snapshot)
    elif is_external(snapshot):
        is_done = await _look_external(host, guest, snapshot, data)
    else:
        is_done = await _look_internal(host, guest, snapshot)
    if guest.run is not None and guest.monitor is not None and guest.monitor.is_open and data.get("ran"):
        await _let_go(host, guest)
    if not is_done:
        await intent.undo()
        return
    if data.get("keeps") and snapshot.name not in guest.moments.snapshots:
        await remember(host, guest, snapshot, str(data["xml"]))
    await intent.finish(DomainSnapshotRef(str(data["name"]), guest.ref))


async def _settle_deletion(host: QemuHost, guest: Guest, intent: UnfinishedIntent) -> None:
    """A deletion goes on where it was when QEMU is at it; one that QEMU was not told of has not been begun."""
    names = [str(one) for one in intent.data.get("names", ())]
    run = guest.run
    jobs = [job for job in run.jobs if job.snapshot in names] if run is not None else []
    if jobs and guest.monitor is not None and guest.monitor.is_open:
        known = {str(one.get("id")): str(one.get("status")) for one in await guest.ask("query-jobs")}
        for job in jobs:
            if known.get(job.name) == "ready":
                await pivot_now(host, guest, job)
        if any(job.name in known for job in jobs):
            await intent.finish()
            return
    gone = [await forget_if_gone(host, guest, name) for name in reversed(names)]
    if all(gone):
        await intent.finish()
    else:
        await intent.undo()


def _names_overlays(guest: Guest, snapshot: Snapshot) -> bool:
    for asked in snapshot.disks:
        disk = disk_of_target(guest.live, asked.name)
        if asked.snapshot == EXTERNAL and (disk is None or not is_same_place(disk.source, asked.source)):
            return False
    return is_external(snapshot)


async def _let_go(host: QemuHost, guest: Guest) -> None:
    """A guest that stood still for the snapshot alone goes on."""
    if guest.state is not DomainState.PAUSED:
        return
    with contextlib.suppress(VirtError):
        await guest.ask("cont")
        guest.adopt(guest.running(state=int(DomainState.RUNNING), reason=int(DomainRunningReason.UNPAUSED)))


async def _look_off(host: QemuHost, guest: Guest, snapshot: Snapshot, data: dict[str, Any]) -> bool:
    """The configuration is written last: it tells whether the snapshot was taken."""
    config = guest.config
    if not is_external(snapshot):
        if snapshot.name in guest.moments.snapshots:
            return True
        names = set(kept_inside(snapshot))
        disks = [disk for disk in config.devices.disks if disk.target.dev in names]
        await offline.each(disks, "-d", snapshot.name or "", ignores=True)
        return False
    for asked in snapshot.disks:
        disk = disk_of_target(config, asked.name)
        if asked.snapshot == EXTERNAL and (disk is None or not is_same_place(disk.source, asked.source)):
            for path in data.get("made", ()):
                remove_file(str(path))
            return False
    return True


async def _look_external(host: QemuHost, guest: Guest, snapshot: Snapshot, data: dict[str, Any]) -> bool:
    """All new images were put on the disks at once, so that one tells of all."""
    overlays = []
    for name, index, path in data.get("overlays", ()):
        asked = next(one for one in snapshot.disks if one.name == name)
        kind = (asked.driver.type if asked.driver is not None else None) or "qcow2"
        source = asked.source.copy() if asked.source is not None else FileSource(file=str(path))
        overlays.append(Overlay(str(name), Image(source, kind, int(index)), asked))
    tops = await top_numbers(guest)
    attached = [
        disk is not None and tops.get(disk.alias or "") == one.image.index
        for one in overlays
        for disk in (disk_of_target(guest.live, one.disk),)
    ]
    if attached and all(attached):
        config = put_overlays(guest, overlays)
        await keep_now(host, guest, config=config)
        return True
    await guest.ask("migrate_cancel")
    images = [one.image for one in overlays]
    await forget_making(guest, images)
    await close_images(guest, images)
    if not data.get("reuses"):
        for one in overlays:
            remove_file(one.image.path or "")
    if data.get("memory"):
        remove_file(str(data["memory"]))
    return False


async def _look_internal(host: QemuHost, guest: Guest, snapshot: Snapshot) -> bool:
    """QEMU went on with the job, and knows how it ended."""
    name = snapshot.name or ""
    if name in guest.moments.snapshots:
        return True
    job = job_of(name)
    for _ in range(500):
        found = next((one for one in await guest.ask("query-jobs") if one.get("id") == job), None)
        if found is None:
            break
        if found.get("status") == "concluded":
            await dismiss_job(guest, job)
            if found.get("error") is None:
                return True
            break
        await asyncio.sleep(0.05)
    nodes = inside_nodes(guest, snapshot)
    if nodes:
        with contextlib.suppress(VirtError):
            await run_job(guest, f"{job}-gone", "snapshot-delete", {"tag": name, "devices": nodes})
    return False
