"""Forgetting snapshots: what lies inside images is deleted there, new images are committed into the old ones."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import msgspec

from actors.qemu.block.chain import disk_of_target, images_of, path_of
from actors.qemu.block.commit import mirror_of
from actors.qemu.block.jobs import ACTIVE_COMMIT, COMMIT, FAILED, begin_job, check_no_job, settle_job, wait_for_end
from actors.qemu.block.keeping import find_job, keep_now, put_job
from actors.qemu.block.nodes import next_status, remove_file, run_job
from actors.qemu.flags import check_flags
from actors.qemu.guest import Guest
from actors.qemu.host import QemuHost
from actors.qemu.images import read_backing
from actors.qemu.moments import offline
from actors.qemu.moments.create import inside_nodes, job_of
from actors.qemu.moments.keeping import keep_moments
from actors.qemu.moments.snapshots import read_snapshot
from actors.qemu.records import BlockJob
from actors.runtime.calls import Calls
from conf.domain.disk import DiskDriver
from conf.domain.documents import write_domain
from conf.domain.storage_source import FileSource
from conf.flags import XmlFlags
from conf.moment import tree
from conf.moment.alignment import is_external, kept_inside
from conf.moment.documents import EXTERNAL
from conf.moment.moment import Snapshot, SnapshotDisk
from conf.moment.rewriting import without_images
from conf.moment.tree import MomentRecord
from schema.enums.domain_snapshot import DomainSnapshotDeleteFlags as Delete
from schema.errors import ConfigUnsupported, InvalidArguments, OperationFailed
from schema.objects import DomainSnapshotRef

calls: Calls[QemuHost] = Calls()

INTENT: Final = "snapshot-delete"
_FLAGS: Final = int(Delete.CHILDREN | Delete.METADATA_ONLY | Delete.CHILDREN_ONLY)


@calls.handles(key="snap")
async def domain_snapshot_delete(host: QemuHost, snap: DomainSnapshotRef, flags: int) -> None:
    """Deletes a snapshot, with or without those after it; their data goes too unless only the metadata is meant.

    The children of a snapshot that is gone become its parent's. Raises NoSuchDomain, NoSuchSnapshot, ConfigUnsupported
    and InvalidArguments for external ones that cannot be taken out, OperationFailed when an image fails.
    """
    check_flags(flags, _FLAGS, "qemuDomainSnapshotDelete")
    host.need_snapshot(snap)
    guest = host.guest(snap.dom)
    known = guest.moments.snapshots
    below = tree.descendants(known, snap.name)
    with_children = bool(flags & (Delete.CHILDREN | Delete.CHILDREN_ONLY))
    keeps_root = bool(flags & Delete.CHILDREN_ONLY)
    gone = ([] if keeps_root else [snap.name]) + (below if with_children else [])
    if not flags & Delete.METADATA_ONLY:
        _check(known, snap.name, below, flags)
    async with host.intents.change(INTENT, {"uuid": guest.record.uuid, "names": gone}):
        # the youngest first: what is left at any moment is a tree that is whole
        for name in reversed(gone):
            if not flags & Delete.METADATA_ONLY:
                await _delete_data(host, guest, name)
            await _forget(host, guest, name, with_data=not flags & Delete.METADATA_ONLY)
        if with_children and keeps_root and guest.moments.current_snapshot is None:
            await keep_moments(host, guest, msgspec.structs.replace(guest.moments, current_snapshot=snap.name))


def _check(known: Mapping[str, MomentRecord], name: str, below: list[str], flags: int) -> None:
    if flags & (Delete.CHILDREN | Delete.CHILDREN_ONLY):
        outside = sum(known[one].external for one in below)
        if outside and outside < len(below):
            raise ConfigUnsupported("deletion of external and internal children disk snapshots not supported")
        if outside:
            raise ConfigUnsupported("deletion of external children disk snapshots not supported")
        if known[name].external and not flags & Delete.CHILDREN_ONLY and below:
            raise ConfigUnsupported("deletion of external disk snapshots with children not supported")
    elif known[name].external and len(tree.children(known, name)) > 1:
        raise ConfigUnsupported("deletion of external disk snapshots with multiple children is not supported")


async def _forget(host: QemuHost, guest: Guest, name: str, *, with_data: bool) -> None:
    """Its metadata goes; its children are its parent's now, which becomes the current one. Raises HostSystemError."""
    moments = guest.moments
    if name not in moments.snapshots:
        return
    removed = moments.snapshots[name]
    current = removed.parent if moments.current_snapshot == name else moments.current_snapshot
    left = tree.without(moments.snapshots, name)
    if with_data and removed.external:
        gone = read_snapshot(removed)
        for other in tree.descendants(moments.snapshots, name):
            left[other] = msgspec.structs.replace(left[other], xml=without_images(left[other].xml, gone))
    await keep_moments(host, guest, msgspec.structs.replace(moments, snapshots=left, current_snapshot=current))


