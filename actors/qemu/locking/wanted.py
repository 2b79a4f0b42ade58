"""What a guest must have for itself: its images that it writes, and the `<lease>` elements of its definition."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from actors.qemu.block.chain import mirror_images, path_of
from actors.qemu.locking.leases import Resource, resource_of_file
from conf.domain.disk import Disk
from conf.domain.domain import Domain
from conf.domain.small_devices import Lease
from conf.domain.storage_source import BlockSource, FileSource, StorageSource
from conf.element import Element
from schema.errors import ConfigUnsupported


def wanted_of_guest(domain: Domain, folder: Path) -> dict[str, Resource]:
    """All that a guest must have, by the name under which its process holds it.

    Raises ConfigUnsupported for a lease of a kind that there is not.
    """
    found: dict[str, Resource] = {}
    for device in (*domain.devices.disks, *domain.devices.leases):
        for resource in wanted_of_device(device, folder):
            found[resource.handle] = resource
    return found


def wanted_of_device(device: Element, folder: Path) -> Iterator[Resource]:
    """What one device needs. Raises ConfigUnsupported for a lease of a kind that there is not."""
    if isinstance(device, Disk):
        sources = [device.source]
        if device.mirror is not None:
            sources += [image.source for image in mirror_images(device.mirror)[:1]]
        for source in sources:
            if not device.readonly and source is not None:
                yield from wanted_of_source(source, folder, shared=device.shareable)
    elif isinstance(device, Lease):
        yield _of_lease(device)


def wanted_of_source(source: StorageSource, folder: Path, *, shared: bool = False) -> Iterator[Resource]:
    """What an image that is written needs: its own lease. What lies below it is not written, and needs none."""
    path = path_of(source)
    if isinstance(source, FileSource | BlockSource) and path is not None and source.fdgroup is None:
        yield resource_of_file(folder, path, shared=shared)


def _of_lease(lease: Lease) -> Resource:
    target = lease.target
    if target is None or lease.key is None:
        raise ConfigUnsupported("a lease needs a key and a target")
    path, offset = Path(target.path), target.offset or 0
    if path.is_file() or path.is_block_device():
        return Resource(lease.key, path, offset=offset, is_ours=False)
    if offset:
        raise ConfigUnsupported("Offset must be zero for this lock manager")
    if "/" in lease.key or lease.key in (".", ".."):
        raise ConfigUnsupported(f"'{lease.key}' cannot be the key of a lease in a folder")
    return Resource(lease.key, path / lease.key)
