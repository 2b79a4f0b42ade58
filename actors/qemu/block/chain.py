"""The images of a disk as a list, the top one first, and how callers name one of them.

The running guest's definition nests them; jobs and snapshots take out, put on and exchange them.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from actors.qemu.guest import Guest
from conf.domain.disk import BackingStore, Disk, DiskDriver, ImageFormat, MetadataCache, Mirror
from conf.domain.domain import Domain
from conf.domain.storage_source import BlockSource, DirSource, FileSource, SourceType, StorageSource
from schema.errors import InvalidArguments


@dataclass(slots=True)
class Image:
    """One image of a disk of a running guest; `index` is the number in the names of its nodes."""

    source: StorageSource
    format: str
    index: int = 0
    cache: MetadataCache | None = None

    @property
    def format_node(self) -> str:
        return f"libvirt-{self.index}-format"

    @property
    def storage_node(self) -> str:
        return f"libvirt-{self.index}-storage"

    @property
    def path(self) -> str | None:
        """Where it is on this host; None when it is elsewhere."""
        return path_of(self.source)

    @property
    def type(self) -> SourceType:
        return SourceType(self.source.cases[0] or "file")

    def numbered(self, index: int) -> Image:
        """The same image under another number."""
        return Image(self.source, self.format, index, self.cache)


def path_of(source: StorageSource | None) -> str | None:
    """Where a source is on this host; None when it is elsewhere, or there is none."""
    if isinstance(source, FileSource):
        return source.file
    if isinstance(source, BlockSource):
        return source.dev
    return source.dir if isinstance(source, DirSource) else None


def images_of(disk: Disk) -> list[Image]:
    """The images of a disk, the top one first; none of an empty drive."""
    if disk.source is None:
        return []
    driver = disk.driver
    kind = (driver.type if driver is not None else None) or "raw"
    cache = driver.metadata_cache if driver is not None else None
    return [Image(disk.source, kind, disk.source.index or 0, cache), *images_below(disk.backing_store)]


def images_below(store: BackingStore | None) -> list[Image]:
    """The images of a chain of `<backingStore>`."""
    found = []
    while store is not None and store.source is not None:
        kind = store.format.type if store.format is not None else "raw"
        cache = store.format.metadata_cache if store.format is not None else None
        found.append(Image(store.source, kind, store.index or 0, cache))
        store = store.backing_store
    return found


def mirror_images(mirror: Mirror) -> list[Image]:
    """The images that a copy is made in, or a commit goes to."""
    if mirror.source is None:
        return []
    kind = mirror.format.type if mirror.format is not None else "raw"
    return [Image(mirror.source, kind, mirror.source.index or 0), *images_below(mirror.backing_store)]


def put_images(disk: Disk, images: Sequence[Image]) -> None:
    """Makes these the images of a disk."""
    top = images[0]
    disk.source = top.source.copy()
    disk.source.index = top.index or None
    disk.type = top.type
    driver = disk.driver = DiskDriver(name="qemu") if disk.driver is None else disk.driver
    driver.type = top.format
    driver.metadata_cache = top.cache
    disk.backing_store = stores(images[1:])


def stores(images: Sequence[Image]) -> BackingStore:
    """A chain of `<backingStore>`, whose end is known."""
    below = BackingStore()
    for image in reversed(images):
        source = image.source.copy()
        source.index = None
        below = BackingStore(
            type=image.type,
            index=image.index or None,
            format=ImageFormat(type=image.format, metadata_cache=image.cache),
            source=source,
            backing_store=below,
        )
    return below


def need_disk(domain: Domain, name: str) -> Disk:
    """The disk of a target's name or an image's path. Raises InvalidArguments."""
    disk = find_disk(domain, name)
    if disk is None:
        raise InvalidArguments(f"disk '{name}' not found in domain")
    return disk


def find_disk(domain: Domain, name: str) -> Disk | None:
    """The disk of a target's name or an image's path."""
    disks = domain.devices.disks
    for disk in disks:
        if disk.target.dev == name:
            return disk
    if not name.startswith("/"):
        return None
    return next((disk for disk in disks if path_of(disk.source) == name), None)


def disk_of_target(domain: Domain, target: str) -> Disk | None:
    """The disk of a target's name."""
    return next((disk for disk in domain.devices.disks if disk.target.dev == target), None)


def disk_of_index(domain: Domain, index: int) -> tuple[Disk, Image] | None:
    """The disk that an image of this number belongs to, copies that are being made included."""
    for disk in domain.devices.disks:
        images = images_of(disk)
        if disk.mirror is not None:
            images += mirror_images(disk.mirror)
        for image in images:
            if image.index == index:
                return disk, image
    return None


def find_image(images: Sequence[Image], target: str, name: str | None, first: int = 0) -> int:
    """The place of the image that a caller names `vda[3]`, by its path, or (None) as the lowest, from `first` on.

    Raises InvalidArguments in libvirt's words when there is none.
    """
    number = _number_in(target, name)
    for place in range(first, len(images)):
        image = images[place]
        if number is not None:
            if image.index == number:
                return place
        elif name is None:
            if place == len(images) - 1:
                return place
        elif _is_named(images, place, name):
            return place
    if number is not None:
        raise InvalidArguments(f"could not find backing store index '{number}' in chain for '{target}'")
    if name is None:
        raise InvalidArguments(f"could not find base image in chain for '{target}'")
    if first:
        above = images[first - 1].path or ""
        raise InvalidArguments(f"could not find image '{name}' beneath '{above}' in chain for '{target}'")
    raise InvalidArguments(f"could not find image '{name}' in chain for '{target}'")


def _number_in(target: str, name: str | None) -> int | None:
    if name is None or not name.endswith("]"):
        return None
    dev, bracket, number = name[:-1].partition("[")
    if not bracket or not number.isdigit():
        return None
    if dev != target:
        raise InvalidArguments(f"requested target '{dev}' does not match target '{target}'")
    return int(number)


def _is_named(images: Sequence[Image], place: int, name: str) -> bool:
    path = images[place].path
    if path is None:
        return getattr(images[place].source, "name", None) == name
    if path == name:
        return True
    above = images[place - 1].path if place else None
    if name.startswith("/") or above is None:
        return os.path.normpath(path) == os.path.normpath(name)
    return os.path.normpath(path) == os.path.normpath(Path(above).parent / name)


def is_same_place(one: StorageSource | None, other: StorageSource | None) -> bool:
    """Both mean the same bytes."""
    if one is None or other is None or type(one) is not type(other):
        return False
    path = path_of(one)
    if path is not None:
        return path == path_of(other)
    left, right = one.copy(), other.copy()
    left.index = right.index = None
    return left == right


def config_disk(guest: Guest, config: Domain, live: Disk) -> Disk | None:
    """The disk of a configuration that stands for this one of the running guest, if it has the same image."""
    other = disk_of_target(config, live.target.dev)
    return other if other is not None and is_same_place(other.source, live.source) else None


def take_number(guest: Guest) -> int:
    """A number that no image of this running guest has had; it is kept with the next writing of its document."""
    run = guest.need_run()
    number = max(run.images, highest_number(guest.live)) + 1
    guest.adopt(guest.running(images=number), live=guest.live)
    return number


def highest_number(domain: Domain) -> int:
    """The highest number of an image of a running guest's definition."""
    highest = 0
    for disk in domain.devices.disks:
        numbers = [image.index for image in images_of(disk)]
        if disk.mirror is not None:
            numbers += [image.index for image in mirror_images(disk.mirror)]
        highest = max(highest, *numbers, 0)
    return highest
