"""Defaults of controllers: their order, their numbers, and those that devices need without naming them."""

from __future__ import annotations

from itertools import count

from conf.domain.address import CcidAddress, DriveAddress, VirtioSerialAddress
from conf.domain.chardev import Channel, Console
from conf.domain.controller import Controller, ControllerType, PciModel, ScsiModel, UsbModel
from conf.domain.disk import DiskBus
from conf.domain.domain import Domain
from conf.domain.hostdev import HostdevType
from schema.errors import ConfigUnsupported, XmlError

_MODELS: dict[ControllerType, frozenset[str]] = {
    ControllerType.PCI: frozenset(PciModel),
    ControllerType.USB: frozenset(UsbModel),
    ControllerType.SCSI: frozenset(ScsiModel),
    ControllerType.IDE: frozenset(("piix3", "piix4", "ich6")),
    ControllerType.VIRTIO_SERIAL: frozenset(("virtio", "virtio-transitional", "virtio-non-transitional")),
}

HIGHEST_PCI = 255
HIGHEST_IMPLIED = 1023
"""A device on a controller brings all controllers up to that one: with no limit a line would fill the memory."""

STARTPORTS = {"ich9-uhci1": 0, "ich9-uhci2": 2, "ich9-uhci3": 4}
"""The first port of each companion of an ICH9 USB controller."""
_USB2 = ("ich9-ehci1", *STARTPORTS)


def check_kind(controller: Controller) -> None:
    """Drops what controllers of the type do not have.

    Raises ConfigUnsupported for a model that there is not, XmlError for a number beyond all.
    """
    if controller.model is not None and controller.model not in _MODELS.get(controller.type, ()):
        raise ConfigUnsupported(f"Unknown model type '{controller.model}'")
    if controller.type is not ControllerType.PCI:
        controller.model_name = controller.target = controller.pcihole64_kib = None
        if controller.type is not ControllerType.VIRTIO_SERIAL:
            controller.vectors = None
            if controller.type is not ControllerType.USB:
                controller.ports = None
        if controller.type is not ControllerType.XENBUS:
            controller.max_grant_frames = controller.max_event_channels = None
        if controller.type is ControllerType.USB and controller.model == "none":
            controller.address = None
    elif controller.model not in (PciModel.PCI_ROOT, PciModel.PCIE_ROOT):
        controller.pcihole64_kib = None
    thread = controller.driver.iothread if controller.driver is not None else None
    if thread and (
        controller.type is not ControllerType.SCSI or not (controller.model or "virtio").startswith("virtio")
    ):
        raise XmlError("'iothread' attribute only supported for virtio scsi controllers")
    if controller.type is ControllerType.PCI and (controller.index or 0) > HIGHEST_PCI:
        raise ConfigUnsupported(f"PCI controller index {controller.index} too high, maximum is {HIGHEST_PCI}")


def add_for_hostdevs(domain: Domain) -> None:
    """Adds the controllers that SCSI devices of the host are on."""
    numbers = [
        one.address.controller if isinstance(one.address, DriveAddress) else 0
        for one in domain.devices.hostdevs
        if one.type is HostdevType.SCSI
    ]
    for number in range(min(max(numbers, default=-1), HIGHEST_IMPLIED) + 1):
        ensure_controller(domain, ControllerType.SCSI, number, _scsi_model(domain))


def insert_controller(domain: Domain, controller: Controller) -> None:
    """Adds a controller; those of one type stay in the order of their numbers."""
    controllers = domain.devices.controllers
    place = None
    for at in range(len(controllers) - 1, -1, -1):
        other = controllers[at]
        if other.type is not controller.type:
            continue
        if controller.index is None:
            place = at + 1
            break
        if (other.index if other.index is not None else -1) > controller.index or (
            other.index == controller.index and _goes_before(controller, other)
        ):
            place = at
        elif place is None:
            place = at + 1
    controllers.insert(len(controllers) if place is None else place, controller)


def _goes_before(new: Controller, other: Controller) -> bool:
    """A USB controller goes before its companions."""
    return new.master_startport is None and other.master_startport is not None


