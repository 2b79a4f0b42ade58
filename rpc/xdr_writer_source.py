"""Python source that writes the XDR of some fields; `rpc.xdr` compiles it."""

from __future__ import annotations

from struct import Struct

from rpc.xdr_source import FORMATS, RANGES, UUID_FORMAT, Source, field_of
from schema.model import Field
from schema.objects import STRING_MAX
from schema.table import need_struct


class _Writer:
    def __init__(self, source: Source) -> None:
        self.source = source
        self.formats: list[str] = []
        self.values: list[str] = []

    def fixed(self, form: str, expression: str) -> None:
        self.formats.append(form)
        self.values.append(expression)

    def flush(self) -> None:
        if not self.formats:
            return
        pack = self.source.name("p", Struct(">" + "".join(self.formats)).pack)
        self.source.line(f"add({pack}({', '.join(self.values)}))")
        self.formats.clear()
        self.values.clear()

    def write(self, item: Field, expression: str, where: str) -> None:
        source = self.source
        if not item.optional:
            self.value(item, expression, where)
            return
        name = source.fresh("v")
        self.flush()
        source.line(f"{name} = {expression}")
        source.line(f"if {name} is None:")
        source.depth += 1
        self.fixed("I", "0")
        self.flush()
        source.depth -= 1
        source.line("else:")
        source.depth += 1
        self.fixed("I", "1")
        self.value(item, name, where)
        self.flush()
        source.depth -= 1

    def value(self, item: Field, expression: str, where: str) -> None:
        if item.is_bytes:
            self.byte_string(item, expression, where)
        elif item.max is not None:
            self.list_of(item, expression, where)
        else:
            self.single(item.type, expression, where)

    def single(self, type_: str, expression: str, where: str) -> None:
        source = self.source
        if type_ == "string":
            name = source.fresh("s")
            text = source.fresh("t")
            source.line(f"{text} = {expression}")
            source.line("try:")
            source.line(f"    {name} = {text}.encode()")
            source.line("except UnicodeEncodeError:")
            source.line(f"    {name} = {text}.encode('utf-8', 'surrogateescape')")
            self.variable(name, STRING_MAX, where)
            return
        form = FORMATS.get(type_)
        if form is not None:
            bounds = RANGES.get(type_)
            if bounds is not None:
                name = source.fresh("v")
                source.line(f"{name} = {expression}")
                source.line(f"if not {bounds[0]} <= {name} <= {bounds[1]}:")
                source.depth += 1
                source.fail(where, f"not between {bounds[0]} and {bounds[1]}")
                source.depth -= 1
                expression = name
            self.fixed(form, expression)
            return
        name = source.fresh("v")
        source.line(f"{name} = {expression}")
        for part in need_struct(type_).fields:
            self.write(part, f"{name}.{part.name}", f"{where}.{part.name}")

    def byte_string(self, item: Field, expression: str, where: str) -> None:
        source = self.source
        if item.type == "uuid":
            self.fixed(UUID_FORMAT, self.exactly(expression, 16, where))
        elif item.type == "char":
            if item.fixed is not None:
                name = self.exactly(expression, item.fixed, where)
            else:
                name = self.at_most(expression, item.max or 0, where)
                self.fixed("I", f"len({name})")
            self.flush()
            source.line(f"add(b''.join([CHARS[c] for c in {name}]))")
        elif item.fixed is not None:
            padded = f"{item.fixed}s{-item.fixed & 3}x" if item.fixed & 3 else f"{item.fixed}s"
            self.fixed(padded, self.exactly(expression, item.fixed, where))
        else:
            name = source.fresh("s")
            source.line(f"{name} = {expression}")
            self.variable(name, item.max or 0, where)

    def exactly(self, expression: str, size: int, where: str) -> str:
        return self.checked(expression, f"!= {size}", where, f"not {size} bytes")

    def at_most(self, expression: str, most: int, where: str) -> str:
        return self.checked(expression, f"> {most}", where, f"longer than {most}")

    def checked(self, expression: str, wrong: str, where: str, text: str) -> str:
        """Lines that refuse a value by its length; gives the name of the value."""
        source = self.source
        name = source.fresh("v")
        source.line(f"{name} = {expression}")
        source.line(f"if len({name}) {wrong}:")
        source.depth += 1
        source.fail(where, text)
        source.depth -= 1
        return name

    def variable(self, name: str, most: int, where: str) -> None:
        source = self.source
        length = source.fresh("n")
        source.line(f"{length} = len({name})")
        source.line(f"if {length} > {most}:")
        source.depth += 1
        source.fail(where, f"longer than {most}")
        source.depth -= 1
        self.fixed("I", length)
        self.flush()
        source.line(f"add({name})")
        source.line(f"if {length} & 3: add(PAD[{length} & 3])")

    def list_of(self, item: Field, expression: str, where: str) -> None:
        source = self.source
        if item.type == "typed_param":
            self.flush()
            what = f"{source.owner}: {field_of(where)}"
            source.line(f"write_typed(add, {expression}, {item.max}, {what!r})")
            return
        name = self.at_most(expression, item.max or 0, where)
        self.fixed("I", f"len({name})")
        self.flush()
        form = FORMATS.get(item.type)
        if form is not None and item.type not in RANGES:
            source.line(f"add(pack(f'>{{len({name})}}{form}', *{name}))")
            return
        element = source.fresh("e")
        source.line(f"for {element} in {name}:")
        source.depth += 1
        self.single(item.type, element, where)
        self.flush()
        source.depth -= 1


def writer_source(owner: str, fields: tuple[Field, ...], from_map: bool) -> Source:
    """`write(v)`: the bytes of values that are items of a map or attributes."""
    source = Source(owner)
    source.lines.append("def write(v):")
    source.line("out = []")
    source.line("add = out.append")
    writer = _Writer(source)
    for item in fields:
        access = f"v[{item.name!r}]" if from_map else f"getattr(v, {item.name!r})"
        if item.name.isidentifier() and not from_map and item.name != "from":
            access = f"v.{item.name}"
        writer.write(item, access, item.name)
    writer.flush()
    source.line("return b''.join(out)")
    return source
