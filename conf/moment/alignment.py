"""How the disks of a new snapshot fit those of its guest: what is asked for, what is left to the default, new names."""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

from conf.domain.disk import BackingStore, Disk, DiskDriver, ImageFormat
from conf.domain.domain import Domain
from conf.domain.storage_source import FileSource, SourceType, StorageSource
from conf.moment.documents import BITMAP, EXTERNAL, INTERNAL, NO
from conf.moment.moment import Checkpoint, CheckpointDisk, Snapshot, SnapshotDisk, SnapshotDriver
from schema.errors import ConfigUnsupported

DISK_SNAPSHOT: Final = "disk-snapshot"


def align_snapshot(snapshot: Snapshot, domain: Domain, default: str, *, uniform: bool) -> None:
    """Says of every disk of the guest how it is kept, in the guest's order; `uniform`: all the same way, or not at all.

    Raises ConfigUnsupported for a disk that the guest does not have, and for one that cannot be kept like that.
    """
    disks = domain.devices.disks
    if len(snapshot.disks) > len(disks):
        raise ConfigUnsupported("too many disk snapshot requests for domain")
    chosen: dict[str, SnapshotDisk] = {}
    for asked in snapshot.disks:
        disk = _named(domain, asked.name)
        if disk is None:
            raise ConfigUnsupported(f"no disk named '{asked.name}'")
        asked.name = disk.target.dev
        if asked.name in chosen:
            raise ConfigUnsupported(f"disk '{asked.name}' specified twice")
        chosen[asked.name] = asked
        if asked.snapshot is None:
            own = _own_mode(disk)
            asked.snapshot = own if own is not None and (not uniform or own == default) else default
        if uniform and asked.snapshot != default and not (asked.snapshot == NO and _is_out(disk)):
            raise ConfigUnsupported(f"disk '{asked.name}' must use snapshot mode '{default}'")
        if asked.source is not None and asked.snapshot != EXTERNAL:
            path = getattr(asked.source, "file", None) or getattr(asked.source, "dev", None) or ""
            raise ConfigUnsupported(f"file '{path}' for disk '{asked.name}' requires use of external snapshot mode")
    found = []
    for disk in disks:
        one = chosen.get(disk.target.dev)
        if one is None:
            mode = NO if _is_empty(disk) else _own_mode(disk) or default
            one = SnapshotDisk(name=disk.target.dev, snapshot=mode)
        found.append(one)
    snapshot.disks = found


def _named(domain: Domain, name: str) -> Disk | None:
    for disk in domain.devices.disks:
        if name in (disk.target.dev, _path(disk.source)):
            return disk
    return None


def _path(source: StorageSource | None) -> str | None:
    return getattr(source, "file", None) or getattr(source, "dev", None)


def _is_empty(disk: Disk) -> bool:
    return disk.source is None or (isinstance(disk.source, FileSource) and disk.source.file is None)


def _own_mode(disk: Disk) -> str | None:
    if disk.snapshot is not None:
        return disk.snapshot.value
    return NO if disk.readonly else None


def _is_out(disk: Disk) -> bool:
    return _is_empty(disk) or disk.readonly


def name_images(snapshot: Snapshot, domain: Domain, taken: Collection[str] = ()) -> None:
    """Gives the new images that are not named the name of the old one with the snapshot's name as its ending.

    Raises ConfigUnsupported where no name can be made.
    """
    names = dict.fromkeys(taken, "") | {
        path: one.name for one in snapshot.disks if (path := _path(one.source)) is not None
    }
    for asked, disk in zip(snapshot.disks, domain.devices.disks, strict=True):
        if asked.snapshot != EXTERNAL:
            continue
        if asked.driver is None:
            asked.driver = SnapshotDriver()
        if asked.source is not None:
            continue
        if asked.type is not SourceType.FILE:
            raise ConfigUnsupported(
                f"cannot generate external snapshot name for disk '{asked.name}' on a '{asked.type}' device"
            )
        if disk.source is None:
            raise ConfigUnsupported(f"cannot generate external snapshot name for disk '{asked.name}' without source")
        if not isinstance(disk.source, FileSource) or disk.source.file is None:
            raise ConfigUnsupported(
                f"source for disk '{asked.name}' is not a regular file; refusing to generate external snapshot name"
            )
        path = f"{_stem(disk.source.file)}.{snapshot.name}"
        if path in names:
            raise ConfigUnsupported(
                f"cannot generate external snapshot name for disk '{asked.name}': collision with disk '{names[path]}'"
            )
        names[path] = asked.name
        asked.source = FileSource(file=path)


