"""What storage pools could be made of, as a host finds it: `<sources>`."""

from __future__ import annotations

from lxml import etree

from conf.document import parse_document
from conf.element import Element, Empty, children
from conf.storage.pool import PoolSource, PoolType, SourceHost
from schema.errors import XmlError


class PoolSources(Element, tag="sources", empty=Empty.OPEN):
    """Everything that was found."""

    sources: list[PoolSource] = children(PoolSource, default=[])


def parse_pool_sources(xml: str | bytes) -> PoolSources:
    """What a document tells. Raises XmlDetailError and XmlError."""
    return PoolSources.parse(parse_document(xml, name="storage_sources", root="sources"))


def write_pool_sources(sources: PoolSources) -> str:
    """The document, as libvirt writes it."""
    return sources.to_xml()


def parse_source_spec(xml: str | bytes) -> PoolSource:
    """Where a client wants to have looked: a `<source>` on its own. Raises XmlDetailError and XmlError."""
    return PoolSource.parse(parse_document(xml, name="storage_source", root="source"))


def sources_from_gluster(xml: str | bytes, host: str, kind: PoolType) -> PoolSources:
    """The volumes that `gluster volume info --xml` lists, for pools of the kind `gluster` or `netfs`.

    Raises XmlDetailError for what is no XML, XmlError for a volume without a name.
    """
    root = parse_document(xml, name="(gluster_cli_output)")
    return PoolSources(sources=[_gluster(node, host, kind) for node in root.iterfind("./volInfo/volumes/volume")])


def _gluster(node: etree._Element, host: str, kind: PoolType) -> PoolSource:
    name = node.findtext("name")
    if not name:
        raise XmlError("failed to extract gluster volume name")
    source = PoolSource(hosts=[SourceHost(name=host)])
    if kind is PoolType.NETFS:
        source.dir, source.format = name, "glusterfs"
    else:
        source.dir, source.name = "/", name
    return source
