"""What devices of the host can be: buses, disks, network cards, graphics, mediated devices, channels."""

from __future__ import annotations

from uuid import UUID

from conf.element import Element, Empty, attr, child, children, content, text, value
from conf.values import ANY_BASE, INT, UINT, ULONG, UUID_TEXT, hexadecimal, words


class Capability(Element, tag="capability"):
    """What a device is."""

    @property
    def kind(self) -> str:
        """The word for it."""
        return self.fixed["type"]


class PciPlace(Element, tag="address"):
    """A place on PCI."""

    domain: int = attr("domain", hexadecimal(4), default=0)
    bus: int = attr("bus", hexadecimal(2), default=0)
    slot: int = attr("slot", hexadecimal(2), default=0)
    function: int = attr("function", hexadecimal(1), default=0)


class MdevType(Element, tag="type"):
    """A kind of mediated device that a device can make."""

    id: str = attr("id", str)
    name: str | None = text("name", str, default=None)
    device_api: str | None = text("deviceAPI", str, default=None)
    available_instances: int | None = text("availableInstances", UINT, default=None)


class VpdSystemField(Element, tag="system_field"):
    """A field for the system."""

    index: str = attr("index", str)
    value: str | None = content(str, default=None)


class VpdVendorField(Element, tag="vendor_field"):
    """A field of the vendor's."""

    index: str = attr("index", str)
    value: str | None = content(str, default=None)


class VpdFields(Element, tag="fields"):
    """Vital product data, read-only or read-write."""

    access: str = attr("access", words("readonly", "readwrite"))
    asset_tag: str | None = text("asset_tag", str, default=None)
    change_level: str | None = text("change_level", str, default=None)
    manufacture_id: str | None = text("manufacture_id", str, default=None)
    part_number: str | None = text("part_number", str, default=None)
    serial_number: str | None = text("serial_number", str, default=None)
    vendor_fields: list[VpdVendorField] = children(VpdVendorField, default=[])
    system_fields: list[VpdSystemField] = children(VpdSystemField, default=[])


class Feature(Element, tag="capability"):
    """What a device is besides, `type` says what: functions, types of mediated devices, a removable medium, a port."""

    type: str = attr("type", str)
    max_count: int | None = attr("maxCount", UINT, default=None)
    media_available: int | None = text("media_available", UINT, default=None)
    media_size: int | None = text("media_size", ULONG, default=None)
    media_label: str | None = text("media_label", str, default=None)
    logical_block_size: int | None = text("logical_block_size", ULONG, default=None)
    num_blocks: int | None = text("num_blocks", ULONG, default=None)
    rport: str | None = text("rport", str, default=None)
    wwpn: str | None = text("wwpn", str, default=None)
    addresses: list[PciPlace] = children(PciPlace, default=[])
    types: list[MdevType] = children(MdevType, default=[])
    name: str | None = text("name", str, default=None)
    fields: list[VpdFields] = children(VpdFields, default=[])


class Product(Element, tag="product"):
    """The product, by number and name."""

    id: int | None = attr("id", hexadecimal(4), default=None)
    name: str | None = content(str, default=None)


class Vendor(Element, tag="vendor"):
    """The vendor, by number and name."""

    id: int | None = attr("id", hexadecimal(4), default=None)
    name: str | None = content(str, default=None)


class IommuGroup(Element, tag="iommuGroup"):
    """The devices that can only be given away together."""

    number: int = attr("number", UINT)
    addresses: list[PciPlace] = children(PciPlace, default=[])


class PcieLink(Element, tag="link"):
    """What a link can do (`cap`) or does (`sta`)."""

    validity: str = attr("validity", words("cap", "sta"))
    port: int | None = attr("port", UINT, default=None)
    speed: str | None = attr("speed", str, default=None)
    width: int | None = attr("width", UINT, default=None)


class PciExpress(Element, tag="pci-express"):
    """The links of a PCI Express device."""

    links: list[PcieLink] = children(PcieLink, default=[])


class PciCapability(Capability, type="pci"):
    """A PCI device."""

    pci_class: int | None = text("class", hexadecimal(6), default=None)
    domain: int = text("domain", ANY_BASE, default=0)
    bus: int = text("bus", ANY_BASE, default=0)
    slot: int = text("slot", ANY_BASE, default=0)
    function: int = text("function", ANY_BASE, default=0)
    product: Product | None = child(Product, default=None)
    vendor: Vendor | None = child(Vendor, default=None)
    features: list[Feature] = children(Feature, default=[])
    iommu_group: IommuGroup | None = child(IommuGroup, default=None)
    numa_node: int | None = value("numa", "node", INT, default=None)
    pci_express: PciExpress | None = child(PciExpress, default=None)


class UsbDeviceCapability(Capability, type="usb_device"):
    """A USB device."""

    bus: int = text("bus", UINT, default=0)
    device: int = text("device", UINT, default=0)
    product: Product | None = child(Product, default=None)
    vendor: Vendor | None = child(Vendor, default=None)


