"""Enums and flags of memory, CPU and statistics of guests."""

from enum import IntEnum, IntFlag


class BlkioParameterType(IntEnum):
    """libvirt's `virBlkioParameterType`."""

    INT = 1
    UINT = 2
    LLONG = 3
    ULLONG = 4
    DOUBLE = 5
    BOOLEAN = 6


class DomainMemoryFlags(IntFlag):
    """libvirt's `virDomainMemoryFlags`."""

    VIRTUAL = 1
    PHYSICAL = 2


class DomainMemoryModFlags(IntFlag):
    """libvirt's `virDomainMemoryModFlags`."""

    CURRENT = 0
    LIVE = 1
    CONFIG = 2
    MAXIMUM = 4


class DomainMemoryStatTags(IntEnum):
    """libvirt's `virDomainMemoryStatTags`."""

    SWAP_IN = 0
    SWAP_OUT = 1
    MAJOR_FAULT = 2
    MINOR_FAULT = 3
    UNUSED = 4
    AVAILABLE = 5
    ACTUAL_BALLOON = 6
    RSS = 7
    USABLE = 8
    LAST_UPDATE = 9
    DISK_CACHES = 10
    HUGETLB_PGALLOC = 11
    HUGETLB_PGFAIL = 12
    NR = 13


class DomainNumatuneMemMode(IntEnum):
    """libvirt's `virDomainNumatuneMemMode`."""

    STRICT = 0
    PREFERRED = 1
    INTERLEAVE = 2
    RESTRICTIVE = 3


class DomainStatsTypes(IntFlag):
    """libvirt's `virDomainStatsTypes`."""

    STATE = 1
    CPU_TOTAL = 2
    BALLOON = 4
    VCPU = 8
    INTERFACE = 1 << 4
    BLOCK = 1 << 5
    PERF = 1 << 6
    IOTHREAD = 1 << 7
    MEMORY = 1 << 8
    DIRTYRATE = 1 << 9
    VM = 1 << 10


class DomainVcpuFlags(IntFlag):
    """libvirt's `virDomainVcpuFlags`."""

    CURRENT = 0
    LIVE = 1
    CONFIG = 2
    MAXIMUM = 4
    GUEST = 8
    HOTPLUGGABLE = 1 << 4


class MemoryParameterType(IntEnum):
    """libvirt's `virMemoryParameterType`."""

    INT = 1
    UINT = 2
    LLONG = 3
    ULLONG = 4
    DOUBLE = 5
    BOOLEAN = 6


class SchedParameterType(IntEnum):
    """libvirt's `virSchedParameterType`."""

    INT = 1
    UINT = 2
    LLONG = 3
    ULLONG = 4
    DOUBLE = 5
    BOOLEAN = 6
