"""A storage volume: `<volume>`."""

from __future__ import annotations

from enum import StrEnum

from conf.domain.secrets import Encryption
from conf.element import Element, Empty, attr, child, content, flag, size, text, value
from conf.storage.pool import Permissions
from conf.values import ULONG, words


class VolumeType(StrEnum):
    """What a volume is in the host; the order is that of libvirt's numbers."""

    FILE = "file"
    BLOCK = "block"
    DIR = "dir"
    NETWORK = "network"
    NETDIR = "netdir"
    PLOOP = "ploop"


class LazyRefcounts(Element, tag="features"):
    """What a qcow2 image can do."""

    lazy_refcounts: bool = flag("lazy_refcounts", default=False)
    extended_l2: bool = flag("extended_l2", default=False)


class ClusterSize(Element, tag="clusterSize"):
    """The size of a qcow2 image's clusters; written in bytes."""

    unit: str | None = attr("unit", str, default=None)
    value: int = content(ULONG)


class VolumeTarget(Element, tag="target", empty=Empty.OMIT):
    """Where the volume appears in the host, and in which format."""

    path: str | None = text("path", str, default=None)
    format: str | None = value("format", "type", str, default=None)
    permissions: Permissions | None = child(Permissions, default=None)
    encryption: Encryption | None = child(Encryption, default=None)
    compat: str | None = text("compat", str, default=None)
    nocow: bool = flag("nocow", default=False)
    cluster_size: ClusterSize | None = child(ClusterSize, default=None)
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