def _stem(path: str) -> str:
    head, dot, tail = path.rpartition(".")
    return head if dot and "/" not in tail else path


def is_external(snapshot: Snapshot) -> bool:
    """Some of it lies outside the guest's own images."""
    memory = snapshot.memory
    return (memory is not None and memory.snapshot == EXTERNAL) or any(d.snapshot == EXTERNAL for d in snapshot.disks)


def kept_inside(snapshot: Snapshot) -> list[str]:
    """The disks that keep it within their image."""
    return [disk.name for disk in snapshot.disks if disk.snapshot == INTERNAL]


def put_image(disk: Disk, asked: SnapshotDisk) -> None:
    """The disk goes on in the new image of a snapshot, without anything said of what is below it."""
    if asked.source is None:
        return
    disk.source = asked.source.copy()
    disk.type = asked.type
    disk.driver = DiskDriver(name="qemu") if disk.driver is None else disk.driver
    disk.driver.type = (asked.driver.type if asked.driver is not None else None) or "qcow2"
    disk.driver.metadata_cache = asked.driver.metadata_cache if asked.driver is not None else None
    disk.backing_store = None


def align_checkpoint(checkpoint: Checkpoint, domain: Domain) -> None:
    """Says of every disk of the guest whether its changes are recorded, and under which name.

    Raises ConfigUnsupported for a disk that the guest does not have, and for one that cannot be recorded.
    """
    disks = domain.devices.disks
    if not disks:
        raise ConfigUnsupported("domain must have at least one disk to perform checkpoints")
    if len(checkpoint.disks) > len(disks):
        raise ConfigUnsupported("too many disk checkpoint requests for domain")
    wants_all = not checkpoint.disks
    chosen: dict[str, CheckpointDisk] = {}
    for asked in checkpoint.disks:
        disk = _named(domain, asked.name)
        if disk is None:
            raise ConfigUnsupported(f"no disk named '{asked.name}'")
        asked.name = disk.target.dev
        if asked.name in chosen:
            raise ConfigUnsupported(f"disk '{asked.name}' specified twice")
        chosen[asked.name] = asked
        asked.checkpoint = asked.checkpoint or BITMAP
        if asked.checkpoint == BITMAP:
            if _is_out(disk):
                raise ConfigUnsupported(f"disk '{asked.name}' is empty or readonly")
            asked.bitmap = asked.bitmap or checkpoint.name
    checkpoint.disks = [
        chosen.get(disk.target.dev) or _default_recording(checkpoint, disk, wants_all=wants_all) for disk in disks
    ]


def _default_recording(checkpoint: Checkpoint, disk: Disk, *, wants_all: bool) -> CheckpointDisk:
    if wants_all and not _is_out(disk):
        return CheckpointDisk(name=disk.target.dev, checkpoint=BITMAP, bitmap=checkpoint.name)
    return CheckpointDisk(name=disk.target.dev, checkpoint=NO)


def stack_image(disk: Disk, asked: SnapshotDisk) -> None:
    """The disk goes on in the new image of a snapshot, with the one it had named below it."""
    if asked.source is None or disk.source is None:
        return
    below = disk.source.copy()
    below.index = None
    kind = (disk.driver.type if disk.driver is not None else None) or "raw"
    store = BackingStore(type=disk.type, format=ImageFormat(type=kind), source=below, backing_store=disk.backing_store)
    put_image(disk, asked)
    disk.backing_store = store
