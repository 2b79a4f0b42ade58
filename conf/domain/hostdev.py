"""Devices of the host given to the guest: `<hostdev>`."""

from enum import StrEnum
from uuid import UUID

from conf.domain.address import SourcePciAddress
from conf.domain.device import Device
from conf.domain.secrets import Auth
from conf.domain.status_parts import ImagePrivate, OriginalStates, in_status
from conf.domain.storage_source import Host, Initiator
from conf.element import Element, Empty, attr, child, children, flag, one_of, text, value
from conf.faults import lacking, unsupported
from conf.network.parts import IpAddress, Route
from conf.values import ANY_BASE, ON_OFF, ONLY_YES, UINT, UUID_TEXT, YES_NO, hexadecimal, words
from schema.errors import ConfigUnsupported, XmlError


class HostdevMode(StrEnum):
    """A whole device, or a capability of a container."""

    SUBSYSTEM = "subsystem"
    CAPABILITIES = "capabilities"


class HostdevType(StrEnum):
    """The kinds of devices."""

    USB = "usb"
    PCI = "pci"
    SCSI = "scsi"
    SCSI_HOST = "scsi_host"
    MDEV = "mdev"
    STORAGE = "storage"
    MISC = "misc"
    NET = "net"


class HostdevSource(Element, tag="source"):
    """Any source."""


class UsbVendor(Element, tag="vendor"):
    """A USB vendor."""

    id: int = attr("id", hexadecimal(4))


class UsbProduct(Element, tag="product"):
    """A USB product."""

    id: int = attr("id", hexadecimal(4))


class SourceUsbAddress(Element, tag="address"):
    """Where a USB device is plugged in."""

    bus: int = attr("bus", ANY_BASE)
    device: int = attr("device", ANY_BASE)


class UsbHostSource(HostdevSource, case="usb", empty=Empty.OMIT):
    """A USB device, by product or place."""

    startup_policy: str | None = attr(
        "startupPolicy", words("default", "mandatory", "requisite", "optional"), default=None
    )
    guest_reset: str | None = attr("guestReset", words("default", "off", "uninitialized", "on"), default=None)
    missing: bool | None = attr("missing", YES_NO, default=None, live=True)
    vendor: UsbVendor | None = child(UsbVendor, default=None)
    product: UsbProduct | None = child(UsbProduct, default=None)
    address: SourceUsbAddress | None = child(SourceUsbAddress, default=None)


class PciHostSource(HostdevSource, case="pci"):
    """A PCI device."""

    write_filtering: bool | None = attr("writeFiltering", YES_NO, default=None)
    address: SourcePciAddress | None = child(SourcePciAddress, default=None)
    original_states: OriginalStates | None = child(OriginalStates, default=None, shown=in_status("original_states"))


class ScsiAdapter(Element, tag="adapter"):
    """A SCSI adapter."""

    name: str = attr("name", str)


class SourceScsiAddress(Element, tag="address"):
    """A logical unit behind an adapter."""

    bus: int = attr("bus", UINT)
    target: int = attr("target", UINT)
    unit: int = attr("unit", UINT)


class ScsiHostSource(HostdevSource, case="scsi"):
    """A SCSI logical unit: of an adapter, or over iSCSI."""

    protocol: str | None = attr("protocol", words("adapter", "iscsi"), default=None)
    name: str | None = attr("name", str, default=None)
    hosts: list[Host] = children(Host, default=[])
    private: ImagePrivate | None = child(ImagePrivate, default=None, shown=in_status("private"))
    auth: Auth | None = child(Auth, default=None)
    initiator: Initiator | None = child(Initiator, default=None)
    adapter: ScsiAdapter | None = child(ScsiAdapter, default=None)
    address: SourceScsiAddress | None = child(SourceScsiAddress, default=None)


class VhostScsiSource(HostdevSource, case="scsi_host"):
    """A vhost SCSI target."""

    protocol: str = attr("protocol", words("none", "vhost"))
    wwpn: str = attr("wwpn", str, missing=lacking(XmlError, "missing vhost-scsi hostdev source wwpn"))


class SourceMdevAddress(Element, tag="address"):
    """A mediated device's name."""

    uuid: UUID = attr(
        "uuid",
        UUID_TEXT,
        missing=lambda node: ConfigUnsupported("Missing 'uuid' attribute for element <address>"),
    )


class MdevSource(HostdevSource, case="mdev"):
    """A mediated device."""

    address: SourceMdevAddress | None = child(SourceMdevAddress, default=None)


class StorageCapsSource(HostdevSource, case="storage"):
    """A block device for a container."""

    block: str | None = text("block", str, default=None)


class MiscCapsSource(HostdevSource, case="misc"):
    """A character device for a container."""

    char: str | None = text("char", str, default=None)


class NetCapsSource(HostdevSource, case="net"):
    """A network link for a container."""

    interface: str | None = text("interface", str, default=None)


HOSTDEV_SOURCES = (
    UsbHostSource,
    PciHostSource,
    ScsiHostSource,
    VhostScsiSource,
    MdevSource,
    StorageCapsSource,
    MiscCapsSource,
    NetCapsSource,
)


class HostdevTeaming(Element, tag="teaming"):
    """The device's part in a pair for failover."""

    type: str = attr("type", words("persistent", "transient"))
    persistent: str | None = attr("persistent", str, default=None)


class Hostdev(Device, tag="hostdev", empty=Empty.OPEN, boots=True, has_rom=True):
    """A device of the host."""

    mode: HostdevMode = attr("mode", HostdevMode, default=HostdevMode.SUBSYSTEM)
    type: HostdevType = attr(
        "type",
        HostdevType,
        missing=lacking(XmlError, "missing source address type"),
        bad=unsupported("unknown host device source address type '{}'"),
    )
    managed: bool | None = attr("managed", ONLY_YES, default=None)
    sgio: str | None = attr("sgio", words("filtered", "unfiltered"), default=None)
    rawio: bool | None = attr("rawio", YES_NO, default=None)
    model: str | None = attr("model", str, default=None)
    display: bool | None = attr("display", ON_OFF, default=None)
    ramfb: bool | None = attr("ramfb", ON_OFF, default=None)
    driver: str | None = value("driver", "name", words("kvm", "vfio", "xen"), default=None)
    source: HostdevSource | None = one_of(*HOSTDEV_SOURCES, by_parent="type", default=None)
    ips: list[IpAddress] = children(IpAddress, default=[])
    routes: list[Route] = children(Route, default=[])
    readonly: bool = flag("readonly", default=False)
    shareable: bool = flag("shareable", default=False)
    teaming: HostdevTeaming | None = child(HostdevTeaming, default=None)
