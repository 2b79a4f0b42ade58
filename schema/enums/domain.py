"""Enums and flags of guests as a whole: creating, ending, describing, saving them."""

from enum import IntEnum, IntFlag


class DomainChannelFlags(IntFlag):
    """libvirt's `virDomainChannelFlags`."""

    FORCE = 1


class DomainConsoleFlags(IntFlag):
    """libvirt's `virDomainConsoleFlags`."""

    FORCE = 1
    SAFE = 2


class DomainCoreDumpFlags(IntFlag):
    """libvirt's `virDomainCoreDumpFlags`."""

    CRASH = 1
    LIVE = 2
    BYPASS_CACHE = 4
    RESET = 8
    MEMORY_ONLY = 1 << 4


class DomainCoreDumpFormat(IntEnum):
    """libvirt's `virDomainCoreDumpFormat`."""

    RAW = 0
    KDUMP_ZLIB = 1
    KDUMP_LZO = 2
    KDUMP_SNAPPY = 3
    WIN_DMP = 4


class DomainCreateFlags(IntFlag):
    """libvirt's `virDomainCreateFlags`."""

    NONE = 0
    START_PAUSED = 1
    START_AUTODESTROY = 2
    START_BYPASS_CACHE = 4
    START_FORCE_BOOT = 8
    START_VALIDATE = 1 << 4
    START_RESET_NVRAM = 1 << 5


class DomainDefineFlags(IntFlag):
    """libvirt's `virDomainDefineFlags`."""

    VALIDATE = 1


class DomainDestroyFlags(IntFlag):
    """libvirt's `virDomainDestroyFlagsValues`."""

    DEFAULT = 0
    GRACEFUL = 1
    REMOVE_LOGS = 2


class DomainDeviceModifyFlags(IntFlag):
    """libvirt's `virDomainDeviceModifyFlags`."""

    CURRENT = 0
    LIVE = 1
    CONFIG = 2
    FORCE = 4


class DomainFDAssociateFlags(IntFlag):
    """libvirt's `virDomainFDAssociateFlags`."""

    SECLABEL_RESTORE = 1
    SECLABEL_WRITABLE = 2


class DomainLifecycle(IntEnum):
    """libvirt's `virDomainLifecycle`."""

    POWEROFF = 0
    REBOOT = 1
    CRASH = 2


class DomainLifecycleAction(IntEnum):
    """libvirt's `virDomainLifecycleAction`."""

    DESTROY = 0
    RESTART = 1
    RESTART_RENAME = 2
    PRESERVE = 3
    COREDUMP_DESTROY = 4
    COREDUMP_RESTART = 5


class DomainMessageType(IntEnum):
    """libvirt's `virDomainMessageType`."""

    DEPRECATION = 1
    TAINTING = 2


class DomainMetadataType(IntEnum):
    """libvirt's `virDomainMetadataType`."""

    DESCRIPTION = 0
    TITLE = 1
    ELEMENT = 2


class DomainModificationImpact(IntFlag):
    """libvirt's `virDomainModificationImpact`."""

    CURRENT = 0
    LIVE = 1
    CONFIG = 2


class DomainOpenGraphicsFlags(IntFlag):
    """libvirt's `virDomainOpenGraphicsFlags`."""

    SKIPAUTH = 1


class DomainRebootFlags(IntFlag):
    """libvirt's `virDomainRebootFlagValues`."""

    DEFAULT = 0
    ACPI_POWER_BTN = 1
    GUEST_AGENT = 2
    INITCTL = 4
    SIGNAL = 8
    PARAVIRT = 1 << 4


class DomainSaveImageXMLFlags(IntFlag):
    """libvirt's `virDomainSaveImageXMLFlags`."""

    SECURE = 1


class DomainSaveRestoreFlags(IntFlag):
    """libvirt's `virDomainSaveRestoreFlags`."""

    BYPASS_CACHE = 1
    RUNNING = 2
    PAUSED = 4
    RESET_NVRAM = 8


class DomainShutdownFlags(IntFlag):
    """libvirt's `virDomainShutdownFlagValues`."""

    DEFAULT = 0
    ACPI_POWER_BTN = 1
    GUEST_AGENT = 2
    INITCTL = 4
    SIGNAL = 8
    PARAVIRT = 1 << 4


class DomainUndefineFlags(IntFlag):
    """libvirt's `virDomainUndefineFlagsValues`."""

    MANAGED_SAVE = 1
    SNAPSHOTS_METADATA = 2
    NVRAM = 4
    KEEP_NVRAM = 8
    CHECKPOINTS_METADATA = 1 << 4
    TPM = 1 << 5
    KEEP_TPM = 1 << 6


class DomainXMLFlags(IntFlag):
    """libvirt's `virDomainXMLFlags`."""

    SECURE = 1
    INACTIVE = 2
    UPDATE_CPU = 4
    MIGRATABLE = 8
