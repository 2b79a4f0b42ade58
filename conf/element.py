"""The declarative element: a class whose body lists what an XML element holds, in document order.

Reading and writing are compiled from the declarations on first use (`conf/compiling.py`). What a declaration leaves
unsaid is not kept: unknown attributes and elements are dropped, as libvirt drops them.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum, StrEnum
from typing import Any, ClassVar, Literal, Self, TypeAlias, TypeVar, dataclass_transform, overload

from lxml import etree

from conf.values import Codec

T = TypeVar("T")
E = TypeVar("E", bound="Element")
E2 = TypeVar("E2", bound="Element")
Kind: TypeAlias = type[T] | Codec[T]
Source: TypeAlias = type[E] | Callable[[], type[E]]


Missed: TypeAlias = Callable[[etree._Element], Exception]
"""Gives the error for a part that is missing in an element."""
Refused: TypeAlias = Callable[[str], Exception]
"""Gives the error for a text that cannot be read, where libvirt has words of its own."""


class Missing(Enum):
    """Marks a declaration without a default."""

    MISSING = 0


MISSING: Literal[Missing.MISSING] = Missing.MISSING


class Form(Enum):
    """What kind of thing a declaration declares."""

    ATTR = 0
    CONTENT = 1
    SCALED_CONTENT = 2
    TEXT = 3
    TEXTS = 4
    SIZE = 5
    FLAG = 6
    VALUE = 7
    CHILD = 8
    CHILDREN = 9
    ONE_OF = 10
    VERBATIM = 11
    ANY_OF = 12


@dataclass(eq=False)
class Declared:
    """One declaration of an element class; `name` is the Python attribute, filled in by the class."""

    form: Form
    xml: str
    kind: type[Any] | Codec[Any] | None = None
    default: Any = MISSING
    factory: Callable[[], Any] | None = None
    live: bool = False
    secret: bool = False
    keep: Callable[[Any], bool] | None = None
    shown: Callable[[Any, int], Any] | None = None
    within: str | None = None
    attribute: str = ""
    by: str | None = None
    by_parent: str | None = None
    classes: tuple[Any, ...] = ()
    keep_empty: bool = False
    missing: Missed | None = None
    bad: Refused | None = None
    echo: bool = False
    when: str = ""
    blank: bool = False
    needed: bool = False
    bare: object = MISSING
    at: str = ""
    name: str = ""
    last: bool = False

    @property
    def required(self) -> bool:
        """Neither the parser nor the constructor can do without it."""
        return self.default is MISSING and self.factory is None

    def element_classes(self) -> tuple[type["Element"], ...]:
        """The declared classes; one given as a function (it names itself) is resolved now."""
        return tuple(one if isinstance(one, type) else one() for one in self.classes)


@overload
def attr(
    xml: str, kind: Kind[T], *, missing: Missed | None = None, bad: Refused | None = None, blank: bool = False
) -> T: ...
@overload
def attr(
    xml: str,
    kind: Kind[T],
    *,
    default: None,
    live: bool = False,
    secret: bool = False,
    keep: Callable[[Any], bool] | None = None,
    shown: Callable[[Any, int], T | None] | None = None,
    bad: Refused | None = None,
    blank: bool = False,
) -> T | None: ...
@overload
def attr(
    xml: str,
    kind: Kind[T],
    *,
    default: T,
    live: bool = False,
    shown: Callable[[Any, int], T | None] | None = None,
    when: str = "",
    bad: Refused | None = None,
    blank: bool = False,
) -> T: ...
def attr(xml: str, kind: Any, *, default: Any = MISSING, **options: Any) -> Any:
    """An attribute of the element itself.

    `live` ones belong to a running guest: neither read from nor written to inactive definitions, unless `keep` says
    so of the value. `secret` ones are written on request only. `shown` gives the value to write from the element and
    the format flags; `when` is the text of a condition on `self` and `flags`, for what is written often. A `blank` one
    counts as absent when it is empty (libvirt reads some attributes so and some not).
    """
    return Declared(Form.ATTR, xml, kind, default, **options)


@overload
def content(kind: Kind[T]) -> T: ...
@overload
def content(kind: Kind[T], *, default: None, keep_empty: bool = False, bad: Refused | None = None) -> T | None: ...
@overload
def content(kind: Kind[T], *, default: T, keep_empty: bool = False, bad: Refused | None = None) -> T: ...
def content(kind: Any, *, default: Any = MISSING, **options: Any) -> Any:
    """The text between the element's tags."""
    return Declared(Form.CONTENT, "", kind, default, **options)


