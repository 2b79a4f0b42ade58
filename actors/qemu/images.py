"""What the images of a guest's disks stand on: their backing chains, read from the images themselves.

The chain is told to QEMU layer by layer, so that it opens no file that was not looked at, and it stands in the running
guest's definition. Where a definition names the chain itself it is taken as it is. A format is never guessed for an
image that stands on another one: whoever can write the image could make it any file of the host.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from actors.qemu.block.chain import Image, images_below, path_of
from actors.qemu.block.heads import Head, read_head
from conf.domain.backing_strings import beside, is_path, parse_backing
from conf.domain.disk import BackingStore, Disk, DiskDevice, ImageFormat
from conf.domain.domain import Domain
from conf.domain.storage_source import BlockSource, DirSource, FileSource, SourceType, StartupPolicy, StorageSource
from conf.storage.image_header import BrokenHeader, ImageFacts, probe_format, read_image
from schema.errors import OperationFailed

DEPTH_MAX: Final = 200
_READ: Final = frozenset({"qcow2", "qcow", "qed", "vmdk"})
"""Formats that may stand on another image."""


@dataclass(frozen=True, slots=True)
class Backing:
    """What an image stands on: as it is written in the image, and the format if that is written too."""

    name: str
    format: str | None


@dataclass(slots=True)
class Layer:
    """One image of a chain; `relative` is how the one above names it, if not in full."""

    source: StorageSource
    format: str
    facts: ImageFacts
    relative: str | None = None
    is_known: bool = True
    """What is below it was found out."""


def read_backing(path: str, kind: str) -> Backing | None:
    """What an image stands on; None for one that stands alone, or a format that cannot stand on another.

    Raises HostSystemError when it cannot be read, OperationFailed when it is not of that format.
    """
    facts = _facts(path, read_head(path).data, kind)
    return None if facts.backing is None else Backing(facts.backing, facts.backing_format)


def _facts(path: str, head: bytes, kind: str) -> ImageFacts:
    try:
        return read_image(head, kind)
    except BrokenHeader as exc:
        raise OperationFailed(f"'{path}' is not a {kind} image: {exc}") from exc


def image_format(path: str) -> str:
    """The format that an image's first bytes tell. Raises HostSystemError."""
    return probe_format(read_head(path).data)


def read_chain(path: str, kind: str) -> list[Layer]:
    """An image of this format with all those below it.

    Raises HostSystemError when one cannot be read, OperationFailed for one that is broken, stands on itself, or whose
    format is not written down although it stands on another one.
    """
    head = read_head(path)
    layers = [Layer(_source_of(path, head), kind, _facts(path, head.data, kind))]
    seen = {head.identity}
    while (name := layers[-1].facts.backing) is not None:
        if len(layers) > DEPTH_MAX:
            raise OperationFailed(f"the backing chain of '{path}' is too deep")
        above = layers[-1]
        form = above.facts.backing_format
        if not is_path(name):
            layers.append(Layer(parse_backing(name), form or "raw", ImageFacts(), is_known=(form or "raw") == "raw"))
            break
        below = beside(name, path_of(above.source) or "")
        head = read_head(below)
        if head.identity in seen:
            raise OperationFailed(f"backing store for {below} ({name}) is self-referential")
        seen.add(head.identity)
        layers.append(_layer(below, head, form, above, None if name.startswith("/") else name))
    return layers


def _layer(path: str, head: Head, kind: str | None, above: Layer, relative: str | None) -> Layer:
    form = kind or probe_format(head.data)
    facts = _facts(path, head.data, form)
    if kind is None and facts.backing is not None:
        raise OperationFailed(
            f"format of backing image '{path}' of image '{path_of(above.source)}' was not specified "
            "in the image metadata (See https://libvirt.org/kbase/backing_chains.html for troubleshooting)"
        )
    return Layer(_source_of(path, head), form, facts, relative)


def _source_of(path: str, head: Head) -> StorageSource:
    if head.is_block_device:
        return BlockSource(dev=path)
    return DirSource(dir=path) if head.is_folder else FileSource(file=path)


def chain_below(path: str, kind: str) -> list[Image]:
    """The images below one, without numbers. Raises as `read_chain` does."""
    return images_below(_stores(read_chain(path, kind)))


def complete_chains(domain: Domain) -> None:
    """Adds the chains of local images, and takes out media that may be absent and are. Raises as `read_chain` does."""
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
        disk.backing_store = _below(path, kind)


def _below(path: str, kind: str) -> BackingStore | None:
    """What is below an image: an empty element for nothing, None when only QEMU can find out."""
    if kind not in _READ:
        read_head(path)
        return BackingStore()
    return _stores(read_chain(path, kind))


def _stores(layers: Sequence[Layer]) -> BackingStore | None:
    store: BackingStore | None = BackingStore() if layers[-1].is_known else None
    for layer in reversed(layers[1:]):
        store = BackingStore(
            type=SourceType(layer.source.cases[0] or "file"),
            format=ImageFormat(type=layer.format),
            source=layer.source,
            backing_store=store,
        )
    return store


def _complete_below(store: BackingStore) -> None:
    """Where a definition names images without an end, the rest is found out."""
    below: BackingStore | None = store
    while below is not None and below.source is not None:
        path = path_of(below.source)
        if below.backing_store is None and path is not None:
            below.backing_store = _below(path, below.format.type if below.format is not None else "raw")
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
