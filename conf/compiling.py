"""Generates, once per element class, the function that reads it and the function that writes it.

The code is a straight line of the class's declarations: no look-ups by name at run time but in the element tree.
"""

import threading
from collections.abc import Callable
from enum import Enum
from typing import Any, TypeAlias

from lxml import etree

from conf import faults
from conf.element import MISSING, Declared, Element, Empty, Form
from conf.function_text import FunctionText as _Code
from conf.text import SPECIAL, escape, text_of
from conf.values import Codec, parse_int
from schema.errors import VirtError

Parser: TypeAlias = Callable[[etree._Element, int], Any]
Writer: TypeAlias = Callable[..., None]

_parsers: dict[type[Element], Parser] = {}
_writers: dict[type[Element], Writer] = {}
_lock = threading.RLock()

# the values of ParseFlags.INACTIVE, XmlFlags.INACTIVE and XmlFlags.SECURE, spelled out in the generated code
_PARSE_INACTIVE = 1
_WRITE_INACTIVE = 2
_WRITE_SECURE = 1


def parser_of(cls: type[Element]) -> Parser:
    """The reading function of a class."""
    found = _parsers.get(cls)
    if found is not None:
        return found
    with _lock:
        if cls not in _parsers:
            _parsers[cls] = lambda node, flags: _parsers[cls](node, flags)
            _parsers[cls] = _build_parser(cls)
        return _parsers[cls]


def writer_of(cls: type[Element]) -> Writer:
    """The writing function of a class: `write(element, out, pad, flags, tag)`."""
    found = _writers.get(cls)
    if found is not None:
        return found
    with _lock:
        if cls not in _writers:
            _writers[cls] = lambda *args: _writers[cls](*args)
            _writers[cls] = _build_writer(cls)
        return _writers[cls]


def _qualified(cls: type[Element]) -> str:
    return f"{{{cls.namespace[1]}}}{cls.tag_name}" if cls.namespace else cls.tag_name


def _convert(code: _Code, depth: int, one: Declared, target: str, node: str, attribute: str) -> None:
    """Adds lines that turn the text in `v` into a value and hand it to `target` (a template with one %s)."""
    kind = one.kind
    if kind is str:
        code.add(depth, target % "v")
        return
    if isinstance(kind, Codec):
        call = f"{code.name(kind.parse, 'read')}(v)"
    elif isinstance(kind, type) and issubclass(kind, Enum):
        table = {member.value: member for member in kind}
        call = f"{code.name(table, 'words')}[v]"
    elif kind is int:
        call = f"{code.name(parse_int, 'read')}(v)"
    else:
        raise TypeError(f"{one.name}: no way to read {kind!r}")
    code.add(depth, "try:")
    code.add(depth + 1, target % call)
    code.add(depth, "except (ValueError, KeyError):")
    if one.bad is not None:
        code.add(depth + 1, f"raise {code.name(one.bad, 'bad')}(v) from None")
        return
    bad = code.name(faults.bad_value, "bad_value")
    code.add(depth + 1, f"raise {bad}({node}, {attribute!r}, v, {code.name(kind, 'kind')}) from None")


def _store(one: Declared) -> str:
    """The assignment of a read value; what only a running guest has is dropped from inactive definitions."""
    return f"self.{one.name} = %s"


def _guard(code: _Code, depth: int, one: Declared, expression: str) -> int:
    """Opens an `if` for live parts; the depth inside."""
    if not one.live:
        return depth
    condition = f"not flags & {_PARSE_INACTIVE}"
    if one.keep is not None:
        condition += f" or {code.name(one.keep, 'keep')}({expression})"
    code.add(depth, f"if {condition}:")
    return depth + 1


def _missing(code: _Code, depth: int, one: Declared) -> None:
    if one.missing is not None:
        code.add(depth, f"raise {code.name(one.missing, 'missing')}(node)")
    elif one.form in (Form.CONTENT, Form.SCALED_CONTENT):
        code.add(depth, f"raise {code.name(faults.missing_text, 'missing')}(node)")
    elif one.form is Form.ATTR:
        code.add(depth, f"raise {code.name(faults.missing_attribute, 'missing')}(node, {one.xml!r})")
    elif one.form is Form.VALUE:
        code.add(depth, f"raise {code.name(faults.missing_attribute, 'missing')}(node, {one.attribute!r})")
    else:
        tag = one.xml or one.element_classes()[0].tag_name
        code.add(depth, f"raise {code.name(faults.missing_element, 'missing')}(node, {tag!r})")


