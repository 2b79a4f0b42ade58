"""What the images of a guest's disks stand on: their backing chains, read from the images themselves.

The chain is told to QEMU layer by layer, so that it opens no file that was not looked at, and it stands in the running
guest's definition. Where a definition names the chain itself it is taken as it is.
"""

from __future__ import annotations

import os
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final

from actors.qemu.block.chain import Image, images_below, path_of
from conf.domain.disk import BackingStore, Disk, DiskDevice, ImageFormat
from conf.domain.domain import Domain
from conf.domain.storage_source import BlockSource, FileSource, SourceType, StartupPolicy
from schema.errors import HostSystemError, OperationFailed

DEPTH_MAX: Final = 200
_MAGIC: Final = b"QFI\xfb"
_HEADER: Final = struct.Struct(">4sIQI")
_END, _FORMAT = 0, 0xE2792ACA
_NAME_MAX: Final = 1023


@dataclass(frozen=True, slots=True)
class Backing:
    """What an image stands on: as it is written in the image, and the format if that is written too."""

    name: str
    format: str | None


def read_backing(path: str, kind: str) -> Backing | None:
    """What an image stands on; None for one that stands alone, or a format that cannot stand on another.

    Raises HostSystemError when it cannot be read, OperationFailed when it is not of that format.
    """
    if kind != "qcow2":
        _check_access(path)
        return None
    try:
        with Path(path).open("rb") as file:
            head = file.read(104)
            if len(head) < 72 or head[:4] != _MAGIC:
                raise OperationFailed(f"'{path}' is not a qcow2 image")
            _, version, offset, length = _HEADER.unpack_from(head)
            if offset == 0 or length == 0:
                return None
            if length > _NAME_MAX:
                raise OperationFailed(f"the backing file name of '{path}' is too long")
            size = 72 if version < 3 else struct.unpack_from(">I", head, 100)[0]
            format_name = _format_extension(file, size, offset)
            file.seek(offset)
            name = file.read(length).decode("utf-8", "surrogateescape")
    except OSError as exc:
        raise _no_access(path, exc) from exc
    except struct.error as exc:
        raise OperationFailed(f"'{path}' has a broken header") from exc
    return Backing(name, format_name)


def _format_extension(file: BinaryIO, start: int, end: int) -> str | None:
    place = start
    while place + 8 <= end:
        file.seek(place)
        kind, length = struct.unpack(">II", file.read(8))
        if kind == _END or length > end - place:
            return None
        if kind == _FORMAT:
            return file.read(length).decode("ascii", "replace")
        place += 8 + -(-length // 8) * 8
    return None


def _check_access(path: str) -> None:
    try:
        Path(path).stat()
    except OSError as exc:
        raise _no_access(path, exc) from exc


def _no_access(path: str, exc: OSError) -> HostSystemError:
    return HostSystemError(exc.errno or 0, f"Cannot access storage file '{path}'")


def chain_below(path: str, kind: str) -> list[Image]:
    """The images below one, without numbers. Raises as `complete_chains` does."""
    return images_below(_chain(path, kind, 0))


def probe_format(path: str) -> str:
    """The format that an image's first bytes tell. Raises HostSystemError."""
    try:
        with Path(path).open("rb") as file:
            head = file.read(4)
    except OSError as exc:
        raise _no_access(path, exc) from exc
    return {_MAGIC: "qcow2", b"QED\0": "qed", b"KDMV": "vmdk"}.get(head, "raw")


def complete_chains(domain: Domain) -> None:
    """Adds the chains of local images, and takes out media that may be absent and are.

    Raises HostSystemError when an image cannot be read, OperationFailed for one that is broken or whose backing
    image's format is not known.
    """
    for disk in domain.devices.disks:
        path = local_path(disk)
        if path is None:
            continue
        if disk.backing_store is not None:
            _complete_below(disk.backing_store)
            continue
        if _may_be_absent(disk) and not Path(path).exists():
            disk.source = None
            continue
        kind = (disk.driver.type if disk.driver is not None else None) or "raw"
        disk.backing_store = _chain(path, kind, 0)


def _complete_below(store: BackingStore) -> None:
    """Where a definition names images without an end, the rest is found out."""
    below: BackingStore | None = store
    while below is not None and below.source is not None:
        path = path_of(below.source)
        if below.backing_store is None and path is not None:
            below.backing_store = _chain(path, below.format.type if below.format is not None else "raw", 0)
            return
        below = below.backing_store


def local_path(disk: Disk) -> str | None:
    """Where a disk's image is on this host; None when it is elsewhere, or there is none."""
    source = disk.source
    if isinstance(source, FileSource) and source.fdgroup is None:
        return source.file
    return source.dev if isinstance(source, BlockSource) and source.fdgroup is None else None


def _may_be_absent(disk: Disk) -> bool:
    policy = getattr(disk.source, "startup_policy", None)
    removable = disk.device in (DiskDevice.CDROM, DiskDevice.FLOPPY)
    return removable and policy in (StartupPolicy.OPTIONAL, StartupPolicy.REQUISITE)


def _chain(path: str, kind: str, depth: int) -> BackingStore | None:
    """What is below an image: an empty element for nothing, None when only QEMU can find out."""
    if depth > DEPTH_MAX:
        raise OperationFailed(f"the backing chain of '{path}' is too deep")
    backing = read_backing(path, kind)
    if backing is None:
        return BackingStore()
    if ":" in backing.name.partition("/")[0]:
        return None  # a URI, or a description in JSON
    below = os.path.normpath(Path(path).parent / backing.name)
    if backing.format is None:
        raise OperationFailed(
            f"format of backing image '{below}' of image '{path}' was not specified "
            "in the image metadata (See https://libvirt.org/kbase/backing_chains.html for troubleshooting)"
        )
    rest = _chain(below, backing.format, depth + 1)
    if Path(below).is_block_device():
        return BackingStore(
            type=SourceType.BLOCK,
            format=ImageFormat(type=backing.format),
            source=BlockSource(dev=below),
            backing_store=rest,
        )
    return BackingStore(
        type=SourceType.FILE,
        format=ImageFormat(type=backing.format),
        source=FileSource(file=below),
        backing_store=rest,
    )
