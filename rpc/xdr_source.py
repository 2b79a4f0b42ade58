"""Python source that reads the XDR of some fields; `rpc.xdr` compiles it, `rpc.xdr_writer_source` is its other half.

Runs of fields of fixed size become one `struct.Struct`; texts, byte strings, lists and optional values end a run.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from keyword import iskeyword
from struct import Struct
from typing import Any, Final

from schema.model import Field
from schema.objects import CLASSES, STRING_MAX
from schema.table import is_union, need_struct, need_union

Names = dict[str, Any]

# XDR has nothing shorter than four bytes; the narrower types are checked for their range.
FORMATS: Final = {
    "int": "i",
    "uint": "I",
    "hyper": "q",
    "uhyper": "Q",
    "double": "d",
    "char": "i",
    "short": "i",
    "uchar": "I",
    "ushort": "I",
}
SIZES: Final = {"i": 4, "I": 4, "q": 8, "Q": 8, "d": 8}
RANGES: Final = {"char": (-128, 127), "short": (-32768, 32767), "uchar": (0, 255), "ushort": (0, 65535)}
UUID_FORMAT: Final = "16s"


@dataclass(slots=True)
class Source:
    """The text of one function and the names it needs."""

    owner: str
    lines: list[str] = field(default_factory=list)
    names: Names = field(default_factory=dict)
    depth: int = 1
    count: int = 0

    @property
    def text(self) -> str:
        """The function's source."""
        return "\n".join(self.lines) + "\n"

    def line(self, text: str) -> None:
        """Adds a line at the current depth."""
        self.lines.append("    " * self.depth + text)

    def fresh(self, prefix: str) -> str:
        """A name that nothing else has."""
        self.count += 1
        return f"{prefix}{self.count}"

    def name(self, prefix: str, value: Any) -> str:
        """A name for a value that the function uses."""
        for known, other in self.names.items():
            if other is value:
                return known
        fresh = self.fresh(prefix)
        self.names[fresh] = value
        return fresh

    def fail(self, where: str, text: str) -> None:
        """Adds a line that raises."""
        self.line(f"raise XdrError({f'{self.owner}: {field_of(where)}: {text}'!r})")


def field_of(where: str) -> str:
    return f"field '{where}'" if where else "message"


def smallest(item: Field) -> int:
    """The fewest bytes that a value of this field takes."""
    if item.optional or item.max is not None or item.type == "string":
        return 4
    if item.type == "uuid":
        return 16
    if item.type in FORMATS:
        return SIZES[FORMATS[item.type]] * (item.fixed or 1)
    if item.type == "opaque":
        return (item.fixed or 0) + (-(item.fixed or 0) & 3)
    if is_union(item.type):
        return 8
    return sum(smallest(part) for part in need_struct(item.type).fields)


KNOWN: Final[dict[str, dict[bytes, Any]]] = {}
"""References that were read lately, by type and by their bytes."""
KNOWN_MAX: Final = 4096
KNOWN_NAME_MAX: Final = 256


def is_reference(fields: tuple[Field, ...]) -> bool:
    """Whether a struct is a name and then things of fixed size, as references to objects are."""
    name, *rest = fields
    return (
        name.type == "string"
        and not (name.optional or name.max or name.fixed)
        and any(item.type == "uuid" for item in rest)
        and all(
            item.type in ("uuid", "int") and not (item.optional or item.max is not None or item.fixed) for item in rest
        )
    )


