"""Where a device sits in the guest: `<address type=...>`."""

import re
from collections.abc import Callable

from conf.element import Element, Empty, attr, child
from conf.faults import internal
from conf.values import ANY_BASE, ON_OFF, UINT, Codec, hexadecimal
from schema.errors import XmlError


class Address(Element, tag="address"):
    """Any address."""


def _or_zero(name: str) -> Callable[[object, int], int]:
    """A number that was not given yet is written as 0."""
    return lambda self, flags: getattr(self, name) or 0


_HAS_PLACE = "self.domain or self.bus or self.slot or self.function"
# a place that is still to be found has no numbers


class ZpciAddress(Element, tag="zpci"):
    """The s390 identifiers of a PCI device."""

    uid: int | None = attr("uid", hexadecimal(4), default=None, shown=_or_zero("uid"))
    fid: int | None = attr("fid", hexadecimal(8), default=None, shown=_or_zero("fid"))


class PciAddress(Address, type="pci"):
    """A place on a PCI bus; all zero stands for "on PCI, anywhere"."""

    domain: int = attr("domain", hexadecimal(4), default=0, when=_HAS_PLACE)
    bus: int = attr("bus", hexadecimal(2), default=0, when=_HAS_PLACE)
    slot: int = attr("slot", hexadecimal(2), default=0, when=_HAS_PLACE)
    function: int = attr("function", hexadecimal(1), default=0, when=_HAS_PLACE)
    multifunction: bool | None = attr("multifunction", ON_OFF, default=None)
    zpci: ZpciAddress | None = child(ZpciAddress, default=None)

    def check(self) -> None:
        """Raises XmlError for numbers that PCI does not have."""
        for name, value, highest in (
            ("domain", self.domain, 0xFFFF),
            ("bus", self.bus, 0xFF),
            ("slot", self.slot, 0x1F),
        ):
            if value > highest:
                raise XmlError(f"Invalid PCI address {name}='0x{value:x}', must be <= 0x{highest:X}")
        if self.function > 7:
            raise XmlError(f"Invalid PCI address function=0x{self.function:x}, must be <= 7")

    @property
    def is_empty(self) -> bool:
        """The device is to get a place, but has none yet."""
        return not (self.domain or self.bus or self.slot or self.function)

    def __str__(self) -> str:
        return f"{self.domain:04x}:{self.bus:02x}:{self.slot:02x}.{self.function:x}"


class DriveAddress(Address, type="drive"):
    """A place on an IDE, SATA, SCSI or floppy controller."""

    controller: int = attr("controller", UINT, default=0)
    bus: int = attr("bus", UINT, default=0)
    target: int = attr("target", UINT, default=0)
    unit: int = attr("unit", UINT, default=0)


class VirtioSerialAddress(Address, type="virtio-serial"):
    """A port of a virtio-serial controller."""

    controller: int = attr("controller", UINT, default=0)
    bus: int = attr("bus", UINT, default=0)
    port: int = attr("port", UINT, default=0)


class CcidAddress(Address, type="ccid"):
    """A slot of a smart card reader."""

    controller: int = attr("controller", UINT, default=0)
    slot: int = attr("slot", UINT, default=0)


def _usb_port(text: str) -> str:
    if _USB_PORT_TEXT(text) is None:
        raise ValueError(text)
    return text


_USB_PORT_TEXT = re.compile(r"\d+(\.\d+){0,3}\Z", re.ASCII).match
_USB_PORT: Codec[str] = Codec(_usb_port, str)


class UsbAddress(Address, type="usb"):
    """A port below a USB controller: `1` or, behind hubs, `1.2`."""

    bus: int = attr("bus", UINT, default=0)
    port: str | None = attr("port", _USB_PORT, default=None, bad=internal("Cannot parse <address> 'port' attribute"))


class SpaprVioAddress(Address, type="spapr-vio"):
    """A register of the pSeries virtual bus."""

    reg: int | None = attr("reg", hexadecimal(8), default=None)


class CcwAddress(Address, type="ccw"):
    """A place in a s390 channel subsystem."""

    cssid: int | None = attr("cssid", hexadecimal(1), default=None, shown=_or_zero("cssid"))
    ssid: int | None = attr("ssid", hexadecimal(1), default=None, shown=_or_zero("ssid"))
    devno: int | None = attr("devno", hexadecimal(4), default=None, shown=_or_zero("devno"))


class IsaAddress(Address, type="isa"):
    """Ports and interrupt of an ISA device."""

    iobase: int | None = attr("iobase", hexadecimal(1), default=None)
    irq: int | None = attr("irq", hexadecimal(1), default=None)


class DimmAddress(Address, type="dimm"):
    """A memory slot."""

    slot: int | None = attr("slot", ANY_BASE, default=None)
    base: int | None = attr("base", hexadecimal(1), default=None)


class VirtioMmioAddress(Address, type="virtio-mmio"):
    """A virtio transport without a bus."""


class VirtioS390Address(Address, type="virtio-s390"):
    """The old s390 virtio bus."""


class UnassignedAddress(Address, type="unassigned"):
    """The guest does not see the device."""


ADDRESSES = (
    PciAddress,
    DriveAddress,
    VirtioSerialAddress,
    CcidAddress,
    UsbAddress,
    SpaprVioAddress,
    CcwAddress,
    IsaAddress,
    DimmAddress,
    VirtioMmioAddress,
    VirtioS390Address,
    UnassignedAddress,
)


class SourcePciAddress(Element, tag="address", empty=Empty.OMIT):
    """The host's PCI device inside a `<source>`, which has no type of its own."""

    domain: int = attr("domain", hexadecimal(4), default=0)
    bus: int = attr("bus", hexadecimal(2), default=0)
    slot: int = attr("slot", hexadecimal(2), default=0)
    function: int = attr("function", hexadecimal(1), default=0)

    def __str__(self) -> str:
        return f"{self.domain:04x}:{self.bus:02x}:{self.slot:02x}.{self.function:x}"
