"""What the generated readers call when a document is not as declared, and how they read what needs thought."""

import re
from collections.abc import Callable
from enum import Enum
from typing import Any

from lxml import etree

from conf.text import text_of
from conf.values import Codec, bytes_per_unit, parse_uint
from schema.errors import (
    ConfigUnsupported,
    ErrorDomain,
    InvalidArguments,
    NumericOverflow,
    RefusedDocument,
    VirtError,
    XmlError,
)


def path_of(node: etree._Element) -> str:
    """Where an element stands in its document."""
    return str(node.getroottree().getpath(node))


def xml_error(message: str, node: etree._Element) -> XmlError:
    """An error with libvirt's words; the element's path and line go along as a note."""
    error = XmlError(message)
    error.add_note(f"{path_of(node)}, line {node.sourceline}")
    return error


def _from_reader(error: VirtError) -> VirtError:
    """libvirt finds these while it reads XML of any kind."""
    error.domain = ErrorDomain.XML
    return error


def local_name(node: etree._Element) -> str:
    """The element's name without its namespace."""
    return str(etree.QName(node).localname)


_NEGATIVE = re.compile(r"\s*-\d{1,10}\Z", re.ASCII).match


def bad_value(node: etree._Element, attribute: str, text: str, kind: Any) -> VirtError:
    """The error for an attribute (or, without one, a text) that cannot be read."""
    if attribute:
        message = f"Invalid value for attribute '{attribute}' in element '{local_name(node)}': '{text}'."
    else:
        message = f"Invalid value for element '{local_name(node)}': '{text}'."
    if attribute and isinstance(kind, Codec) and kind.nonzero and text and not text.strip().strip("+0"):
        message = f"Invalid value for attribute '{attribute}' in element '{local_name(node)}': Zero is not permitted"
    elif isinstance(kind, Codec) and kind.natural and _NEGATIVE(text) is not None:
        message = f"{message} Expected non-negative value"
    elif isinstance(kind, Codec) and kind.expects:
        message = f"{message} {kind.expects}"
    return _from_reader(xml_error(message, node))


def bad_choice(node: etree._Element, attribute: str, text: str | None) -> VirtError:
    """The error for an element whose kind is unknown or not given."""
    if text is None:
        return missing_attribute(node, attribute)
    return bad_value(node, attribute, text, Enum)


def missing_attribute(node: etree._Element, attribute: str) -> VirtError:
    """The error for a required attribute that is not there."""
    return _from_reader(xml_error(f"Missing required attribute '{attribute}' in element '{local_name(node)}'", node))


def missing_element(node: etree._Element, tag: str) -> VirtError:
    """The error for a required child element that is not there."""
    return xml_error(f"Missing required element '{tag}' in element '{local_name(node)}'", node)


def missing_text(node: etree._Element) -> VirtError:
    """The error for an element that must hold text."""
    return xml_error(f"Missing required text in element '{local_name(node)}'", node)


def read_scaled(node: etree._Element, unit: int, at: str = "") -> int | None:
    """The amount in an element's text in units of `unit` bytes, rounded up; None for an empty element.

    A number without a unit counts in `unit`. `at` is the path that errors name.
    Raises XmlError for what is no number, NumericOverflow for one too large, InvalidArguments for an unknown unit.
    """
    text = text_of(node)
    if not text:
        return None
    try:
        number = parse_uint(text)
    except ValueError:
        place = at or f"./{local_name(node)}[1]"
        raise xml_error(f"Invalid value '{text}' for element or attribute '{place}'", node) from None
    word = node.get("unit")
    factor = bytes_per_unit(word) if word else unit
    if factor is None:
        raise InvalidArguments(f"unknown suffix '{word}'")
    amount = number * factor
    if amount >= 1 << 63:
        raise NumericOverflow(f"value too large: {number}{word or ''}")
    return -(-amount // unit)


def markup_of(node: etree._Element) -> str:
    """An element's own markup, formatted as libxml2 formats a child of the root."""
    return formatted_markup(node, 1)


def formatted_markup(node: etree._Element, depth: int) -> str:
    """Markup of a copy of the element, indented for its depth in a document; the first line is not indented."""
    from copy import deepcopy

    top = etree.Element("x")
    holder = top
    for _ in range(depth - 1):
        holder = etree.SubElement(holder, "x")
    inside = deepcopy(node)
    inside.tail = None
    holder.append(inside)
    text = etree.tostring(top, encoding="unicode", pretty_print=True)
    lead, trail = "", "</x>\n"
    for level in range(depth):
        lead += "  " * level + "<x>\n"
        if level:
            trail = "  " * level + "</x>\n" + trail
    return text[len(lead) + 2 * depth : -len(trail)]


def indented_markup(markup: str, pad: str) -> str:
    """Kept markup as it stands in a document, at the indentation `pad`."""
    depth = len(pad) // 2
    if depth == 1:
        return pad + markup
    parser = etree.XMLParser(remove_blank_text=True, resolve_entities=False, no_network=True)
    return pad + formatted_markup(etree.fromstring(markup, parser), depth) if depth else markup


def unsupported(words: str) -> Callable[[str], VirtError]:
    """An error of its own for a word that is not known, with {} where the word stands."""
    return lambda text: ConfigUnsupported(words.format(text))


def internal(words: str) -> Callable[[str], VirtError]:
    """An error of its own for a text that libvirt calls an internal error."""
    return lambda text: RefusedDocument(words.format(text))


def unexplained() -> RefusedDocument:
    """An error of which libvirt says no more than that there is one."""
    error = RefusedDocument()
    error.message = error.str1 = "An error occurred, but the cause is unknown"
    return error


def malformed(words: str) -> Callable[[str], VirtError]:
    """An error of its own for a text that is not what it should be."""
    return lambda text: XmlError(words.format(text))


def lacking(error: type[VirtError], words: str) -> Callable[[etree._Element], VirtError]:
    """An error of its own for a part that is not there."""
    return lambda node: error(words)
