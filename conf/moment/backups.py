"""Backups between text and object, and how they fit the disks of their guest."""

from __future__ import annotations

from conf.document import parse_document
from conf.domain.disk import Disk
from conf.domain.domain import Domain
from conf.domain.storage_source import FileSource, SourceType, Transport
from conf.flags import XmlFlags
from conf.moment.backup import (
    Backup,
    BackupDisk,
    BackupMode,
    DiskMode,
    FileScratch,
    FileTarget,
)
from conf.origin import told_by
from schema.errors import ConfigUnsupported, ErrorDomain, XmlError


@told_by(ErrorDomain.DOMAIN)
def parse_backup(xml: str | bytes, *, validate: bool = False) -> Backup:
    """The backup that a document describes. Raises XmlDetailError, XmlError, ConfigUnsupported."""
    backup = Backup.parse(parse_document(xml, name="domain_backup", root="domainbackup", validate=validate))
    server = backup.server
    if server is not None:
        if backup.mode is not BackupMode.PULL:
            raise XmlError("use of <server> requires pull mode backup")
        if server.transport is Transport.RDMA:
            raise XmlError("transport rdma is not supported for <server>")
        if server.transport is Transport.UNIX and not (server.socket or "").startswith("/"):
            raise XmlError(f"backup socket path '{server.socket or ''}' must be absolute")
    for disk in backup.disks:
        _check_disk(disk, backup.mode)
    return backup


def write_backup(backup: Backup, flags: XmlFlags = XmlFlags.NONE) -> str:
    """The document of a backup, as libvirt writes it."""
    return backup.to_xml(flags)


def fit_backup(backup: Backup, domain: Domain, suffix: str) -> None:
    """Says of every disk of the guest whether and how it is saved; images not named get the suffix.

    Raises ConfigUnsupported for a disk that the guest does not have, and for one whose image cannot be named.
    """
    if not domain.devices.disks:
        raise ConfigUnsupported("domain must have at least one disk to perform backup")
    saves_all = not backup.disks
    named: set[str] = set()
    for asked in backup.disks:
        disk = next((one for one in domain.devices.disks if one.target.dev == asked.name), None)
        if disk is None:
            raise ConfigUnsupported(f"no disk named '{asked.name}'")
        if asked.name in named:
            raise ConfigUnsupported(f"backup disk '{asked.name}' specified twice")
        named.add(asked.name)
        if asked.backup:
            _name_image(asked, disk, backup.mode, suffix)
    for disk in domain.devices.disks:
        if disk.target.dev in named:
            continue
        added = BackupDisk(name=disk.target.dev, backup=saves_all and disk.source is not None)
        if added.backup:
            _name_image(added, disk, backup.mode, suffix)
        backup.disks.append(added)
    for one in backup.disks:
        if one.backup:
            _choose_mode(one, backup)


def _check_disk(disk: BackupDisk, mode: BackupMode) -> None:
    if disk.type not in (SourceType.FILE, SourceType.BLOCK):
        raise XmlError(f"unsupported disk backup type '{disk.type}'")
    if mode is BackupMode.PUSH:
        disk.scratch = None
        if disk.export_name is not None or disk.export_bitmap is not None:
            raise XmlError("use of export name or bitmap requires pull mode backup")
    else:
        disk.target = None
    if not disk.backup:
        disk.target = disk.scratch = disk.driver = None
    elif disk.mode is DiskMode.FULL and disk.incremental is not None:
        raise XmlError(f"'full' backup mode incompatible with setting 'incremental' for disk '{disk.name}'")


def _name_image(asked: BackupDisk, disk: Disk, mode: BackupMode, suffix: str) -> None:
    source = disk.source
    if source is None:
        if asked.store is not None:
            raise ConfigUnsupported(f"disk '{asked.name}' has no media")
        return
    if asked.store is not None:
        return
    if not isinstance(source, FileSource) or source.file is None:
        raise ConfigUnsupported(f"refusing to generate file name for disk '{asked.name}'")
    asked.type = SourceType.FILE
    path = f"{source.file}.{suffix}"
    if mode is BackupMode.PUSH:
        asked.target = FileTarget(file=path)
    else:
        asked.scratch = FileScratch(file=path)


def _choose_mode(disk: BackupDisk, backup: Backup) -> None:
    wanted = disk.incremental or (backup.incremental if disk.mode is not DiskMode.FULL else None)
    if disk.mode is DiskMode.INCREMENTAL and wanted is None:
        raise XmlError(f"disk '{disk.name}' has no checkpoint to be incremental to")
    if disk.mode is None:
        disk.mode = DiskMode.INCREMENTAL if wanted is not None else DiskMode.FULL
    disk.incremental = wanted
