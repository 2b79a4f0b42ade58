"""Whether a guest can be moved at all, and whether its disks are safe meanwhile."""

from __future__ import annotations

import os
from typing import Final

from actors.qemu.capabilities.model import Capabilities
from actors.qemu.guest import Guest
from actors.qemu.migration.parameters import MigrationParameters
from actors.qemu.notices import source_path
from actors.qemu.transient import check_all_lasting
from conf.domain.disk import Disk
from conf.domain.domain import Domain
from conf.domain.storage_source import NetworkSource
from schema.enums.domain_job import DomainMigrateFlags as Flags
from schema.errors import (
    ArgumentUnsupported,
    DomainStateError,
    InvalidArguments,
    MigrateUnsafe,
    OperationUnsupported,
)

KNOWN_FLAGS: Final = int(sum(Flags))
NO_LIMIT_KIB: Final = 9007199254740991
"""What libvirt takes for no limit of memory."""
LAST_PORT_OF_ALL: Final = 65535
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
    if flags & Flags.TUNNELLED:
        _check_tunnel(flags)
    if flags & Flags.POSTCOPY and (flags & Flags.PAUSED or not flags & Flags.LIVE):
        raise ArgumentUnsupported("post-copy migration is not supported with non-live or paused migration")
    if flags & Flags.POSTCOPY_RESUME:
        if not flags & Flags.POSTCOPY:
            raise InvalidArguments("resuming failed post-copy migration requires post-copy to be enabled")
        if not flags & Flags.CHANGE_PROTECTION:
            raise InvalidArguments("resuming failed post-copy migration requires change protection")
    if flags & Flags.ZEROCOPY and not flags & Flags.PARALLEL:
        raise DomainStateError("zero-copy is only available for parallel migration")
    if flags & Flags.OFFLINE:
        if flags & (Flags.NON_SHARED_DISK | Flags.NON_SHARED_INC):
            raise DomainStateError("offline migration cannot handle non-shared storage")
        if not flags & Flags.PERSIST_DEST:
            raise DomainStateError("offline migration must be specified with the persistent flag set")
        if flags & Flags.TUNNELLED:
            raise DomainStateError("tunnelled offline migration does not make sense")


def _check_tunnel(flags: int) -> None:
    if not flags & Flags.PEER2PEER:
        raise InvalidArguments("tunnelled migration requires peer2peer flag to be set")
    if flags & _COPIES:
        raise ArgumentUnsupported(
            "migration of non-shared storage is not supported with tunnelled migration and this QEMU"
        )
    if flags & Flags.POSTCOPY:
        raise ArgumentUnsupported("post-copy is not supported with tunnelled migration")
    if flags & (Flags.PARALLEL | Flags.TLS):
        raise ArgumentUnsupported("a tunnel carries one stream, and is as safe as the connection that it goes through")


def check_addresses(params: MigrationParameters, flags: int) -> None:
    """Raises InvalidArguments, ArgumentUnsupported, OperationUnsupported for addresses that do not go together."""
    if flags & Flags.TUNNELLED:
        for value, what in (
            (params.uri, "migration URI"),
            (params.listen, "listen address"),
            (params.disks_port, "disk port address"),
        ):
            if value:
                raise ArgumentUnsupported(f"{what} is not supported by tunnelled migration")
    if params.disks_uri and params.disks_port:
        raise InvalidArguments("Both port and URI requested for disk migration while being mutually exclusive")
    scheme, colon, _ = (params.disks_uri or "").partition(":")
    if params.disks_uri and (not colon or scheme not in ("tcp", "unix")):
        raise InvalidArguments(f"Unsupported scheme in disks URI: {scheme if colon else '(null)'}")
    if params.disks_port is not None and not 0 <= params.disks_port <= LAST_PORT_OF_ALL:
        raise InvalidArguments("nbd port must be in range 0-65535")
    if (params.uri or "").startswith("unix:"):
        if params.listen:
            raise InvalidArguments("Usage of listen-address is forbidden when migration URI uses UNIX transport method")
        if flags & _COPIES and not params.disks_uri:
            raise InvalidArguments("NBD URI must be supplied when migration URI uses UNIX transport method")
    if flags & Flags.TLS and flags & _COPIES and (params.disks_uri or "").startswith("unix:"):
        raise OperationUnsupported("NBD migration with TLS is not supported over UNIX socket")


def check_rdma(definition: Domain, uri: str, capabilities: Capabilities, *, incoming: bool) -> None:
    """Raises OperationUnsupported, DomainStateError when memory cannot be sent by RDMA, where that is asked for."""
    if not uri.startswith("rdma:"):
        return
    if not capabilities.has("migrate-rdma"):
        way = "incoming" if incoming else "outgoing"
        raise OperationUnsupported(f"{way} RDMA migration is not supported with this QEMU binary")
    limit = definition.memtune.hard_limit_kib if definition.memtune is not None else None
    if limit is None or not 0 < limit < NO_LIMIT_KIB:
        raise DomainStateError("cannot start RDMA migration with no memory hard limit set")


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
    check_all_lasting(guest.live)
    for hostdev in definition.devices.hostdevs:
        kind = str(hostdev.type)
        if kind != "usb":
            raise DomainStateError(f"cannot migrate a domain with <hostdev mode='{hostdev.mode}' type='{kind}'>")
    for filesystem in definition.devices.filesystems:
        driver = filesystem.driver.type if filesystem.driver is not None else None
        if str(driver) == "virtiofs":
            raise DomainStateError("migration with virtiofs device is not supported")


async def check_qemu_lets_go(guest: Guest) -> None:
    """Raises DomainStateError when QEMU itself knows why the guest cannot be moved now, and as `Guest.ask` does."""
    if reasons := (await guest.ask("query-migrate")).get("blocked-reasons"):
        raise DomainStateError(f"cannot migrate domain: {'; '.join(str(one) for one in reasons)}")


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
