"""Snapshots and checkpoints between text and object, and how they fit the disks of their guest."""

from __future__ import annotations

from typing import Final

from conf.document import parse_document
from conf.domain.disk import Disk
from conf.domain.documents import complete_domain
from conf.domain.domain import Domain
from conf.domain.rules import DomainRules
from conf.flags import ParseFlags, XmlFlags
from conf.moment.moment import Checkpoint, CheckpointDisk, Snapshot, SnapshotDisk, SnapshotMemory
from schema.errors import ConfigUnsupported, RefusedDocument

INTERNAL: Final = "internal"
NO: Final = "no"
BITMAP: Final = "bitmap"


def parse_snapshot(xml: str | bytes, rules: DomainRules, *, redefine: bool = False) -> Snapshot:
    """The snapshot that a document describes; of a new one the guest is not taken from the document.

    Raises XmlDetailError and XmlError, and RefusedDocument when one that is made known again misses its time.
    """
    root = parse_document(xml, name="domain_snapshot", root="domainsnapshot")
    snapshot = Snapshot.parse(root, ParseFlags.INACTIVE)
    if redefine:
        if snapshot.creation_time is None:
            raise RefusedDocument("missing creationTime from existing snapshot")
        if snapshot.state is None:
            raise RefusedDocument("missing state from existing snapshot")
        if snapshot.domain is not None:
            complete_domain(snapshot.domain, rules, ParseFlags.INACTIVE)
    else:
        snapshot.domain = None
    return snapshot


def parse_checkpoint(xml: str | bytes, rules: DomainRules, *, redefine: bool = False) -> Checkpoint:
    """The checkpoint that a document describes. Raises as `parse_snapshot` does."""
    root = parse_document(xml, name="domain_checkpoint", root="domaincheckpoint")
    checkpoint = Checkpoint.parse(root, ParseFlags.INACTIVE)
    if redefine:
        if checkpoint.creation_time is None:
            raise RefusedDocument("missing creationTime from existing checkpoint")
        if checkpoint.domain is not None:
            complete_domain(checkpoint.domain, rules, ParseFlags.INACTIVE)
    else:
        checkpoint.domain = None
    return checkpoint


def write_moment(moment: Snapshot | Checkpoint, *, secure: bool = False) -> str:
    """The document of a snapshot or checkpoint, as libvirt writes it."""
    return moment.to_xml(XmlFlags.INACTIVE | (XmlFlags.SECURE if secure else XmlFlags.NONE))


def fit_snapshot(snapshot: Snapshot, domain: Domain, *, active: bool) -> None:
    """Says of every disk of the guest how it is kept.

    Raises ConfigUnsupported for a disk that the guest does not have, or that cannot be kept like that.
    """
    memory = snapshot.memory = snapshot.memory or SnapshotMemory()
    memory.snapshot = memory.snapshot or (INTERNAL if active else NO)
    chosen = {_disk_named(domain, disk.name).target.dev: disk.snapshot for disk in snapshot.disks}
    disks = []
    for disk in domain.devices.disks:
        mode = chosen.get(disk.target.dev) or (NO if disk.readonly else INTERNAL)
        if mode not in (INTERNAL, NO):
            raise ConfigUnsupported(f"disk '{disk.target.dev}' must use snapshot mode 'internal'")
        disks.append(SnapshotDisk(name=disk.target.dev, snapshot=mode))
    snapshot.disks = disks


def fit_checkpoint(checkpoint: Checkpoint, domain: Domain) -> None:
    """Says of every disk of the guest whether its changes are recorded.

    Raises ConfigUnsupported for a disk that the guest does not have.
    """
    chosen = {_disk_named(domain, disk.name).target.dev: disk for disk in checkpoint.disks}
    disks = []
    for disk in domain.devices.disks:
        asked = chosen.get(disk.target.dev)
        records = not disk.readonly if asked is None and not chosen else asked is not None and asked.checkpoint != NO
        name = (asked.bitmap if asked is not None else None) or checkpoint.name
        disks.append(
            CheckpointDisk(name=disk.target.dev, checkpoint=BITMAP if records else NO, bitmap=name if records else None)
        )
    checkpoint.disks = disks


def _disk_named(domain: Domain, name: str) -> Disk:
    for disk in domain.devices.disks:
        if name in (disk.target.dev, getattr(disk.source, "file", None)):
            return disk
    raise ConfigUnsupported(f"no disk named '{name}'")
