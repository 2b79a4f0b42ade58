"""Enums and flags of migration, backup and other jobs of guests."""

from enum import IntEnum, IntFlag


class DomainAbortJobFlags(IntFlag):
    """libvirt's `virDomainAbortJobFlagsValues`."""

    POSTCOPY = 1


class DomainBackupBeginFlags(IntFlag):
    """libvirt's `virDomainBackupBeginFlags`."""

    REUSE_EXTERNAL = 1


class DomainDirtyRateCalcFlags(IntFlag):
    """libvirt's `virDomainDirtyRateCalcFlags`."""

    PAGE_SAMPLING = 0
    DIRTY_BITMAP = 1
    DIRTY_RING = 2


class DomainDirtyRateStatus(IntEnum):
    """libvirt's `virDomainDirtyRateStatus`."""

    UNSTARTED = 0
    MEASURING = 1
    MEASURED = 2


class DomainGetJobStatsFlags(IntFlag):
    """libvirt's `virDomainGetJobStatsFlags`."""

    COMPLETED = 1
    KEEP_COMPLETED = 2


class DomainJobOperation(IntEnum):
    """libvirt's `virDomainJobOperation`."""

    UNKNOWN = 0
    START = 1
    SAVE = 2
    RESTORE = 3
    MIGRATION_IN = 4
    MIGRATION_OUT = 5
    SNAPSHOT = 6
    SNAPSHOT_REVERT = 7
    DUMP = 8
    BACKUP = 9
    SNAPSHOT_DELETE = 10


class DomainJobType(IntEnum):
    """libvirt's `virDomainJobType`."""

    NONE = 0
    BOUNDED = 1
    UNBOUNDED = 2
    COMPLETED = 3
    FAILED = 4
    CANCELLED = 5


class DomainMigrateFlags(IntFlag):
    """libvirt's `virDomainMigrateFlags`."""

    LIVE = 1
    PEER2PEER = 2
    TUNNELLED = 4
    PERSIST_DEST = 8
    UNDEFINE_SOURCE = 1 << 4
    PAUSED = 1 << 5
    NON_SHARED_DISK = 1 << 6
    NON_SHARED_INC = 1 << 7
    CHANGE_PROTECTION = 1 << 8
    UNSAFE = 1 << 9
    OFFLINE = 1 << 10
    COMPRESSED = 1 << 11
    ABORT_ON_ERROR = 1 << 12
    AUTO_CONVERGE = 1 << 13
    RDMA_PIN_ALL = 1 << 14
    POSTCOPY = 1 << 15
    TLS = 1 << 16
    PARALLEL = 1 << 17
    NON_SHARED_SYNCHRONOUS_WRITES = 1 << 18
    POSTCOPY_RESUME = 1 << 19
    ZEROCOPY = 1 << 20


class DomainMigrateMaxSpeedFlags(IntFlag):
    """libvirt's `virDomainMigrateMaxSpeedFlags`."""

    POSTCOPY = 1
