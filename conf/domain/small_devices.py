"""Devices that a few lines describe: input devices, hubs, watchdogs, balloons, panic notifiers, and the like."""

from enum import StrEnum

from conf.domain.device import Device, DriverLast, VirtioDriver
from conf.element import Element, Empty, attr, child, children, text, value
from conf.faults import lacking, malformed, unsupported
from conf.values import ON_OFF, POSITIVE, SOME, SOME_INT, UINT, ULONG, USB_VERSION, YES_NO, signed_hexadecimal, words
from schema.errors import RefusedDocument, XmlError

VIRTIO_MODELS = words("virtio", "virtio-transitional", "virtio-non-transitional")


class InputType(StrEnum):
    """The kinds of input devices."""

    MOUSE = "mouse"
    TABLET = "tablet"
    KEYBOARD = "keyboard"
    PASSTHROUGH = "passthrough"
    EVDEV = "evdev"


class InputBus(StrEnum):
    """How an input device is connected."""

    PS2 = "ps2"
    USB = "usb"
    XEN = "xen"
    PARALLELS = "parallels"
    VIRTIO = "virtio"
    NONE = "none"


class InputSource(Element, tag="source", empty=Empty.OMIT):
    """The host's input device."""

    dev: str | None = attr("dev", str, default=None)
    evdev: str | None = attr("evdev", str, default=None)
    grab: str | None = attr("grab", words("all"), default=None)
    grab_toggle: str | None = attr(
        "grabToggle",
        words("ctrl-ctrl", "alt-alt", "shift-shift", "meta-meta", "scrolllock", "ctrl-scrolllock"),
        default=None,
    )
    repeat: bool | None = attr("repeat", ON_OFF, default=None)


class Input(Device, tag="input"):
    """A mouse, tablet or keyboard."""

    type: InputType = attr(
        "type",
        InputType,
        missing=lacking(RefusedDocument, "missing input device type"),
        bad=unsupported("unknown input device type '{}'"),
    )
    bus: InputBus | None = attr(
        "bus",
        InputBus,
        default=None,
        bad=unsupported("unknown input bus type '{}'"),
        shown=lambda self, flags: None if self.bus is InputBus.NONE else self.bus,
    )
    model: str | None = attr("model", VIRTIO_MODELS, default=None, bad=unsupported("unknown input model '{}'"))
    driver: VirtioDriver | None = child(VirtioDriver, default=None)
    source: InputSource | None = child(InputSource, default=None)


class Hub(Device, tag="hub"):
    """A USB hub."""

    type: str = attr(
        "type",
        words("usb"),
        missing=lacking(RefusedDocument, "missing hub device type"),
        bad=unsupported("unknown hub device type '{}'"),
    )


class WatchdogAction(StrEnum):
    """What a watchdog does."""

    RESET = "reset"
    SHUTDOWN = "shutdown"
    POWEROFF = "poweroff"
    PAUSE = "pause"
    DUMP = "dump"
    NONE = "none"
    INJECT_NMI = "inject-nmi"


class Watchdog(Device, tag="watchdog"):
    """A watchdog."""

    model: str = attr(
        "model",
        words("i6300esb", "ib700", "diag288"),
        missing=lacking(RefusedDocument, "watchdog must contain model name"),
        bad=unsupported("unknown watchdog model '{}'"),
    )
    action: WatchdogAction = attr(
        "action", WatchdogAction, default=WatchdogAction.RESET, bad=unsupported("unknown watchdog action '{}'")
    )


class MemBalloon(DriverLast, tag="memballoon"):
    """The balloon that takes memory back from the guest."""

    model: str = attr("model", words("virtio", "xen", "none", "virtio-transitional", "virtio-non-transitional"))
    autodeflate: bool | None = attr("autodeflate", ON_OFF, default=None)
    free_page_reporting: bool | None = attr("freePageReporting", ON_OFF, default=None)
    stats_period_s: int | None = value("stats", "period", SOME_INT, default=None)


class PanicModel(StrEnum):
    """The models of panic notifiers."""

    DEFAULT = "default"
    ISA = "isa"
    PSERIES = "pseries"
    HYPERV = "hyperv"
    S390 = "s390"


class Panic(Device, tag="panic", empty=Empty.OMIT):
    """Tells the host that the guest crashed."""

    model: PanicModel | None = attr("model", PanicModel, default=None, bad=unsupported("unknown panic model '{}'"))


class Nvram(Device, tag="nvram"):
    """The variable store of pSeries."""


class IommuDriver(Element, tag="driver", empty=Empty.OMIT):
    """Options of an IOMMU."""

    intremap: bool | None = attr("intremap", ON_OFF, default=None)
    caching_mode: bool | None = attr("caching_mode", ON_OFF, default=None)
    eim: bool | None = attr("eim", ON_OFF, default=None)
    iotlb: bool | None = attr("iotlb", ON_OFF, default=None)
    aw_bits: int | None = attr("aw_bits", SOME, default=None)


class Iommu(Device, tag="iommu"):
    """An IOMMU."""

    model: str = attr("model", words("intel", "smmuv3", "virtio"))
    driver: IommuDriver | None = child(IommuDriver, default=None)


class VsockCid(Element, tag="cid", empty=Empty.OMIT):
    """The guest's number among sockets."""

    auto: bool | None = attr("auto", YES_NO, default=None)
    address: int | None = attr("address", POSITIVE, default=None)


class Vsock(DriverLast, tag="vsock"):
    """Sockets between host and guest."""

    model: str | None = attr("model", VIRTIO_MODELS, default=None)
    cid: VsockCid | None = child(VsockCid, default=None)


class CryptoBackend(Element, tag="backend"):
    """Who computes."""

    model: str = attr("model", words("builtin", "lkcf"))
    queues: int | None = attr("queues", UINT, default=None)


class Crypto(Device, tag="crypto"):
    """A virtual crypto accelerator."""

    model: str = attr("model", words("virtio"))
    type: str = attr("type", words("qemu"))
    backend: CryptoBackend | None = child(CryptoBackend, default=None)
    driver: VirtioDriver | None = child(VirtioDriver, default=None)


class LeaseTarget(Element, tag="target"):
    """The file of a lease."""

    path: str = attr("path", str, missing=lacking(XmlError, "Missing 'path' attribute to 'target' element for lease"))
    offset: int | None = attr("offset", ULONG, default=None)


class Lease(Element, tag="lease"):
    """A lock that the guest holds."""

    lockspace: str | None = text("lockspace", str, default=None)
    key: str | None = text("key", str, default=None)
    target: LeaseTarget | None = child(LeaseTarget, default=None)


class UsbRule(Element, tag="usbdev"):
    """Whether devices of a kind are redirected."""

    usb_class: int | None = attr("class", signed_hexadecimal(2), default=None)
    vendor: int | None = attr("vendor", signed_hexadecimal(4), default=None)
    product: int | None = attr("product", signed_hexadecimal(4), default=None)
    version: int | None = attr(
        "version", USB_VERSION, default=None, bad=malformed("Cannot parse USB device version {}")
    )
    """As the device tells it: 0x0110 is version 1.10."""
    allow: bool = attr("allow", YES_NO)


class RedirFilter(Element, tag="redirfilter"):
    """Which USB devices are redirected."""

    rules: list[UsbRule] = children(UsbRule, default=[])