class UsbInterfaceCapability(Capability, type="usb"):
    """An interface of a USB device."""

    number: int = text("number", UINT, default=0)
    usb_class: int = text("class", UINT, default=0)
    subclass: int = text("subclass", UINT, default=0)
    protocol: int = text("protocol", UINT, default=0)
    description: str | None = text("description", str, default=None)


class NetLink(Element, tag="link", empty=Empty.OMIT):
    """The state of a link."""

    speed: int | None = attr("speed", UINT, default=None)
    state: str | None = attr("state", str, default=None)


class NetFeature(Element, tag="feature"):
    """What a network card can do."""

    name: str = attr("name", str)


class NetCapability(Capability, type="net"):
    """A network card."""

    interface: str | None = text("interface", str, default=None)
    address: str | None = text("address", str, default=None)
    link: NetLink | None = child(NetLink, default=None)
    net_features: list[NetFeature] = children(NetFeature, default=[])
    features: list[Feature] = children(Feature, default=[])


class ScsiTargetCapability(Capability, type="scsi_target"):
    """A SCSI target."""

    target: str | None = text("target", str, default=None)
    features: list[Feature] = children(Feature, default=[])


class ScsiCapability(Capability, type="scsi"):
    """A SCSI logical unit."""

    host: int = text("host", UINT, default=0)
    bus: int = text("bus", UINT, default=0)
    target: int = text("target", UINT, default=0)
    lun: int = text("lun", UINT, default=0)
    device_type: str | None = text("type", str, default=None)


class StorageCapability(Capability, type="storage"):
    """A block device."""

    block: str | None = text("block", str, default=None)
    bus: str | None = text("bus", str, default=None)
    drive_type: str | None = text("drive_type", str, default=None)
    model: str | None = text("model", str, default=None)
    vendor: str | None = text("vendor", str, default=None)
    serial: str | None = text("serial", str, default=None)
    features: list[Feature] = children(Feature, default=[])
    size: int | None = text("size", ULONG, default=None)
    logical_block_size: int | None = text("logical_block_size", ULONG, default=None)
    num_blocks: int | None = text("num_blocks", ULONG, default=None)


class ScsiGenericCapability(Capability, type="scsi_generic"):
    """A SCSI generic device."""

    char: str | None = text("char", str, default=None)


class DrmCapability(Capability, type="drm"):
    """A graphics device."""

    drm_type: str | None = text("type", words("primary", "control", "render"), default=None)


class MdevAttribute(Element, tag="attr"):
    """A setting of a mediated device."""

    name: str = attr("name", str)
    value: str = attr("value", str)


class MdevCapability(Capability, type="mdev"):
    """A mediated device."""

    type_id: str = value("type", "id", str)
    uuid: UUID | None = text("uuid", UUID_TEXT, default=None)
    parent_address: str | None = text("parent_addr", str, default=None)
    iommu_group: IommuGroup | None = child(
        IommuGroup, default=None, shown=lambda self, flags: self.iommu_group or IommuGroup(number=0)
    )
    attributes: list[MdevAttribute] = children(MdevAttribute, default=[])


HEX1 = hexadecimal(1)
HEX4 = hexadecimal(4)


class ChannelAddress(Element, tag="channel_dev_addr"):
    """The channel device behind a subchannel."""

    cssid: int = text("cssid", HEX1)
    ssid: int = text("ssid", HEX1)
    devno: int = text("devno", HEX4)


class CcwCapability(Capability, type="ccw"):
    """A channel device of a mainframe."""

    cssid: int = text("cssid", HEX1)
    ssid: int = text("ssid", HEX1)
    devno: int = text("devno", HEX4)


class CssCapability(Capability, type="css"):
    """A subchannel of a mainframe."""

    cssid: int = text("cssid", HEX1)
    ssid: int = text("ssid", HEX1)
    devno: int = text("devno", HEX4)
    channel_address: ChannelAddress | None = child(ChannelAddress, default=None)
    features: list[Feature] = children(Feature, default=[])


class VdpaCapability(Capability, type="vdpa"):
    """A vDPA device."""

    chardev: str | None = text("chardev", str, default=None)


class ApCardCapability(Capability, type="ap_card"):
    """A crypto card of a mainframe."""

    adapter: int = text("ap-adapter", hexadecimal(2))


class ApQueueCapability(Capability, type="ap_queue"):
    """A queue of a crypto card."""

    adapter: int = text("ap-adapter", hexadecimal(2))
    ap_domain: int = text("ap-domain", HEX4)


class ApMatrixCapability(Capability, type="ap_matrix"):
    """All crypto cards of a mainframe."""

    features: list[Feature] = children(Feature, default=[])


CAPABILITIES = (
    PciCapability,
    UsbDeviceCapability,
    UsbInterfaceCapability,
    NetCapability,
    ScsiTargetCapability,
    ScsiCapability,
    StorageCapability,
    ScsiGenericCapability,
    DrmCapability,
    MdevCapability,
    CcwCapability,
    CssCapability,
    VdpaCapability,
    ApCardCapability,
    ApQueueCapability,
    ApMatrixCapability,
)
