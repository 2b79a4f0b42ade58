"""Enums and flags of secrets."""

from enum import IntEnum, IntFlag


class ConnectListAllSecretsFlags(IntFlag):
    """libvirt's `virConnectListAllSecretsFlags`."""

    EPHEMERAL = 1
    NO_EPHEMERAL = 2
    PRIVATE = 4
    NO_PRIVATE = 8


class SecretDefineFlags(IntFlag):
    """libvirt's `virSecretDefineFlags`."""

    VALIDATE = 1


class SecretEventID(IntEnum):
    """libvirt's `virSecretEventID`."""

    LIFECYCLE = 0
    VALUE_CHANGED = 1


class SecretEventLifecycleType(IntEnum):
    """libvirt's `virSecretEventLifecycleType`."""

    DEFINED = 0
    UNDEFINED = 1


class SecretUsageType(IntEnum):
    """libvirt's `virSecretUsageType`."""

    NONE = 0
    VOLUME = 1
    CEPH = 2
    ISCSI = 3
    TLS = 4
    VTPM = 5
