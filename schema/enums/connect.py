"""Enums and flags of connections, the CPU comparison and the list of guests."""

from enum import IntEnum, IntFlag


class CPUCompareResult(IntEnum):
    """libvirt's `virCPUCompareResult`."""

    ERROR = -1
    INCOMPATIBLE = 0
    IDENTICAL = 1
    SUPERSET = 2


class ConnectBaselineCPUFlags(IntFlag):
    """libvirt's `virConnectBaselineCPUFlags`."""

    EXPAND_FEATURES = 1
    MIGRATABLE = 2


class ConnectCloseReason(IntEnum):
    """libvirt's `virConnectCloseReason`."""

    ERROR = 0
    EOF = 1
    KEEPALIVE = 2
    CLIENT = 3


class ConnectCompareCPUFlags(IntFlag):
    """libvirt's `virConnectCompareCPUFlags`."""

    FAIL_INCOMPATIBLE = 1
    VALIDATE_XML = 2


class ConnectCredentialType(IntEnum):
    """libvirt's `virConnectCredentialType`."""

    USERNAME = 1
    AUTHNAME = 2
    LANGUAGE = 3
    CNONCE = 4
    PASSPHRASE = 5
    ECHOPROMPT = 6
    NOECHOPROMPT = 7
    REALM = 8
    EXTERNAL = 9


class ConnectFlags(IntFlag):
    """libvirt's `virConnectFlags`."""

    RO = 1
    NO_ALIASES = 2


class ConnectGetAllDomainStatsFlags(IntFlag):
    """libvirt's `virConnectGetAllDomainStatsFlags`."""

    ACTIVE = 1
    INACTIVE = 2
    PERSISTENT = 4
    TRANSIENT = 8
    RUNNING = 1 << 4
    PAUSED = 1 << 5
    SHUTOFF = 1 << 6
    OTHER = 1 << 7
    NOWAIT = 1 << 29
    BACKING = 1 << 30
    ENFORCE_STATS = 1 << 31


class ConnectListAllDomainsFlags(IntFlag):
    """libvirt's `virConnectListAllDomainsFlags`."""

    ACTIVE = 1
    INACTIVE = 2
    PERSISTENT = 4
    TRANSIENT = 8
    RUNNING = 1 << 4
    PAUSED = 1 << 5
    SHUTOFF = 1 << 6
    OTHER = 1 << 7
    MANAGEDSAVE = 1 << 8
    NO_MANAGEDSAVE = 1 << 9
    AUTOSTART = 1 << 10
    NO_AUTOSTART = 1 << 11
    HAS_SNAPSHOT = 1 << 12
    NO_SNAPSHOT = 1 << 13
    HAS_CHECKPOINT = 1 << 14
    NO_CHECKPOINT = 1 << 15
