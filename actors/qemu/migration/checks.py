"""Whether a guest can be moved at all, and whether its disks are safe meanwhile."""

from __future__ import annotations

import os
from typing import Final

from actors.qemu.guest import Guest
from actors.qemu.migration.parameters import MigrationParameters
from actors.qemu.notices import source_path
from conf.domain.disk import Disk
from conf.domain.domain import Domain
from conf.domain.storage_source import NetworkSource
from schema.enums.domain_job import DomainMigrateFlags as Flags
from schema.errors import ArgumentUnsupported, DomainStateError, InvalidArguments, MigrateUnsafe

KNOWN_FLAGS: Final = int(sum(Flags))
_COPIES: Final = Flags.NON_SHARED_DISK | Flags.NON_SHARED_INC
_SAFE_CACHES: Final = ("none", "directsync")
_MAGIC: Final = {
    0x6969: "nfs",
    0x1161970: "gfs2",
    0x7461636F: "ocfs2",
    0x5346414F: "afs",
    0x517B: "smb",
    0xFF534D42: "cifs",
    0xFE534D42: "smb2",
    0x65735546: "fuse",
    0xC36400: "ceph",
    0x47504653: "gpfs",
    0xAAD7AAEA: "panfs",
}
_CLUSTERED: Final = ("gfs2", "ocfs2", "ceph", "gpfs")


def check_flags_together(flags: int) -> None:
    """Raises InvalidArguments, ArgumentUnsupported, DomainStateError for flags that do not go together."""
    if flags & Flags.NON_SHARED_DISK and flags & Flags.NON_SHARED_INC:
        raise InvalidArguments(
            "Flags 'VIR_MIGRATE_NON_SHARED_DISK' and 'VIR_MIGRATE_NON_SHARED_INC' are mutually exclusive"
        )
    if flags & Flags.TUNNELLED and not flags & Flags.PEER2PEER:
        raise InvalidArguments("tunnelled migration requires peer2peer flag to be set")
    if flags & Flags.TUNNELLED and flags & (Flags.PARALLEL | Flags.POSTCOPY | _COPIES):
        raise ArgumentUnsupported("a tunnel carries one stream one way: no parallel, post-copy or storage migration")
    if flags & Flags.OFFLINE:
        if flags & (Flags.NON_SHARED_DISK | Flags.NON_SHARED_INC):
            raise DomainStateError("offline migration cannot handle non-shared storage")
        if not flags & Flags.PERSIST_DEST:
            raise DomainStateError("offline migration must be specified with the persistent flag set")
        if flags & Flags.TUNNELLED:
            raise DomainStateError("tunnelled offline migration does not make sense")
    for flag, what in (
        (Flags.TLS, "migration over TLS"),
        (Flags.RDMA_PIN_ALL, "migration by RDMA"),
        (Flags.POSTCOPY_RESUME, "resuming a failed post-copy migration"),
        (Flags.ZEROCOPY, "zero-copy migration"),
        (Flags.NON_SHARED_SYNCHRONOUS_WRITES, "synchronous copies of storage"),
    ):
        if flags & flag:
            raise ArgumentUnsupported(f"{what} is not supported yet")


def check_can_leave(guest: Guest, definition: Domain, flags: int) -> None:
    """Raises DomainStateError when something of the guest cannot be moved."""
    if guest.moments.snapshots:
        raise DomainStateError(f"cannot migrate domain with {len(guest.moments.snapshots)} snapshots")
    if flags & Flags.OFFLINE:
        return
    run = guest.need_run()
    if run.jobs:
        raise DomainStateError("domain has active block job")
    if guest.job is not None:
        raise DomainStateError("another migration job is already running for domain")
    for hostdev in definition.devices.hostdevs:
        kind = str(hostdev.type)
        if kind != "usb":
            raise DomainStateError(f"cannot migrate a domain with <hostdev mode='{hostdev.mode}' type='{kind}'>")
    for filesystem in definition.devices.filesystems:
        driver = filesystem.driver.type if filesystem.driver is not None else None
        raise DomainStateError(
            "migration with virtiofs device is not supported"
            if str(driver) == "virtiofs"
            else "Migration is disabled when a file system of the host is mounted in the guest"
        )


def copies(disk: Disk, params: MigrationParameters, flags: int) -> bool:
    """Whether a disk's content is sent along."""
    if not flags & (Flags.NON_SHARED_DISK | Flags.NON_SHARED_INC):
        return False
    if params.disks:
        return disk.target.dev in params.disks
    return disk.source is not None and not disk.readonly and disk.shareable is not True


def check_is_safe(definition: Domain, params: MigrationParameters, flags: int) -> None:
    """Raises MigrateUnsafe when both sides would not see the same disks."""
    if flags & (Flags.UNSAFE | Flags.OFFLINE):
        return
    for disk in definition.devices.disks:
        path = source_path(disk)
        is_network = isinstance(disk.source, NetworkSource)
        if (not path and not is_network) or disk.readonly or copies(disk, params, flags):
            continue
        if path:
            kind = filesystem_of(path)
            if kind is None and not path.startswith("/dev/"):
                raise MigrateUnsafe("Migration without shared storage is unsafe")
            if kind in _CLUSTERED:
                continue
        if is_network and getattr(disk.source, "protocol", None) == "rbd":
            continue
        cache = disk.driver.cache if disk.driver is not None else None
        if str(cache) not in _SAFE_CACHES:
            raise MigrateUnsafe(
                "Migration may lead to data corruption if disks use cache other than none or directsync"
            )


def filesystem_of(path: str) -> str | None:
    """The name of the shared file system that a file is on; None for one of this host alone."""
    import ctypes

    buffer = ctypes.create_string_buffer(256)
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.statfs(os.fsencode(path), buffer) != 0:
        return None
    return _MAGIC.get(int.from_bytes(buffer.raw[:8], "little") & 0xFFFFFFFF)
