"""Text inside XML: escaping as libvirt does it, and the whole text of an element."""

import re

from lxml import etree

SPECIAL = re.compile("[<>&'\"\x01-\x08\x0b\x0c\x0e-\x1f]").search
"""Finds what `escape` would change."""
_ESCAPES: dict[int, str | None] = {code: None for code in range(1, 32) if chr(code) not in "\t\n\r"}
_ESCAPES |= {ord("<"): "&lt;", ord(">"): "&gt;", ord("&"): "&amp;", ord("'"): "&apos;", ord('"'): "&quot;"}


def escape(value: str) -> str:
    """The text with markup escaped; control characters, which XML cannot carry, are left out."""
    if SPECIAL(value) is None:
        return value
    return value.translate(_ESCAPES)


def text_of(node: etree._Element) -> str:
    """All text of an element; a comment inside does not cut it short."""
    if len(node):
        return str(node.xpath("string()"))
    return node.text or ""
