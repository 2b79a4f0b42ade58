"""Places that are no PCI: s390 channels, the pSeries virtual bus, virtio-mmio."""

from __future__ import annotations

from conf.domain.address import CcwAddress, PciAddress, SpaprVioAddress, ZpciAddress
from conf.domain.controller import Controller, ControllerType
from conf.domain.defaults import walk
from conf.domain.device import Device
from conf.domain.domain import Domain
from schema.errors import RefusedDocument, XmlError

VIRTIO_CSSID = 0xFE
MAX_DEVNO = 0xFFFF
MAX_UID = 0xFFFF


def assign_ccw(domain: Domain) -> None:
    """Gives every device that has an empty channel address the next device number.

    Raises XmlError when a number is taken twice or none is left.
    """
    taken: set[tuple[int, int, int]] = set()
    waiting: list[Device] = []
    for device in walk(domain):
        address = device.address if isinstance(device, Device) else None
        if not isinstance(address, CcwAddress) or not isinstance(device, Device):
            continue
        if address.devno is None:
            waiting.append(device)
            continue
        key = (address.cssid or 0, address.ssid or 0, address.devno)
        if key in taken:
            raise XmlError(f"The CCW devno '{key[0]:x}.{key[1]:x}.{key[2]:04x}' is in use already")
        taken.add(key)
    devno = 0
    for device in waiting:
        while (VIRTIO_CSSID, 0, devno) in taken:
            devno += 1
        if devno > MAX_DEVNO:
            raise XmlError("There are no more free CCW devnos")
        taken.add((VIRTIO_CSSID, 0, devno))
        device.address = CcwAddress(cssid=VIRTIO_CSSID, ssid=0, devno=devno)


def assign_spapr_vio(domain: Domain, device: Device, first: int) -> None:
    """Gives a device the first free register from `first` on.

    Raises XmlError when the register that the device asks for is taken.
    """
    taken = {
        other.address.reg
        for other in walk(domain)
        if isinstance(other, Device) and other is not device and isinstance(other.address, SpaprVioAddress)
    }
    address = device.address
    if isinstance(address, SpaprVioAddress) and address.reg is not None:
        if address.reg in taken:
            raise XmlError(f"spapr-vio address {address.reg:#x} already in use")
        return
    register = first
    while register in taken:
        register += 0x1000
    device.address = SpaprVioAddress(reg=register)


def assign_zpci(domain: Domain, *, bridges: bool = False) -> None:
    """Gives PCI devices of a mainframe the two numbers by which its firmware knows them.

    Bridges get theirs when the guest starts (`bridges`). Raises XmlError when a number does not exist, RefusedDocument
    when it is taken twice.
    """
    addresses = [
        device.address
        for device in walk(domain)
        if isinstance(device, Device)
        and isinstance(device.address, PciAddress)
        and not device.address.is_empty
        and (bridges or not (isinstance(device, Controller) and device.type is ControllerType.PCI))
    ]
    uids: set[int] = set()
    fids: set[int] = set()
    for address in addresses:
        zpci = address.zpci = address.zpci or ZpciAddress()
        if zpci.uid is not None and not 0 < zpci.uid <= MAX_UID:
            raise XmlError(f"Invalid PCI address uid='0x{zpci.uid:04x}', must be > 0x0000 and <= 0x{MAX_UID:x}")
        _reserve(uids, zpci.uid, "uid")
        _reserve(fids, zpci.fid, "fid")
    # those that say one of the two come before those that say neither
    addresses.sort(key=lambda one: one.zpci is None or one.zpci == ZpciAddress())
    for address in addresses:
        if address.zpci is not None and address.zpci.uid is None:
            address.zpci.uid = _next(uids, 1)
        if address.zpci is not None and address.zpci.fid is None:
            address.zpci.fid = _next(fids, 0)


def _reserve(taken: set[int], number: int | None, what: str) -> None:
    if number is None:
        return
    if number in taken:
        raise RefusedDocument(f"zPCI {what} {number:o} is already reserved")
    taken.add(number)


def _next(taken: set[int], number: int) -> int:
    while number in taken:
        number += 1
    taken.add(number)
    return number
