"""The tags of a guest: words in its metadata by which rules of access and people find it.

They are an element of the guest's document like any other program's, which every libvirt client can read and write:

    <metadata>
      <virtroupe:tags xmlns:virtroupe="urn:virtroupe:1">
        <virtroupe:tag>production</virtroupe:tag>
      </virtroupe:tags>
    </metadata>
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from lxml import etree

from conf.document import parse_document
from schema.errors import VirtError

NAMESPACE: Final = "urn:virtroupe:1"
TAGS_MAX: Final = 64
LENGTH_MAX: Final = 128
_TAGS: Final = f"{{{NAMESPACE}}}tags"


def tags_of_markup(metadata: str | None) -> tuple[str, ...]:
    """The tags in a `<metadata>` element."""
    if metadata is None or NAMESPACE not in metadata:
        return ()
    try:
        return _of_lists(parse_document(metadata).iterchildren(_TAGS))
    except VirtError:
        return ()  # it was looked at when it was taken; what is no element holds no tags


def tags_of_domain(domain: etree._Element) -> tuple[str, ...]:
    """The tags in a guest's whole document."""
    return _of_lists(found for metadata in domain.iterchildren("metadata") for found in metadata.iterchildren(_TAGS))


def tags_of_element(markup: str) -> tuple[str, ...]:
    """The tags in the element by itself, in its namespace or in none, as metadata calls have it. Raises XmlError."""
    root = parse_document(markup)
    return _of_lists([root]) if etree.QName(root).localname == "tags" else ()


def _of_lists(lists: Iterable[etree._Element]) -> tuple[str, ...]:
    found = {
        (child.text or "").strip()
        for one in lists
        for child in one
        if isinstance(child.tag, str) and etree.QName(child).localname == "tag"
    }
    return tuple(sorted(word for word in found if word and len(word) <= LENGTH_MAX)[:TAGS_MAX])
