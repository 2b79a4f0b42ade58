"""A storage volume: `<volume>`."""

from __future__ import annotations

from enum import StrEnum

from conf.element import Element, Empty, attr, child, flag, size, text, value
from conf.storage.pool import Permissions
from conf.values import words


class VolumeType(StrEnum):
    """What a volume is in the host; the order is that of libvirt's numbers."""

    FILE = "file"
    BLOCK = "block"
    DIR = "dir"
    NETWORK = "network"
    NETDIR = "netdir"
    PLOOP = "ploop"


class LazyRefcounts(Element, tag="features", empty=Empty.OMIT):
    """What a qcow2 image can do."""

    lazy_refcounts: bool = flag("lazy_refcounts", default=False)
    extended_l2: bool = flag("extended_l2", default=False)


class VolumeTarget(Element, tag="target", empty=Empty.OMIT):
    """Where the volume appears in the host, and in which format."""

    path: str | None = text("path", str, default=None)
    format: str | None = value("format", "type", str, default=None)
    permissions: Permissions | None = child(Permissions, default=None)
    compat: str | None = text("compat", str, default=None)
    nocow: bool = flag("nocow", default=False)
    cluster_size_bytes: int | None = size("clusterSize", default=None, unit="bytes")
    features: LazyRefcounts | None = child(LazyRefcounts, default=None)


class VolumeBacking(Element, tag="backingStore"):
    """The volume below."""

    path: str | None = text("path", str, default=None)
    format: str | None = value("format", "type", str, default=None)
    permissions: Permissions | None = child(Permissions, default=None)


class Volume(Element, tag="volume", root=True):
    """A storage volume; sizes in bytes."""

    type: str | None = attr("type", words(*(kind.value for kind in VolumeType)), default=None)
    name: str | None = text("name", str, default=None)
    key: str | None = text("key", str, default=None)
    capacity_bytes: int | None = size("capacity", default=None, unit="bytes")
    allocation_bytes: int | None = size("allocation", default=None, unit="bytes")
    target: VolumeTarget = child(VolumeTarget, default_factory=VolumeTarget)
    backing: VolumeBacking | None = child(VolumeBacking, default=None)
