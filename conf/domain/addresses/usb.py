"""Ports of USB controllers and hubs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from conf.domain.address import UsbAddress
from conf.domain.chardev import Serial
from conf.domain.controller import Controller, ControllerType
from conf.domain.device import Device
from conf.domain.disk import DiskBus
from conf.domain.domain import Domain
from conf.domain.hostdev import HostdevType
from conf.domain.small_devices import Hub, InputBus
from conf.domain.sound import SoundModel
from schema.errors import XmlError

HUB_PORTS = 8
MAX_DEPTH = 4
_PORTS = {
    "piix3-uhci": 2,
    "piix4-uhci": 2,
    "vt82c686b-uhci": 2,
    "ehci": 6,
    "ich9-ehci1": 6,
    "pci-ohci": 3,
    "nec-xhci": 4,
    "qemu-xhci": 4,
    "qusb1": 15,
    "qusb2": 15,
}


@dataclass(slots=True)
class _Ports:
    """The ports of a controller or hub: taken by nothing, by a device, or by another hub."""

    count: int
    taken: set[int] = field(default_factory=set)
    hubs: dict[int, _Ports] = field(default_factory=dict)

    def free(self, depth: int = 0) -> str | None:
        """The path of the first free port, those nearer the controller first."""
        for port in range(1, self.count + 1):
            if port not in self.taken:
                return str(port)
        if depth + 1 < MAX_DEPTH:
            for port, hub in sorted(self.hubs.items()):
                below = hub.free(depth + 1)
                if below is not None:
                    return f"{port}.{below}"
        return None

    def take(self, path: str, *, hub: bool, bus: int = 0, whole: str = "") -> None:
        """Takes a port; `whole` is the path from the controller. Raises XmlError when it is taken or does not exist."""
        whole = whole or path
        head, _, rest = path.partition(".")
        if not head.isdigit() or not 0 < int(head) <= self.count:
            raise XmlError(f"requested USB port {whole} not present on USB bus {bus}")
        port = int(head)
        if rest:
            if port not in self.hubs:
                raise XmlError(f"there is no hub at port {head} in USB address bus: {bus} port: {whole}")
            self.hubs[port].take(rest, hub=hub, bus=bus, whole=whole)
            return
        if port in self.taken:
            raise XmlError(f"Duplicate USB address bus {bus} port {whole}")
        self.taken.add(port)
        if hub:
            self.hubs[port] = _Ports(HUB_PORTS)


def usb_devices(domain: Domain) -> Iterator[Device]:
    """The USB devices but for hubs, in the order in which they get ports."""
    devices = domain.devices
    yield from (one for one in devices.hostdevs if one.type is HostdevType.USB)
    yield from (one for one in devices.disks if one.target.bus is DiskBus.USB)
    yield from (one for one in devices.controllers if one.type is ControllerType.CCID)
    yield from (one for one in devices.inputs if one.bus is InputBus.USB)
    yield from (one for one in devices.serials if _is_usb_serial(one))
    yield from (one for one in devices.sounds if one.model is SoundModel.USB)
    yield from devices.redirdevs


def _is_usb_serial(device: Serial) -> bool:
    return device.target is not None and device.target.type == "usb-serial"


def assign_usb(domain: Domain) -> None:
    """Gives USB devices their ports, adding hubs when there are more devices than ports.

    Raises XmlError when a port is taken twice or does not exist, or when there is no port at all.
    """
    buses: dict[int, _Ports] = {}
    for controller in domain.devices.controllers:
        if controller.type is ControllerType.USB and controller.index is not None:
            count = _port_count(controller)
            if count:
                known = buses.setdefault(controller.index, _Ports(0))
                known.count = max(known.count, count)
    hubs = domain.devices.hubs
    for hub in sorted((one for one in hubs if _port_of(one) is not None), key=lambda one: len(_port_of(one) or "")):
        _take(buses, hub, hub=True)
    for device in usb_devices(domain):
        if _port_of(device) is not None:
            _take(buses, device, hub=False)
    for hub in hubs:
        if _port_of(hub) is None:
            _place(buses, hub, hub=True)
    waiting = [one for one in usb_devices(domain) if _port_of(one) is None and _is_usb(one)]
    _add_hubs(domain, buses, len(waiting))
    for device in waiting:
        _place(buses, device, hub=False)


def _is_usb(device: Device) -> bool:
    return device.address is None or isinstance(device.address, UsbAddress)


def _port_of(device: Device) -> str | None:
    return device.address.port if isinstance(device.address, UsbAddress) else None


def _port_count(controller: Controller) -> int:
    if controller.model in ("nec-xhci", "qemu-xhci") and controller.ports is not None:
        return controller.ports
    # a controller without a model counts as the oldest
    return _PORTS.get(controller.model or "piix3-uhci", 0)


def _take(buses: dict[int, _Ports], device: Device, *, hub: bool) -> None:
    address = device.address
    if isinstance(address, UsbAddress) and address.port is not None:
        if not buses:
            return  # USB is off: refused later, in other words
        if address.bus not in buses:
            raise XmlError(f"Missing USB bus {address.bus}")
        buses[address.bus].take(address.port, hub=hub, bus=address.bus)


def _place(buses: dict[int, _Ports], device: Device, *, hub: bool) -> None:
    wanted = device.address.bus if isinstance(device.address, UsbAddress) else None
    for number, ports in sorted(buses.items()):
        if wanted is not None and number != wanted:
            continue
        path = ports.free()
        if path is not None:
            ports.take(path, hub=hub)
            device.address = UsbAddress(bus=number, port=path)
            return
    if buses:
        raise XmlError("No free USB ports")


def _add_hubs(domain: Domain, buses: dict[int, _Ports], count: int) -> None:
    """As many hubs as make room for the devices: a hub offers eight ports and takes one."""
    available = sum(_free_count(ports) for ports in buses.values())
    if not buses or count <= available or not available:
        return
    # one port more than there are devices, as libvirt counts
    for _ in range(-(-(count - available + 1) // (HUB_PORTS - 1))):
        hub = Hub(type="usb")
        _place(buses, hub, hub=True)
        domain.devices.hubs.append(hub)


def _free_count(ports: _Ports) -> int:
    return ports.count - len(ports.taken) + sum(_free_count(hub) for hub in ports.hubs.values())