class _Reader:
    def __init__(self, source: Source) -> None:
        self.source = source
        self.formats: list[str] = []
        self.targets: list[str] = []
        self.checks: list[Callable[[], None]] = []
        self.has_begun = False
        """Every message begins with something of fixed size, if only a count."""

    def fixed(self, form: str, prefix: str = "v") -> str:
        name = self.source.fresh(prefix)
        self.formats.append(form)
        self.targets.append(name)
        return name

    def flush(self) -> None:
        if self.formats:
            layout = Struct(">" + "".join(self.formats))
            unpack = self.source.name("u", layout.unpack_from)
            place, step = ("b, p", "+=") if self.has_begun else ("b", "=")
            self.has_begun = True
            self.source.line(f"{', '.join(self.targets)}, = {unpack}({place})")
            self.source.line(f"p {step} {layout.size}")
            self.formats.clear()
            self.targets.clear()
        checks, self.checks = self.checks, []
        for check in checks:
            check()

    def read(self, item: Field, where: str) -> str:
        """Lines that read the field; gives the name of its value, which holds after the next `flush`."""
        source = self.source
        if not item.optional:
            return self.value(item, where)
        there = self.fixed("I", "o")
        self.flush()
        result = source.fresh("v")
        source.line(f"if {there} == 1:")
        source.depth += 1
        inner = self.value(item, where)
        self.flush()
        source.line(f"{result} = {inner}")
        source.depth -= 1
        source.line(f"elif {there} == 0:")
        source.line(f"    {result} = None")
        source.line("else:")
        source.depth += 1
        source.fail(where, "an optional value begins with neither 0 nor 1")
        source.depth -= 1
        return result

    def value(self, item: Field, where: str) -> str:
        if item.is_bytes:
            return self.byte_string(item, where)
        if item.max is not None:
            return self.list_of(item, where)
        return self.single(item.type, where)

    def single(self, type_: str, where: str) -> str:
        if type_ == "string":
            return self.variable(STRING_MAX, where, text=True)
        if type_ in FORMATS:
            name = self.fixed(FORMATS[type_])
            bounds = RANGES.get(type_)
            if bounds is not None:
                self.checks.append(lambda: self.in_range(name, bounds, where))
            return name
        if type_ == "typed_param":
            return self.typed(where)
        fields = need_struct(type_).fields
        if is_reference(fields):
            return self.reference(type_, fields, where)
        parts = [(part, self.read(part, f"{where}.{part.name}")) for part in fields]
        self.flush()
        cls = self.source.name("C", CLASSES[type_])
        return f"{cls}({', '.join(name for _, name in parts)})"

    def reference(self, type_: str, fields: tuple[Field, ...], where: str) -> str:
        """A name and what is fixed, by which an object is named: the same few come all the time, so they are kept."""
        source = self.source
        cls = source.name("C", CLASSES[type_])
        known = source.name("K", KNOWN.setdefault(type_, {}))
        length = self.fixed("I", "n")
        self.flush()
        key, end, result = source.fresh("k"), source.fresh("q"), source.fresh("v")
        source.line(f"{end} = p + {length} + (-{length} & 3) + {sum(map(smallest, fields[1:]))}")
        source.line(f"{key} = b[p - 4:{end}] if {length} <= {KNOWN_NAME_MAX} else b''")
        source.line(f"{result} = {known}.get({key})")
        source.line(f"if {result} is None:")
        source.depth += 1
        self.check_length(length, STRING_MAX, f"{where}.{fields[0].name}", 1)
        names = [self.content(length, f"{where}.{fields[0].name}", text=True)]
        names += [self.value(part, f"{where}.{part.name}") for part in fields[1:]]
        self.flush()
        source.line(f"{result} = {cls}({', '.join(names)})")
        source.line(f"if {key}:")
        source.line(f"    if len({known}) >= {KNOWN_MAX}: {known}.clear()")
        source.line(f"    {known}[{key}] = {result}")
        source.depth -= 1
        source.line(f"p = {end}")
        return result

    def in_range(self, name: str, bounds: tuple[int, int], where: str) -> None:
        self.source.line(f"if not {bounds[0]} <= {name} <= {bounds[1]}:")
        self.source.depth += 1
        self.source.fail(where, f"not between {bounds[0]} and {bounds[1]}")
        self.source.depth -= 1

    def byte_string(self, item: Field, where: str) -> str:
        if item.type == "uuid":
            return self.fixed(UUID_FORMAT)
        if item.type == "char":
            if item.fixed is not None:
                raw = self.fixed(f"{4 * item.fixed}s")
                self.flush()
                return f"{raw}[3::4]"
            length = self.length(item.max or 0, where, 4)
            name = self.source.fresh("v")
            self.source.line(f"{name} = b[p:p + 4 * {length}][3::4]")
            self.source.line(f"p += 4 * {length}")
            return name
        if item.fixed is not None:
            return self.fixed(f"{item.fixed}s{-item.fixed & 3}x" if item.fixed & 3 else f"{item.fixed}s")
        return self.variable(item.max or 0, where, text=False)

    def length(self, most: int, where: str, each: int) -> str:
        """Lines that read a count and compare it with its bound and with what is left."""
        length = self.fixed("I", "n")
        self.flush()
        self.check_length(length, most, where, each)
        return length

    def check_length(self, length: str, most: int, where: str, each: int) -> None:
        """Lines that refuse a count beyond its bound or what is left."""
        source = self.source
        source.line(f"if {length} > {most}:")
        source.depth += 1
        source.fail(where, f"longer than {most}")
        source.depth -= 1
        source.line(f"if {length} * {each} > len(b) - p:" if each != 1 else f"if {length} > len(b) - p:")
        source.depth += 1
        source.fail(where, "ends too early")
        source.depth -= 1

    def variable(self, most: int, where: str, *, text: bool) -> str:
        return self.content(self.length(most, where, 1), where, text=text)

    def content(self, length: str, where: str, *, text: bool) -> str:
        """Lines that read a text or bytes of a length that was read and checked."""
        source = self.source
        name = source.fresh("v")
        raw = f"b[p:p + {length}]"
        source.line(f"{name} = {raw}")
        if text:
            source.line(f"if 0 in {name}:")
            source.depth += 1
            source.fail(where, "a text with a NUL in it")
            source.depth -= 1
            # nearly every text is UTF-8, and without arguments it is read faster
            source.line("try:")
            source.line(f"    {name} = {name}.decode()")
            source.line("except UnicodeDecodeError:")
            source.line(f'    {name} = {name}.decode("utf-8", "surrogateescape")')
        source.line(f"p += {length} + (-{length} & 3)")
        return name

    def list_of(self, item: Field, where: str) -> str:
        source = self.source
        single = Field(item.name, item.type)
        count = self.length(item.max or 0, where, max(1, smallest(single)))
        name = source.fresh("v")
        form = FORMATS.get(item.type)
        if form is not None and item.type not in RANGES:
            source.line(f"{name} = list(unpack_from(f'>{{{count}}}{form}', b, p))")
            source.line(f"p += {SIZES[form]} * {count}")
            return name
        add = source.fresh("a")
        source.line(f"{name} = []")
        source.line(f"{add} = {name}.append")
        source.line(f"for _ in range({count}):")
        source.depth += 1
        inner = self.single(item.type, where)
        self.flush()
        source.line(f"{add}({inner})")
        source.depth -= 1
        return name

    def typed(self, where: str) -> str:
        """A typed parameter: its name, then a union told by its type."""
        source = self.source
        label = self.variable(STRING_MAX, f"{where}.field", text=True)
        kind = self.fixed("i", "k")
        self.flush()
        result = source.fresh("v")
        word = "if"
        for case, arm in need_union("typed_value").arms:
            source.line(f"{word} {kind} == {case}:")
            word = "elif"
            source.depth += 1
            inner = self.read(arm, f"{where}.{arm.name}")
            self.flush()
            source.line(f"{result} = {inner}")
            source.depth -= 1
        source.line("else:")
        source.depth += 1
        source.fail(where, "a parameter of no known type")
        source.depth -= 1
        return f"typed({label}, {kind}, {result}, {f'{source.owner}: {field_of(where)}'!r})"


def reader_source(owner: str, fields: tuple[Field, ...], make: Callable[..., Any] | None) -> Source:
    """`read(b)`: what `make` gives for the values by name, or a dict of them."""
    source = Source(owner)
    source.lines.append("def read(b):")
    reader = _Reader(source)
    values = []
    for item in fields:
        name = reader.read(item, item.name)
        if not name.isidentifier():
            # An object that is made by an expression is made where its bytes were read.
            reader.flush()
            made = source.fresh("v")
            source.line(f"{made} = {name}")
            name = made
        values.append((item.name, name))
    reader.flush()
    if make is None:
        source.line("return {" + ", ".join(f"{key!r}: {name}" for key, name in values) + "}")
    else:
        maker = source.name("M", make)
        # by name, because the classes take nothing by place; a name like `from` can only stand in a dict
        plain = [(key, name) for key, name in values if not iskeyword(key)]
        rest = [(key, name) for key, name in values if iskeyword(key)]
        words = [f"{key}={name}" for key, name in plain]
        if rest:
            words.append("**{" + ", ".join(f"{key!r}: {name}" for key, name in rest) + "}")
        source.line(f"return {maker}({', '.join(words)})")
    return source
