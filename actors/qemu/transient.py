"""Transient disks: what a guest writes to them is gone when it ends.

An overlay is made beside the image before the guest starts, or before the disk is plugged in, and removed when the
guest, or the disk, is gone. It is a file that nobody but this guest knows, so the image below it can be shared.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable
from pathlib import Path

from actors.qemu.command.blockdev import OVERLAY_MARK, has_overlay
from actors.qemu.images import local_path
from actors.qemu.moments.offline import run_image_tool
from conf.domain.disk import BackingStore, Disk, DiskDriver, ImageFormat
from conf.domain.domain import Domain
from conf.domain.storage_source import FileSource, SourceType
from schema.errors import DomainStateError, InternalError, OperationUnsupported


def overlays_to_make(domain: Domain) -> dict[str, str]:
    """The overlay of each transient disk that has none yet, by the disk's name.

    Raises OperationUnsupported when there is a file of that name already: it may be a running guest's.
    """
    return {
        disk.target.dev: _free_path(disk, domain.name)
        for disk in domain.devices.disks
        if disk.transient is not None and overlay_of(disk) is None
    }


def _free_path(disk: Disk, name: str) -> str:
    path = f"{local_path(disk) or ''}{OVERLAY_MARK}{name}"
    if os.path.lexists(path):
        raise OperationUnsupported(f"Overlay file '{path}' for transient disk '{disk.target.dev}' already exists")
    return path


def overlay_of(disk: Disk) -> str | None:
    """The overlay that a transient disk of a running guest has."""
    return local_path(disk) if has_overlay(disk) else None


async def put_overlays(domain: Domain, overlays: dict[str, str]) -> None:
    """Makes the overlays, of disks whose chains are complete, and stacks them on the images.

    Raises InternalError with the tool's words; those that were made are the caller's to remove.
    """
    for disk in domain.devices.disks:
        path = overlays.get(disk.target.dev)
        if path is not None:
            await put_overlay(disk, path)


async def put_overlay(disk: Disk, path: str) -> None:
    """The same for one disk. Raises InternalError with the tool's words."""
    below = local_path(disk)
    kind = (disk.driver.type if disk.driver is not None else None) or "raw"
    if below is None or disk.source is None:
        raise InternalError(f"disk '{disk.target.dev}' has no image that could be transient")
    await run_image_tool("create", "-q", "-f", "qcow2", "-b", below, "-F", kind, path)
    disk.backing_store = BackingStore(
        type=SourceType(disk.source.cases[0] or "file"),
        format=ImageFormat(type=kind),
        source=disk.source,
        backing_store=disk.backing_store or BackingStore(),
    )
    disk.type, disk.source = SourceType.FILE, FileSource(file=path)
    disk.driver = disk.driver or DiskDriver()
    disk.driver.type = "qcow2"


async def plug_overlay(disk: Disk, name: str) -> str:
    """Makes the overlay of a disk that is about to be plugged in; its path. Raises as the others do."""
    path = _free_path(disk, name)
    with contextlib.ExitStack() as undo:
        undo.callback(remove_files, [path])
        await put_overlay(disk, path)
        undo.pop_all()
    return path


def drop_overlays(disks: Iterable[Disk]) -> None:
    """The guest, or the disk, is gone, and with it what was written. May wait for the disk for a moment."""
    remove_files(path for disk in disks if (path := overlay_of(disk)) is not None)


def remove_files(paths: Iterable[str]) -> None:
    """Files go, if they are there."""
    for path in paths:
        with contextlib.suppress(OSError):
            Path(path).unlink()


def check_lasting(disk: Disk) -> None:
    """Raises OperationUnsupported for a transient disk: what a job makes of it would be gone with the guest."""
    if disk.transient is not None:
        raise OperationUnsupported(f"block jobs are not supported on transient disk '{disk.target.dev}'")


def check_all_lasting(domain: Domain) -> None:
    """Raises DomainStateError when the guest has a transient disk: it cannot be moved or saved."""
    if any(disk.transient is not None for disk in domain.devices.disks):
        raise DomainStateError("migration with transient disk is not supported")
