"""What a block job has made of a guest's disk: which images it stands on now, in both definitions."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import msgspec

from actors.qemu.block.bitmaps_live import merge_committed, merge_copied
from actors.qemu.block.chain import (
    Image,
    config_disk,
    disk_of_target,
    highest_number,
    images_of,
    is_same_place,
    mirror_images,
    put_images,
)
from actors.qemu.block.keeping import find_job, keep_now, put_job
from actors.qemu.block.nodes import close_images, remove_file
from actors.qemu.claims import settle_claims
from actors.qemu.guest import Guest
from actors.qemu.host import QemuHost
from actors.qemu.records import BlockJob
from conf.domain.disk import BackingStore, Disk
from conf.domain.domain import Domain
from conf.domain.storage_source import FileSource


async def complete(host: QemuHost, guest: Guest, job: BlockJob) -> list[Image]:
    """The job did all it was to do. Gives the images that are not needed any more, once QEMU has forgotten the job."""
    disk = disk_of_target(guest.live, job.disk)
    if disk is None:
        return []
    # the numbers of images that go are not given again
    guest.adopt(guest.running(images=max(guest.need_run().images, highest_number(guest.live))), live=guest.live)
    if job.left:
        # the last process wrote down what the job did, and did not come to this
        return [Image(FileSource(file=path), "raw", number) for number, path in job.left]
    match job.kind:
        case "pull":
            return await _pulled(host, guest, disk, job)
        case "commit":
            return await _committed(host, guest, disk, job)
        case "active-commit":
            return await _committed_active(host, guest, disk, job)
        case "copy":
            return await _copied(host, guest, disk, job)
    return []


def abandon(guest: Guest, job: BlockJob) -> list[Image]:
    """The job did not, or was told to stop: the disk is what it was. Gives the images that are not needed any more."""
    disk = disk_of_target(guest.live, job.disk)
    if disk is None or disk.mirror is None:
        return []
    images = mirror_images(disk.mirror)
    below = {image.index for image in images_of(disk)}
    guest.adopt(guest.running(images=max(guest.need_run().images, highest_number(guest.live))), live=guest.live)
    disk.mirror = None
    return [image for image in images if image.index not in below] if job.kind == "copy" else []


async def is_done(guest: Guest, job: BlockJob) -> bool:
    """QEMU does not know the job any more: whether the disk is what the job was to make of it.

    Raises as `Guest.ask` does.
    """
    disk = disk_of_target(guest.live, job.disk)
    if disk is None:
        return False
    if job.left:
        return True
    images = images_of(disk)
    if job.kind == "pull":
        base = next((one for one in images if one.index == job.base), None)
        return await _backing_of(guest, f"libvirt-{job.top}-format") == (base.path if base is not None else None)
    if job.kind == "commit":
        base = next((one for one in images if one.index == job.base), None)
        return base is not None and await _backing_of(guest, f"libvirt-{job.above}-format") == base.path
    wanted = job.base if job.kind == "active-commit" else mirror_index(disk)
    for one in await guest.ask("query-block"):
        path = str(one.get("qdev") or "").removeprefix("/machine/peripheral/").partition("/")[0]
        if path == disk.alias and (one.get("inserted") or {}).get("node-name") == f"libvirt-{wanted}-format":
            return True
    return False


async def _backing_of(guest: Guest, node: str) -> str | None:
    for one in await guest.ask("query-named-block-nodes", {"flat": True}):
        if one.get("node-name") == node:
            name = one.get("backing_file") or (one.get("image") or {}).get("full-backing-filename")
            return None if name is None else str(name)
    return None


async def let_go(host: QemuHost, guest: Guest, job: BlockJob, images: Sequence[Image], *, done: bool) -> None:
    """QEMU closes images that a job has left over; their files go if that was asked for."""
    await close_images(guest, images)
    await settle_claims(host, guest)
    if not done or not job.deletes:
        return
    for image in images:
        if image.path is not None:
            await host.runtime.in_thread(remove_file, image.path)


def mirror_index(disk: Disk) -> int:
    """The number of the image that a copy is made in."""
    source = disk.mirror.source if disk.mirror is not None else None
    return 0 if source is None else source.index or 0


def _place(images: Sequence[Image], index: int) -> int:
    return next((place for place, image in enumerate(images) if image.index == index), len(images))


async def _pulled(host: QemuHost, guest: Guest, disk: Disk, job: BlockJob) -> list[Image]:
    images = images_of(disk)
    top = _place(images, job.top)
    base = _place(images, job.base) if job.base else len(images)
    gone = images[top + 1 : base]
    config = _config_with_chain(guest, disk, images, lambda now: now[: top + 1] + now[base:])
    put_images(disk, images[: top + 1] + images[base:])
    await _keep_config(host, guest, config, job, gone)
    return gone


async def _committed(host: QemuHost, guest: Guest, disk: Disk, job: BlockJob) -> list[Image]:
    images = images_of(disk)
    top, base = _place(images, job.top), _place(images, job.base)
    if base >= len(images) or top >= base:
        return []
    gone = images[top:base]
    await merge_committed(host, guest, disk, images, top, base)
    config = _config_with_chain(guest, disk, images, lambda now: now[:top] + now[base:])
    put_images(disk, images[:top] + images[base:])
    await _keep_config(host, guest, config, job, gone)
    return gone


async def _committed_active(host: QemuHost, guest: Guest, disk: Disk, job: BlockJob) -> list[Image]:
    images = images_of(disk)
    base = _place(images, job.base)
    if base >= len(images):
        return []
    await merge_committed(host, guest, disk, images, 0, base)
    config = config_with_source(guest, disk, images[base])
    disk.mirror = None
    put_images(disk, images[base:])
    await _keep_config(host, guest, config, job, images[:base])
    return images[:base]


async def _copied(host: QemuHost, guest: Guest, disk: Disk, job: BlockJob) -> list[Image]:
    if disk.mirror is None:
        return []
    images, copies = images_of(disk), mirror_images(disk.mirror)
    await merge_copied(host, guest, images, copies)
    config = config_with_source(guest, disk, copies[0])
    disk.mirror = None
    put_images(disk, copies)
    kept = {image.index for image in copies}
    gone = [image for image in images if image.index not in kept]
    await _keep_config(host, guest, config, job, gone)
    return gone


def config_with_source(guest: Guest, disk: Disk, image: Image) -> Domain | None:
    """The configuration with another top image of this disk; None where it has a disk of its own there, or is none."""
    if not guest.is_persistent:
        return None
    config = guest.config.copy()
    other = config_disk(guest, config, disk)
    if other is None:
        return None
    put_images(other, [image.numbered(0)])
    other.backing_store = None
    return config


def _config_with_chain(
    guest: Guest, disk: Disk, images: list[Image], change: Callable[[list[Image]], list[Image]]
) -> Domain | None:
    """The configuration, where it names the chain itself and names the same one."""
    if not guest.is_persistent:
        return None
    config = guest.config.copy()
    other = config_disk(guest, config, disk)
    if other is None or other.backing_store is None or other.backing_store.source is None:
        return None
    known = images_of(other)
    if len(known) != len(images) or not all(
        is_same_place(one.source, two.source) for one, two in zip(known, images, strict=True)
    ):
        other.backing_store = None  # it is found out anew at the next start
        return config
    ended = _is_ended(other.backing_store)
    put_images(other, [one.numbered(0) for one in change(known)])
    if not ended:
        _open_end(other)
    return config


def _is_ended(store: BackingStore | None) -> bool:
    while store is not None and store.source is not None:
        store = store.backing_store
    return store is not None


def _open_end(disk: Disk) -> None:
    """A chain that was not said to end is not said to end now."""
    above: Disk | BackingStore = disk
    while above.backing_store is not None and above.backing_store.source is not None:
        above = above.backing_store
    above.backing_store = None


async def _keep_config(
    host: QemuHost, guest: Guest, config: Domain | None, job: BlockJob, gone: Sequence[Image]
) -> None:
    # before any image is closed or deleted: the configuration must never name what is gone
    left = tuple((image.index, image.path or "") for image in gone)
    put_job(guest, msgspec.structs.replace(find_job(guest, job.name) or job, left=left))
    await keep_now(host, guest, config=config)
