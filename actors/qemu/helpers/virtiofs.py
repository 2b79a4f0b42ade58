"""The program that serves a folder of the host to a guest over virtiofs."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from actors.qemu.helpers.logs import log_of
from actors.qemu.helpers.processes import Helper, Role, spawn_helper
from actors.qemu.helpers.programs import find_vhost_user, vhost_user_folders
from actors.qemu.host import QemuHost
from actors.qemu.monitor.link import listening_socket
from conf.domain.domain import Domain
from conf.domain.filesystem import Filesystem, FilesystemBinary, MountSource
from schema.errors import ConfigUnsupported, HostSystemError, InternalError, OperationFailed
from settings.paths import check_socket_length

PROGRAM: Final = "virtiofsd"
LIVES_S: Final = 0.1
"""One that does not like what it was given says so at once."""


def is_served_by_us(one: Filesystem) -> bool:
    """A program of ours serves it; not one that somebody else has started."""
    source = one.source
    is_virtiofs = one.driver is not None and one.driver.type == "virtiofs"
    return is_virtiofs and not (isinstance(source, MountSource) and source.socket)


def find_binary(one: Filesystem) -> str:
    """The program that serves a folder: the one that it names, else the host's. Raises OperationFailed."""
    if one.binary is not None and one.binary.path:
        return one.binary.path
    program = find_vhost_user("fs", vhost_user_folders())
    if program is None:
        raise OperationFailed("Unable to find a satisfying virtiofsd")
    return program.binary


def socket_of(folder: Path, alias: str) -> Path:
    """Where the program of a device listens."""
    return folder / f"{alias}-fs.sock"


async def start_virtiofs(
    host: QemuHost, domain: Domain, one: Filesystem, folder: Path, *, user: tuple[int, int] | None
) -> Helper:
    """Starts the program; QEMU finds its socket in the guest's folder.

    Raises ConfigUnsupported, OperationFailed without such a program, HostSystemError, and InternalError with the
    program's words when it does not live.
    """
    if not isinstance(one.source, MountSource) or one.source.dir is None:
        raise ConfigUnsupported("only supports mount filesystem type")
    if os.geteuid() != 0:
        raise ConfigUnsupported("virtiofs is not yet supported in session mode")
    shared = one.source.dir
    if not await host.runtime.in_thread(Path(shared).exists):
        raise InternalError(f"the virtiofs export directory '{shared}' does not exist")
    binary = find_binary(one)
    if one.binary is None:
        one.binary = FilesystemBinary()
    one.binary.path = binary
    path = socket_of(folder, one.alias or "fs")
    try:
        check_socket_length(path)
        listener = listening_socket(path)
    except ValueError as exc:
        raise ConfigUnsupported(str(exc)) from exc
    except OSError as exc:
        raise HostSystemError(exc.errno or 0, f"Failed to bind socket to {path}") from exc
    try:
        if user is not None:
            os.chown(path, *user, follow_symlinks=False)
        argv = [binary, f"--fd={listener.fileno()}", *options(shared, one.binary)]
        log = log_of(host, domain.name, f"{one.alias}-{PROGRAM}")
        role = Role(PROGRAM, one.alias or "fs")
        helper, mark = spawn_helper(role, argv, folder=folder, log=log, inherit=[listener.fileno()])
    finally:
        listener.close()
    # its socket listens already: QEMU need not wait for it, but for the verdict on its options
    if await helper.process.wait(LIVES_S):
        path.unlink(missing_ok=True)
        raise InternalError(f"{PROGRAM} died unexpectedly: {mark.said()}")
    return helper


def options(folder: str, binary: FilesystemBinary | None) -> list[str]:
    """How the program is told what to serve, and how."""
    words = [f"source={folder.replace(',', ',,')}"]
    if binary is None:
        return ["-o", words[0]]
    if binary.cache_mode:
        words.append(f"cache={binary.cache_mode}")
    if binary.sandbox_mode:
        words.append(f"sandbox={binary.sandbox_mode}")
    lock = binary.lock
    for name, wanted in (
        ("xattr", binary.xattr),
        ("flock", lock.flock if lock is not None else None),
        ("posix_lock", lock.posix if lock is not None else None),
    ):
        if wanted is not None:
            words.append(name if wanted else f"no_{name}")
    argv = ["-o", ",".join(words)]
    if binary.thread_pool_size is not None:
        argv.append(f"--thread-pool-size={binary.thread_pool_size}")
    return argv
