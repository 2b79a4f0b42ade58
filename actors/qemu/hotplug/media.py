"""Media of drives: taken out, put in, changed."""

from __future__ import annotations

import asyncio
from typing import Final

from actors.qemu.command.blockdev import disk_nodes, is_empty, topmost
from actors.qemu.hotplug.board import Board
from actors.qemu.hotplug.images import image_parts
from actors.qemu.hotplug.steps import Steps, carry_out, quietly
from conf.domain.disk import Disk, DiskDevice
from conf.domain.storage_source import FileSource, SourceType, StorageSource
from schema.errors import OperationFailed, OperationTimeout

TRAY_S: Final = 5.0
"""How long a guest may take to open a drive that it has locked."""


async def change_medium(board: Board, drive: Disk, wanted: Disk, *, force: bool) -> None:
    """Puts the medium of another definition into the drive, after taking out what is in it; none: takes it out only.

    `force` opens a drive that the guest has locked. Raises InternalError when QEMU refuses, OperationTimeout when the
    guest does not let the drive be opened.
    """
    source, old = wanted.source, drive.source
    if source is None or is_empty(source):
        source = None
    new = drive.copy()
    new.type, new.source, new.backing_store = wanted.type, source, wanted.backing_store
    new.auth, new.encryption = wanted.auth, wanted.encryption
    if wanted.driver is not None and new.driver is not None and source is not None:
        new.driver.type = wanted.driver.type or "raw"
    elif source is not None:
        new.driver = wanted.driver
    if source is not None:
        await board.read_chain(new)
        source = new.source
    number = board.number()
    if source is not None:
        source.index = number
        below = new.backing_store
        while below is not None and below.source is not None:
            below.index = board.number()
            below = below.backing_store
    alias = drive.alias or ""
    steps = Steps()
    if source is not None:
        nodes = disk_nodes(board.launch(new), new)
        for node in nodes:
            node.write_descriptors(steps)
            node.write(steps)
        steps.add_command("blockdev-insert-medium", {"id": alias, "node-name": topmost(nodes)})
    await board.note(new, steps.undo)
    if drive.device is DiskDevice.CDROM:
        await _open_tray(board, alias, force=force)
    if old is not None and not is_empty(old):
        await board.talk.ask("blockdev-remove-medium", {"id": alias})
        for command in image_parts(drive):
            await quietly(board.talk, command)
    # from here on there is no medium, whatever becomes of the new one
    _take(drive, new, None)
    if source is None:
        # an empty drive has used up a number too, which its document shows
        drive.type, drive.source = SourceType.FILE, FileSource(index=number)
    else:
        await carry_out(board.talk, steps.ordered)
        _take(drive, new, source)
    if drive.device is DiskDevice.CDROM:
        await board.talk.ask("blockdev-close-tray", {"id": alias})


def _take(drive: Disk, new: Disk, source: StorageSource | None) -> None:
    drive.source = source
    drive.type = new.type
    drive.backing_store = new.backing_store if source is not None else None
    if source is not None:
        drive.driver, drive.auth, drive.encryption = new.driver, new.auth, new.encryption


async def _open_tray(board: Board, alias: str, *, force: bool) -> None:
    await board.talk.ask("blockdev-open-tray", {"id": alias, "force": force})
    if force:
        return
    # a guest that has locked the drive is asked; it may take its time
    for wait_s in (0.0, 0.05, 0.1, 0.2, 0.4, 0.8, 1.6, TRAY_S - 3.15):
        await asyncio.sleep(wait_s)
        if await _is_open(board, alias):
            return
    raise OperationTimeout("timed out waiting for disk tray status update")


async def _is_open(board: Board, alias: str) -> bool:
    for one in await board.talk.ask("query-block"):
        if str(one.get("qdev", "")).removeprefix("/machine/peripheral/") == alias:
            return bool(one.get("tray_open", True))
    raise OperationFailed(f"QEMU knows no drive '{alias}'")