@overload
def scaled_content() -> int: ...
@overload
def scaled_content(*, default: None) -> int | None: ...
@overload
def scaled_content(*, default: int) -> int: ...
def scaled_content(*, default: Any = MISSING) -> Any:
    """The element's text as an amount of memory in KiB; any unit is read, KiB is written."""
    return Declared(Form.SCALED_CONTENT, "", int, default)


@overload
def text(tag: str, kind: Kind[T], *, missing: Missed | None = None, bad: Refused | None = None) -> T: ...
@overload
def text(
    tag: str,
    kind: Kind[T],
    *,
    default: None,
    live: bool = False,
    keep_empty: bool = False,
    secret: bool = False,
    shown: Callable[[Any, int], T | None] | None = None,
    bad: Refused | None = None,
) -> T | None: ...
@overload
def text(
    tag: str,
    kind: Kind[T],
    *,
    default: T,
    live: bool = False,
    keep_empty: bool = False,
    shown: Callable[[Any, int], T | None] | None = None,
    bad: Refused | None = None,
) -> T: ...
def text(tag: str, kind: Any, *, default: Any = MISSING, **options: Any) -> Any:
    """A child element that holds nothing but text; an empty one counts as absent unless `keep_empty`."""
    return Declared(Form.TEXT, tag, kind, default, **options)


def texts(tag: str, kind: Kind[T], *, default: list[T], within: str | None = None) -> list[T]:
    """Any number of child elements that hold nothing but text."""
    return Declared(Form.TEXTS, tag, kind, MISSING, list, within=within)  # type: ignore[return-value]


@overload
def size(tag: str) -> int: ...
@overload
def size(
    tag: str,
    *,
    default: None,
    unit: str = "KiB",
    live: bool = False,
    at: str = "",
    bad: Refused | None = None,
) -> int | None: ...
def size(
    tag: str,
    *,
    default: Any = MISSING,
    unit: str = "KiB",
    live: bool = False,
    at: str = "",
    bad: Refused | None = None,
) -> Any:
    """A child element with an amount of memory, kept and written in KiB (or in bytes: `unit="bytes"`).

    `at` is the path that an error names.
    """
    return Declared(Form.SIZE, tag, int, default, attribute=unit, live=live, at=at, bad=bad)


def flag(tag: str, *, default: bool = False, shown: Callable[[Any, int], bool | None] | None = None) -> bool:
    """An empty child element whose presence says yes."""
    return Declared(Form.FLAG, tag, bool, default, shown=shown)  # type: ignore[return-value]


@overload
def value(tag: str, attribute: str, kind: Kind[T]) -> T: ...
@overload
def value(
    tag: str,
    attribute: str,
    kind: Kind[T],
    *,
    default: None,
    live: bool = False,
    keep: Callable[[Any], bool] | None = None,
    shown: Callable[[Any, int], T | None] | None = None,
    bad: Refused | None = None,
    blank: bool = False,
    needed: bool = False,
    bare: T | Literal[Missing.MISSING] = MISSING,
) -> T | None: ...
@overload
def value(
    tag: str,
    attribute: str,
    kind: Kind[T],
    *,
    default: T,
    shown: Callable[[Any, int], T | None] | None = None,
    bad: Refused | None = None,
) -> T: ...
def value(tag: str, attribute: str, kind: Any, *, default: Any = MISSING, **options: Any) -> Any:
    """A child element that holds nothing but one attribute: `<mtu size='1500'/>`.

    Where the attribute is `needed`, an element without it is refused; with `bare`, it says that.
    """
    return Declared(Form.VALUE, tag, kind, default, attribute=attribute, **options)


