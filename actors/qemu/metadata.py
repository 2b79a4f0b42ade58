"""A guest's title, description and metadata of programs."""

from __future__ import annotations

from typing import Final

import msgspec
from lxml import etree

from actors.qemu import records
from actors.qemu.flags import AFFECT, check_flags, impact, one_impact
from actors.qemu.host import QemuHost
from actors.runtime.calls import Calls
from conf.document import parse_document
from conf.domain.documents import write_domain
from conf.domain.domain import Domain
from conf.flags import XmlFlags
from schema.enums.domain import DomainMetadataType as Type
from schema.enums.domain import DomainModificationImpact as Impact
from schema.errors import InvalidArguments, NoDomainMetadata
from schema.objects import DomainRef

calls: Calls[QemuHost] = Calls()

_ABSENT: Final = "Requested metadata element is not present"


@calls.handles()
def domain_get_metadata(host: QemuHost, dom: DomainRef, type: int, uri: str | None, flags: int) -> str:
    """What is kept of one kind. Raises NoSuchDomain, NoDomainMetadata when there is nothing, InvalidArguments."""
    check_flags(flags, AFFECT, "qemuDomainGetMetadata")
    guest = host.guest(dom)
    definition = guest.live if one_impact(guest, flags) & Impact.LIVE else guest.config
    found: str | None
    if type == Type.TITLE:
        found = definition.title
    elif type == Type.DESCRIPTION:
        found = definition.description
    else:
        found = _element_of(definition, uri or "")
    if found is None:
        raise NoDomainMetadata(_ABSENT)
    return found


@calls.handles(key="dom")
async def domain_set_metadata(
    host: QemuHost, dom: DomainRef, type: int, metadata: str | None, key: str | None, uri: str | None, flags: int
) -> None:
    """Keeps something for a program, or forgets it.

    Raises NoSuchDomain, DomainStateError, XmlError, InvalidArguments.
    """
    check_flags(flags, AFFECT, "qemuDomainSetMetadata")
    guest = host.guest(dom)
    which = impact(guest, flags)
    if type == Type.TITLE and metadata is not None and "\n" in metadata:
        raise InvalidArguments("metadata title can't contain newlines")
    record = guest.record
    known: dict[str, Domain] = {}
    if which & Impact.LIVE:
        live = known["live"] = guest.live.copy()
        _set(live, type, metadata, key, uri)
        run = guest.need_run()
        xml = write_domain(live, XmlFlags.SECURE, id=run.id)
        record = msgspec.structs.replace(
            record, run=msgspec.structs.replace(run, xml=xml, facts=records.facts_of(live))
        )
    if which & Impact.CONFIG:
        config = known["config"] = guest.config.copy()
        _set(config, type, metadata, key, uri)
        xml = write_domain(config, XmlFlags.INACTIVE | XmlFlags.SECURE)
        record = msgspec.structs.replace(record, xml=xml, facts=records.facts_of(config))
    await host.write(guest, record, live=known.get("live"), config=known.get("config"))
    uri_told = uri if type == Type.ELEMENT else None
    host.publish(guest, [("domain_event_metadata_change", {"dom": guest.ref, "type": type, "nsuri": uri_told})])


def _set(definition: Domain, type: int, metadata: str | None, key: str | None, uri: str | None) -> None:
    if type == Type.TITLE:
        definition.title = metadata or None
    elif type == Type.DESCRIPTION:
        definition.description = metadata or None
    else:
        definition.metadata = _with_element(definition.metadata, metadata, key, uri or "")


def _roots(markup: str | None) -> etree._Element:
    return parse_document(markup or "<metadata/>", name="metadata_xml", root="metadata")


def _element_of(definition: Domain, uri: str) -> str | None:
    if definition.metadata is None:
        return None
    for one in _roots(definition.metadata):
        if isinstance(one.tag, str) and etree.QName(one).namespace == uri:
            copy = _without_prefix(one)
            return etree.tostring(copy, encoding="unicode", with_tail=False)
    return None


def _without_prefix(node: etree._Element) -> etree._Element:
    """The element as the program gave it: without the namespace that stands for whose it is."""
    uri = etree.QName(node).namespace
    bare = etree.fromstring(etree.tostring(node, with_tail=False))
    for one in bare.iter():
        if isinstance(one.tag, str) and etree.QName(one).namespace == uri:
            one.tag = etree.QName(one).localname
    etree.cleanup_namespaces(bare)
    return bare


def _with_element(markup: str | None, metadata: str | None, key: str | None, uri: str) -> str | None:
    root = _roots(markup)
    for one in list(root):
        if isinstance(one.tag, str) and etree.QName(one).namespace == uri:
            root.remove(one)
    if metadata is not None:
        if not key:
            raise InvalidArguments("a metadata element needs a key")
        given = parse_document(metadata, name="metadata_xml")
        root.append(_with_prefix(given, key, uri))
    if len(root) == 0:
        return None
    return etree.tostring(root, encoding="unicode", with_tail=False)


def _with_prefix(node: etree._Element, key: str, uri: str) -> etree._Element:
    new = etree.Element(f"{{{uri}}}{etree.QName(node).localname}", nsmap={key: uri})
    for name, value in node.attrib.items():
        new.set(name, value)
    new.text, new.tail = node.text, node.tail
    for child in node:
        if isinstance(child.tag, str) and etree.QName(child).namespace is None:
            new.append(_with_prefix(child, key, uri))
        else:
            new.append(child)
    return new
