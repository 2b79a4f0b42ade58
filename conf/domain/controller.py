"""Controllers and buses: `<controller>`."""

from enum import StrEnum

from conf.domain.device import Device
from conf.element import Element, Empty, attr, child, size, text, value
from conf.values import NATURAL, ON_OFF, SOME, UINT, Codec, hexadecimal, parse_any_base, words


class ControllerType(StrEnum):
    """The kinds of controllers."""

    IDE = "ide"
    FDC = "fdc"
    SCSI = "scsi"
    SATA = "sata"
    VIRTIO_SERIAL = "virtio-serial"
    CCID = "ccid"
    USB = "usb"
    PCI = "pci"
    XENBUS = "xenbus"
    ISA = "isa"


class PciModel(StrEnum):
    """The models of PCI controllers."""

    PCI_ROOT = "pci-root"
    PCIE_ROOT = "pcie-root"
    PCI_BRIDGE = "pci-bridge"
    DMI_TO_PCI_BRIDGE = "dmi-to-pci-bridge"
    PCIE_TO_PCI_BRIDGE = "pcie-to-pci-bridge"
    PCIE_ROOT_PORT = "pcie-root-port"
    PCIE_SWITCH_UPSTREAM_PORT = "pcie-switch-upstream-port"
    PCIE_SWITCH_DOWNSTREAM_PORT = "pcie-switch-downstream-port"
    PCI_EXPANDER_BUS = "pci-expander-bus"
    PCIE_EXPANDER_BUS = "pcie-expander-bus"


class UsbModel(StrEnum):
    """The models of USB controllers."""

    PIIX3_UHCI = "piix3-uhci"
    PIIX4_UHCI = "piix4-uhci"
    EHCI = "ehci"
    ICH9_EHCI1 = "ich9-ehci1"
    ICH9_UHCI1 = "ich9-uhci1"
    ICH9_UHCI2 = "ich9-uhci2"
    ICH9_UHCI3 = "ich9-uhci3"
    VT82C686B_UHCI = "vt82c686b-uhci"
    PCI_OHCI = "pci-ohci"
    NEC_XHCI = "nec-xhci"
    QUSB1 = "qusb1"
    QUSB2 = "qusb2"
    QEMU_XHCI = "qemu-xhci"
    NONE = "none"


class ScsiModel(StrEnum):
    """The models of SCSI controllers."""

    AUTO = "auto"
    BUSLOGIC = "buslogic"
    LSILOGIC = "lsilogic"
    LSISAS1068 = "lsisas1068"
    VMPVSCSI = "vmpvscsi"
    IBMVSCSI = "ibmvscsi"
    VIRTIO_SCSI = "virtio-scsi"
    LSISAS1078 = "lsisas1078"
    VIRTIO_TRANSITIONAL = "virtio-transitional"
    VIRTIO_NON_TRANSITIONAL = "virtio-non-transitional"
    NCR53C90 = "ncr53c90"
    DC390 = "dc390"
    AM53C974 = "am53c974"


def _parse_index(text: str) -> int:
    value = parse_any_base(text)
    if value >= 1 << 31:
        raise ValueError(text)
    return value


INDEX: Codec[int] = Codec(_parse_index, str, "Expected integer value", natural=True)
"""The number of a controller."""


class PciTarget(Element, tag="target", empty=Empty.OMIT):
    """What the guest sees of a PCI controller."""

    chassis_nr: int | None = attr("chassisNr", UINT, default=None)
    chassis: int | None = attr("chassis", UINT, default=None)
    port: int | None = attr("port", hexadecimal(1), default=None)
    bus_nr: int | None = attr("busNr", UINT, default=None)
    index: int | None = attr("index", UINT, default=None)
    hotplug: bool | None = attr("hotplug", ON_OFF, default=None)
    node: int | None = text("node", UINT, default=None)


class ControllerDriver(Element, tag="driver", empty=Empty.OMIT):
    """Tuning of SCSI and virtio controllers."""

    queues: int | None = attr("queues", SOME, default=None)
    cmd_per_lun: int | None = attr("cmd_per_lun", UINT, default=None)
    max_sectors: int | None = attr("max_sectors", UINT, default=None)
    ioeventfd: bool | None = attr("ioeventfd", ON_OFF, default=None)
    iothread: int | None = attr("iothread", SOME, default=None)
    iommu: bool | None = attr("iommu", ON_OFF, default=None)
    ats: bool | None = attr("ats", ON_OFF, default=None)
    packed: bool | None = attr("packed", ON_OFF, default=None)
    page_per_vq: bool | None = attr("page_per_vq", ON_OFF, default=None)


PCI_MODEL_NAMES = words(
    *("pci-bridge", "i82801b11-bridge", "ioh3420", "x3130-upstream", "xio3130-downstream", "pxb", "pxb-pcie"),
    *("pcie-root-port", "spapr-pci-host-bridge", "pcie-pci-bridge"),
)


class Controller(Device, tag="controller"):
    """A controller. `model` is a `PciModel`, `UsbModel` or `ScsiModel` by type."""

    type: ControllerType = attr("type", ControllerType, default=ControllerType.IDE)
    index: int | None = attr("index", INDEX, default=None)
    model: str | None = attr("model", str, default=None)
    ports: int | None = attr("ports", NATURAL, default=None)
    vectors: int | None = attr("vectors", NATURAL, default=None)
    max_grant_frames: int | None = attr("maxGrantFrames", UINT, default=None)
    max_event_channels: int | None = attr("maxEventChannels", UINT, default=None)
    model_name: str | None = value("model", "name", PCI_MODEL_NAMES, default=None)
    target: PciTarget | None = child(PciTarget, default=None)
    driver: ControllerDriver | None = child(ControllerDriver, default=None)
    pcihole64_kib: int | None = size("pcihole64", default=None)
