"""Enums and flags of storage pools."""

from enum import IntEnum, IntFlag


class ConnectListAllStoragePoolsFlags(IntFlag):
    """libvirt's `virConnectListAllStoragePoolsFlags`."""

    INACTIVE = 1
    ACTIVE = 2
    PERSISTENT = 4
    TRANSIENT = 8
    AUTOSTART = 1 << 4
    NO_AUTOSTART = 1 << 5
    DIR = 1 << 6
    FS = 1 << 7
    NETFS = 1 << 8
    LOGICAL = 1 << 9
    DISK = 1 << 10
    ISCSI = 1 << 11
    SCSI = 1 << 12
    MPATH = 1 << 13
    RBD = 1 << 14
    SHEEPDOG = 1 << 15
    GLUSTER = 1 << 16
    ZFS = 1 << 17
    VSTORAGE = 1 << 18
    ISCSI_DIRECT = 1 << 19


class StoragePoolBuildFlags(IntFlag):
    """libvirt's `virStoragePoolBuildFlags`."""

    NEW = 0
    REPAIR = 1
    RESIZE = 2
    NO_OVERWRITE = 4
    OVERWRITE = 8


class StoragePoolCreateFlags(IntFlag):
    """libvirt's `virStoragePoolCreateFlags`."""

    NORMAL = 0
    WITH_BUILD = 1
    WITH_BUILD_OVERWRITE = 2
    WITH_BUILD_NO_OVERWRITE = 4


class StoragePoolDefineFlags(IntFlag):
    """libvirt's `virStoragePoolDefineFlags`."""

    VALIDATE = 1


class StoragePoolDeleteFlags(IntFlag):
    """libvirt's `virStoragePoolDeleteFlags`."""

    NORMAL = 0
    ZEROED = 1


class StoragePoolEventID(IntEnum):
    """libvirt's `virStoragePoolEventID`."""

    LIFECYCLE = 0
    REFRESH = 1


class StoragePoolEventLifecycleType(IntEnum):
    """libvirt's `virStoragePoolEventLifecycleType`."""

    DEFINED = 0
    UNDEFINED = 1
    STARTED = 2
    STOPPED = 3
    CREATED = 4
    DELETED = 5


class StoragePoolState(IntEnum):
    """libvirt's `virStoragePoolState`."""

    INACTIVE = 0
    BUILDING = 1
    RUNNING = 2
    DEGRADED = 3
    INACCESSIBLE = 4


class StorageXMLFlags(IntFlag):
    """libvirt's `virStorageXMLFlags`."""

    INACTIVE = 1
