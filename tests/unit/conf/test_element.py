"""Declared elements: what a class body says is what is read and written."""

from __future__ import annotations

from enum import StrEnum

import pytest

from conf.document import parse_document
from conf.element import (
    Element,
    Empty,
    attr,
    child,
    children,
    content,
    echo,
    flag,
    one_of,
    size,
    text,
    texts,
    value,
    verbatim,
)
from conf.flags import ParseFlags, XmlFlags
from conf.values import ON_OFF, UINT, YES_NO
from schema.errors import InvalidArguments, XmlError


class Colour(StrEnum):
    RED = "red"
    BLUE = "blue"


class Wheel(Element, tag="wheel"):
    size: int = attr("size", UINT)


class Round(Element, tag="shape", case="round", empty=Empty.OMIT):
    radius: int | None = attr("radius", UINT, default=None)


class Square(Element, tag="shape", case=("square", None), empty=Empty.OMIT):
    side: int | None = attr("side", UINT, default=None)


class Note(Element, tag="note", empty=Empty.OMIT):
    path: str | None = content(str, default=None)
    wheel: Wheel | None = child(Wheel, default=None)


class Car(Element, tag="car"):
    colour: Colour = attr("colour", Colour, default=Colour.RED)
    kind: str | None = attr("kind", str, default=None)
    key: str | None = attr("key", str, default=None, secret=True)
    speed: int | None = attr("speed", UINT, default=None, live=True)
    name: str = text("name", str)
    weight_kib: int | None = size("weight", default=None)
    radio: bool = flag("radio", default=False)
    lights: bool | None = value("lights", "state", ON_OFF, default=None)
    early: Wheel | None = echo(Wheel, shown=lambda self, flags: self.spare if self.radio else None)
    shape: Round | Square | None = one_of(Round, Square, by_parent="kind", default=None)
    wheels: list[Wheel] = children(Wheel, within="wheels", default=[])
    names: list[str] = texts("alias", str, default=[])
    note: Note | None = child(Note, default=None)
    extra: str | None = verbatim("extra", default=None)
    spare: Wheel | None = child(
        Wheel, default=None, tag="spare", shown=lambda self, flags: None if self.radio else self.spare
    )


def read(xml: str, flags: ParseFlags = ParseFlags.NONE) -> Car:
    return Car.parse(parse_document(xml), flags)


def test_declared_order_is_document_order() -> None:
    xml = (
        "<car><wheels><wheel size='2'/><wheel size='1'/></wheels><alias>a</alias><radio/><lights state='on'/>"
        "<weight unit='MiB'>1</weight><name>n</name><unknown/></car>"
    )
    assert read(xml).to_xml() == (
        "<car colour='red'>\n"
        "  <name>n</name>\n"
        "  <weight unit='KiB'>1024</weight>\n"
        "  <radio/>\n"
        "  <lights state='on'/>\n"
        "  <wheels>\n"
        "    <wheel size='2'/>\n"
        "    <wheel size='1'/>\n"
        "  </wheels>\n"
        "  <alias>a</alias>\n"
        "</car>\n"
    )


def test_text_is_escaped_and_unescaped() -> None:
    car = read("<car><name>a&lt;b&amp;&apos;c&quot;</name></car>")
    assert car.name == "a<b&'c\""
    assert "<name>a&lt;b&amp;&apos;c&quot;</name>" in car.to_xml()


def test_comment_does_not_cut_text_short() -> None:
    assert read("<car><name>a<!-- x -->b</name></car>").name == "ab"


def test_missing_part_is_named() -> None:
    with pytest.raises(XmlError, match="Missing required element 'name' in element 'car'"):
        read("<car/>")


def test_unknown_word_is_named_with_its_place() -> None:
    with pytest.raises(XmlError, match="Invalid value for attribute 'colour' in element 'car': 'green'") as caught:
        read("<car colour='green'><name>a</name></car>")
    assert any("/car" in note for note in caught.value.__notes__)


