"""Enums and flags of snapshots of guests."""

from enum import IntFlag


class DomainSnapshotCreateFlags(IntFlag):
    """libvirt's `virDomainSnapshotCreateFlags`."""

    REDEFINE = 1
    CURRENT = 2
    NO_METADATA = 4
    HALT = 8
    DISK_ONLY = 1 << 4
    REUSE_EXT = 1 << 5
    QUIESCE = 1 << 6
    ATOMIC = 1 << 7
    LIVE = 1 << 8
    VALIDATE = 1 << 9


class DomainSnapshotDeleteFlags(IntFlag):
    """libvirt's `virDomainSnapshotDeleteFlags`."""

    CHILDREN = 1
    METADATA_ONLY = 2
    CHILDREN_ONLY = 4


class DomainSnapshotListFlags(IntFlag):
    """libvirt's `virDomainSnapshotListFlags`."""

    DESCENDANTS = 1
    ROOTS = 1
    METADATA = 2
    LEAVES = 4
    NO_LEAVES = 8
    NO_METADATA = 1 << 4
    INACTIVE = 1 << 5
    ACTIVE = 1 << 6
    DISK_ONLY = 1 << 7
    INTERNAL = 1 << 8
    EXTERNAL = 1 << 9
    TOPOLOGICAL = 1 << 10


class DomainSnapshotRevertFlags(IntFlag):
    """libvirt's `virDomainSnapshotRevertFlags`."""

    RUNNING = 1
    PAUSED = 2
    FORCE = 4
    RESET_NVRAM = 8


class DomainSnapshotXMLFlags(IntFlag):
    """libvirt's `virDomainSnapshotXMLFlags`."""

    SECURE = 1
