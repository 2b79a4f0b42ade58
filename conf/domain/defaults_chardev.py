"""Defaults of character devices: modes and protocols of host ends, ports, the console that stands for a serial port."""

from __future__ import annotations

import ipaddress
import re

from conf.domain.chardev import (
    Channel,
    CharDevice,
    CharMode,
    CharType,
    Console,
    ConsoleTarget,
    NmdmSource,
    Parallel,
    ParallelTarget,
    PathSource,
    Serial,
    SerialTarget,
    SpicePortSource,
    TcpSource,
    UdpSource,
    UnixSource,
)
from conf.domain.chardev_users import RedirDev, Rng, RngBackend, Smartcard
from conf.domain.device import Device
from conf.domain.domain import Domain
from conf.domain.graphics import Graphics
from conf.domain.os import OsType
from conf.domain.sound import Audio
from schema.errors import ConfigUnsupported, ErrorDomain, InvalidArguments, RefusedDocument, XmlError


def complete_source(device: Device | Graphics | Audio) -> None:
    """Fills in the host end of a device that is no character device itself."""
    if isinstance(device, Rng):
        if device.backend.model == "random" and device.backend.path is None:
            device.backend.path = "/dev/random"
        if device.backend.type is not None:
            _complete_end(device.backend)
    elif isinstance(device, Smartcard | RedirDev) and device.type is not None:
        _complete_end(device)


def complete(device: CharDevice, domain: Domain) -> None:
    """Fills in the host end and the port.

    Raises XmlError when there are too many host ends or a channel has no target, ConfigUnsupported for a host end that
    only channels can have.
    """
    is_virtio = isinstance(device, Channel) and device.target is not None and device.target.type == "virtio"
    if (
        device.type is CharType.SPICEVMC
        and not is_virtio
        and not (isinstance(device, Channel) and device.target is None)
    ):
        raise ConfigUnsupported("spicevmc device type only supports virtio")
    _complete_end(device)
    if isinstance(device, Channel):
        _complete_channel(device)
    if isinstance(device, Serial):
        device.target = device.target or SerialTarget()
        device.target.type = _known(device.target.type)
        device.target.model = _known(device.target.model)
        device.target.port = _port(device.target.port, [one.target for one in domain.devices.serials])
    elif isinstance(device, Parallel):
        device.target = device.target or ParallelTarget()
        device.target.port = _port(device.target.port, [one.target for one in domain.devices.parallels])
    elif isinstance(device, Console):
        device.target = device.target or ConsoleTarget()
        device.target.type = _known(device.target.type) or "serial"
        device.target.port = _port(device.target.port, [one.target for one in domain.devices.consoles])


def _port(
    port: int | None, others: list[SerialTarget | None] | list[ParallelTarget | None] | list[ConsoleTarget | None]
) -> int:
    if port is not None and port != -1:
        return port
    return 1 + max((one.port for one in others if one is not None and one.port is not None), default=-1)


def _known(word: str | None) -> str | None:
    return None if word == "none" else word


_MAX_PORT = 0xFFFF


def _complete_channel(device: Channel) -> None:
    target = device.target
    if target is None:
        raise XmlError("target type must be specified for channel device")
    if target.type != "guestfwd":
        target.port = None
        if isinstance(device.source, UnixSource) and device.source.path is None:
            device.source = None  # the hypervisor makes the socket
        return
    if target.address is None:
        raise XmlError("guestfwd channel does not define a target address")
    if target.port is None:
        raise XmlError("Missing required attribute 'port' in element 'target'", domain=ErrorDomain.XML)
    target.port &= _MAX_PORT
    try:
        ipaddress.IPv4Address(target.address)
    except ValueError:
        raise ConfigUnsupported("guestfwd channel only supports IPv4 addresses") from None


CharEnd = CharDevice | RngBackend | Smartcard | RedirDev


def _complete_end(end: CharEnd) -> None:
    source = end.source
    if end.type is CharType.UDP:
        _order_directions(end)
    elif end.type is CharType.UNIX and isinstance(source, UnixSource):
        source.mode = source.mode or CharMode.CONNECT
    again = source.reconnect if isinstance(source, TcpSource | UnixSource) else None
    if again is not None and isinstance(source, TcpSource | UnixSource):
        if again.enabled is None:
            source.reconnect = None
        elif not again.enabled:
            again.timeout_s = None
        elif again.timeout_s is None:
            raise XmlError("Missing required attribute 'timeout' in element 'reconnect'", domain=ErrorDomain.XML)
    if end.log is not None and end.log.file is None:
        end.log = None
    if isinstance(source, PathSource) and end.type is not CharType.FILE:
        source.append = None
    if end.type is CharType.TCP:
        end.protocol = end.protocol or "raw"
    else:
        end.protocol = None