def sort_controllers(domain: Domain) -> None:
    """Puts the controllers of a text in order."""
    given = domain.devices.controllers
    domain.devices.controllers = []
    for controller in given:
        if controller.type is ControllerType.USB and controller.master_startport is None:
            controller.master_startport = STARTPORTS.get(controller.model or "")
        insert_controller(domain, controller)


def number_controllers(domain: Domain) -> None:
    """Numbers the controllers that have no number; USB companions share their master's."""
    controllers = domain.devices.controllers
    for controller in controllers:
        if controller.index is not None:
            continue
        same = [one for one in controllers if one.type is controller.type and one.index is not None]
        if controller.type is ControllerType.USB and controller.model in _USB2:
            group = [one for one in same if one.model in _USB2]
            index = group[-1].index if group else None
            if index is not None and not any(one.index == index and one.model == controller.model for one in group):
                controller.index = index
                continue
        taken = {one.index for one in same}
        controller.index = next(number for number in count() if number not in taken)


def has_controller(domain: Domain, type: ControllerType, index: int) -> bool:
    """Is there such a controller?"""
    return any(one.type is type and one.index == index for one in domain.devices.controllers)


def ensure_controller(domain: Domain, type: ControllerType, index: int, model: str | None = None) -> None:
    """Adds a controller unless it is there."""
    if not has_controller(domain, type, index):
        domain.devices.controllers.append(Controller(type=type, index=index, model=model))


def _ensure_up_to(domain: Domain, type: ControllerType, highest: int, model: str | None = None) -> None:
    if highest > HIGHEST_IMPLIED:
        raise XmlError(f"{type.value} controller index {highest} too high, maximum is {HIGHEST_IMPLIED}")
    for index in range(highest + 1):
        ensure_controller(domain, type, index, model)


_BUS_CONTROLLERS = (
    (DiskBus.SCSI, ControllerType.SCSI),
    (DiskBus.FDC, ControllerType.FDC),
    (DiskBus.IDE, ControllerType.IDE),
    (DiskBus.SATA, ControllerType.SATA),
)


def add_implicit_controllers(domain: Domain) -> None:
    """Adds the controllers that disks, channels, smart cards and SCSI devices of the host are on."""
    devices = domain.devices
    for bus, type in _BUS_CONTROLLERS:
        model = _scsi_model(domain) if type is ControllerType.SCSI else None
        _ensure_up_to(domain, type, _highest_drive(domain, bus), model)
    ports: list[Channel | Console] = [*devices.channels, *devices.consoles]
    for port in ports:
        if port.target is not None and port.target.type == "virtio":
            address = port.address
            ensure_controller(
                domain,
                ControllerType.VIRTIO_SERIAL,
                address.controller if isinstance(address, VirtioSerialAddress) else 0,
            )
    _place_smartcards(domain)
    for host in devices.hostdevs:
        if host.type is HostdevType.SCSI and isinstance(host.address, DriveAddress):
            _ensure_up_to(domain, ControllerType.SCSI, host.address.controller, _scsi_model(domain))


def _scsi_model(domain: Domain) -> str | None:
    """New SCSI controllers are like the ones there are."""
    return next(
        (one.model for one in domain.devices.controllers if one.type is ControllerType.SCSI and one.model), None
    )


def _highest_drive(domain: Domain, bus: DiskBus) -> int:
    return max(
        (
            disk.address.controller
            for disk in domain.devices.disks
            if disk.target.bus is bus and isinstance(disk.address, DriveAddress)
        ),
        default=-1,
    )


def _place_smartcards(domain: Domain) -> None:
    cards = domain.devices.smartcards
    highest = max((card.address.slot for card in cards if isinstance(card.address, CcidAddress)), default=-1)
    for card in cards:
        if isinstance(card.address, CcidAddress):
            pass
        elif card.address is None:
            highest += 1
            card.address = CcidAddress(controller=0, slot=highest)
        else:
            continue
        ensure_controller(domain, ControllerType.CCID, card.address.controller)