def _build_parser(cls: type[Element]) -> Parser:
    code = _Code("def parse(node, flags):")
    code.add(1, f"self = {code.name(cls.__new__, 'new')}({code.name(cls, 'cls')})")
    elements = [one for one in cls.declared if one.form.value >= Form.TEXT.value and not one.echo]
    if any(one.form is Form.ATTR for one in cls.declared):
        code.add(1, "get = node.get")
    for one in cls.declared:
        _parse_own(code, cls, one)
    for one in elements:
        if one.form in (Form.TEXTS, Form.CHILDREN, Form.ANY_OF):
            code.add(1, f"self.{one.name} = []")
        elif one.form not in (Form.FLAG,):
            code.add(1, f"n_{one.name} = None")
    if elements:
        code.add(1, "for sub in node:")
        code.add(2, "tag = sub.tag")
        word = "if"
        wrapped: dict[str, list[Declared]] = {}
        tags = [tag for one in elements if one.form is Form.CHILD for tag in _tags_of(one)]
        for one in elements:
            if one.within is not None:
                wrapped.setdefault(one.within, []).append(one)
                continue
            alike = one.form is Form.CHILD and tags.count(_tags_of(one)[0]) > 1
            word = _match_child(code, 2, one, word, alike=alike)
        for outer, inside in wrapped.items():
            code.add(2, f"{word} tag == {outer!r}:")
            word = "elif"
            code.add(3, "for sub in sub:")
            code.add(4, "tag = sub.tag")
            inner = "if"
            for one in inside:
                inner = _match_child(code, 4, one, inner)
        if cls.unknown is not None:
            known = frozenset(tag for one in elements for tag in _tags_of(one))
            code.add(2, f"elif isinstance(tag, str) and tag not in {code.name(known, 'known')}:")
            code.add(3, f"raise {code.name(cls.unknown, 'unknown')}(tag)")
        for one in elements:
            _take_child(code, cls, one)
    code.add(1, "return self")
    parser: Parser = code.build("parse", f"parse {cls.__name__}")
    return parser


def _parse_own(code: _Code, cls: type[Element], one: Declared) -> None:
    """Attributes and text of the element itself."""
    if one.form is Form.ATTR:
        code.add(1, f"v = get({one.xml!r})" + (" or None" if one.blank else ""))
        code.add(1, "if v is not None:")
        depth = _guard(code, 2, one, "v")
        _convert(code, depth, one, _store(one), "node", one.xml)
    elif one.form is Form.CONTENT:
        if any(other.form.value >= Form.TEXT.value for other in cls.declared):
            # text or children: what stands between children is layout
            code.add(1, f"v = None if len(node) else {code.name(text_of, 'text_of')}(node)")
        else:
            code.add(1, f"v = {code.name(text_of, 'text_of')}(node)")
        code.add(1, "if v:" if not one.keep_empty else "if v is not None:")
        _convert(code, 2, one, _store(one), "node", "")
    elif one.form is Form.SCALED_CONTENT:
        code.add(1, f"v = {code.name(faults.read_scaled, 'scaled')}(node, 1024)")
        code.add(1, "if v is not None:")
        code.add(2, f"self.{one.name} = v")
    else:
        return
    if one.required:
        code.add(1, "else:")
        _missing(code, 2, one)


def _tags_of(one: Declared) -> list[str]:
    if one.form in (Form.CHILD, Form.CHILDREN):
        return [one.xml or _qualified(one.element_classes()[0])]
    return [one.xml]