def check_source(device: CharDevice | Rng | Smartcard | RedirDev) -> None:
    """Raises RefusedDocument when the host end lacks what its type needs."""
    if isinstance(device, Rng):
        if device.backend.type is not None:
            _check_end(device.backend, needs_path=True)
    elif device.type is not None:
        _check_end(device, needs_path=not isinstance(device, Channel))


_CHANNEL_NAME = re.compile(r"[A-Za-z0-9_.-]*\Z").match


def _check_end(end: CharEnd, *, needs_path: bool) -> None:
    source = end.source
    match end.type:
        case CharType.UDP:
            connected = end.second_source or source
            if not isinstance(connected, UdpSource) or connected.mode is CharMode.BIND or connected.service is None:
                raise RefusedDocument("Missing source service attribute for char device")
        case CharType.TCP:
            if not isinstance(source, TcpSource) or source.host is None:
                raise RefusedDocument("Missing source host attribute for char device")
            if source.service is None:
                raise RefusedDocument("Missing source service attribute for char device")
        case CharType.UNIX:
            if needs_path and (not isinstance(source, UnixSource) or source.path is None):
                raise RefusedDocument("Missing source path attribute for char device")
        case CharType.FILE | CharType.DEV | CharType.PIPE:
            if not isinstance(source, PathSource) or source.path is None:
                raise RefusedDocument("Missing source path attribute for char device")
        case CharType.NMDM:
            if isinstance(source, NmdmSource) and (source.master is None) != (source.slave is None):
                raise RefusedDocument("Should define both master and slave path attributes for nmdm device")
        case CharType.SPICEPORT | CharType.DBUS:
            channel = source.channel if isinstance(source, SpicePortSource) else None
            if channel is None:
                raise ConfigUnsupported("Missing source channel attribute for char device")
            if _CHANNEL_NAME(channel) is None:
                raise InvalidArguments("Invalid character in source channel for char device")
        case _:
            pass
    reconnect = source.reconnect if isinstance(source, TcpSource | UnixSource) else None
    if reconnect is not None and getattr(source, "mode", None) is not CharMode.CONNECT:
        raise RefusedDocument("chardev reconnect is possible only for connect mode")


def _order_directions(end: CharEnd) -> None:
    """UDP's directions are written with the bound one first."""
    ends = [one for one in (end.source, end.second_source) if isinstance(one, UdpSource)]
    for one in ends:
        one.mode = one.mode or CharMode.CONNECT
    bound = next((one for one in ends if one.mode is CharMode.BIND), None)
    connected = next((one for one in ends if one.mode is CharMode.CONNECT), None)
    end.source = bound or connected
    end.second_source = connected if bound is not None and connected is not None else None


_COMPATIBLE_SERIALS = (None, "none", "isa-serial", "spapr-vio-serial", "system-serial", "sclp-serial")


def complete_consoles(domain: Domain) -> None:
    """Makes the first console of a full virtual machine stand for its first serial port.

    Raises ConfigUnsupported when a later console claims to do so.
    """
    devices = domain.devices
    if domain.os.kind.type != OsType.HVM:
        return
    for other in devices.consoles[1:]:
        if _stands_for_serial(other):
            raise ConfigUnsupported("Only the first console can be a serial port")
    if devices.consoles and _stands_for_serial(devices.consoles[0]):
        console = devices.consoles[0]
        target = console.target or ConsoleTarget()
        target.type = "serial"
        target.port = target.port or 0
        console.target = target
        # host end, name and place are the serial port's
        if not devices.serials:
            devices.serials.append(serial_of(console))
        console.alias = console.address = None
    elif devices.serials:
        serial = devices.serials[0]
        if (serial.target.type if serial.target is not None else None) in _COMPATIBLE_SERIALS:
            devices.consoles.insert(
                0,
                Console(
                    type=serial.type,
                    source=serial.source,
                    protocol=serial.protocol,
                    target=ConsoleTarget(type="serial", port=(serial.target.port if serial.target else None) or 0),
                ),
            )


def _stands_for_serial(console: Console) -> bool:
    return console.target is None or console.target.type in (None, "none", "serial")


def serial_of(console: Console) -> Serial:
    """The serial port that a console alone stands for."""
    return Serial(
        type=console.type,
        source=console.source,
        second_source=console.second_source,
        protocol=console.protocol,
        log=console.log,
        alias=console.alias,
        address=console.address,
        acpi_index=console.acpi_index,
        target=SerialTarget(port=0),
    )
