"""Enums and flags of what a guest agent tells and does."""

from enum import IntEnum, IntFlag


class DomainAgentResponseTimeout(IntEnum):
    """libvirt's `virDomainAgentResponseTimeoutValues`."""

    BLOCK = -2
    DEFAULT = -1
    NOWAIT = 0


class DomainAuthorizedSSHKeysSetFlags(IntFlag):
    """libvirt's `virDomainAuthorizedSSHKeysSetFlags`."""

    APPEND = 1
    REMOVE = 2


class DomainGetHostnameFlags(IntFlag):
    """libvirt's `virDomainGetHostnameFlags`."""

    LEASE = 1
    AGENT = 2


class DomainGuestInfoTypes(IntFlag):
    """libvirt's `virDomainGuestInfoTypes`."""

    USERS = 1
    OS = 2
    TIMEZONE = 4
    HOSTNAME = 8
    FILESYSTEM = 1 << 4
    DISKS = 1 << 5
    INTERFACES = 1 << 6


class DomainInterfaceAddressesSource(IntEnum):
    """libvirt's `virDomainInterfaceAddressesSource`."""

    LEASE = 0
    AGENT = 1
    ARP = 2


class DomainSetTimeFlags(IntFlag):
    """libvirt's `virDomainSetTimeFlags`."""

    SYNC = 1


class DomainSetUserPasswordFlags(IntFlag):
    """libvirt's `virDomainSetUserPasswordFlags`."""

    ENCRYPTED = 1


class IPAddrType(IntEnum):
    """libvirt's `virIPAddrType`."""

    IPV4 = 0
    IPV6 = 1