def _match_child(code: _Code, depth: int, one: Declared, word: str, *, alike: bool = False) -> str:
    """The test for a child; of `alike` ones, which share a tag, the class's fixed attributes decide."""
    condition = " or ".join(f"tag == {tag!r}" for tag in _tags_of(one))
    if one.form is Form.FLAG:
        code.add(depth, f"{word} {condition}:")
        code.add(depth + 1, f"self.{one.name} = True")
    elif one.form is Form.TEXTS:
        code.add(depth, f"{word} {condition}:")
        code.add(depth + 1, f"v = {code.name(text_of, 'text_of')}(sub)")
        _convert(code, depth + 1, one, f"self.{one.name}.append(%s)", "sub", "")
    elif one.form is Form.CHILDREN:
        code.add(depth, f"{word} {condition}:")
        depth = _guard(code, depth + 1, one, "sub")
        reader = code.name(parser_of(one.element_classes()[0]), "parse")
        code.add(depth, f"self.{one.name}.append({reader}(sub, flags))")
    elif one.form is Form.ANY_OF:
        readers = {_qualified(option): parser_of(option) for option in one.element_classes()}
        table = code.name(readers, "readers")
        code.add(depth, f"{word} tag in {table}:")
        code.add(depth + 1, f"self.{one.name}.append({table}[tag](sub, flags))")
    else:
        if one.form is Form.CHILD and alike:
            fixed = one.element_classes()[0].fixed
            condition = " and ".join((condition, *(f"sub.get({key!r}) == {text!r}" for key, text in fixed.items())))
        code.add(depth, f"{word} n_{one.name} is None and ({condition}):")
        code.add(depth + 1, f"n_{one.name} = sub")
    return "elif"


def _take_child(code: _Code, cls: type[Element], one: Declared) -> None:
    """Reads a child that can occur once, after all of them were found."""
    if one.form in (Form.TEXTS, Form.CHILDREN, Form.FLAG, Form.ANY_OF):
        return
    node = f"n_{one.name}"
    code.add(1, f"if {node} is not None:")
    if one.form is Form.TEXT:
        code.add(2, f"v = {code.name(text_of, 'text_of')}({node})")
        if not one.keep_empty:
            code.add(2, "if v:")
        else:
            code.add(2, "if True:")
        depth = _guard(code, 3, one, "v")
        _convert(code, depth, one, _store(one), node, "")
        if one.required:
            code.add(2, "else:")
            _missing(code, 3, one)
    elif one.form is Form.SIZE:
        unit = 1 if one.attribute == "bytes" else 1024
        read = f"v = {code.name(faults.read_scaled, 'scaled')}({node}, {unit}, {one.at!r})"
        if one.bad is not None:
            code.add(2, "try:")
            code.add(3, read)
            code.add(2, f"except {code.name(VirtError, 'refused')}:")
            code.add(3, f"raise {code.name(one.bad, 'bad')}({node}.text or '') from None")
        else:
            code.add(2, read)
        code.add(2, "if v is not None:")
        code.add(_guard(code, 3, one, "v"), f"self.{one.name} = v")
    elif one.form is Form.VALUE:
        code.add(2, f"v = {node}.get({one.attribute!r})" + (" or None" if one.blank else ""))
        code.add(2, "if v is not None:")
        depth = _guard(code, 3, one, "v")
        _convert(code, depth, one, _store(one), node, one.attribute)
        if one.required or one.needed:
            code.add(2, "else:")
            code.add(3, f"raise {code.name(faults.missing_attribute, 'missing')}({node}, {one.attribute!r})")
        elif one.bare is not MISSING:
            code.add(2, "else:")
            code.add(3, f"self.{one.name} = {code.name(one.bare, 'bare')}")
    elif one.form is Form.VERBATIM:
        code.add(2, f"self.{one.name} = {code.name(faults.markup_of, 'markup')}({node})")
    elif one.form is Form.CHILD:
        depth = _guard(code, 2, one, node)
        reader = code.name(parser_of(one.element_classes()[0]), "parse")
        code.add(depth, f"self.{one.name} = {reader}({node}, flags)")
        if one.factory is not None:
            pass
    else:
        _take_one_of(code, one, node)
    if one.required:
        code.add(1, "else:")
        _missing(code, 2, one)
    elif one.factory is not None:
        code.add(1, "else:")
        code.add(2, f"self.{one.name} = {code.name(one.factory, 'make')}()")


def _take_one_of(code: _Code, one: Declared, node: str) -> None:
    table: dict[str | None, Parser] = {}
    for option in one.element_classes():
        if one.by is not None:
            keys: tuple[str | None, ...] = (option.fixed[one.by],) if one.by in option.fixed else (None,)
        else:
            keys = option.cases
        for key in keys:
            table[key] = parser_of(option)
    choice = f"{node}.get({one.by!r})" if one.by is not None else f"self.{one.by_parent}"
    code.add(2, f"v = {choice}")
    code.add(2, f"p = {code.name(table, 'choices')}.get(v)")
    if one.by is not None:
        code.add(2, "if p is None:")
        if one.missing is not None:
            code.add(3, f"if v is None: raise {code.name(one.missing, 'missing')}({node})")
        if one.bad is not None:
            code.add(3, f"if v is not None: raise {code.name(one.bad, 'bad')}(v)")
        code.add(3, f"raise {code.name(faults.bad_choice, 'bad_choice')}({node}, {one.by!r}, v)")
        code.add(_guard(code, 2, one, node), f"self.{one.name} = p({node}, flags)")
    else:
        code.add(2, "if p is not None:")
        code.add(_guard(code, 3, one, node), f"self.{one.name} = p({node}, flags)")


