"""Snapshots and checkpoints between text and object, and how they fit the disks of their guest."""

from __future__ import annotations

import re
from typing import Final

from lxml import etree

from conf.document import parse_document
from conf.domain.disk import Disk
from conf.domain.documents import complete_domain
from conf.domain.domain import Domain
from conf.domain.rules import DomainRules
from conf.domain.storage_source import BlockSource, FileSource
from conf.flags import ParseFlags, XmlFlags
from conf.moment.moment import Checkpoint, CheckpointDisk, Snapshot, SnapshotDisk, SnapshotMemory
from conf.origin import told_by
from schema.errors import ConfigUnsupported, ErrorDomain, InternalError, XmlError

INTERNAL: Final = "internal"
EXTERNAL: Final = "external"
NO: Final = "no"
BITMAP: Final = "bitmap"
STATES: Final = frozenset(
    ("nostate", "running", "blocked", "paused", "shutdown", "shutoff", "crashed", "pmsuspended", "disk-snapshot")
)
"""What a guest can be in when it is kept."""
_KNOWN: Final = ParseFlags.INACTIVE | ParseFlags.SKIP_VALIDATE
_NAME = re.compile(r"[a-zA-Z0-9_-][a-zA-Z0-9_.-]*\Z").match


@told_by(ErrorDomain.DOMAIN_SNAPSHOT)
def parse_snapshot(xml: str | bytes, rules: DomainRules, *, redefine: bool = False, validate: bool = False) -> Snapshot:
    """The snapshot that a document describes; of a new one only what a user may choose is taken from the document.

    Raises XmlDetailError and XmlError, and InternalError when one that is made known again misses its time.
    """
    root = parse_document(xml, name="domain_snapshot", root="domainsnapshot", validate=validate)
    _drop_domain(root, redefine=redefine)
    snapshot = Snapshot.parse(root, ParseFlags.INACTIVE)
    for disk in snapshot.disks:
        _tidy_disk(disk)
    _check_memory(snapshot.memory)
    if redefine:
        if snapshot.name is None:
            raise XmlError("a redefined snapshot must have a name")
        if snapshot.creation_time is None:
            raise InternalError("missing creationTime from existing snapshot")
        if snapshot.state is None:
            raise XmlError("missing state from existing snapshot")
        if snapshot.state not in STATES:
            raise ConfigUnsupported(f"Invalid state '{snapshot.state}' in domain snapshot XML")
        for domain in (snapshot.domain, snapshot.inactive_domain):
            if domain is not None:
                complete_domain(domain, rules, _KNOWN)
    else:
        snapshot.state = snapshot.parent = snapshot.creation_time = None
        snapshot.domain = snapshot.inactive_domain = snapshot.cookie = snapshot.active = None
    return snapshot


@told_by(ErrorDomain.DOMAIN_CHECKPOINT)
def parse_checkpoint(
    xml: str | bytes, rules: DomainRules, *, redefine: bool = False, validate: bool = False
) -> Checkpoint:
    """The checkpoint that a document describes. Raises as `parse_snapshot` does."""
    root = parse_document(xml, name="domain_checkpoint", root="domaincheckpoint", validate=validate)
    _drop_domain(root, redefine=redefine)
    checkpoint = Checkpoint.parse(root, ParseFlags.INACTIVE)
    if checkpoint.name is not None and _NAME(checkpoint.name) is None:
        raise XmlError(f"name '{checkpoint.name}' is no name for a checkpoint")
    if redefine:
        if checkpoint.name is None:
            raise XmlError("a redefined checkpoint must have a name")
        if checkpoint.creation_time is None:
            raise InternalError("missing creationTime from existing checkpoint")
        if checkpoint.domain is not None:
            complete_domain(checkpoint.domain, rules, _KNOWN)
    else:
        checkpoint.parent = checkpoint.creation_time = checkpoint.domain = None
    return checkpoint


def date(moment: Snapshot | Checkpoint, now: int) -> None:
    """Gives a new moment its time, and its time as a name if it has none."""
    moment.creation_time = now
    moment.name = moment.name or str(now)


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


def _drop_domain(root: etree._Element, *, redefine: bool) -> None:
    """Definitions count only in what is made known again, and then only whole ones: old documents hold a UUID alone."""
    for tag in ("domain", "inactiveDomain"):
        for node in root.findall(tag):
            if not redefine or node.get("type") is None:
                root.remove(node)


def _tidy_disk(disk: SnapshotDisk) -> None:
    if disk.driver is not None and disk.driver.type is None and disk.driver.metadata_cache is None:
        disk.driver = None
    if isinstance(disk.source, FileSource | BlockSource) and disk.source == type(disk.source)():
        disk.source = None
    if disk.snapshot is None and (disk.driver is not None or disk.source is not None):
        disk.snapshot = EXTERNAL
    path = getattr(disk.source, "file", None) or getattr(disk.source, "dev", None)
    if path is not None and not path.startswith("/"):
        raise XmlError(f"disk snapshot image path '{path}' must be absolute")


def _check_memory(memory: SnapshotMemory | None) -> None:
    if memory is None:
        return
    if memory.file is not None:
        memory.snapshot = memory.snapshot or EXTERNAL
        if memory.snapshot != EXTERNAL:
            raise XmlError(f"memory filename '{memory.file}' requires external snapshot")
        if not memory.file.startswith("/"):
            raise XmlError(f"memory snapshot file path ({memory.file}) must be absolute")
    elif memory.snapshot == EXTERNAL:
        raise XmlError("external memory snapshots require a filename")


def _disk_named(domain: Domain, name: str) -> Disk:
    for disk in domain.devices.disks:
        if name in (disk.target.dev, getattr(disk.source, "file", None)):
            return disk
    raise ConfigUnsupported(f"no disk named '{name}'")
