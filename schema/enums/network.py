"""Enums and flags of virtual networks and their ports."""

from enum import IntEnum, IntFlag


class ConnectListAllNetworksFlags(IntFlag):
    """libvirt's `virConnectListAllNetworksFlags`."""

    INACTIVE = 1
    ACTIVE = 2
    PERSISTENT = 4
    TRANSIENT = 8
    AUTOSTART = 1 << 4
    NO_AUTOSTART = 1 << 5


class NetworkCreateFlags(IntFlag):
    """libvirt's `virNetworkCreateFlags`."""

    VALIDATE = 1


class NetworkDefineFlags(IntFlag):
    """libvirt's `virNetworkDefineFlags`."""

    VALIDATE = 1


class NetworkEventID(IntEnum):
    """libvirt's `virNetworkEventID`."""

    LIFECYCLE = 0


class NetworkEventLifecycleType(IntEnum):
    """libvirt's `virNetworkEventLifecycleType`."""

    DEFINED = 0
    UNDEFINED = 1
    STARTED = 2
    STOPPED = 3


class NetworkPortCreateFlags(IntFlag):
    """libvirt's `virNetworkPortCreateFlags`."""

    RECLAIM = 1
    VALIDATE = 2


class NetworkUpdateCommand(IntEnum):
    """libvirt's `virNetworkUpdateCommand`."""

    NONE = 0
    MODIFY = 1
    DELETE = 2
    ADD_FIRST = 4


class NetworkUpdateFlags(IntFlag):
    """libvirt's `virNetworkUpdateFlags`."""

    CURRENT = 0
    LIVE = 1
    CONFIG = 2


class NetworkUpdateSection(IntEnum):
    """libvirt's `virNetworkUpdateSection`."""

    NONE = 0
    BRIDGE = 1
    DOMAIN = 2
    IP = 3
    IP_DHCP_HOST = 4
    IP_DHCP_RANGE = 5
    FORWARD = 6
    FORWARD_INTERFACE = 7
    FORWARD_PF = 8
    PORTGROUP = 9
    DNS_HOST = 10
    DNS_TXT = 11
    DNS_SRV = 12


class NetworkXMLFlags(IntFlag):
    """libvirt's `virNetworkXMLFlags`."""

    INACTIVE = 1
