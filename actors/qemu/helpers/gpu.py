"""The program that draws for a guest's video card: any that a vhost-user descriptor of this host names."""

from __future__ import annotations

import contextlib
import socket
from pathlib import Path
from typing import Final

import msgspec

from actors.qemu.firmware import descriptor_files
from actors.qemu.helpers.logs import log_of
from actors.qemu.helpers.processes import Helper, Role, spawn_helper
from actors.qemu.helpers.programs import vhost_user_folders
from actors.qemu.helpers.tpm_programs import ask_capabilities
from actors.qemu.host import QemuHost
from actors.qemu.vhost_user import parse_program
from conf.domain.domain import Domain
from conf.domain.video import Acceleration, Video
from schema.errors import InternalError, OperationFailed

PROGRAM: Final = "vhost-user-gpu"
LIVES_S: Final = 0.1


class _Answer(msgspec.Struct):
    features: tuple[str, ...] = ()


def is_drawn_by_program(video: Video) -> bool:
    """A program draws for it, not QEMU."""
    return video.driver is not None and video.driver.name == "vhostuser"


async def find_binary(video: Video) -> str:
    """The most important program that can do what the card wants. Raises OperationFailed when there is none."""
    acceleration = video.model.acceleration
    for path in descriptor_files(vhost_user_folders()):
        try:
            program = parse_program(msgspec.json.decode(path.read_bytes()))
        except (OSError, msgspec.DecodeError, KeyError, TypeError, ValueError):
            continue
        if program.type == "gpu" and wanted(acceleration) <= await _features(program.binary, acceleration):
            return program.binary
    raise OperationFailed("Unable to find a satisfying vhost-user-gpu")


def wanted(acceleration: Acceleration | None) -> frozenset[str]:
    """What the program has to be able to do."""
    found = set()
    if acceleration is not None and acceleration.accel3d:
        found.add("virgl")
    if acceleration is not None and acceleration.rendernode:
        found.add("render-node")
    return frozenset(found)


async def _features(binary: str, acceleration: Acceleration | None) -> frozenset[str]:
    if not wanted(acceleration):
        return frozenset()
    with contextlib.suppress(msgspec.DecodeError):
        return frozenset(
            msgspec.json.decode(await ask_capabilities(binary, "--print-capabilities"), type=_Answer).features
        )
    return frozenset()


async def start_gpu(host: QemuHost, domain: Domain, video: Video, folder: Path) -> tuple[Helper, int]:
    """Starts the program; gives it and the descriptor of its other end, which QEMU inherits.

    Raises OperationFailed without such a program, InternalError with its words when it does not live.
    """
    binary = await find_binary(video)
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    with theirs:
        argv = [binary, f"--fd={theirs.fileno()}"]
        acceleration = video.model.acceleration
        if acceleration is not None and acceleration.accel3d:
            argv.append("--virgl")
        if acceleration is not None and acceleration.rendernode:
            argv.append(f"--render-node={acceleration.rendernode}")
        role = Role(PROGRAM, video.alias or "video")
        log = log_of(host, domain.name, f"{video.alias}-{PROGRAM}")
        with contextlib.ExitStack() as undo:
            undo.callback(ours.close)
            helper, mark = spawn_helper(role, argv, folder=folder, log=log, inherit=[theirs.fileno()])
            undo.pop_all()
    if await helper.process.wait(LIVES_S):
        ours.close()
        raise InternalError(f"{PROGRAM} died unexpectedly: {mark.said()}")
    return helper, ours.detach()
