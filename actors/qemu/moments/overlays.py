"""External snapshots: each disk goes on in a new image, and the one it had stays below it as it is."""

from __future__ import annotations

import contextlib
import errno
import stat
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from actors.qemu.block import bitmaps
from actors.qemu.block.bitmaps_live import ask_nodes
from actors.qemu.block.chain import (
    Image,
    config_disk,
    disk_of_target,
    images_of,
    path_of,
    put_images,
    take_number,
)
from actors.qemu.block.nodes import (
    close_images,
    create_image,
    launch_of,
    make_file,
    nodes_for,
    open_images,
    remove_file,
    size_of,
)
from actors.qemu.claims import claim_images, owner_of_new_file, settle_claims
from actors.qemu.guest import Guest
from actors.qemu.host import QemuHost
from conf.domain.domain import Domain
from conf.domain.storage_source import BlockSource
from conf.moment.alignment import stack_image
from conf.moment.documents import EXTERNAL
from conf.moment.moment import Snapshot, SnapshotDisk
from schema.errors import ConfigUnsupported, HostSystemError, InternalError, OperationUnsupported


@dataclass(slots=True)
class Overlay:
    """A disk that goes on in a new image."""

    disk: str
    image: Image
    asked: SnapshotDisk


def check_places(snapshot: Snapshot, *, reuses: bool) -> None:
    """New images must not be there yet, or must be when they are to be used.

    Raises ConfigUnsupported, OperationUnsupported, HostSystemError. May wait for the disk.
    """
    for asked in snapshot.disks:
        path = path_of(asked.source) if asked.snapshot == EXTERNAL else None
        if path is None:
            continue
        try:
            facts = Path(path).stat()
        except FileNotFoundError as exc:
            if reuses:
                raise HostSystemError(errno.ENOENT, f"missing existing file for disk {asked.name}: {path}") from exc
            if isinstance(asked.source, BlockSource):
                raise OperationUnsupported(f"block device snapshot target '{path}' doesn't exist") from exc
            continue
        except OSError as exc:
            raise HostSystemError(exc.errno or 0, f"unable to stat for disk {asked.name}: {path}") from exc
        if not reuses and not stat.S_ISBLK(facts.st_mode) and facts.st_size > 0:
            raise ConfigUnsupported(
                f"external snapshot file for disk {asked.name} already exists and is not a block device: {path}"
            )


def overlays_of(guest: Guest, snapshot: Snapshot) -> list[Overlay]:
    """The new images of a running guest's external snapshot, with their numbers."""
    found = []
    for asked in snapshot.disks:
        if asked.snapshot != EXTERNAL or asked.source is None:
            continue
        kind = (asked.driver.type if asked.driver is not None else None) or "qcow2"
        cache = asked.driver.metadata_cache if asked.driver is not None else None
        found.append(Overlay(asked.name, Image(asked.source.copy(), kind, take_number(guest), cache), asked))
    return found


async def open_overlays(
    host: QemuHost, guest: Guest, overlays: Sequence[Overlay], *, reuses: bool, undo: AsyncExitStack
) -> list[dict[str, Any]]:
    """Makes and opens the new images; gives the actions that put them on the disks, all at once.

    Raises ConfigUnsupported, HostSystemError, OperationFailed, InternalError.
    """
    launch = await launch_of(host, guest, *(overlay.image.source for overlay in overlays))
    actions: list[dict[str, Any]] = []
    known = await ask_nodes(guest)
    for overlay in overlays:
        disk = disk_of_target(guest.live, overlay.disk)
        if disk is None:
            raise InternalError(f"disk '{overlay.disk}' is gone")
        top = images_of(disk)[0]
        node = nodes_for(launch, disk, [overlay.image])[-1]
        path = overlay.image.path
        if path is not None and await host.runtime.in_thread(make_file, path, owner_of_new_file(host, guest)):
            undo.callback(remove_file, path)
        await claim_images(host, guest, disk, [overlay.image])
        undo.push_async_callback(settle_claims, host, guest)
        if reuses:
            await open_images(guest, [node])
        else:
            size = await size_of(guest, top.format_node)
            await create_image(host, guest, node, overlay.image, size, top)
        undo.push_async_callback(close_images, guest, [overlay.image])
        data = {"node": top.format_node, "overlay": overlay.image.format_node}
        actions.append({"type": "blockdev-snapshot", "data": data})
        actions += bitmaps.for_overlay(known, top.format_node, overlay.image.format_node)
    return actions


def put_overlays(guest: Guest, overlays: Sequence[Overlay]) -> Domain | None:
    """The running definition says that the disks go on in the new images; gives the configuration that says so too."""
    config = guest.config.copy() if guest.is_persistent else None
    for overlay in overlays:
        disk = disk_of_target(guest.live, overlay.disk)
        if disk is None:
            continue
        images = images_of(disk)
        if images and images[0].index == overlay.image.index:
            continue
        other = config_disk(guest, config, disk) if config is not None else None
        if other is not None:
            stack_image(other, overlay.asked)
        put_images(disk, [overlay.image, *images])
    return config


async def top_numbers(guest: Guest) -> dict[str, int]:
    """The number of the image that each disk is attached to, by alias, as QEMU says. Raises as `Guest.ask` does."""
    found: dict[str, int] = {}
    for one in await guest.ask("query-block"):
        alias = str(one.get("qdev") or "").removeprefix("/machine/peripheral/").partition("/")[0]
        node = str((one.get("inserted") or {}).get("node-name", ""))
        with contextlib.suppress(ValueError):
            found[alias] = int(node.removeprefix("libvirt-").partition("-")[0])
    return found
