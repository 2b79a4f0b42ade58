"""Enums and flags of storage volumes."""

from enum import IntEnum, IntFlag


class StorageVolCreateFlags(IntFlag):
    """libvirt's `virStorageVolCreateFlags`."""

    PREALLOC_METADATA = 1
    REFLINK = 2
    VALIDATE = 4


class StorageVolDeleteFlags(IntFlag):
    """libvirt's `virStorageVolDeleteFlags`."""

    NORMAL = 0
    ZEROED = 1
    WITH_SNAPSHOTS = 2


class StorageVolDownloadFlags(IntFlag):
    """libvirt's `virStorageVolDownloadFlags`."""

    SPARSE_STREAM = 1


class StorageVolInfoFlags(IntFlag):
    """libvirt's `virStorageVolInfoFlags`."""

    USE_ALLOCATION = 0
    GET_PHYSICAL = 1


class StorageVolResizeFlags(IntFlag):
    """libvirt's `virStorageVolResizeFlags`."""

    ALLOCATE = 1
    DELTA = 2
    SHRINK = 4


class StorageVolType(IntEnum):
    """libvirt's `virStorageVolType`."""

    FILE = 0
    BLOCK = 1
    DIR = 2
    NETWORK = 3
    NETDIR = 4
    PLOOP = 5


class StorageVolUploadFlags(IntFlag):
    """libvirt's `virStorageVolUploadFlags`."""

    SPARSE_STREAM = 1


class StorageVolWipeAlgorithm(IntEnum):
    """libvirt's `virStorageVolWipeAlgorithm`."""

    ZERO = 0
    NNSA = 1
    DOD = 2
    BSI = 3
    GUTMANN = 4
    SCHNEIER = 5
    PFITZNER7 = 6
    PFITZNER33 = 7
    RANDOM = 8
    TRIM = 9
