"""Which devices of the host a guest's definition takes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

from conf.domain.address import PciAddress, SourcePciAddress
from conf.domain.disk import Disk
from conf.domain.domain import Domain
from conf.domain.hostdev import Hostdev, MdevSource, PciHostSource, ScsiHostSource, UsbHostSource
from conf.domain.interface import HostdevSource, Interface
from conf.domain.storage_source import NvmeSource
from conf.element import Element


class Kind(StrEnum):
    """The kinds of devices that one guest has at a time."""

    PCI = "pci"
    USB = "usb"
    SCSI = "scsi"
    MDEV = "mdev"


@dataclass(frozen=True, slots=True)
class Wanted:
    """One device of the host; `name` is how messages call it."""

    kind: Kind
    name: str
    managed: bool = False
    """We take it from the host's driver, and give it back."""
    shared: bool = False
    model: str | None = None
    """The interface that a mediated device must have."""
    card: Interface | None = None
    """A network card: it gets the guest's address before the guest has it."""

    @property
    def key(self) -> str:
        """The device's name among those of all kinds."""
        return f"{self.kind} {self.name}"


def wanted_of_guest(domain: Domain) -> list[Wanted]:
    """All devices of the host that a definition takes."""
    devices = domain.devices
    found: list[Wanted] = []
    for device in (*devices.hostdevs, *devices.interfaces, *devices.disks):
        found += wanted_of_device(device)
    return found


def wanted_of_device(device: Element) -> Iterator[Wanted]:
    """What one device of a guest takes."""
    match device:
        case Hostdev():
            yield from _of_hostdev(device)
        case Interface() if isinstance(device.source, HostdevSource):
            name = pci_name(device.source.address)
            if name is not None:
                yield Wanted(Kind.PCI, name, managed=bool(device.managed), card=device)
        case Disk() if isinstance(device.source, NvmeSource):
            name = pci_name(device.source.address)
            if name is not None:
                yield Wanted(Kind.PCI, name, managed=bool(device.source.managed))


def _of_hostdev(device: Hostdev) -> Iterator[Wanted]:
    source = device.source
    match source:
        case PciHostSource() if source.address is not None:
            yield Wanted(Kind.PCI, str(source.address), managed=bool(device.managed))
        case UsbHostSource() if source.address is not None:
            # the numbers are octal, as libvirt has them
            yield Wanted(Kind.USB, f"{source.address.bus:03o}:{source.address.device:03o}")
        case MdevSource() if source.address is not None:
            yield Wanted(Kind.MDEV, str(source.address.uuid), model=device.model)
        case ScsiHostSource() if source.adapter is not None and source.address is not None:
            at, host = source.address, source.adapter.name.removeprefix("scsi_host")
            yield Wanted(Kind.SCSI, f"{host}:{at.bus}:{at.target}:{at.unit}", shared=device.shareable)


def pci_name(address: object) -> str | None:
    """A PCI address as the kernel writes it."""
    if not isinstance(address, PciAddress | SourcePciAddress):
        return None
    domain, bus, slot, function = address.domain or 0, address.bus or 0, address.slot or 0, address.function or 0
    return f"{domain:04x}:{bus:02x}:{slot:02x}.{function:x}"