def _written(code: _Code, one: Declared, variable: str = "v") -> str:
    """The expression for a value's text."""
    kind = one.kind
    if kind is str:
        special, quoted = code.name(SPECIAL, "special"), code.name(escape, "escape")
        return f"({variable} if {special}({variable}) is None else {quoted}({variable}))"
    if kind is int:
        return f"str({variable})"
    if isinstance(kind, Codec):
        if kind.inline:
            return kind.inline.format(variable)
        call = f"{code.name(kind.write, 'text')}({variable})"
        return f"{code.name(escape, 'escape')}({call})" if kind.escaped else call
    return variable


def _condition(one: Declared) -> str:
    """When a value that is present is written; a test of the format flags where it depends on them."""
    conditions = ""
    if one.live and one.keep is None:
        conditions += f" and not flags & {_WRITE_INACTIVE}"
    if one.when:
        conditions += f" and ({one.when})"
    if one.secret:
        conditions += f" and flags & {_WRITE_SECURE}"
    return conditions


def _load(code: _Code, one: Declared) -> None:
    if one.shown is not None:
        code.add(1, f"v = {code.name(one.shown, 'shown')}(self, flags)")
    else:
        code.add(1, f"v = self.{one.name}")


def _test(code: _Code, one: Declared, present: str = "v is not None") -> None:
    condition = present + _condition(one)
    if one.live and one.keep is not None:
        condition += f" and (not flags & {_WRITE_INACTIVE} or {code.name(one.keep, 'keep')}(v))"
    code.add(1, f"if {condition}:")


def _build_writer(cls: type[Element]) -> Writer:
    full_tag = f"{cls.namespace[0]}:{cls.tag_name}" if cls.namespace else cls.tag_name
    code = _Code(f"def write(self, out, pad, flags, tag={full_tag!r}):")
    fixed = "".join(f" {key}='{escape(word)}'" for key, word in cls.fixed.items())
    code.add(1, f'head = pad + "<" + tag + {fixed!r}' if fixed else 'head = pad + "<" + tag')
    body = None
    for one in cls.declared:
        if one.form is Form.ATTR:
            _load(code, one)
            _test(code, one)
            code.add(2, f'head += " {one.xml}=\'" + {_written(code, one)} + "\'"')
        elif one.form in (Form.CONTENT, Form.SCALED_CONTENT):
            body = one
    if cls.root_namespaces:
        _write_namespaces(code, cls)
    has_children = any(one.form.value >= Form.TEXT.value for one in cls.declared)
    if body is not None:
        _write_content(code, cls, body, has_children)
    if body is None or has_children:
        _write_children(code, cls)
    writer: Writer = code.build("write", f"write {cls.__name__}")
    return writer


def _write_namespaces(code: _Code, cls: type[Element]) -> None:
    users: dict[tuple[str, str], list[str]] = {}
    for one in cls.declared:
        if one.form is Form.CHILD:
            namespace = one.element_classes()[0].namespace
            if namespace is not None:
                users.setdefault(namespace, []).append(f"self.{one.name} is not None")
    for (prefix, address), conditions in users.items():
        code.add(1, f"if {' or '.join(conditions)}:")
        code.add(2, f"head += \" xmlns:{prefix}='{address}'\"")


def _write_content(code: _Code, cls: type[Element], body: Declared, has_children: bool) -> None:
    code.add(1, f"v = self.{body.name}")
    if has_children:
        code.add(1, "if v is not None:")
        code.add(2, f'out.append(head + ">" + {_written(code, body)} + "</" + tag + ">\\n")')
        code.add(2, "return")
        return
    code.add(1, "if v is None:")
    if cls.empty is Empty.OMIT:
        code.add(2, 'if head == pad + "<" + tag: return')
    code.add(2, 'out.append(head + "/>\\n")')
    code.add(1, "else:")
    if body.form is Form.SCALED_CONTENT:
        code.add(2, 'out.append(head + " unit=\'KiB\'>" + str(v) + "</" + tag + ">\\n")')
    else:
        code.add(2, f'out.append(head + ">" + {_written(code, body)} + "</" + tag + ">\\n")')


