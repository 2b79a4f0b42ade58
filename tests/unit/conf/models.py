"""Generated models: elements of any class, made up from what the class declares."""

from __future__ import annotations

from enum import Enum
from typing import Any

from hypothesis import strategies as st

from conf.element import Declared, Element, Form
from conf.flags import XmlFlags
from conf.values import Codec

_TEXTS = st.text(
    st.characters(min_codepoint=33, max_codepoint=0x2FFF, exclude_categories=("Cs", "Cc", "Zs", "Zl", "Zp")),
    min_size=1,
    max_size=8,
)
_CANDIDATES = (
    *("yes", "no", "on", "off", "0", "1", "2", "7", "31", "755", "4096", "65535", "4294967295", "18446744073709551615"),
    *("-1", "0x0", "0x1f", "0xffff", "52:54:00:12:34:56", "c7a5fdbd-edaf-9455-926a-d65c16db1809"),
    *("a", "vda", "/dev/null", "192.168.122.1", "::1", "1.5", "0-3", "0,2", "2010-01-01T00:00:00Z"),
    *("0x60", "1AF4", "0x1af4", "2.0", "ABC", "on & off", "<it's>"),
    *("ff:ff:ff:ff:ff:00", "$NAME", "NEW,RELATED", "SYN,ACK/SYN", "src,dst"),
)
"""Texts of which a codec accepts some."""

DEPTH = 2
"""How deep optional children go below the element that is generated."""


def element_classes() -> list[type[Element]]:
    """Every element class of the project that something writes, by its full name."""
    found: dict[str, type[Element]] = {}
    waiting = [Element]
    while waiting:
        for cls in waiting.pop().__subclasses__():
            waiting.append(cls)
            if cls.__module__.startswith("conf.") and cls.tag_name:
                found[f"{cls.__module__}.{cls.__qualname__}"] = cls
    return [found[name] for name in sorted(found)]


@st.composite
def models(draw: st.DrawFn, cls: type[Element], *, all_parts: bool = False, depth: int = DEPTH) -> Element:
    """An element of the class, as a document could describe it: it holds what it shows.

    With `all_parts` it may hold more than it shows.
    """
    values: dict[str, Any] = {}
    tags: set[str] = set()
    for one in cls.declared:
        if one.echo or not (one.required or _is_drawn(draw, one, depth, all_parts)):
            continue
        tag = one.xml or (one.element_classes()[0].tag_name if one.classes else "")
        is_child = one.form.value >= Form.TEXT.value
        if is_child and any(other.form is Form.CONTENT and other.name in values for other in cls.declared):
            continue  # an element holds either a text or children
        made = _part(draw, cls, one, values, depth, all_parts)
        if made is None or (tag in tags and is_child):
            continue
        if _is_second(cls, one, tag) and tag not in tags:
            continue
        values[one.name] = made
        if is_child:
            tags.add(tag)
    model = cls(**values)
    if not all_parts:
        for one in cls.declared:
            if one.shown is not None and not one.echo:
                shown = one.shown(model, XmlFlags.SECURE)
                setattr(model, one.name, one.default if shown is None else shown)
    return model


def _is_drawn(draw: st.DrawFn, one: Declared, depth: int, all_parts: bool) -> bool:
    if one.when and not all_parts:
        return False
    if one.classes and depth <= 0:
        return False
    return draw(st.booleans())


def _is_second(cls: type[Element], one: Declared, tag: str) -> bool:
    """Does an earlier declaration take the first element of this name?"""
    for other in cls.declared:
        if other is one:
            return False
        if other.form.value >= Form.TEXT.value and not other.echo:
            known = other.xml or (other.element_classes()[0].tag_name if other.classes else "")
            if known == tag:
                return True
    return False


def _part(
    draw: st.DrawFn, cls: type[Element], one: Declared, values: dict[str, Any], depth: int, all_parts: bool
) -> Any:
    if one.form is Form.FLAG:
        return True
    if one.form is Form.VERBATIM:
        return f"<{one.xml}>\n    <a:b xmlns:a='x' c='d'/>\n  </{one.xml}>\n".replace("'", '"')
    if one.form in (Form.SIZE, Form.SCALED_CONTENT):
        return draw(st.integers(0, 1 << 40))
    if one.form is Form.TEXTS:
        return draw(st.lists(_value(one), max_size=2))
    if not one.classes:
        return draw(_value(one))
    options = list(one.element_classes())
    if one.by_parent is not None:
        choice = values.get(one.by_parent, getattr(cls, one.by_parent, None))
        options = [option for option in options if choice in option.cases]
        if not options:
            return None
    strategies = st.sampled_from(options).flatmap(lambda option: models(option, all_parts=all_parts, depth=depth - 1))
    if one.form in (Form.CHILDREN, Form.ANY_OF):
        # an element of which nothing is written cannot be read back
        return [part for part in draw(st.lists(strategies, max_size=2)) if part.to_xml(XmlFlags.SECURE)]
    part = draw(strategies)
    return part if part.to_xml(XmlFlags.SECURE) or one.required else None


def _value(one: Declared) -> st.SearchStrategy[Any]:
    kind = one.kind
    if kind is str:
        return _TEXTS
    if kind is int:
        return st.integers(-(1 << 31), (1 << 31) - 1)
    if isinstance(kind, Codec):
        words = getattr(kind.parse, "__self__", None)
        texts = tuple(words) if isinstance(words, dict) else _CANDIDATES
        return st.sampled_from([value for value in (_read(kind, text) for text in texts) if value is not None])
    assert isinstance(kind, type) and issubclass(kind, Enum), one
    return st.sampled_from(list(kind))


def _read(codec: Codec[Any], text: str) -> Any:
    """The value of a text that the codec reads, unless it would be written as something else."""
    try:
        value = codec.parse(text)
        return value if codec.parse(codec.write(value)) == value else None
    except (ValueError, KeyError):
        return None
