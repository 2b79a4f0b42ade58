"""What a new snapshot is to be, before anything is done: checked, and fitted to the guest."""

from __future__ import annotations

from typing import Final

from actors.qemu.block.chain import disk_of_target
from actors.qemu.block.jobs import check_no_job
from actors.qemu.flags import check_flags
from actors.qemu.guest import Guest
from actors.qemu.live_processor import as_asked
from actors.qemu.transient import check_lasting
from conf.document import parse_document
from conf.domain.disk import Disk
from conf.domain.documents import write_domain
from conf.domain.domain import Domain
from conf.flags import ParseFlags, XmlFlags
from conf.moment.alignment import DISK_SNAPSHOT, align_snapshot, is_external, name_images
from conf.moment.documents import EXTERNAL, INTERNAL, NO
from conf.moment.moment import InactiveDomain, Snapshot, SnapshotDriver, SnapshotMemory
from schema.enums.domain_snapshot import DomainSnapshotCreateFlags as Create
from schema.enums.domain_state import DomainState
from schema.errors import (
    ConfigUnsupported,
    DomainStateError,
    InternalError,
    InvalidArguments,
    OperationFailed,
    OperationUnsupported,
    XmlDetailError,
    XmlError,
)

_KNOWN: Final = int(
    Create.REDEFINE
    | Create.CURRENT
    | Create.NO_METADATA
    | Create.HALT
    | Create.DISK_ONLY
    | Create.REUSE_EXT
    | Create.QUIESCE
    | Create.ATOMIC
    | Create.LIVE
    | Create.VALIDATE
)
_WORDS: Final = {
    DomainState.RUNNING: "running",
    DomainState.PAUSED: "paused",
    DomainState.SHUTOFF: "shutoff",
    DomainState.PMSUSPENDED: "pmsuspended",
    DomainState.CRASHED: "crashed",
    DomainState.SHUTDOWN: "shutdown",
}


def check_create_flags(flags: int) -> None:
    """Raises UnsupportedFlags, and InvalidArguments for flags that exclude or need each other."""
    check_flags(flags, _KNOWN, "qemuSnapshotCreateXML")
    _check_needs(flags, Create.QUIESCE, Create.DISK_ONLY)
    _check_apart(flags, Create.LIVE, Create.REDEFINE)
    _check_apart(flags, Create.HALT, Create.REDEFINE)


def _name(flag: Create) -> str:
    return f"VIR_DOMAIN_SNAPSHOT_CREATE_{flag.name}"


def _check_needs(flags: int, flag: Create, needed: Create) -> None:
    if flags & flag and not flags & needed:
        error = InvalidArguments()
        error.message = f"Flag '{_name(needed)}' is required by flag '{_name(flag)}'"
        raise error


def _check_apart(flags: int, one: Create, other: Create) -> None:
    if flags & one and flags & other:
        error = InvalidArguments()
        error.message = f"Flags '{_name(one)}' and '{_name(other)}' are mutually exclusive"
        raise error


def check_name(name: str) -> None:
    """Raises XmlDetailError for a name that no snapshot can have."""
    if "/" in name:
        raise XmlDetailError(f"invalid snapshot name '{name}': name can't contain '/'")
    if name.startswith("."):
        raise XmlDetailError(f"invalid snapshot name '{name}': name can't start with '.'")


def fit(guest: Guest, snapshot: Snapshot, flags: int) -> None:
    """Completes a new snapshot of a guest as it is now, with its definitions.

    Raises ConfigUnsupported, OperationUnsupported, DomainStateError, XmlError for what cannot be kept like that.
    """
    is_active = guest.is_active
    asked_memory = snapshot.memory.snapshot if snapshot.memory is not None else None
    disk_only = bool(flags & Create.DISK_ONLY)
    if (disk_only or not is_active) and asked_memory not in (None, NO):
        raise XmlError("memory state cannot be saved with offline or disk-only snapshot")
    if flags & Create.LIVE and not (is_active and asked_memory == EXTERNAL):
        raise OperationUnsupported("live snapshot creation is supported only during full system snapshots")
    domain = guest.live if is_active else guest.config
    memory = snapshot.memory = snapshot.memory or SnapshotMemory()
    if disk_only:
        snapshot.state = DISK_SNAPSHOT if is_active else "shutoff"
        memory.snapshot = NO
        default = EXTERNAL
    elif memory.snapshot == EXTERNAL:
        snapshot.state = _WORDS.get(guest.state, "running")
        default = EXTERNAL
    else:
        snapshot.state = _WORDS.get(guest.state, "running")
        if is_active and memory.snapshot == NO:
            raise OperationUnsupported("internal snapshot of a running VM must include the memory state")
        memory.snapshot = INTERNAL if is_active else NO
        default = INTERNAL
        if is_active and _has_flash(domain):
            raise OperationUnsupported("internal snapshots of a VM with pflash based firmware are not supported")
    align_snapshot(snapshot, domain, default, uniform=default == INTERNAL)
    name_images(snapshot, domain)
    _check_disks(guest, snapshot, domain, flags)
    _take_definitions(guest, snapshot)


def _has_flash(domain: Domain) -> bool:
    loader = domain.os.loader
    return loader is not None and getattr(loader, "type", None) == "pflash"