def _write_children(code: _Code, cls: type[Element]) -> None:
    elements = [one for one in cls.declared if one.form.value >= Form.TEXT.value]
    if not elements:
        if cls.empty is Empty.OMIT:
            code.add(1, 'if head == pad + "<" + tag: return')
        code.add(1, 'out.append(head + "/>\\n")')
        return
    code.add(1, "place = len(out)")
    code.add(1, 'out.append("")')
    code.add(1, 'inner = pad + "  "')
    wrapper: str | None = None
    for one in elements:
        if one.within != wrapper:
            _close_wrapper(code, wrapper)
            wrapper = one.within
            if wrapper is not None:
                code.add(1, "wrap = len(out)")
                code.add(1, f'out.append(inner + "<{wrapper}>\\n")')
                code.add(1, 'inner += "  "')
        _write_child(code, one)
    _close_wrapper(code, wrapper)
    code.add(1, "if len(out) > place + 1:")
    code.add(2, 'out[place] = head + ">\\n"')
    code.add(2, 'out.append(pad + "</" + tag + ">\\n")')
    if cls.empty is Empty.OPEN:
        code.add(1, "else:")
        code.add(2, 'out[place] = head + ">\\n"')
        code.add(2, 'out.append(pad + "</" + tag + ">\\n")')
        return
    if cls.empty is Empty.OMIT:
        code.add(1, 'elif head == pad + "<" + tag:')
        code.add(2, "del out[place]")
    code.add(1, "else:")
    code.add(2, 'out[place] = head + "/>\\n"')


def _close_wrapper(code: _Code, wrapper: str | None) -> None:
    if wrapper is None:
        return
    code.add(1, 'inner = pad + "  "')
    code.add(1, "if len(out) == wrap + 1:")
    code.add(2, "del out[wrap]")
    code.add(1, "else:")
    code.add(2, f'out.append(inner + "</{wrapper}>\\n")')


def _write_child(code: _Code, one: Declared) -> None:
    _load(code, one)
    if one.form is Form.FLAG:
        _test(code, one, "v")
        code.add(2, f'out.append(inner + "<{one.xml}/>\\n")')
    elif one.form is Form.TEXT:
        _test(code, one)
        code.add(2, f'out.append(inner + "<{one.xml}>" + {_written(code, one)} + "</{one.xml}>\\n")')
    elif one.form is Form.TEXTS:
        code.add(1, "for one in v:")
        code.add(2, f'out.append(inner + "<{one.xml}>" + {_written(code, one, "one")} + "</{one.xml}>\\n")')
    elif one.form is Form.SIZE:
        _test(code, one)
        code.add(2, f'out.append(inner + "<{one.xml} unit=\'{one.attribute}\'>" + str(v) + "</{one.xml}>\\n")')
    elif one.form is Form.VALUE:
        _test(code, one)
        code.add(2, f'out.append(inner + "<{one.xml} {one.attribute}=\'" + {_written(code, one)} + "\'/>\\n")')
    elif one.form is Form.VERBATIM:
        _test(code, one)
        code.add(2, f"out.append({code.name(faults.indented_markup, 'indented')}(v, inner))")
    elif one.form is Form.CHILD:
        _test(code, one)
        option = one.element_classes()[0]
        call = f"{code.name(writer_of(option), 'write')}(v, out, inner, flags"
        code.add(2, call + (f", {one.xml!r})" if one.xml else ")"))
    elif one.form is Form.CHILDREN:
        option = one.element_classes()[0]
        code.add(1, f"if v{_condition(one)}:")
        code.add(2, "for one in v:")
        code.add(3, f"{code.name(writer_of(option), 'write')}(one, out, inner, flags)")
    elif one.form is Form.ANY_OF:
        writers = {option: writer_of(option) for option in one.element_classes()}
        code.add(1, "for one in v:")
        code.add(2, f"{code.name(writers, 'writers')}[one.__class__](one, out, inner, flags)")
    else:
        writers = {option: writer_of(option) for option in one.element_classes()}
        _test(code, one)
        code.add(2, f"{code.name(writers, 'writers')}[v.__class__](v, out, inner, flags)")


__all__ = ["MISSING", "parser_of", "writer_of"]