async def _delete_data(host: QemuHost, guest: Guest, name: str) -> None:
    snapshot = read_snapshot(guest.moments.snapshots[name])
    if not is_external(snapshot):
        await _delete_inside(guest, snapshot)
        return
    parts = [one for one in snapshot.disks if one.snapshot == EXTERNAL]
    if guest.is_active:
        # one that a driver which died had deleted already is not looked for again
        parts = [part for part in parts if not await host.runtime.in_thread(_is_gone, guest, part)]
        for part in parts:
            _check_part(guest, part)
        for part in parts:
            await _commit_live(host, guest, part, name)
    else:
        config = guest.config.copy()
        for part in parts:
            disk = disk_of_target(config, part.name)
            overlay = path_of(part.source) or ""
            if disk is None:
                raise InvalidArguments("could not find base disk source in disk source chain")
            chain = await host.runtime.in_thread(_chain, path_of(disk.source) or "", disk.driver)
            place = next((place for place, one in enumerate(chain) if one[0] == overlay), None)
            if place is None or place + 1 >= len(chain):
                raise InvalidArguments("could not find base disk source in disk source chain")
            path, kind = chain[place]
            below, below_kind = chain[place + 1]
            await offline.commit_image(path, kind, below)
            if place:
                await offline.rebase_image(*chain[place - 1], below, below_kind)
            else:
                disk.source = FileSource(file=below)
                if disk.driver is not None:
                    disk.driver.type = below_kind
                text = write_domain(config, XmlFlags.INACTIVE | XmlFlags.SECURE)
                changed = msgspec.structs.replace(guest.record, xml=text)
                await host.write(guest, changed, config=config.copy(), completes=False)
            await host.runtime.in_thread(remove_file, path)
    memory = snapshot.memory
    if memory is not None and memory.file is not None and memory.snapshot == EXTERNAL:
        await host.runtime.in_thread(remove_file, memory.file)


async def _delete_inside(guest: Guest, snapshot: Snapshot) -> None:
    if guest.is_active:
        nodes = inside_nodes(guest, snapshot)
        if nodes:
            job = job_of(snapshot.name or "")
            await run_job(guest, job, "snapshot-delete", {"tag": snapshot.name, "devices": nodes})
        return
    names = set(kept_inside(snapshot))
    disks = [disk for disk in guest.config.devices.disks if disk.target.dev in names]
    await offline.each(disks, "-d", snapshot.name or "", ignores=True)


def _check_part(guest: Guest, part: SnapshotDisk) -> None:
    disk = disk_of_target(guest.live, part.name)
    overlay = path_of(part.source)
    if disk is None:
        raise InvalidArguments("could not find base disk source in disk source chain")
    check_no_job(guest, disk)
    images = images_of(disk)
    place = next((place for place, one in enumerate(images) if one.path == overlay), None)
    if place is None or place + 1 >= len(images):
        raise InvalidArguments("could not find base disk source in disk source chain")