@overload
def child(cls: Source[E], *, tag: str | None = None, missing: Missed | None = None) -> E: ...
@overload
def child(
    cls: Source[E],
    *,
    default: None,
    tag: str | None = None,
    live: bool = False,
    keep: Callable[[Any], bool] | None = None,
    shown: Callable[[Any, int], E | None] | None = None,
) -> E | None: ...
@overload
def child(cls: Source[E], *, default_factory: Callable[[], E], tag: str | None = None) -> E: ...
def child(
    cls: Any,
    *,
    default: Any = MISSING,
    default_factory: Any = None,
    tag: str | None = None,
    **options: Any,
) -> Any:
    """One child element of a class; the first of several counts. A class may be named by a function, for recursion."""
    return Declared(Form.CHILD, tag or "", None, default, default_factory, classes=(cls,), **options)


def echo(cls: type[E], *, shown: Callable[[Any, int], E | None]) -> E | None:
    """A second place where a child declared elsewhere is written: `shown` says when; it is never read here."""
    return Declared(  # type: ignore[return-value]
        Form.CHILD, "", None, None, classes=(cls,), shown=shown, echo=True
    )


def children(
    cls: Source[E],
    *,
    default: list[E],
    within: str | None = None,
    live: bool = False,
    shown: Callable[[Any, int], list[E]] | None = None,
) -> list[E]:
    """Any number of child elements of a class; `within` names an element around them, left out while there are none."""
    return Declared(  # type: ignore[return-value]
        Form.CHILDREN, "", None, MISSING, list, classes=(cls,), within=within, live=live, shown=shown
    )


@overload
def one_of(
    *classes: type[E],
    by: str | None = None,
    by_parent: str | None = None,
    default: None,
    live: bool = False,
    shown: Callable[[Any, int], E | None] | None = None,
    bad: Refused | None = None,
    missing: Missed | None = None,
) -> E | None: ...
@overload
def one_of(*classes: type[E], by: str | None = None, by_parent: str | None = None) -> E: ...
def one_of(
    *classes: Any, by: str | None = None, by_parent: str | None = None, default: Any = MISSING, **options: Any
) -> Any:
    """A child element whose class depends on an attribute: its own (`by`) or its parent's (`by_parent`)."""
    return Declared(
        Form.ONE_OF, classes[0].tag_name, None, default, by=by, by_parent=by_parent, classes=classes, **options
    )


def any_of(*classes: type[E], default: list[E]) -> list[E]:
    """Any number of child elements of several classes, which their tags tell apart; their order is kept."""
    return Declared(Form.ANY_OF, "", None, MISSING, list, classes=classes)  # type: ignore[return-value]


def verbatim(tag: str, *, default: None) -> str | None:
    """A child element whose markup is kept as it is, `<metadata>`."""
    return Declared(Form.VERBATIM, tag, str, default)  # type: ignore[return-value]


class Empty(StrEnum):
    """How an element without attributes and children is written."""

    SHORT = "short"
    OPEN = "open"
    OMIT = "omit"


