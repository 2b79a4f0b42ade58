"""Recordings of changes of a running guest's disks, carried along by block jobs.

A job whose data is right is not undone because a recording could not be carried along: the next backup since that
checkpoint is refused then, and the log says why.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from actors.qemu.block import bitmaps
from actors.qemu.block.chain import Image, images_of, mirror_images
from actors.qemu.block.nodes import launch_of, nodes_for
from actors.qemu.command.line import without_none
from actors.qemu.guest import Guest
from actors.qemu.host import QemuHost
from actors.qemu.records import BlockJob
from conf.domain.disk import Disk
from schema.errors import VirtError


async def ask_nodes(guest: Guest) -> dict[str, bitmaps.NodeBitmaps]:
    """The recordings of all nodes of a guest. Raises as `Guest.ask` does."""
    return bitmaps.read_nodes(await guest.ask("query-named-block-nodes", {"flat": True}))


def names(images: Sequence[Image]) -> list[str]:
    """The nodes of images."""
    return [image.format_node for image in images]


async def watch_writes(guest: Guest, disk: Disk, job: BlockJob) -> None:
    """Before the pivot: what the guest writes from now on is recorded in the image it goes on with.

    Raises as `Guest.ask` does.
    """
    nodes = await ask_nodes(guest)
    images = images_of(disk)
    if not images or not any(one.persistent for one in _of(nodes, images[0])):
        return
    target = f"libvirt-{job.base}-format" if disk.mirror is None else mirror_images(disk.mirror)[0].format_node
    known = nodes.get(target)
    if known is not None and known.find(bitmaps.WRITES) is not None:
        return
    action = bitmaps.add(target, bitmaps.WRITES, persistent=False, disabled=False)
    await guest.ask("block-dirty-bitmap-add", action["data"])


def _of(nodes: dict[str, bitmaps.NodeBitmaps], image: Image) -> tuple[bitmaps.Bitmap, ...]:
    found = nodes.get(image.format_node)
    return () if found is None else found.bitmaps


async def merge_committed(
    host: QemuHost, guest: Guest, disk: Disk, images: Sequence[Image], top: int, base: int
) -> None:
    """The recordings of images that were committed go on in the image below."""
    try:
        nodes = await ask_nodes(guest)
        if not _of(nodes, images[top]):
            return
        target = images[base].format_node
        below = nodes.get(target)
        is_active = top == 0 and below is not None and below.find(bitmaps.WRITES) is not None
        actions = bitmaps.after_commit(nodes, names(images[top:base]), target, is_active=is_active)
        if not actions:
            return
        if top:
            await reopen(host, guest, disk, images, base, writable=True)
        try:
            await guest.ask("transaction", {"actions": actions})
        finally:
            if top:
                await reopen(host, guest, disk, images, base, writable=False)
    except VirtError as exc:
        host.log.warning("recordings of changes were lost in a commit", guest=guest.name, error=exc.message)


async def merge_copied(host: QemuHost, guest: Guest, images: Sequence[Image], copies: Sequence[Image]) -> None:
    """The recordings of images that were copied go on in the copy."""
    try:
        nodes = await ask_nodes(guest)
        mirror = copies[0].format_node
        found = nodes.get(mirror)
        if found is None or found.find(bitmaps.WRITES) is None:
            return
        kept = {image.index for image in copies}
        copied = [image for image in images if image.index not in kept]
        actions = bitmaps.after_copy(nodes, names(copied), names(images), mirror)
        await guest.ask("transaction", {"actions": actions})
    except VirtError as exc:
        host.log.warning("recordings of changes were lost in a copy", guest=guest.name, error=exc.message)


async def reopen(
    host: QemuHost, guest: Guest, disk: Disk, images: Sequence[Image], place: int, *, writable: bool
) -> None:
    """Opens an image of a chain anew, for writing or not. Raises as `Guest.ask` does."""
    launch = await launch_of(host, guest, disk)
    node = nodes_for(launch, disk, [images[place]], writable=writable)[-1]
    options: dict[str, Any] = without_none(node.steps[-1][1])
    options["read-only"] = not writable
    if place + 1 < len(images):
        options["backing"] = images[place + 1].format_node
    await guest.ask("blockdev-reopen", {"options": [options]})
