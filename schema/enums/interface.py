"""Enums and flags of host interfaces."""

from enum import IntFlag


class ConnectListAllInterfacesFlags(IntFlag):
    """libvirt's `virConnectListAllInterfacesFlags`."""

    INACTIVE = 1
    ACTIVE = 2


class InterfaceDefineFlags(IntFlag):
    """libvirt's `virInterfaceDefineFlags`."""

    VALIDATE = 1


class InterfaceXMLFlags(IntFlag):
    """libvirt's `virInterfaceXMLFlags`."""

    INACTIVE = 1
