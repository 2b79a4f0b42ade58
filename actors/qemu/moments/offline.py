"""Snapshots of a guest that is off: `qemu-img` does what QEMU would, in a process of its own."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
from collections.abc import Sequence
from typing import Final

from actors.qemu.block.chain import path_of
from conf.domain.disk import Disk
from schema.errors import InternalError, OperationFailed, OperationUnsupported

LIMIT_S: Final = 3600.0


async def run_image_tool(*words: str) -> str:
    """What `qemu-img` says. Raises InternalError with its words when it fails, OperationFailed when there is none."""
    program = shutil.which("qemu-img")
    if program is None:
        raise OperationFailed("unable to find kvm-img or qemu-img")
    process = await asyncio.create_subprocess_exec(
        program,
        *words,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        start_new_session=True,
    )
    try:
        async with asyncio.timeout(LIMIT_S):
            said, complained = await process.communicate()
    except BaseException:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()
        raise
    if process.returncode:
        text = complained.decode(errors="replace").strip()
        raise InternalError(
            f"Child process (qemu-img {' '.join(words)}) unexpected exit status {process.returncode}: {text}"
        )
    return said.decode(errors="replace")


async def each(disks: Sequence[Disk], option: str, name: str, *, ignores: bool = False) -> None:
    """Does something with the internal snapshot of that name in every disk: `-c` makes, `-a` applies, `-d` deletes it.

    A snapshot that could not be made in one disk stays in none. Raises InternalError with the tool's words, unless
    they are to be ignored.
    """
    done: list[Disk] = []
    for disk in disks:
        kind = disk.driver.type if disk.driver is not None else None
        path = path_of(disk.source)
        if kind != "qcow2" or path is None:
            raise OperationUnsupported(f"Disk device '{disk.target.dev}' does not support snapshotting")
        try:
            await run_image_tool("snapshot", option, name, path)
        except BaseException as exc:
            if ignores and isinstance(exc, InternalError):
                continue
            if option == "-c":
                with contextlib.suppress(InternalError):
                    await asyncio.shield(asyncio.ensure_future(each(done, "-d", name, ignores=True)))
            raise
        done.append(disk)


async def make_overlay(path: str, kind: str, below: str, below_kind: str) -> None:
    """A new, empty image on another one. Raises InternalError."""
    await run_image_tool("create", "-q", "-f", kind, "-F", below_kind, "-b", below, path)


async def commit_image(path: str, kind: str, base: str) -> None:
    """What an image holds goes into one below it. Raises InternalError."""
    await run_image_tool("commit", "-q", "-d", "-f", kind, "-b", base, path)


async def rebase_image(path: str, kind: str, below: str, below_kind: str) -> None:
    """An image says that it stands on another one; its data is not looked at. Raises InternalError."""
    await run_image_tool("rebase", "-q", "-u", "-f", kind, "-b", below, "-F", below_kind, path)
