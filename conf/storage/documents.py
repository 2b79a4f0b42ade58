"""Pools and volumes between text and object: what is left unsaid is filled in, what cannot be is refused."""

from __future__ import annotations

import re
from typing import Final
from uuid import uuid4

from lxml import etree

from conf.document import parse_document
from conf.faults import read_scaled
from conf.origin import told_by
from conf.storage.formats import DEFAULT_POOL_FORMATS, FILE_FORMATS, POOL_FORMATS
from conf.storage.pool import NO_UUID, Pool, PoolType
from conf.storage.pool_checks import check_source
from conf.storage.volume import Volume, VolumeType
from conf.values import bytes_per_unit
from schema.errors import ConfigUnsupported, ErrorCode, ErrorDomain, InvalidArguments, VirtError, XmlError

_WITHOUT_PATH: Final = frozenset(
    {PoolType.RBD, PoolType.SHEEPDOG, PoolType.GLUSTER, PoolType.ZFS, PoolType.ISCSI_DIRECT}
)
_FILE_POOLS: Final = frozenset({PoolType.DIR, PoolType.FS, PoolType.NETFS, PoolType.VSTORAGE})


@told_by(ErrorDomain.STORAGE)
def parse_pool(xml: str | bytes, *, validate: bool = False) -> Pool:
    """The pool that a document describes. Raises XmlDetailError, XmlError, ConfigUnsupported."""
    pool = Pool.parse(parse_document(xml, name="storage_pool_definition", root="pool", validate=validate))
    if pool.name is None:
        pool.name = pool.source.name
    if pool.name is None:
        raise XmlError("missing pool source name element")
    if "/" in pool.name:
        raise XmlError(f"name {pool.name} cannot contain '/'")
    if pool.uuid == NO_UUID:
        pool.uuid = uuid4()
    pool.source.format = _checked_format(pool)
    # what the pool holds is found out, not told
    pool.capacity_bytes = pool.allocation_bytes = pool.available_bytes = 0
    check_source(pool)
    _fill_places(pool)
    if pool.target.path is None and pool.type not in _WITHOUT_PATH:
        raise XmlError("missing storage pool target path")
    return pool


def _fill_places(pool: Pool) -> None:
    """Where the pool is: some kinds have their place by their name."""
    source, target = pool.source, pool.target
    if pool.type in (PoolType.LOGICAL, PoolType.ZFS):
        source.name = source.name or pool.name
        target.path = f"/dev/{'zvol/' if pool.type is PoolType.ZFS else ''}{source.name}"
    elif target.path is not None:
        target.path = sane_path(target.path)
    if pool.type is PoolType.GLUSTER and source.dir is None:
        source.dir = "/"
    elif source.dir is not None:
        source.dir = sane_path(source.dir)
    if source.adapter is not None and source.adapter.type is None:
        source.adapter.type = "scsi_host"


_SLASHES = re.compile("//+").sub


def sane_path(path: str) -> str:
    """The path without doubled slashes and without one at the end; exactly two at the beginning mean something."""
    lead = "/" if path.startswith("//") and not path.startswith("///") else ""
    path = lead + _SLASHES("/", path)
    return path.rstrip("/") or "/" if len(path) > 1 else path


def write_pool(pool: Pool) -> str:
    """The document of a pool, as libvirt writes it."""
    return pool.to_xml()


@told_by(ErrorDomain.STORAGE)
def parse_volume(xml: str | bytes, pool: Pool, *, needs_size: bool = True, validate: bool = False) -> Volume:
    """The volume that a document describes, to be in `pool`. Raises XmlDetailError, XmlError, ConfigUnsupported."""
    root = parse_document(xml, name="storage_volume_definition", root="volume", validate=validate)
    _check_size(root, "capacity")
    _check_size(root, "allocation")
    volume = Volume.parse(root)
    if volume.name is None:
        raise VirtError("missing volume name element", code=ErrorCode.XML_ERROR)
    if volume.capacity_bytes is None and volume.backing is None and needs_size:
        raise XmlError("missing capacity element")
    volume.capacity_bytes = volume.capacity_bytes or 0
    volume.type = volume_type(volume, pool).value
    cluster = volume.target.cluster_size
    if cluster is not None:
        factor = bytes_per_unit(cluster.unit or "bytes")
        if factor is None:
            raise InvalidArguments(f"unknown suffix '{cluster.unit}'")
        cluster.value, cluster.unit = cluster.value * factor, "B"
    if volume.target.features is not None and volume.target.compat is None:
        volume.target.compat = "1.1"
    if volume.allocation_bytes is None:
        volume.allocation_bytes = volume.capacity_bytes
    if pool.type in _FILE_POOLS:
        volume.target.format = volume.target.format or "raw"
        if volume.target.format not in FILE_FORMATS:
            raise ConfigUnsupported(f"unknown volume format type {volume.target.format}")
        if volume.backing is not None and volume.backing.path is not None:
            volume.backing.format = volume.backing.format or "raw"
    return volume


def write_volume(volume: Volume) -> str:
    """The document of a volume, as libvirt writes it."""
    return volume.to_xml()


def volume_type(volume: Volume, pool: Pool) -> VolumeType:
    """What a volume of this pool is in the host."""
    if volume.type is not None:
        return VolumeType(volume.type)
    if pool.type is PoolType.GLUSTER:
        return VolumeType.NETDIR if volume.target.format == "dir" else VolumeType.NETWORK
    if pool.type in (PoolType.RBD, PoolType.SHEEPDOG, PoolType.ISCSI_DIRECT):
        return VolumeType.NETWORK
    return VolumeType.FILE if pool.type in _FILE_POOLS else VolumeType.BLOCK


def _checked_format(pool: Pool) -> str | None:
    known = POOL_FORMATS.get(pool.type)
    if known is None:
        return pool.source.format
    found = pool.source.format or DEFAULT_POOL_FORMATS[pool.type]
    if found not in known:
        raise ConfigUnsupported(f"unknown pool format type {found}")
    return found


def _check_size(root: etree._Element, tag: str) -> None:
    node = root.find(tag)
    if node is None:
        return
    try:
        read_scaled(node, 1)
    except XmlError:
        raise XmlError(f"malformed {tag} element") from None
