"""The program that sends persistent reservations to disks for a guest, which may not do so itself."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from actors.qemu.helpers.logs import log_of
from actors.qemu.helpers.processes import Helper, Role, listens, spawn_helper, until_ready
from actors.qemu.helpers.programs import find_program
from actors.qemu.host import QemuHost
from conf.domain.disk import Disk
from conf.domain.domain import Domain
from schema.errors import ConfigUnsupported, HostSystemError
from settings.paths import check_socket_length

PROGRAM: Final = "qemu-pr-helper"
ALIAS: Final = "pr-helper0"


def is_reserved_by_us(disk: Disk) -> bool:
    """The disk's reservations are a program of ours."""
    wanted = getattr(disk.source, "reservations", None)
    return wanted is not None and bool(wanted.managed)


async def start_reservations(host: QemuHost, name: str, folder: Path, *, user: tuple[int, int] | None) -> Helper:
    """Starts the program for the guest of that name; QEMU finds its socket in the guest's folder.

    Raises ConfigUnsupported, HostSystemError without the program, InternalError with its words.
    """
    binary = find_program(PROGRAM)
    if binary is None:
        raise HostSystemError(2, f"'/usr/bin/{PROGRAM}' is not a suitable pr helper")
    path = folder / f"{ALIAS}.sock"
    try:
        check_socket_length(path)
        path.unlink(missing_ok=True)
    except ValueError as exc:
        raise ConfigUnsupported(str(exc)) from exc
    except OSError as exc:
        raise HostSystemError(exc.errno or 0, f"Unable to remove stale socket '{path}'") from exc
    log = log_of(host, name, PROGRAM)
    helper, mark = spawn_helper(Role(PROGRAM, ALIAS), [binary, "-k", str(path)], folder=folder, log=log)
    await until_ready(helper, mark, lambda: path.exists() and listens(str(path)))
    if user is not None:
        try:
            os.chown(path, *user, follow_symlinks=False)
        except OSError as exc:
            raise HostSystemError(exc.errno or 0, f"cannot give '{path}' to the guest's user") from exc
    return helper


def wants_reservations(domain: Domain) -> bool:
    """One disk of the guest at least does."""
    return any(is_reserved_by_us(one) for one in domain.devices.disks)
