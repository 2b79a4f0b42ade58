"""Which kinds of storage pools a host has, and the formats they know: `<storagepoolCapabilities>`."""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

from conf.document import parse_document
from conf.element import Element, Empty, attr, child, children, texts, value
from conf.storage.formats import DEFAULT_POOL_FORMATS, DEFAULT_VOLUME_FORMATS, POOL_FORMATS, VOLUME_FORMATS
from conf.storage.pool import PoolType
from conf.values import YES_NO

ORDER: Final = (
    *(PoolType.DIR, PoolType.FS, PoolType.NETFS, PoolType.LOGICAL, PoolType.DISK, PoolType.ISCSI),
    *(PoolType.ISCSI_DIRECT, PoolType.SCSI, PoolType.MPATH, PoolType.RBD, PoolType.SHEEPDOG, PoolType.GLUSTER),
    *(PoolType.ZFS, PoolType.VSTORAGE),
)
"""All kinds, as they are told."""


class Formats(Element, tag="enum", empty=Empty.OPEN):
    """The formats that may be named."""

    name: str = attr("name", str)
    values: list[str] = texts("value", str, default=[])


class PoolOptions(Element, tag="poolOptions", empty=Empty.OPEN):
    """What can be said of the pool's source."""

    default_format: str | None = value("defaultFormat", "type", str, default=None)
    formats: Formats | None = child(Formats, default=None)


class VolumeOptions(Element, tag="volOptions", empty=Empty.OPEN):
    """What can be said of volumes."""

    default_format: str | None = value("defaultFormat", "type", str, default=None)
    formats: Formats | None = child(Formats, default=None)


class PoolSupport(Element, tag="pool", empty=Empty.OPEN):
    """A kind of pool, whether the host has it or not."""

    type: PoolType = attr("type", PoolType)
    supported: bool = attr("supported", YES_NO)
    pool_options: PoolOptions | None = child(PoolOptions, default=None)
    volume_options: VolumeOptions | None = child(VolumeOptions, default=None)


class PoolCapabilities(Element, tag="storagepoolCapabilities", empty=Empty.OPEN):
    """All kinds of pools."""

    pools: list[PoolSupport] = children(PoolSupport, default=[])


def pool_capabilities(supported: Collection[PoolType]) -> PoolCapabilities:
    """What a host tells that has these kinds."""
    return PoolCapabilities(pools=[_support(kind, supported=kind in supported) for kind in ORDER])


def _support(kind: PoolType, *, supported: bool) -> PoolSupport:
    of_pool, of_volumes = POOL_FORMATS.get(kind), VOLUME_FORMATS.get(kind)
    return PoolSupport(
        type=kind,
        supported=supported,
        pool_options=None
        if of_pool is None
        else PoolOptions(
            default_format=DEFAULT_POOL_FORMATS[kind], formats=Formats(name="sourceFormatType", values=list(of_pool))
        ),
        volume_options=None
        if of_volumes is None
        else VolumeOptions(
            default_format=DEFAULT_VOLUME_FORMATS[kind],
            formats=Formats(name="targetFormatType", values=list(of_volumes)),
        ),
    )


def parse_pool_capabilities(xml: str | bytes, *, validate: bool = False) -> PoolCapabilities:
    """What a document tells. Raises XmlDetailError and XmlError."""
    return PoolCapabilities.parse(
        parse_document(xml, name="storagepool_capabilities", root="storagepoolCapabilities", validate=validate)
    )


def write_pool_capabilities(capabilities: PoolCapabilities) -> str:
    """The document, as libvirt writes it."""
    return capabilities.to_xml()
