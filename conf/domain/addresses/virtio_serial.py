"""Ports of virtio-serial controllers."""

from __future__ import annotations

from conf.domain.address import VirtioSerialAddress
from conf.domain.chardev import Channel, Console
from conf.domain.controller import Controller, ControllerType
from conf.domain.defaults_controller import ensure_controller
from conf.domain.domain import Domain
from schema.errors import XmlError

DEFAULT_PORTS = 31
MAX_PORTS = 512


def assign_virtio_serial(domain: Domain) -> None:
    """Gives virtio channels their ports; port 0 is only for consoles, which keep what their definition says.

    Raises XmlError when a port is taken twice or its controller does not exist.
    """
    devices = domain.devices
    ports: list[Console | Channel] = [*devices.consoles, *devices.channels]
    ports = [one for one in ports if one.target is not None and one.target.type == "virtio"]
    taken: dict[int, set[int]] = {one.index: set() for one in _controllers(domain) if one.index is not None}
    counts = {one.index: _count_of(one) for one in _controllers(domain) if one.index is not None}
    for port in ports:
        address = port.address
        if isinstance(address, VirtioSerialAddress) and address.port:
            if address.controller not in taken:
                raise XmlError(f"virtio serial controller {address.controller} is missing")
            if address.port >= counts[address.controller]:
                raise XmlError(f"virtio serial controller {address.controller} does not have port {address.port}")
            if address.port in taken[address.controller]:
                raise XmlError(
                    f"virtio serial port {address.port} on controller {address.controller} is already occupied"
                )
            taken[address.controller].add(address.port)
    for port in devices.channels:
        if port.target is None or port.target.type != "virtio":
            continue
        if not isinstance(port.address, VirtioSerialAddress) or not port.address.port:
            _place(domain, taken, port)


def _controllers(domain: Domain) -> list[Controller]:
    return [one for one in domain.devices.controllers if one.type is ControllerType.VIRTIO_SERIAL]


def _count_of(controller: Controller) -> int:
    return min(controller.ports or DEFAULT_PORTS, MAX_PORTS)


def _place(domain: Domain, taken: dict[int, set[int]], port: Channel) -> None:
    first = 1
    wanted = port.address.controller if isinstance(port.address, VirtioSerialAddress) else None
    for controller in sorted(_controllers(domain), key=lambda one: one.index or 0):
        if controller.index is None or (wanted is not None and controller.index != wanted):
            continue
        for number in range(first, _count_of(controller)):
            if number not in taken[controller.index]:
                taken[controller.index].add(number)
                port.address = VirtioSerialAddress(controller=controller.index, port=number)
                return
    index = 1 + max(taken, default=-1)
    ensure_controller(domain, ControllerType.VIRTIO_SERIAL, index)
    taken[index] = {first}
    port.address = VirtioSerialAddress(controller=index, port=first)