def _check_disks(guest: Guest, snapshot: Snapshot, domain: Domain, flags: int) -> None:
    inside = outside = 0
    for asked in snapshot.disks:
        disk = disk_of_target(domain, asked.name)
        if disk is None:
            raise ConfigUnsupported(f"no disk named '{asked.name}'")
        if asked.snapshot == INTERNAL:
            inside += 1
            _check_inside(guest, disk, flags)
        elif asked.snapshot == EXTERNAL:
            outside += 1
            asked.driver = asked.driver or SnapshotDriver()
            asked.driver.type = asked.driver.type or "qcow2"
            if asked.driver.type not in ("qcow2", "qed"):
                raise ConfigUnsupported(
                    f"external snapshot format for disk {asked.name} is unsupported: {asked.driver.type}"
                )
            if guest.is_active:
                check_no_job(guest, disk)
                check_lasting(disk)
            if disk.readonly:
                raise ConfigUnsupported(f"external snapshot for readonly disk {asked.name} is not supported")
    memory = snapshot.memory.snapshot if snapshot.memory is not None else None
    if inside and outside:
        raise ConfigUnsupported("mixing internal and external targets for a snapshot is not yet supported")
    if not inside and not outside:
        if memory == NO:
            raise ConfigUnsupported("nothing selected for snapshot")
        if memory == INTERNAL:
            raise ConfigUnsupported("internal and full system snapshots require all disks to be selected for snapshot")


def _check_inside(guest: Guest, disk: Disk, flags: int) -> None:
    name = disk.target.dev
    if flags & Create.DISK_ONLY and guest.is_active:
        raise ConfigUnsupported(f"active qemu domains require external disk snapshots; disk {name} requested internal")
    kind = (disk.driver.type if disk.driver is not None else None) or "raw"
    if kind != "qcow2":
        raise ConfigUnsupported(f"internal snapshot for disk {name} unsupported for storage type {kind}")


def _take_definitions(guest: Guest, snapshot: Snapshot) -> None:
    """The snapshot holds what the guest is at this moment."""
    if not guest.is_active:
        snapshot.domain = copied(guest.config)
        return
    snapshot.domain = copied(as_asked(guest))
    if guest.is_persistent:
        text = write_domain(guest.config, XmlFlags.INACTIVE | XmlFlags.SECURE)
        node = parse_document(text, name="domain_definition", root="domain")
        node.tag = "inactiveDomain"
        snapshot.inactive_domain = InactiveDomain.parse(node, ParseFlags.INACTIVE)


def copied(domain: Domain) -> Domain:
    """A definition as it is for a start, without what only a running guest has."""
    text = write_domain(domain, XmlFlags.INACTIVE | XmlFlags.SECURE | XmlFlags.MIGRATABLE)
    kept = Domain.parse(parse_document(text, name="domain_definition", root="domain"), ParseFlags.INACTIVE)
    for disk in kept.devices.disks:
        if disk.source is None and disk.driver is not None:
            disk.driver.type = disk.driver.type or "raw"  # an empty drive has a format again when it is off
    return kept


# --- made known again ------------------------------------------------------------------------------------------------


def check_redefined(guest: Guest, snapshot: Snapshot, flags: int) -> None:
    """Whether a snapshot that is made known again fits the guest and those that are known.

    Raises InvalidArguments, InternalError, OperationFailed.
    """
    known = guest.moments.snapshots
    name = snapshot.name or ""
    if flags & Create.DISK_ONLY and snapshot.state != DISK_SNAPSHOT:
        raise InvalidArguments(f"disk-only flag for snapshot {name} requires disk-snapshot state")
    parent = snapshot.parent.name if snapshot.parent is not None else None
    if parent is not None:
        if parent == name:
            raise InvalidArguments(f"cannot set moment {name} as its own parent")
        if parent not in known:
            raise InvalidArguments(f"parent {parent} for moment {name} not found")
        above: str | None = parent
        while above is not None:
            if above == name:
                raise InvalidArguments(f"parent {parent} would create cycle to {name}")
            above = known[above].parent if above in known else None
    if snapshot.domain is not None and snapshot.domain.uuid.bytes != guest.key:
        raise InvalidArguments(f"definition for snapshot {name} must use uuid {guest.record.uuid}")
    old = known.get(name)
    if old is not None:
        off = ("shutoff", "crashed")
        if (old.state in off) != (snapshot.state in off):
            raise InvalidArguments(f"cannot change between online and offline snapshot state in snapshot {name}")
        if (old.state == DISK_SNAPSHOT) != (snapshot.state == DISK_SNAPSHOT):
            raise InvalidArguments(f"cannot change between disk only and full system in snapshot {name}")
    if snapshot.domain is None and old is None:
        raise InternalError("missing domain in snapshot")
    if snapshot.domain is not None:
        external = snapshot.state == DISK_SNAPSHOT or is_external(snapshot)
        align_snapshot(snapshot, snapshot.domain, EXTERNAL if external else INTERNAL, uniform=not external)


def check_new(guest: Guest, name: str) -> None:
    """Raises OperationFailed for a name that another snapshot has."""
    if name in guest.moments.snapshots:
        raise OperationFailed(f"domain moment {name} already exists")


def check_halt(guest: Guest, flags: int) -> None:
    """Raises DomainStateError for a guest that would be gone."""
    if flags & Create.HALT and not guest.is_persistent:
        raise DomainStateError("cannot halt after transient domain snapshot")
