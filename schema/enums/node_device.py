"""Enums and flags of host devices."""

from enum import IntEnum, IntFlag


class ConnectListAllNodeDeviceFlags(IntFlag):
    """libvirt's `virConnectListAllNodeDeviceFlags`."""

    CAP_SYSTEM = 1
    CAP_PCI_DEV = 2
    CAP_USB_DEV = 4
    CAP_USB_INTERFACE = 8
    CAP_NET = 1 << 4
    CAP_SCSI_HOST = 1 << 5
    CAP_SCSI_TARGET = 1 << 6
    CAP_SCSI = 1 << 7
    CAP_STORAGE = 1 << 8
    CAP_FC_HOST = 1 << 9
    CAP_VPORTS = 1 << 10
    CAP_SCSI_GENERIC = 1 << 11
    CAP_DRM = 1 << 12
    CAP_MDEV_TYPES = 1 << 13
    CAP_MDEV = 1 << 14
    CAP_CCW_DEV = 1 << 15
    CAP_CSS_DEV = 1 << 16
    CAP_VDPA = 1 << 17
    CAP_AP_CARD = 1 << 18
    CAP_AP_QUEUE = 1 << 19
    CAP_AP_MATRIX = 1 << 20
    CAP_VPD = 1 << 21
    INACTIVE = 1 << 30
    ACTIVE = 1 << 31


class NodeDeviceCreateXMLFlags(IntFlag):
    """libvirt's `virNodeDeviceCreateXMLFlags`."""

    VALIDATE = 1


class NodeDeviceDefineXMLFlags(IntFlag):
    """libvirt's `virNodeDeviceDefineXMLFlags`."""

    VALIDATE = 1


class NodeDeviceEventID(IntEnum):
    """libvirt's `virNodeDeviceEventID`."""

    LIFECYCLE = 0
    UPDATE = 1


class NodeDeviceEventLifecycleType(IntEnum):
    """libvirt's `virNodeDeviceEventLifecycleType`."""

    CREATED = 0
    DELETED = 1
    DEFINED = 2
    UNDEFINED = 3
