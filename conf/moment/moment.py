"""Moments of a guest that are kept: `<domainsnapshot>` and `<domaincheckpoint>`."""

from __future__ import annotations

from conf.domain.domain import Domain
from conf.element import Element, attr, child, children, text
from conf.values import INT, UINT, words


class Parent(Element, tag="parent"):
    """The moment before."""

    name: str = text("name", str)


class SnapshotMemory(Element, tag="memory"):
    """Where the guest's memory is kept."""

    snapshot: str | None = attr("snapshot", words("no", "internal", "external"), default=None)
    file: str | None = attr("file", str, default=None)


class SnapshotDisk(Element, tag="disk"):
    """How one disk is kept."""

    name: str = attr("name", str)
    snapshot: str | None = attr("snapshot", words("no", "internal", "external", "manual"), default=None)


class Snapshot(Element, tag="domainsnapshot", root=True):
    """A saved state of a guest."""

    name: str | None = text("name", str, default=None)
    description: str | None = text("description", str, default=None)
    state: str | None = text("state", str, default=None)
    parent: Parent | None = child(Parent, default=None)
    creation_time: int | None = text("creationTime", INT, default=None)
    memory: SnapshotMemory | None = child(SnapshotMemory, default=None)
    disks: list[SnapshotDisk] = children(SnapshotDisk, default=[], within="disks")
    domain: Domain | None = child(Domain, default=None)


class CheckpointDisk(Element, tag="disk"):
    """Whether changes of one disk are recorded, and under which name."""

    name: str = attr("name", str)
    checkpoint: str | None = attr("checkpoint", words("no", "bitmap"), default=None)
    bitmap: str | None = attr("bitmap", str, default=None)
    size: int | None = attr("size", UINT, default=None)


class Checkpoint(Element, tag="domaincheckpoint", root=True):
    """A point in a guest's block history."""

    name: str | None = text("name", str, default=None)
    description: str | None = text("description", str, default=None)
    parent: Parent | None = child(Parent, default=None)
    creation_time: int | None = text("creationTime", INT, default=None)
    disks: list[CheckpointDisk] = children(CheckpointDisk, default=[], within="disks")
    domain: Domain | None = child(Domain, default=None)
