"""Enums and flags of the QEMU program."""

from enum import IntEnum, IntFlag


class ConnectDomainQemuMonitorEventRegisterFlags(IntFlag):
    """libvirt's `virConnectDomainQemuMonitorEventRegisterFlags`."""

    REGEX = 1
    NOCASE = 2


class DomainQemuAgentCommandTimeout(IntEnum):
    """libvirt's `virDomainQemuAgentCommandTimeoutValues`."""

    BLOCK = -2
    MIN = -2
    DEFAULT = -1
    NOWAIT = 0
    SHUTDOWN = 60


class DomainQemuMonitorCommandFlags(IntFlag):
    """libvirt's `virDomainQemuMonitorCommandFlags`."""

    DEFAULT = 0
    HMP = 1
