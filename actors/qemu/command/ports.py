"""Serial and parallel ports, channels, consoles, smart cards: the guest ends of character devices."""

from __future__ import annotations

from typing import Final

from actors.qemu.command.chardevs import add_chardev
from actors.qemu.command.device import address_properties, simple_device
from actors.qemu.command.launch import Launch, alias_of
from actors.qemu.command.line import CommandLine, Properties
from conf.domain.address import CcwAddress, VirtioSerialAddress
from conf.domain.chardev import Channel, CharType, Console, Serial
from conf.domain.chardev_users import Smartcard
from conf.domain.controller import ControllerType
from schema.errors import ConfigUnsupported, InternalError

_SERIAL_DRIVERS: Final = (
    *("isa-serial", "usb-serial", "pci-serial", "isa-debugcon", "spapr-vty", "sclpconsole", "sclplmconsole"),
)
_DEFAULT_CERTIFICATES: Final = "/etc/pki/nssdb"


def add_smartcards(launch: Launch, line: CommandLine) -> None:
    """The guest's smart card."""
    for card in launch.domain.devices.smartcards:
        line.add_json("-device", _smartcard(launch, line, card))


def _smartcard(launch: Launch, line: CommandLine, card: Smartcard) -> Properties:
    alias = alias_of(card)
    if card.mode == "host":
        return simple_device(launch, "ccid-card-emulated", card, backend="nss-emulated")
    if card.mode == "host-certificates":
        properties: Properties = {"driver": "ccid-card-emulated", "backend": "certificates"}
        properties.update({f"cert{n}": name for n, name in enumerate(card.certificates, 1)})
        properties["db"] = card.database or _DEFAULT_CERTIFICATES
        return {**properties, "id": alias, **address_properties(launch, card)}
    add_chardev(launch, line, card, f"char{alias}", alias, vmc="smartcard")
    return {
        "driver": "ccid-card-passthru",
        "chardev": f"char{alias}",
        "id": alias,
        **address_properties(launch, card),
    }


def add_serials(launch: Launch, line: CommandLine) -> None:
    """Serial ports. Raises ConfigUnsupported for a model the emulator does not have."""
    for serial in launch.domain.devices.serials:
        alias = alias_of(serial)
        name = f"char{alias}"
        add_chardev(launch, line, serial, name, alias)
        driver = _serial_driver(serial)
        if driver in _SERIAL_DRIVERS:
            properties: Properties = {"driver": driver, "chardev": name, "id": alias}
            if driver == "isa-serial" and serial.target is not None:
                properties["index"] = serial.target.port
            line.add_json("-device", {**properties, **address_properties(launch, serial)})
        else:
            # a port that is part of the machine
            line.add("-serial", f"chardev:{name}")


def _serial_driver(serial: Serial) -> str:
    target = serial.target
    if target is not None and target.type is not None and target.model is None:
        raise InternalError("Invalid target model for serial device")
    return (target.model if target is not None else None) or ""


def add_parallels(launch: Launch, line: CommandLine) -> None:
    """Parallel ports."""
    for parallel in launch.domain.devices.parallels:
        alias = alias_of(parallel)
        add_chardev(launch, line, parallel, f"char{alias}", alias)
        line.add_json("-device", {"driver": "isa-parallel", "chardev": f"char{alias}", "id": alias})


def add_channels(launch: Launch, line: CommandLine) -> None:
    """Channels. Raises ConfigUnsupported for a target that QEMU does not have."""
    for channel in launch.domain.devices.channels:
        alias = alias_of(channel)
        name = f"char{alias}"
        target = channel.target
        if target is None:
            raise ConfigUnsupported("a channel needs a target")
        if target.type == "guestfwd":
            add_chardev(launch, line, channel, name, alias)
            there = f"tcp:{target.address}:{target.port}-chardev:{name}"
            line.add_json("-netdev", {"type": "user", "guestfwd": [{"str": there}], "id": alias})
        elif target.type == "virtio":
            add_chardev(launch, line, channel, name, alias)
            line.add_json("-device", _virtio_port(launch, channel, "virtserialport", target.name))
        else:
            raise ConfigUnsupported(f"unsupported channel target '{target.type}'")


def add_consoles(launch: Launch, line: CommandLine) -> None:
    """Consoles that are no serial port of the same guest."""
    for console in launch.domain.devices.consoles:
        target = console.target
        kind = target.type if target is not None else None
        if kind in (None, "serial"):
            continue
        alias = alias_of(console)
        name = f"char{alias}"
        if kind == "virtio":
            add_chardev(launch, line, console, name, alias)
            line.add_json("-device", _virtio_port(launch, console, "virtconsole", None))
        elif kind in ("sclp", "sclplm"):
            add_chardev(launch, line, console, name, alias)
            driver = "sclpconsole" if kind == "sclp" else "sclplmconsole"
            line.add_json("-device", {"driver": driver, "chardev": name, "id": alias})
        else:
            raise ConfigUnsupported(f"unsupported console target type '{kind}'")


def _virtio_port(launch: Launch, port: Channel | Console, driver: str, name: str | None) -> Properties:
    alias = alias_of(port)
    properties: Properties = {"driver": driver}
    if isinstance(port.address, VirtioSerialAddress):
        address = port.address
        controller = launch.controller_alias(ControllerType.VIRTIO_SERIAL, address.controller)
        properties["bus"] = f"{controller}.{address.bus}"
        properties["nr"] = address.port
    elif isinstance(port.address, CcwAddress):
        properties.update(address_properties(launch, port))
    elif port.address is not None:
        raise InternalError("virtio serial device has invalid address type")
    if port.type is CharType.SPICEVMC and name is not None and name != "com.redhat.spice.0":
        raise ConfigUnsupported(f"Unsupported spicevmc target name '{name}'")
    properties["chardev"] = f"char{alias}"
    properties["id"] = alias
    if name is not None:
        properties["name"] = name
    elif port.type is CharType.SPICEVMC:
        properties["name"] = "com.redhat.spice.0"
    return properties
