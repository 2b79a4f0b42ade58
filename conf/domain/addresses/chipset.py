"""The places that the chipsets of PC machines have for their own devices."""

from __future__ import annotations

from conf.domain.address import PciAddress
from conf.domain.addresses.connect import USB2_MODELS
from conf.domain.addresses.pci import Placing, usb2_function
from conf.domain.addresses.pci_buses import Connect
from conf.domain.controller import Controller, ControllerType, PciModel
from conf.domain.sound import SoundModel
from conf.domain.video import VideoType
from schema.errors import RefusedDocument

_FIXED = Connect.NONE


def i440fx(placing: Placing) -> None:
    """Slot 1 is the south bridge with IDE and UHCI as functions; slot 2 is the first video card's.

    Raises XmlError when the definition puts something else there.
    """
    for controller in placing.domain.devices.controllers:
        if controller.index != 0:
            continue
        if controller.type is ControllerType.IDE:
            _fix(placing, controller, 1, 1, "Primary IDE controller")
        elif controller.type is ControllerType.USB and controller.model in (None, "piix3-uhci"):
            _fix(placing, controller, 1, 2, "PIIX3 USB controller at index 0")
    _take_slot(placing, 1, 0)
    _place_video(placing, 2)


def _fix(placing: Placing, controller: Controller, slot: int, function: int, what: str) -> None:
    known = placing.address_of(controller)
    if known is not None:
        if (known.domain, known.bus, known.slot, known.function) != (0, 0, slot, function):
            raise RefusedDocument(f"{what} must have PCI address 0:0:{slot:x}.{function}")
        placing.buses.reserve(known, _FIXED)
    elif placing.is_wanted(controller):
        placing.place(controller, PciAddress(slot=slot, function=function), _FIXED)


def _take_slot(placing: Placing, slot: int, function: int) -> None:
    address = PciAddress(slot=slot, function=function)
    if placing.buses.buses and not placing.buses.is_taken(address):
        placing.buses.reserve(address, _FIXED)


def _place_video(placing: Placing, slot: int) -> None:
    """The first card gets its usual slot if that is free."""
    videos = placing.domain.devices.videos
    if not videos or videos[0].model.type in (VideoType.NONE, VideoType.RAMFB) or not placing.is_wanted(videos[0]):
        return
    if placing.buses.is_slot_taken(0, slot):
        placing.place(videos[0])
    else:
        placing.place(videos[0], PciAddress(slot=slot), _FIXED)


def q35(placing: Placing) -> None:
    """Slot 1f is the south bridge with SATA as a function, 1d and 1a are USB's, 1b sound's, 1 the first video card's.

    Raises XmlError when the definition puts something else there.
    """
    for controller in placing.domain.devices.controllers:
        if controller.type is ControllerType.SATA and controller.index == 0:
            _fix_sata(placing, controller)
        elif controller.type is ControllerType.USB and controller.model == "ich9-uhci1":
            _place_ich9_usb(placing, controller)
        elif (
            controller.type is ControllerType.PCI
            and controller.model == PciModel.DMI_TO_PCI_BRIDGE
            and placing.is_wanted(controller)
            and not placing.buses.is_slot_taken(0, 0x1E)
        ):
            placing.place(controller, PciAddress(slot=0x1E), _FIXED)
    _take_slot(placing, 0x1F, 0)
    _take_slot(placing, 0x1F, 3)
    _place_video(placing, 1)
    for sound in placing.domain.devices.sounds:
        if sound.model is SoundModel.ICH9 and placing.is_wanted(sound) and not placing.buses.is_slot_taken(0, 0x1B):
            placing.place(sound, PciAddress(slot=0x1B), _FIXED)
            break


def _fix_sata(placing: Placing, controller: Controller) -> None:
    known = placing.address_of(controller)
    if known is not None:
        if (known.domain, known.bus, known.slot, known.function) != (0, 0, 0x1F, 2):
            raise RefusedDocument("Primary SATA controller must have PCI address 0:0:1f.2")
    elif placing.is_wanted(controller):
        placing.place(controller, PciAddress(slot=0x1F, function=2), _FIXED)


def _place_ich9_usb(placing: Placing, first: Controller) -> None:
    if not placing.is_wanted(first):
        return
    slot = next((one for one in (0x1D, 0x1A) if not placing.buses.is_slot_taken(0, one)), None)
    if slot is None:
        return
    for controller in placing.domain.devices.controllers:
        same = controller.type is ControllerType.USB and controller.index == first.index
        if same and controller.model in USB2_MODELS and placing.is_wanted(controller):
            function = usb2_function(controller)
            address = PciAddress(slot=slot, function=function, multifunction=True if function == 0 else None)
            placing.place(controller, address, _FIXED)