def test_unknown_unit_is_refused() -> None:
    with pytest.raises(InvalidArguments, match="unknown suffix 'stone'"):
        read("<car><name>a</name><weight unit='stone'>1</weight></car>")


def test_secret_is_written_on_request_only() -> None:
    car = read("<car key='k'><name>a</name></car>")
    assert "key" not in car.to_xml()
    assert "key='k'" in car.to_xml(XmlFlags.SECURE)


def test_live_part_is_neither_read_from_nor_written_to_inactive_documents() -> None:
    xml = "<car speed='5'><name>a</name></car>"
    assert read(xml, ParseFlags.INACTIVE).speed is None
    car = read(xml)
    assert "speed='5'" in car.to_xml()
    assert "speed" not in car.to_xml(XmlFlags.INACTIVE)


@pytest.mark.parametrize(("kind", "cls"), [("round", Round), ("square", Square), (None, Square)])
def test_child_class_depends_on_the_parent(kind: str | None, cls: type[Element]) -> None:
    word = f" kind='{kind}'" if kind else ""
    assert type(read(f"<car{word}><name>a</name><shape side='1' radius='1'/></car>").shape) is cls


def test_text_or_children() -> None:
    assert "<note>words</note>" in read("<car><name>a</name><note>words</note></car>").to_xml()
    nested = read("<car><name>a</name><note>\n  <wheel size='1'/>\n</note></car>").to_xml()
    assert "<note>\n    <wheel size='1'/>\n  </note>" in nested


def test_empty_element_without_anything_to_say_is_left_out() -> None:
    assert "note" not in read("<car><name>a</name><note/></car>").to_xml()


def test_echo_writes_a_child_in_another_place() -> None:
    plain = read("<car><name>a</name><spare size='3'/></car>")
    assert plain.to_xml().endswith("  <spare size='3'/>\n</car>\n")
    moved = read("<car><name>a</name><radio/><shape side='1'/><spare size='3'/></car>")
    assert moved.to_xml().index("wheel") < moved.to_xml().index("shape")


def test_verbatim_markup_is_kept() -> None:
    xml = "<car><name>a</name><extra><x:y xmlns:x='urn:z' b='1'>t</x:y></extra></car>"
    written = read(xml).to_xml()
    assert '<x:y xmlns:x="urn:z" b="1">t</x:y>' in written
    assert read(written).to_xml() == written


def test_copy_shares_nothing() -> None:
    car = read("<car><name>a</name><wheels><wheel size='1'/></wheels></car>")
    other = car.copy()
    assert other == car
    other.wheels[0].size = 2
    other.names.append("x")
    assert car.wheels[0].size == 1
    assert car.names == []
    assert other != car


def test_constructor_demands_what_has_no_default() -> None:
    with pytest.raises(TypeError, match="needs 'name'"):
        Car()
    with pytest.raises(TypeError, match="has no nonsense"):
        Car(name="a", nonsense=1)
    assert Car(name="a").to_xml() == "<car colour='red'>\n  <name>a</name>\n</car>\n"


class Yes(Element, tag="mode", name="yes"):
    """One of two kinds of <mode>."""

    supported: bool = attr("supported", YES_NO)


class No(Element, tag="mode", name="no"):
    """The other."""

    supported: bool = attr("supported", YES_NO)


class Both(Element, tag="both"):
    """Children that share a tag."""

    yes: Yes | None = child(Yes, default=None)
    no: No | None = child(No, default=None)


def test_children_that_share_a_tag_are_told_apart_by_their_fixed_attributes() -> None:
    both = Both.parse(parse_document("<both><mode name='no' supported='no'/><mode name='x'/></both>"))
    assert both == Both(no=No(supported=False))
    assert both.to_xml() == "<both>\n  <mode name='no' supported='no'/>\n</both>\n"
