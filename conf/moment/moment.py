"""Moments of a guest that are kept: `<domainsnapshot>` and `<domaincheckpoint>`."""

from __future__ import annotations

from uuid import UUID

from conf.domain.disk import IMAGE_FORMATS, MetadataCache
from conf.domain.domain import Domain
from conf.domain.storage_source import SOURCES, SourceType, StorageSource
from conf.element import Element, Empty, attr, child, children, echo, flag, one_of, text, verbatim
from conf.faults import lacking, unsupported
from conf.values import INT, ULONG, UUID_TEXT, words
from schema.errors import XmlError


class Parent(Element, tag="parent"):
    """The moment before."""

    name: str = text("name", str)


class DomainStub(Element, tag="domain"):
    """A guest of which nothing but its identity is known."""

    uuid: UUID = text("uuid", UUID_TEXT)


class InactiveDomain(Domain, tag="inactiveDomain", root=True):
    """The guest's persistent definition beside that of the running one."""


class SnapshotMemory(Element, tag="memory"):
    """Where the guest's memory is kept."""

    snapshot: str | None = attr("snapshot", words("no", "internal", "external"), default=None)
    file: str | None = attr("file", str, default=None)


class SnapshotDriver(Element, tag="driver", empty=Empty.OMIT):
    """The format of the new image."""

    type: str | None = attr("type", IMAGE_FORMATS, default=None, bad=unsupported("unknown disk snapshot driver '{}'"))
    metadata_cache: MetadataCache | None = child(MetadataCache, default=None)


class SnapshotDisk(Element, tag="disk"):
    """How one disk is kept; the image is the new one, below which the old one stays."""

    name: str = attr("name", str, missing=lacking(XmlError, "missing name from disk snapshot element"))
    snapshot: str | None = attr("snapshot", words("no", "internal", "external", "manual"), default=None)
    type: SourceType = attr(
        "type",
        SourceType,
        default=SourceType.FILE,
        shown=lambda self, flags: self.type if self.driver is not None or self.source is not None else None,
    )
    delete_in_progress: bool = flag("snapshotDeleteInProgress", default=False)
    driver: SnapshotDriver | None = child(SnapshotDriver, default=None)
    source: StorageSource | None = one_of(*SOURCES, by_parent="type", default=None)


class Snapshot(Element, tag="domainsnapshot", root=True):
    """A saved state of a guest; `active` is libvirt's own note on the current one."""

    name: str | None = text("name", str, default=None)
    description: str | None = text("description", str, default=None)
    state: str | None = text("state", str, default=None)
    parent: Parent | None = child(Parent, default=None)
    creation_time: int | None = text("creationTime", INT, default=None)
    memory: SnapshotMemory | None = child(SnapshotMemory, default=None)
    disks: list[SnapshotDisk] = children(SnapshotDisk, default=[], within="disks")
    domain: Domain | None = child(Domain, default=None)
    stub: DomainStub | None = echo(
        DomainStub, shown=lambda self, flags: self.stub if self.domain is None and self.stub is not None else None
    )
    inactive_domain: InactiveDomain | None = child(InactiveDomain, default=None)
    cookie: str | None = verbatim("cookie", default=None)
    active: int | None = text("active", INT, default=None)


class CheckpointDisk(Element, tag="disk"):
    """Whether changes of one disk are recorded, and under which name."""

    name: str = attr("name", str, missing=lacking(XmlError, "missing name from disk checkpoint element"))
    checkpoint: str | None = attr("checkpoint", words("no", "bitmap"), default=None)
    bitmap: str | None = attr("bitmap", str, default=None)
    size: int | None = attr("size", ULONG, default=None)


class Checkpoint(Element, tag="domaincheckpoint", root=True):
    """A point in a guest's block history."""

    name: str | None = text("name", str, default=None)
    description: str | None = text("description", str, default=None)
    parent: Parent | None = child(Parent, default=None)
    creation_time: int | None = text("creationTime", INT, default=None)
    disks: list[CheckpointDisk] = children(CheckpointDisk, default=[], within="disks")
    domain: Domain | None = child(Domain, default=None)
