"""Enums and flags of block jobs and disks of guests."""

from enum import IntEnum, IntFlag


class DomainBlockCommitFlags(IntFlag):
    """libvirt's `virDomainBlockCommitFlags`."""

    SHALLOW = 1
    DELETE = 2
    ACTIVE = 4
    RELATIVE = 8
    BANDWIDTH_BYTES = 1 << 4


class DomainBlockCopyFlags(IntFlag):
    """libvirt's `virDomainBlockCopyFlags`."""

    SHALLOW = 1
    REUSE_EXT = 2
    TRANSIENT_JOB = 4
    SYNCHRONOUS_WRITES = 8


class DomainBlockJobAbortFlags(IntFlag):
    """libvirt's `virDomainBlockJobAbortFlags`."""

    ASYNC = 1
    PIVOT = 2


class DomainBlockJobInfoFlags(IntFlag):
    """libvirt's `virDomainBlockJobInfoFlags`."""

    BANDWIDTH_BYTES = 1


class DomainBlockJobSetSpeedFlags(IntFlag):
    """libvirt's `virDomainBlockJobSetSpeedFlags`."""

    BANDWIDTH_BYTES = 1


class DomainBlockJobType(IntEnum):
    """libvirt's `virDomainBlockJobType`."""

    UNKNOWN = 0
    PULL = 1
    COPY = 2
    COMMIT = 3
    ACTIVE_COMMIT = 4
    BACKUP = 5


class DomainBlockPullFlags(IntFlag):
    """libvirt's `virDomainBlockPullFlags`."""

    BANDWIDTH_BYTES = 1 << 6


class DomainBlockRebaseFlags(IntFlag):
    """libvirt's `virDomainBlockRebaseFlags`."""

    SHALLOW = 1
    REUSE_EXT = 2
    COPY_RAW = 4
    COPY = 8
    RELATIVE = 1 << 4
    COPY_DEV = 1 << 5
    BANDWIDTH_BYTES = 1 << 6


class DomainBlockResizeFlags(IntFlag):
    """libvirt's `virDomainBlockResizeFlags`."""

    BYTES = 1


class DomainDiskErrorCode(IntEnum):
    """libvirt's `virDomainDiskErrorCode`."""

    NONE = 0
    UNSPEC = 1
    NO_SPACE = 2
