"""What is set and learnt through the monitor of a guest that has just started."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any, Final

from actors.qemu.monitor.link import Command
from conf.domain.chardev import CharDevice, CharType, PtySource
from conf.domain.clock import LifecycleAction
from conf.domain.disk import Disk, IoTune
from conf.domain.domain import Domain
from conf.domain.graphics import Graphics, GraphicsType
from schema.errors import ConfigUnsupported

BALLOON_PATH: Final = "/machine/peripheral/balloon0"


def ports_of(domain: Domain) -> Iterable[CharDevice]:
    """All devices that a console can be opened on."""
    devices = domain.devices
    yield from devices.serials
    yield from devices.parallels
    yield from devices.channels
    yield from devices.consoles


def learn_ptys(domain: Domain, chardevs: list[dict[str, Any]]) -> bool:
    """Takes what `query-chardev` tells of terminals and channels into the definition; whether that changed it."""
    paths = {str(one["label"]): str(one.get("filename", "")) for one in chardevs}
    is_open = {str(one["label"]): bool(one.get("frontend-open")) for one in chardevs}
    found = False
    for channel in domain.devices.channels:
        if channel.target is not None and channel.target.type == "virtio":
            channel.target.state = "connected" if is_open.get(f"char{channel.alias}") else "disconnected"
            found = True
    for device in ports_of(domain):
        if device.type is CharType.PTY:
            name = paths.get(f"char{device.alias}", "")
            if name.startswith("pty:"):
                device.source = PtySource(path=name.removeprefix("pty:"))
                found = True
    consoles = domain.devices.consoles
    if consoles and domain.devices.serials and _is_serial_console(domain):
        # the first console is the first serial port under another name
        serial, console = domain.devices.serials[0], consoles[0]
        console.type = serial.type
        console.source = None if serial.source is None else serial.source.copy()
        console.alias = serial.alias
    for console in consoles:
        is_serial = console.target is None or console.target.type in (None, "serial")
        if is_serial and console.type is CharType.PTY and isinstance(console.source, PtySource):
            console.tty = console.source.path
    return found


def _is_serial_console(domain: Domain) -> bool:
    target = domain.devices.consoles[0].target
    return target is None or target.type in (None, "serial")


def has_balloon(domain: Domain) -> bool:
    """The guest can give memory back."""
    balloon = domain.devices.memballoon
    return balloon is not None and balloon.model not in ("none", "xen")


def balloon_commands(domain: Domain) -> list[Command]:
    """How large the guest is at first, and how often it tells about its memory."""
    if not has_balloon(domain):
        return []
    commands: list[Command] = []
    balloon = domain.devices.memballoon
    assert balloon is not None
    if balloon.stats_period_s:
        commands.append(stats_period(domain, balloon.stats_period_s))
    current = domain.current_memory_kib
    if current is not None and current < domain.memory.kib:
        commands.append(("balloon", {"value": current * 1024}))
    commands.append(("query-balloon", None))
    return commands


def balloon_path(domain: Domain) -> str:
    """The balloon's place in QEMU's tree of objects."""
    balloon = domain.devices.memballoon
    alias = balloon.alias if balloon is not None else None
    return f"/machine/peripheral/{alias or 'balloon0'}"


def stats_period(domain: Domain, seconds: int) -> Command:
    """Makes the guest tell about its memory every so many seconds."""
    return (
        "qom-set",
        {"path": balloon_path(domain), "property": "guest-stats-polling-interval", "value": seconds},
    )


def throttle_commands(domain: Domain) -> list[Command]:
    """The limits of disks."""
    return [throttle(disk, disk.iotune) for disk in domain.devices.disks if disk.iotune is not None]


_LIMITS: Final = {
    "total_bytes_sec": "bps",
    "read_bytes_sec": "bps_rd",
    "write_bytes_sec": "bps_wr",
    "total_iops_sec": "iops",
    "read_iops_sec": "iops_rd",
    "write_iops_sec": "iops_wr",
    "total_bytes_sec_max": "bps_max",
    "read_bytes_sec_max": "bps_rd_max",
    "write_bytes_sec_max": "bps_wr_max",
    "total_iops_sec_max": "iops_max",
    "read_iops_sec_max": "iops_rd_max",
    "write_iops_sec_max": "iops_wr_max",
    "size_iops_sec": "iops_size",
    "total_bytes_sec_max_length": "bps_max_length",
    "read_bytes_sec_max_length": "bps_rd_max_length",
    "write_bytes_sec_max_length": "bps_wr_max_length",
    "total_iops_sec_max_length": "iops_max_length",
    "read_iops_sec_max_length": "iops_rd_max_length",
    "write_iops_sec_max_length": "iops_wr_max_length",
}
_REQUIRED: Final = ("bps", "bps_rd", "bps_wr", "iops", "iops_rd", "iops_wr")


def qom_of(disk: Disk) -> str:
    """A disk's place in QEMU's tree of objects; a virtio disk's own part is one level below."""
    alias = disk.alias or ""
    if alias.startswith("virtio-disk"):
        return f"/machine/peripheral/{alias}/virtio-backend"
    return alias


def throttle(disk: Disk, tune: IoTune) -> Command:
    """Limits a disk."""
    arguments: dict[str, Any] = {"id": qom_of(disk)}
    for name, word in _LIMITS.items():
        value = getattr(tune, name)
        if value is not None or word in _REQUIRED:
            arguments[word] = value or 0
    if tune.group_name is not None:
        arguments["group"] = tune.group_name
    return ("block_set_io_throttle", arguments)


def reboot_command(action: LifecycleAction) -> Command:
    """What QEMU makes of a reboot: one that is to end the guest is a shutdown."""
    return "set-action", {"reboot": "shutdown" if action is LifecycleAction.DESTROY else "reset"}


def password_commands(domain: Domain, usual: Mapping[GraphicsType, str]) -> list[Command]:
    """The passwords of displays; those that have none of their own get the usual one of their type."""
    return [command for one in domain.devices.graphics for command in display_commands(one, usual.get(one.type))]


def display_commands(graphics: Graphics, usual: str | None = None) -> list[Command]:
    """The password of a display, and until when it is good; none is set where none is wanted."""
    password = usual if graphics.passwd is None else graphics.passwd
    if password is None or graphics.type not in (GraphicsType.VNC, GraphicsType.SPICE):
        return []
    protocol = graphics.type.value
    arguments: dict[str, Any] = {"protocol": protocol, "password": password}
    if graphics.connected is not None:
        arguments["connected"] = graphics.connected
    return [
        ("set_password", arguments),
        ("expire_password", {"protocol": protocol, "time": expiry(graphics)}),
    ]


def expiry(graphics: Graphics) -> str:
    """When the password ends, as QEMU is told. Raises ConfigUnsupported for a time that is none."""
    until = _seconds(graphics.passwd_valid_to)
    if graphics.passwd == "" or (until is not None and until <= time.time()):
        return "now"
    return "never" if until is None else str(until)


def _seconds(text: str | None) -> int | None:
    if text is None:
        return None
    try:
        return int(datetime.strptime(text, "%Y-%m-%dT%H:%M:%S").replace(tzinfo=UTC).timestamp())
    except ValueError:
        raise ConfigUnsupported(f"cannot parse password validity time '{text}', expect YYYY-MM-DDTHH:MM:SS") from None
