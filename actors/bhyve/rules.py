"""What bhyve adds to the common rules of definitions: its controllers, and where devices sit on the only PCI bus."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

from conf.domain.address import DriveAddress, PciAddress
from conf.domain.chardev import CharDevice, CharType, NmdmSource
from conf.domain.controller import Controller, ControllerType, PciModel
from conf.domain.defaults import walk
from conf.domain.defaults_controller import insert_controller
from conf.domain.disk import Disk, DiskBus
from conf.domain.disk_names import disk_index
from conf.domain.rules import DomainRules
from conf.domain.video import Video, VideoType
from schema.errors import ConfigUnsupported, XmlError

if TYPE_CHECKING:
    from conf.domain.device import Device
    from conf.domain.domain import Domain
    from conf.domain.graphics import Graphics
    from conf.domain.sound import Audio
    from conf.flags import ParseFlags

_LPC_SLOT: Final = 1
_SLOTS: Final = 32
_PORTS: Final = 32
_NO_PCI: Final = frozenset({ControllerType.PCI, ControllerType.IDE, ControllerType.FDC, ControllerType.CCID})


class BhyveRules(DomainRules):
    """Guests of bhyve; `has_many_ports`: a SATA controller takes 32 disks, not one."""

    name = "bhyve"
    namespaces = frozenset({"bhyve"})

    def __init__(self, arch: str = "x86_64", *, has_many_ports: bool = True) -> None:
        self.default_arch = arch
        self.has_many_ports = has_many_ports

    def domain(self, domain: Domain, flags: ParseFlags) -> None:
        """Adds the root of PCI, and the bridge that serial ports and the boot ROM hang on."""
        _add(domain, ControllerType.PCI, PciModel.PCI_ROOT.value)
        if _needs_bridge(domain):
            _add(domain, ControllerType.ISA, None)

    def device(self, device: Device | Graphics | Audio, domain: Domain, flags: ParseFlags) -> None:
        """Places SATA disks by their names, names null modems after the guest, settles the video card.

        Raises XmlError for a SATA disk whose name has no number.
        """
        if isinstance(device, Disk):
            self._place_disk(device)
        elif isinstance(device, CharDevice):
            if device.type is CharType.NMDM:
                _name_modem(device, domain)
        elif isinstance(device, Video) and device.model.type is VideoType.DEFAULT:
            device.model.type = VideoType.GOP

    def assign_addresses(self, domain: Domain, flags: ParseFlags) -> None:
        """Gives every PCI device a slot: first what libvirt looks at first.

        Raises XmlError for a slot that is taken twice, ConfigUnsupported when there are more devices than slots.
        """
        taken = _taken_slots(domain)
        isa = [one for one in domain.devices.controllers if one.type is ControllerType.ISA]
        if _LPC_SLOT not in taken:
            # the slot stays free for the bridge also when there is none
            taken.add(_LPC_SLOT)
            for one in isa:
                if _wants_place(one):
                    one.address = PciAddress(slot=_LPC_SLOT)
                    break
        for device in _pci_devices(domain):
            if not _wants_place(device):
                continue
            free = next((slot for slot in range(1, _SLOTS) if slot not in taken), None)
            if free is None:
                raise ConfigUnsupported("No more available PCI slots")
            taken.add(free)
            device.address = PciAddress(slot=free)

    def check_device(self, device: Device | Graphics | Audio, domain: Domain) -> None:
        """Raises ConfigUnsupported for a second root of PCI."""
        if not isinstance(device, Controller) or device.type is not ControllerType.PCI:
            return
        if device.index and device.model in (PciModel.PCI_ROOT, PciModel.PCIE_ROOT):
            raise ConfigUnsupported("pci-root and pcie-root controllers should have index 0")

    def _place_disk(self, disk: Disk) -> None:
        if disk.target.bus is not DiskBus.SATA or disk.address is not None:
            return
        index = disk_index(disk.target.dev)
        if index is None:
            raise XmlError(f"Unknown disk name '{disk.target.dev}' and no address specified")
        controller, unit = divmod(index, _PORTS) if self.has_many_ports else (index, 0)
        disk.address = DriveAddress(controller=controller, unit=unit)


def _name_modem(device: CharDevice, domain: Domain) -> None:
    source = device.source = device.source or NmdmSource()
    if isinstance(source, NmdmSource) and source.master is None:
        source.master, source.slave = f"/dev/nmdm{domain.uuid}A", f"/dev/nmdm{domain.uuid}B"


def _add(domain: Domain, type: ControllerType, model: str | None) -> None:
    if all(one.type is not type or one.index for one in domain.devices.controllers):
        insert_controller(domain, Controller(type=type, index=0, model=model))


def _needs_bridge(domain: Domain) -> bool:
    devices = domain.devices
    has_rom = domain.bootloader is None and domain.os.loader is not None
    return bool(has_rom or devices.serials or devices.consoles or (devices.graphics and devices.videos))


def _pci_devices(domain: Domain) -> Iterator[Device]:
    """In the order in which they get slots."""
    devices = domain.devices
    yield from (one for one in devices.controllers if one.type not in _NO_PCI)
    yield from devices.interfaces
    yield from (one for one in devices.disks if one.target.bus is DiskBus.VIRTIO)
    yield from devices.videos
    yield from devices.sounds
    yield from devices.filesystems


def _wants_place(device: Device) -> bool:
    return device.address is None or (isinstance(device.address, PciAddress) and device.address.is_empty)


def _taken_slots(domain: Domain) -> set[int]:
    """The slots that the definition gives away; the host bridge has the first."""
    taken: set[tuple[int, int]] = set()
    for device in walk(domain):
        address = getattr(device, "address", None)
        if isinstance(address, PciAddress) and not address.is_empty:
            place = (address.slot, address.function)
            if place in taken:
                raise XmlError(f"Attempted double use of PCI Address {address}")
            taken.add(place)
    return {0, *(slot for slot, _ in taken)}
