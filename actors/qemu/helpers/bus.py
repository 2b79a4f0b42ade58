"""A guest's own D-Bus, over which displays of type `dbus` talk."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final
from xml.sax.saxutils import escape

from actors.qemu.helpers.logs import log_of
from actors.qemu.helpers.processes import Helper, Role, listens, spawn_helper, until_ready
from actors.qemu.helpers.programs import find_program
from actors.qemu.host import QemuHost
from conf.domain.domain import Domain
from conf.domain.graphics import Graphics, GraphicsType
from schema.errors import ConfigUnsupported, HostSystemError, InternalError
from settings.paths import check_socket_length

PROGRAM: Final = "dbus-daemon"
ALIAS: Final = "bus"
_SOCKET: Final = "dbus.sock"
_CONFIG: Final = "dbus.conf"


def bus_address(folder: Path) -> str:
    """Where the bus of the guest with that folder is reached."""
    return f"unix:path={folder / _SOCKET}"


def needs_bus(graphics: Graphics) -> bool:
    """The display talks over a bus that nobody else keeps."""
    return graphics.type is GraphicsType.DBUS and not graphics.p2p and not graphics.address


def place_on_bus(domain: Domain, folder: Path) -> bool:
    """Displays without an address get that of the guest's own bus; is there any?"""
    found = [one for one in domain.devices.graphics if needs_bus(one)]
    for one in found:
        one.address = bus_address(folder)
    return bool(found)


def configuration(folder: Path) -> str:
    """What the bus is told: who may reach it is told by who may reach its socket."""
    return (
        '<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN"\n'
        ' "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">\n'
        "<busconfig>\n"
        "  <type>org.libvirt.qemu</type>\n"
        f"  <listen>{escape(bus_address(folder))}</listen>\n"
        "  <auth>EXTERNAL</auth>\n"
        '  <policy context="default">\n'
        '    <allow send_destination="*" eavesdrop="true"/>\n'
        '    <allow eavesdrop="true"/>\n'
        '    <allow own="*"/>\n'
        "  </policy>\n"
        "</busconfig>\n"
    )


async def start_bus(host: QemuHost, domain: Domain, folder: Path, *, user: tuple[int, int] | None) -> Helper:
    """Starts the bus. Raises ConfigUnsupported, HostSystemError, InternalError with the program's words."""
    binary = find_program(PROGRAM)
    if binary is None:
        raise InternalError(f"Unable to find '{PROGRAM}' binary in $PATH")
    path, config = folder / _SOCKET, folder / _CONFIG
    try:
        check_socket_length(path)
        # the folder may be the guest's: nothing that is there already is written to
        descriptor = os.open(config, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(configuration(folder))
            if user is not None:
                os.fchown(descriptor, *user)
    except ValueError as exc:
        raise ConfigUnsupported(str(exc)) from exc
    except OSError as exc:
        raise HostSystemError(exc.errno or 0, f"cannot write '{config}'") from exc
    argv = [binary, "--nofork", "--nosyslog", f"--config-file={config}"]
    log = log_of(host, domain.name, PROGRAM)
    helper, mark = spawn_helper(Role(PROGRAM, ALIAS), argv, folder=folder, log=log, user=user)
    await until_ready(helper, mark, lambda: path.exists() and listens(str(path)))
    return helper
