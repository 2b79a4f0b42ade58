"""A guest's title, description, and the elements that other programs keep in its definition."""

from __future__ import annotations

from typing import Any, Final

from lxml import etree

from actors.runtime.calls import Calls
from actors.test.flags import AFFECT, check_flags, find_member
from actors.test.host import TestHost, Told
from conf.document import parse_document
from conf.domain.domain import Domain
from conf.faults import markup_of
from schema.enums.domain import DomainMetadataType as Kind
from schema.errors import ErrorDomain, InvalidArguments, NoDomainMetadata
from schema.objects import DomainRef

calls: Calls[TestHost] = Calls()

_NAME: Final = "metadata_xml"


@calls.handles(key="dom")
async def domain_set_metadata(
    host: TestHost, dom: DomainRef, type: int, metadata: str | None, key: str | None, uri: str | None, flags: int
) -> None:
    """Sets title, description or the element of a namespace; None removes it.

    Raises NoSuchDomain, DomainStateError, XmlDetailError for an element that cannot be read, InvalidArguments.
    """
    check_flags(flags, AFFECT, "testDomainSetMetadata")
    guest = host.guest(dom)
    kind = _kind_of(type)
    if kind is Kind.TITLE and metadata is not None and "\n" in metadata:
        raise InvalidArguments("metadata title can't contain newlines")
    if kind is Kind.ELEMENT and (not uri or (metadata is not None and not key)):
        raise InvalidArguments("metadata element needs a namespace uri and a key")
    element = None
    if kind is Kind.ELEMENT and metadata is not None:
        element = _in_namespace(parse_document(metadata, name=_NAME), uri or "", key or "")
    draft = guest.draft()
    for definition in draft.definitions(flags):
        if kind is Kind.DESCRIPTION:
            definition.description = metadata or None
        elif kind is Kind.TITLE:
            definition.title = metadata or None
        else:
            definition.metadata = _replaced(definition.metadata, uri or "", element)
    event = Told("domain_event_metadata_change", {"type": int(kind), "nsuri": uri})
    await host.commit(draft, [event])


@calls.handles()
def domain_get_metadata(host: TestHost, dom: DomainRef, type: int, uri: str | None, flags: int) -> str:
    """Title, description or the element of a namespace, without that namespace.

    Raises NoSuchDomain, DomainStateError, NoDomainMetadata, InvalidArguments.
    """
    check_flags(flags, AFFECT, "testDomainGetMetadata")
    definition = host.guest(dom).one(flags)
    found = _find(definition, _kind_of(type), uri or "")
    if found is None:
        raise NoDomainMetadata("Requested metadata element is not present", domain=ErrorDomain.DOMAIN)
    return found


def _kind_of(type: int) -> Kind:
    kind = find_member(Kind, type)
    if kind is None:
        raise InvalidArguments(f"unknown metadata type '{type}'", domain=ErrorDomain.DOMAIN)
    return kind


def _find(definition: Domain, kind: Kind, uri: str) -> str | None:
    if kind is Kind.DESCRIPTION:
        return definition.description
    if kind is Kind.TITLE:
        return definition.title
    if definition.metadata is None:
        return None
    for child in _children(definition.metadata):
        if etree.QName(child).namespace == uri:
            bare = _without_namespace(child, uri)
            etree.cleanup_namespaces(bare)
            return etree.tostring(bare, encoding="unicode", pretty_print=True).rstrip("\n")
    return None


def _replaced(metadata: str | None, uri: str, element: etree._Element | None) -> str | None:
    """The markup with this element in the place of whatever the namespace had."""
    kept = [child for child in _children(metadata or "<metadata/>") if etree.QName(child).namespace != uri]
    if element is not None:
        kept.append(element)
    if not kept:
        return None if metadata is None else markup_of(etree.Element("metadata"))
    root = etree.Element("metadata")
    root.extend(kept)
    return markup_of(root)


def _children(metadata: str) -> list[etree._Element]:
    return [child for child in parse_document(metadata, name=_NAME) if isinstance(child.tag, str)]


def _in_namespace(node: etree._Element, uri: str, key: str) -> etree._Element:
    """A copy in which whatever has no namespace is in this one."""
    top = _moved(node, None, uri, {key: uri})
    etree.cleanup_namespaces(top, keep_ns_prefixes=[key])
    return top


def _without_namespace(node: etree._Element, uri: str) -> etree._Element:
    """A copy in which whatever is in this namespace is in none."""
    return _moved(node, uri, None, {})


def _moved(node: etree._Element, old: str | None, new: str | None, prefixes: dict[str, str]) -> etree._Element:
    name = etree.QName(node)
    tag = etree.QName(new, name.localname) if name.namespace == old else name
    nsmap: dict[Any, str] = {prefix: uri for prefix, uri in node.nsmap.items() if uri != old}
    nsmap.update(prefixes)
    copy = etree.Element(tag, nsmap=nsmap)
    copy.attrib.update(node.attrib)
    copy.text = node.text
    for child in node:
        below = _moved(child, old, new, prefixes) if isinstance(child.tag, str) else child
        below.tail = child.tail
        copy.append(below)
    return copy
