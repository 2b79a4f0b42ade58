"""What snapshots say of their guest once images that they name are gone."""

from __future__ import annotations

from collections.abc import Iterator

from conf.document import parse_document
from conf.domain.disk import BackingStore, Disk, DiskDriver
from conf.domain.domain import Domain
from conf.domain.storage_source import StorageSource
from conf.flags import ParseFlags
from conf.moment.documents import EXTERNAL, write_moment
from conf.moment.moment import Snapshot


def without_images(xml: str, gone: Snapshot) -> str:
    """A snapshot's document, where the images that another one had put on the disks went into those below them."""
    snapshot = Snapshot.parse(parse_document(xml, name="domain_snapshot", root="domainsnapshot"), ParseFlags.INACTIVE)
    for domain in (snapshot.domain, snapshot.inactive_domain):
        if domain is None:
            continue
        for name, overlay, before in _replaced(gone):
            disk = _disk(domain, name)
            if disk is not None:
                _take_out(disk, overlay, before)
    return write_moment(snapshot, secure=True)


def _replaced(gone: Snapshot) -> Iterator[tuple[str, str, Disk]]:
    """The disks that got a new image, that image, and what they were before."""
    for asked in gone.disks:
        overlay = _path(asked.source)
        before = _disk(gone.domain, asked.name) if gone.domain is not None else None
        if asked.snapshot == EXTERNAL and overlay is not None and before is not None:
            yield asked.name, overlay, before


def _disk(domain: Domain, name: str) -> Disk | None:
    return next((disk for disk in domain.devices.disks if disk.target.dev == name), None)


def _path(source: StorageSource | None) -> str | None:
    return getattr(source, "file", None) or getattr(source, "dev", None)


def _take_out(disk: Disk, overlay: str, before: Disk) -> None:
    if _path(disk.source) == overlay and before.source is not None:
        disk.source, disk.type = before.source.copy(), before.type
        disk.driver = DiskDriver(name="qemu") if disk.driver is None else disk.driver
        disk.driver.type = before.driver.type if before.driver is not None else None
        disk.backing_store = None
        return
    above: Disk | BackingStore = disk
    below = disk.backing_store
    while below is not None and below.source is not None:
        if _path(below.source) == overlay:
            above.backing_store = below.backing_store
            return
        above, below = below, below.backing_store