async def _commit_live(host: QemuHost, guest: Guest, part: SnapshotDisk, name: str) -> None:
    """The image that the snapshot put on a disk is committed into the one below it, while the guest runs."""
    disk = disk_of_target(guest.live, part.name)
    if disk is None:
        raise InvalidArguments("could not find base disk source in disk source chain")
    images = images_of(disk)
    place = next(place for place, one in enumerate(images) if one.path == path_of(part.source))
    target, base = disk.target.dev, images[place + 1]
    arguments: dict[str, Any] = {
        "device": images[0].format_node,
        "top-node": images[place].format_node,
        "base-node": base.format_node,
    }
    job = BlockJob(
        name=f"commit-{target}-{images[place].format_node}",
        kind=COMMIT if place else ACTIVE_COMMIT,
        disk=target,
        top=images[place].index,
        base=base.index,
        above=images[place - 1].index if place else 0,
        deletes=True,
        snapshot=name,
    )
    if place:
        arguments["backing-file"] = base.path or ""
    else:
        disk.mirror = mirror_of(base, images[2:], "active-commit")
    waits = guest.waiters.expect(job.name)
    try:
        await begin_job(host, guest, job, "block-commit", arguments)
        if not place:
            waits = await _pivot(host, guest, job, waits)
        if await wait_for_end(host, guest, job.name, waits) == FAILED:
            raise OperationFailed(f"block commit of snapshot image '{images[place].path}' failed")
    except BaseException:
        guest.waiters.leave(job.name)
        raise


async def _pivot(host: QemuHost, guest: Guest, job: BlockJob, waits: asyncio.Future[str]) -> asyncio.Future[str]:
    """Waits until a commit of the top image is complete, and lets the guest go on without it."""
    if await next_status(guest, waits) != "ready":
        await settle_job(host, guest, job)
        raise OperationFailed(f"block job '{job.name}' failed")
    waits = guest.waiters.expect(job.name)
    await pivot_now(host, guest, find_job(guest, job.name) or job)
    return waits


async def pivot_now(host: QemuHost, guest: Guest, job: BlockJob) -> None:
    """Tells QEMU to go on with the image that a commit of the top image went into. Raises as `Guest.ask` does."""
    put_job(guest, msgspec.structs.replace(job, state="pivoting"))
    await keep_now(host, guest)
    await guest.ask("job-complete", {"id": job.name})


async def forget_if_gone(host: QemuHost, guest: Guest, name: str) -> bool:
    """Forgets a snapshot whose images have all gone into those below them; whether it is forgotten.

    Raises HostSystemError.
    """
    record = guest.moments.snapshots.get(name)
    if record is None:
        return True
    parts = [one for one in read_snapshot(record).disks if one.snapshot == EXTERNAL]
    for part in parts:
        if not await host.runtime.in_thread(_is_gone, guest, part):
            return False
    if not parts:
        return False
    await _forget(host, guest, name, with_data=True)
    return True


def _is_gone(guest: Guest, part: SnapshotDisk) -> bool:
    path = path_of(part.source) or ""
    disk = disk_of_target(guest.live if guest.is_active else guest.config, part.name)
    named = disk is not None and any(one.path == path for one in images_of(disk))
    return not named and not Path(path).exists()


def _chain(path: str, driver: DiskDriver | None) -> list[tuple[str, str]]:
    """The images of a disk of a guest that is off, with their formats, the top one first."""
    found: list[tuple[str, str]] = []
    kind = (driver.type if driver is not None else None) or "raw"
    while path and len(found) < 200:
        found.append((path, kind))
        backing = read_backing(path, kind)
        if backing is None or ":" in backing.name.partition("/")[0]:
            break
        path = str(Path(path).parent / backing.name)
        kind = backing.format or "raw"
    return found
