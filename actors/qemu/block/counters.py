"""What is told of the images below the top ones, and of those that only serve a backup, within bulk statistics."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from actors.qemu.block.chain import images_of, path_of
from actors.qemu.guest import Guest
from schema.objects import TypedParam


def lower_images(guest: Guest, disk_name: str) -> Iterator[tuple[int, str | None]]:
    """The numbers and paths of a disk's images below the top one, then of what a backup keeps for it."""
    for disk in guest.live.devices.disks:
        if disk.target.dev == disk_name:
            for image in images_of(disk)[1:]:
                yield image.index, path_of(image.source)
    run = guest.run
    if run is not None and run.backup is not None:
        for name, number, path in run.backup.scratch:
            if name == disk_name:
                yield number, path


def count_lower(guest: Guest) -> int:
    """How many such images there are."""
    return sum(len(list(lower_images(guest, disk.target.dev))) for disk in guest.live.devices.disks)


def lower_stats(
    guest: Guest, disk_name: str, first: int, images: dict[str, dict[str, Any]], offsets: dict[str, int]
) -> list[TypedParam]:
    """Their sizes; `images` and `offsets` are what QEMU tells of its nodes, by name."""
    found: list[TypedParam] = []
    for place, (number, path) in enumerate(lower_images(guest, disk_name), first):
        found.append(TypedParam.of_string(f"block.{place}.name", disk_name))
        if path:
            found.append(TypedParam.of_string(f"block.{place}.path", path))
        found.append(TypedParam.of_uint(f"block.{place}.backingIndex", number))
        image = images.get(f"libvirt-{number}-format")
        if image:
            written = offsets.get(f"libvirt-{number}-storage", 0)
            found.append(TypedParam.of_ullong(f"block.{place}.allocation", written))
            found.append(TypedParam.of_ullong(f"block.{place}.capacity", int(image.get("virtual-size", 0))))
            found.append(TypedParam.of_ullong(f"block.{place}.physical", int(image.get("actual-size", 0))))
    return found


def written_to(nodes: list[dict[str, Any]]) -> dict[str, int]:
    """The highest place that was written in each node, from `query-blockstats` of all nodes."""
    return {
        str(one.get("node-name")): int((one.get("stats") or {}).get("wr_highest_offset", 0))
        for one in nodes
        if one.get("node-name")
    }
