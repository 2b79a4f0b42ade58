"""A backup of a guest's disks: `<domainbackup>`."""

from __future__ import annotations

from enum import StrEnum

from conf.domain.status_parts import QemuObjects, in_status
from conf.domain.storage_source import BlockSource, FileSource, SourceType, StorageSource, Transport
from conf.element import Element, Empty, attr, child, children, one_of, text
from conf.faults import lacking, malformed
from conf.values import UINT, YES_NO
from schema.errors import XmlError


class BackupMode(StrEnum):
    """Who moves the data: the hypervisor to a target, or a client from a server."""

    PUSH = "push"
    PULL = "pull"


class DiskMode(StrEnum):
    """All of a disk, or what changed since a checkpoint."""

    FULL = "full"
    INCREMENTAL = "incremental"


class FileTarget(FileSource, tag="target", case="file", empty=Empty.OMIT):
    """The file that a backup is written to."""


class BlockTarget(BlockSource, tag="target", case="block", empty=Empty.OMIT):
    """The block device that a backup is written to."""


class FileScratch(FileSource, tag="scratch", case="file", empty=Empty.OMIT):
    """The file that keeps what the guest overwrites meanwhile."""


class BlockScratch(BlockSource, tag="scratch", case="block", empty=Empty.OMIT):
    """The block device that keeps what the guest overwrites meanwhile."""


class BackupDriver(Element, tag="driver", empty=Empty.OMIT):
    """The format of the target or scratch image."""

    type: str | None = attr("type", str, default=None)


class BackupServer(Element, tag="server"):
    """Where a client fetches the data."""

    transport: Transport = attr("transport", Transport, default=Transport.TCP)
    tls: bool | None = attr("tls", YES_NO, default=None)
    name: str | None = attr("name", str, default=None)
    port: int | None = attr("port", UINT, default=None)
    socket: str | None = attr("socket", str, default=None)


class BackupDisk(Element, tag="disk"):
    """What happens to one disk."""

    name: str = attr("name", str, missing=lacking(XmlError, "missing name from disk backup element"))
    backup: bool = attr("backup", YES_NO, default=True)
    state: str | None = attr("state", str, default=None)
    type: SourceType = attr(
        "type",
        SourceType,
        default=SourceType.FILE,
        shown=lambda self, flags: self.type if self.store is not None else None,
    )
    mode: DiskMode | None = attr("backupmode", DiskMode, default=None)
    incremental: str | None = attr("incremental", str, default=None)
    export_name: str | None = attr("exportname", str, default=None)
    export_bitmap: str | None = attr("exportbitmap", str, default=None)
    index: int | None = attr("index", UINT, default=None, live=True)
    driver: BackupDriver | None = child(BackupDriver, default=None)
    target: StorageSource | None = one_of(FileTarget, BlockTarget, by_parent="type", default=None)
    scratch: StorageSource | None = one_of(FileScratch, BlockScratch, by_parent="type", default=None)

    @property
    def store(self) -> StorageSource | None:
        """Where the data goes, whichever mode."""
        return self.target or self.scratch


class BackupPrivate(Element, tag="privateData", empty=Empty.OMIT):
    """What QEMU was given for the backup."""

    objects: QemuObjects | None = child(QemuObjects, default=None)


class Backup(Element, tag="domainbackup"):
    """A backup job."""

    mode: BackupMode = attr(
        "mode", BackupMode, default=BackupMode.PUSH, bad=malformed("invalid value '{}' for backup mode")
    )
    id: int | None = attr("id", UINT, default=None)
    incremental: str | None = text("incremental", str, default=None)
    server: BackupServer | None = child(BackupServer, default=None)
    disks: list[BackupDisk] = children(BackupDisk, default=[], within="disks")
    private: BackupPrivate | None = child(BackupPrivate, default=None, shown=in_status("private"))