@dataclass_transform(
    kw_only_default=True,
    field_specifiers=(
        attr,
        content,
        scaled_content,
        text,
        texts,
        size,
        flag,
        value,
        child,
        children,
        one_of,
        any_of,
        verbatim,
        echo,
    ),
)
class Element:
    """An XML element. The class body declares its parts, the class keywords how it stands in its parent.

    `tag` is the element's name. Other keywords are fixed attributes (`type="pci"`), which also choose the class in a
    `one_of(by=...)`; `case` are the values of the parent's attribute for `one_of(by_parent=...)`.
    `unknown` gives the error for a child that is not declared; without it such a child is dropped.
    The parts of a `trailing` class stand after those that its subclasses add.
    """

    tag_name: ClassVar[str] = ""
    declared: ClassVar[tuple[Declared, ...]] = ()
    fixed: ClassVar[Mapping[str, str]] = {}
    cases: ClassVar[tuple[str | None, ...]] = ()
    empty: ClassVar[Empty] = Empty.SHORT
    namespace: ClassVar[tuple[str, str] | None] = None
    root_namespaces: ClassVar[bool] = False
    unknown: ClassVar[Refused | None] = None

    def __init_subclass__(
        cls,
        tag: str | None = None,
        case: tuple[str | None, ...] | str | None = None,
        empty: Empty | None = None,
        namespace: tuple[str, str] | None = None,
        root: bool = False,
        trailing: bool = False,
        unknown: Refused | None = None,
        **fixed: str,
    ) -> None:
        super().__init_subclass__()
        if tag is not None:
            cls.tag_name = tag
        if case is not None:
            cls.cases = (case,) if isinstance(case, str) else case
        if empty is not None:
            cls.empty = empty
        if namespace is not None:
            cls.namespace = namespace
        if unknown is not None:
            cls.unknown = staticmethod(unknown)
        if fixed:
            cls.fixed = {**cls.fixed, **fixed}
        cls.root_namespaces = root
        known = {one.name: one for one in cls.declared}
        for name, declared in list(vars(cls).items()):
            if isinstance(declared, Declared):
                declared.name = name
                declared.last = trailing
                known[name] = declared
                if declared.default is not MISSING:
                    setattr(cls, name, declared.default)
                else:
                    delattr(cls, name)
        cls.declared = tuple(sorted(known.values(), key=lambda one: one.last))

    def __init__(self, **values: Any) -> None:
        own = self.__dict__
        for one in self.declared:
            if one.name in values:
                own[one.name] = values.pop(one.name)
            elif one.factory is not None:
                own[one.name] = one.factory()
            elif one.default is MISSING:
                raise TypeError(f"{type(self).__name__} needs '{one.name}'")
        if values:
            raise TypeError(f"{type(self).__name__} has no {', '.join(sorted(values))}")

    def __eq__(self, other: object) -> bool:
        if type(other) is not type(self):
            return NotImplemented
        return all(getattr(self, one.name) == getattr(other, one.name) for one in self.declared)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        parts = [
            f"{one.name}={getattr(self, one.name)!r}"
            for one in self.declared
            if getattr(self, one.name, MISSING) != one.default and getattr(self, one.name, MISSING) != []
        ]
        return f"{type(self).__name__}({', '.join(parts)})"

    def copy(self) -> Self:
        """An equal element that shares no changeable part with this one."""
        new = self.__class__.__new__(self.__class__)
        own = new.__dict__
        for name, part in self.__dict__.items():
            if isinstance(part, Element):
                own[name] = part.copy()
            elif isinstance(part, list):
                own[name] = [one.copy() if isinstance(one, Element) else one for one in part]
            else:
                own[name] = part
        return new

    @classmethod
    def parse(cls, node: etree._Element, flags: int = 0) -> Self:
        """Reads the element; `flags` are `ParseFlags`.

        Raises XmlError for a missing required part or a value that cannot be read.
        """
        from conf.compiling import parser_of

        element: Self = parser_of(cls)(node, int(flags))
        return element

    def write(self, out: list[str], pad: str = "", flags: int = 0) -> None:
        """Appends the element's text to `out`, indented by `pad`; `flags` are `XmlFlags`."""
        from conf.compiling import writer_of

        writer_of(type(self))(self, out, pad, int(flags))

    def to_xml(self, flags: int = 0) -> str:
        """The element's text as libvirt writes it."""
        out: list[str] = []
        self.write(out, "", flags)
        return "".join(out)
