"""What a backup is to do with each disk, before anything is done."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from actors.qemu.block import bitmaps
from actors.qemu.block.bitmaps_live import names
from actors.qemu.block.chain import Image, disk_of_target, images_of, take_number
from actors.qemu.block.jobs import check_no_job
from actors.qemu.guest import Guest
from actors.qemu.resources import HostPorts
from actors.qemu.transient import check_lasting
from conf.domain.storage_source import BlockSource, FileSource, StorageSource, Transport
from conf.moment.backup import (
    Backup,
    BackupDisk,
    BackupDriver,
    BackupMode,
    BackupServer,
    DiskMode,
)
from conf.moment.backups import fit_backup
from conf.moment.documents import BITMAP
from schema.errors import CheckpointInconsistent, ConfigUnsupported, NoSuchCheckpoint

FIRST_PORT: Final = 10809
LAST_PORT: Final = 10872


@dataclass(slots=True)
class Part:
    """One disk of a backup: the image it is of, the image it goes to, and since when."""

    plan: BackupDisk
    top: Image
    image: Image
    job: str
    since: str | None = None
    bitmap: str = ""
    bitmap_actions: list[dict[str, Any]] = field(default_factory=list)

    def action(self, *, pulls: bool) -> dict[str, Any]:
        """Begins it, within a transaction."""
        data: dict[str, Any] = {
            "device": self.top.format_node,
            "job-id": self.job,
            "target": self.image.format_node,
            "sync": "none" if pulls else "incremental" if self.since else "full",
            "auto-dismiss": False,
        }
        if self.since and not pulls:
            data["bitmap"] = self.bitmap
        return {"type": "blockdev-backup", "data": data}

    def export(self) -> dict[str, Any]:
        """Offers it to clients."""
        name = self.plan.export_name or self.plan.name
        data: dict[str, Any] = {
            "type": "nbd",
            "id": f"libvirt-nbd-{self.plan.name}",
            "node-name": self.image.format_node,
            "name": name,
            "writable": False,
        }
        if self.since:
            data["bitmaps"] = [self.bitmap]
        return data


def complete_plan(guest: Guest, backup: Backup, suffix: str) -> None:
    """Says of every disk whether and how it is saved.

    Raises ConfigUnsupported, XmlError for disks that cannot be saved like that.
    """
    fit_backup(backup, guest.live, suffix)
    if backup.mode is BackupMode.PULL and backup.server is None:
        backup.server = BackupServer(transport=Transport.TCP)
    for plan in backup.disks:
        if not plan.backup:
            continue
        if plan.driver is None:
            plan.driver = BackupDriver()
        plan.driver.type = plan.driver.type or "qcow2"
        if backup.mode is BackupMode.PULL:
            if plan.driver.type != "qcow2":
                raise ConfigUnsupported("pull mode backup scratch image must be of format 'qcow2'")
            plan.export_name = plan.export_name or plan.name
            if plan.incremental is not None:
                plan.export_bitmap = plan.export_bitmap or f"backup-{plan.name}"


def plan_parts(guest: Guest, backup: Backup, nodes: Mapping[str, bitmaps.NodeBitmaps]) -> list[Part]:
    """What is done with each disk that is saved.

    Raises ConfigUnsupported for one without an image, NoSuchCheckpoint and CheckpointInconsistent for the checkpoint it
    is to be since, OperationUnsupported beside a block job.
    """
    parts = []
    for plan in backup.disks:
        if not plan.backup:
            continue
        disk = disk_of_target(guest.live, plan.name)
        images = images_of(disk) if disk is not None else []
        if disk is None or not images:
            raise ConfigUnsupported(f"disk '{plan.name}' has no media")
        check_lasting(disk)
        check_no_job(guest, disk)
        since = plan.incremental if plan.mode is DiskMode.INCREMENTAL else None
        kind = plan.driver.type if plan.driver is not None else None
        part = Part(
            plan=plan,
            top=images[0],
            image=Image(_source_of(plan), kind or "qcow2"),
            job=f"backup-{plan.name}-{images[0].format_node}",
            since=since,
        )
        if since is not None:
            _add_bitmap(guest, part, images, nodes)
        parts.append(part)
    if not parts:
        raise ConfigUnsupported("no disks selected for backup")
    for part in parts:
        part.image.index = take_number(guest)
    return parts


def _source_of(plan: BackupDisk) -> StorageSource:
    store = plan.store
    if isinstance(store, BlockSource):
        return BlockSource(dev=store.dev)
    return FileSource(file=getattr(store, "file", None))


def _add_bitmap(guest: Guest, part: Part, images: list[Image], nodes: Mapping[str, bitmaps.NodeBitmaps]) -> None:
    from actors.qemu.moments.checkpoints import read_checkpoint

    name, since = part.plan.name, part.since or ""
    record = guest.moments.checkpoints.get(since)
    if record is None:
        raise NoSuchCheckpoint(f"Checkpoint '{since}' for incremental backup of disk '{name}' not found")
    if images[0].format != "qcow2":
        raise ConfigUnsupported(f"incremental backup of disk '{name}' is not supported for storage type")
    asked = next((one for one in read_checkpoint(record).disks if one.name == name and one.checkpoint == BITMAP), None)
    recording = asked.bitmap if asked is not None else None
    if recording is None or not bitmaps.is_valid(nodes, names(images), recording):
        raise CheckpointInconsistent(f"missing or broken bitmap '{recording or since}' for disk '{name}'")
    part.bitmap = part.plan.export_bitmap or f"backup-{name}"
    node = part.top.format_node
    part.bitmap_actions = bitmaps.for_backup(nodes, names(images), recording, node, part.bitmap)


def ask_server(backup: Backup, folder: str) -> None:
    """Completes where clients fetch the data. Raises ConfigUnsupported when there is no port left."""
    server = backup.server
    if server is None:
        return
    if server.transport is Transport.UNIX:
        server.socket = server.socket or f"{folder}/backup.sock"
        return
    server.name = server.name or "localhost"
    if server.port is None:
        server.port = HostPorts(set()).take("backup", FIRST_PORT, LAST_PORT)


def server_address(server: BackupServer) -> dict[str, Any]:
    """A server's address as QEMU is told."""
    if server.transport is Transport.UNIX:
        return {"type": "unix", "data": {"path": server.socket}}
    return {"type": "inet", "data": {"host": server.name, "port": str(server.port)}}
