"""The program that gives a guest the host's network without any privilege: passt."""

from __future__ import annotations

import os
import pwd
import secrets
from pathlib import Path
from typing import Final

from actors.qemu.helpers.logs import log_of
from actors.qemu.helpers.processes import Helper, Role, listens, spawn_helper, until_ready
from actors.qemu.helpers.programs import find_program
from actors.qemu.host import QemuHost
from conf.domain.domain import Domain
from conf.domain.interface import Interface, InterfaceType, PortForward, PortForwardRange, UserSource
from schema.errors import ConfigUnsupported, HostSystemError, InternalError
from settings.paths import check_socket_length

PROGRAM: Final = "passt"
_NOBODY: Final = "nobody"


def is_behind_passt(one: Interface) -> bool:
    """The interface's other end is this program."""
    return one.type is InterfaceType.USER and one.backend is not None and one.backend.type == "passt"


async def start_passt(
    host: QemuHost, domain: Domain, one: Interface, folder: Path, *, user: tuple[int, int] | None
) -> tuple[Helper, Path]:
    """Starts the program; gives it and the socket that QEMU connects to.

    It leaves root behind before it binds its socket, so it gets a folder of its own and stands in it: it need not
    find the way there. Raises ConfigUnsupported without the program, HostSystemError, InternalError with its words.
    """
    binary = find_program(PROGRAM)
    if binary is None:
        raise InternalError("Unable to find 'passt' binary in $PATH")
    # nobody else's socket has this name: it tells when the program listens
    mark = secrets.token_hex(4)
    own, name = folder / f"{PROGRAM}-{mark}", f"{one.alias}-{mark}.sock"
    path = own / name
    runs_as = user or _nobody()
    try:
        check_socket_length(path)
        own.mkdir(mode=0o700)
        if runs_as is not None:
            # the folder that it is in may be the guest's
            os.chown(own, *runs_as, follow_symlinks=False)
    except ValueError as exc:
        raise ConfigUnsupported(str(exc)) from exc
    except OSError as exc:
        raise HostSystemError(exc.errno or 0, f"cannot create directory '{own}'") from exc
    argv = [binary, "--foreground", "--one-off", "--socket", name, *options(one)]
    if runs_as is not None:
        argv += ["--runas", f"{runs_as[0]}:{runs_as[1]}"]
    log = log_of(host, domain.name, f"{one.alias}-{PROGRAM}")
    helper, words = spawn_helper(Role(PROGRAM, one.alias or "net"), argv, folder=folder, log=log, cwd=str(own))
    await until_ready(helper, words, lambda: listens(name))
    return helper, path


def _nobody() -> tuple[int, int] | None:
    """Whom the program becomes when root starts it."""
    if os.geteuid() != 0:
        return None
    try:
        entry = pwd.getpwnam(_NOBODY)
    except KeyError:
        return None
    return entry.pw_uid, entry.pw_gid


def options(one: Interface) -> list[str]:
    """How the program is told which network the guest sees, and what of the host's it gets."""
    argv: list[str] = []
    if isinstance(one.source, UserSource) and one.source.dev:
        argv += ["--interface", one.source.dev]
    if one.backend is not None and one.backend.log_file:
        argv += ["--log-file", one.backend.log_file]
    for ip in one.ips:
        argv += ["--address", ip.address]
        if ip.prefix:
            argv += ["--netmask", str(ip.prefix)]
    for forward in one.port_forwards:
        argv += [f"--{forward.proto}-ports", ports(forward)]
    return argv


def ports(forward: PortForward) -> str:
    """Which ports of the host, of which address and link, are the guest's."""
    place = (forward.address or "") + (f"%{forward.dev}" if forward.dev else "")
    listed = ",".join(_range(one) for one in forward.ranges) or "all"
    return f"{place}/{listed}" if place else listed


def _range(one: PortForwardRange) -> str:
    text = ("~" if one.exclude else "") + str(one.start)
    if one.end is not None:
        text += f"-{one.end}"
    if one.to is not None:
        text += f":{one.to}"
        if one.end is not None:
            text += f"-{one.end + one.to - one.start}"
    return text
