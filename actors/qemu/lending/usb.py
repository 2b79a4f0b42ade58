"""The host's USB devices: which of them a guest means."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from conf.domain.domain import Domain
from conf.domain.hostdev import Hostdev, SourceUsbAddress, UsbHostSource
from schema.errors import InternalError, OperationFailed

_DEVICES: Final = Path("/sys/bus/usb/devices")


@dataclass(frozen=True, slots=True)
class UsbDevice:
    """One device."""

    vendor: int
    product: int
    bus: int
    device: int


def usb_devices(folder: Path = _DEVICES) -> list[UsbDevice]:
    """All devices, by their places."""
    return sorted(_read(folder), key=lambda one: (one.bus, one.device))


def _read(folder: Path) -> Iterator[UsbDevice]:
    for place in folder.glob("*"):
        try:
            yield UsbDevice(
                int((place / "idVendor").read_text(), 16),
                int((place / "idProduct").read_text(), 16),
                int((place / "busnum").read_text()),
                int((place / "devnum").read_text()),
            )
        except (OSError, ValueError):
            continue  # an interface of a device, or one that has just gone


def find_usb_devices(domain: Domain, *, cold: bool, folder: Path = _DEVICES) -> None:
    """Says of each USB device of a definition where it is plugged in, or that it is not there and need not be.

    Raises as `find_usb_device` does.
    """
    wanted = [one for one in domain.devices.hostdevs if isinstance(one.source, UsbHostSource)]
    if wanted:
        found = usb_devices(folder)
        for one in wanted:
            find_usb_device(one, found, cold=cold)


def find_usb_device(hostdev: Hostdev, devices: list[UsbDevice], *, cold: bool) -> None:
    """The same for one device. `cold`: the guest is not on its way from somewhere else.

    Raises InternalError for a device that is not there, OperationFailed for one of several.
    """
    source = hostdev.source
    if not isinstance(source, UsbHostSource):
        return
    policy = source.startup_policy
    is_needed = policy != "optional" and not (policy == "requisite" and not cold)
    source.missing = None
    found = _matching(source, devices)
    if not found and not cold and source.vendor is not None and source.address is not None:
        # it had another place where the guest comes from
        source.address = None
        found = _matching(source, devices)
    if not found:
        if is_needed:
            raise InternalError(f"Did not find USB device {_words(source)}")
        source.missing, source.address = True, None
    elif len(found) > 1:
        raise OperationFailed(f"Multiple USB devices for {_words(source, '{:x}:{:x}')}, use <address> to specify one")
    else:
        source.address = SourceUsbAddress(bus=found[0].bus, device=found[0].device)


def _matching(source: UsbHostSource, devices: list[UsbDevice]) -> list[UsbDevice]:
    named = devices
    if source.vendor is not None and source.product is not None:
        named = [one for one in devices if (one.vendor, one.product) == (source.vendor.id, source.product.id)]
    at = source.address
    return named if at is None else [one for one in named if (one.bus, one.device) == (at.bus, at.device)]


def _words(source: UsbHostSource, names: str = "{:04x}:{:04x}") -> str:
    words = []
    if source.vendor is not None and source.product is not None:
        words.append(names.format(source.vendor.id, source.product.id))
    if source.address is not None:
        words.append(f"bus:{source.address.bus} device:{source.address.device}")
    return " ".join(words)
