"""Reading the table's text.

A file is made of blocks: a line `name: program number, words` and indented lines below it. An indented line that begins
with a keyword states a fact; all others together are the signature, `a: type, b: type -> c: type`. Before the first
block, `object` and `driver` set what holds for the file.

    domain_open_console: remote 201, change
        dom: domain, dev_name: string?, flags: uint
        acl domain:open_device
        readonly refused
        stream read
        api virDomainOpenConsole
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from schema.model import DEFAULT_DEADLINES_S, CallClass, Event, Field, Permission, Procedure, ReadOnly, Struct, Union

if TYPE_CHECKING:
    from pathlib import Path

_FIELD: Final = re.compile(r"(\w+): (list<[\w<>]+>|\w+)(\?)?(?:<(\w+)>|\[(\w+)\])?$")
_FACTS: Final = frozenset(
    {"acl", "aclfilter", "readonly", "api", "stream", "sparse", "fds", "driver", "deadline", "callback-only"}
)


@dataclass(slots=True)
class Block:
    """A named block of a file, not yet understood."""

    name: str
    head: str
    object: str
    driver: str
    lines: list[str] = field(default_factory=list)

    def split(self) -> tuple[str, dict[str, str]]:
        """The signature and the facts."""
        signature: list[str] = []
        facts: dict[str, str] = {}
        for line in self.lines:
            word, _, rest = line.partition(" ")
            if word in _FACTS:
                facts[word] = f"{facts[word]} {rest}" if word in facts else rest
            else:
                signature.append(line)
        return " ".join(signature), facts


def read_blocks(path: Path) -> Iterator[Block]:
    """The blocks of a file.

    Raises ValueError, naming file and line, for a line that belongs to no block.
    """
    defaults = {"object": path.stem, "driver": ""}
    block: Block | None = None
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        text = line.strip()
        if not text or text[0] == "#":
            continue
        if line[0] == " ":
            if block is None:
                raise ValueError(f"{path.name}:{number}: an indented line before the first block")
            block.lines.append(text)
            continue
        if block is not None:
            yield block
            block = None
        name, colon, head = text.partition(":")
        if colon:
            block = Block(name, head.strip(), defaults["object"], defaults["driver"])
            continue
        word, _, value = text.partition(" ")
        if word not in defaults:
            raise ValueError(f"{path.name}:{number}: '{text}' is neither a block nor a default")
        defaults[word] = value
    if block is not None:
        yield block


def read_constants(text: str) -> dict[str, int]:
    """The numbers of `NAME = number` lines."""
    constants: dict[str, int] = {}
    for line in text.splitlines():
        if "=" in line and line[0] != "#":
            name, _, value = line.partition("=")
            constants[name.strip()] = int(value)
    return constants


def parse_fields(text: str, constants: Mapping[str, int]) -> tuple[Field, ...]:
    """The fields of `a: type, b: type?, c: type<BOUND>`.

    Raises ValueError for anything else.
    """
    return tuple(_parse_field(part, constants) for part in text.split(", ")) if text else ()


def _parse_field(text: str, constants: Mapping[str, int]) -> Field:
    match = _FIELD.match(text.strip())
    if match is None:
        raise ValueError(f"'{text}' is not a field")
    name, type_, optional, most, exactly = match.groups()
    return Field(name, type_, optional is not None, _bound(exactly, constants), _bound(most, constants))


def _bound(text: str | None, constants: Mapping[str, int]) -> int | None:
    if text is None:
        return None
    return int(text) if text.isdigit() else constants[text]


def _flags(text: str, constants: Mapping[str, int]) -> int:
    value = 0
    for name in text.split("|"):
        value |= constants[name]
    return value


def _permission(text: str, constants: Mapping[str, int]) -> Permission:
    """`object:permission`, `object:permission:FLAG|FLAG`, `...:!FLAG|FLAG`, or `object:permission::argument:VALUE`."""
    parts = text.split(":")
    if len(parts) == 5:
        return Permission(parts[0], parts[1], param=parts[3], value=constants[parts[4]])
    if len(parts) == 3:
        negated = parts[2].startswith("!")
        return Permission(parts[0], parts[1], flags=_flags(parts[2].lstrip("!"), constants), negated=negated)
    object_, name = parts
    return Permission(object_, name)


def _permissions(text: str | None, constants: Mapping[str, int]) -> tuple[Permission, ...]:
    return tuple(_permission(part, constants) for part in text.split()) if text else ()


def _read_only(text: str | None, constants: Mapping[str, int]) -> tuple[ReadOnly, str, int]:
    """`refused`, or `refused with flags FLAG|FLAG`, or `refused with argument VALUE`; nothing means allowed."""
    if text is None:
        return ReadOnly.ALLOWED, "flags", 0
    if text == "refused":
        return ReadOnly.REFUSED, "flags", 0
    refused, with_, param, value = text.split()
    if (refused, with_) != ("refused", "with"):
        raise ValueError(f"'readonly {text}' is not a rule")
    return ReadOnly.CONDITIONAL, param, _flags(value, constants)


def read_head(head: str) -> tuple[str, int, list[str]]:
    """The program, the number (0 for `native`, which has none) and the other words of a block's first line."""
    first, *words = [word.strip() for word in head.split(",")]
    program, _, number = first.partition(" ")
    return program, int(number) if number else 0, words


def parse_procedure(block: Block, constants: Mapping[str, int]) -> Procedure:
    """The procedure that a block declares.

    Raises ValueError, naming the procedure, when it cannot be understood.
    """
    try:
        program, number, words = read_head(block.head)
        signature, facts = block.split()
        args, _, ret = signature.partition("->")
        call_class = CallClass(words[0])
        ro, ro_param, ro_value = _read_only(facts.get("readonly"), constants)
        return Procedure(
            name=block.name,
            program=program,
            number=number,
            object=block.object,
            args=parse_fields(args.strip(), constants),
            ret=parse_fields(ret.strip(), constants),
            call_class=call_class,
            deadline_s=float(facts["deadline"]) if "deadline" in facts else DEFAULT_DEADLINES_S[call_class],
            ro=ro,
            ro_param=ro_param,
            ro_value=ro_value,
            acl=_permissions(facts.get("acl"), constants),
            aclfilter=_permissions(facts.get("aclfilter"), constants),
            high_priority="high" in words,
            stream=facts.get("stream"),
            sparse_flag=constants[facts["sparse"]] if "sparse" in facts else 0,
            fds=facts.get("fds"),
            no_auth="no-auth" in words,
            served_by=facts.get("driver", block.driver),
            functions=tuple(facts.get("api", "").split()),
        )
    except (ValueError, KeyError, IndexError) as exc:
        raise ValueError(f"procedure '{block.name}': {exc}") from exc


def parse_event(block: Block, constants: Mapping[str, int]) -> Event:
    """The event that a block declares.

    Raises ValueError, naming the event, when it cannot be understood.
    """
    try:
        program, number, words = read_head(block.head)
        signature, facts = block.split()
        family, _, event_id = words[0].partition(" ")
        legacy = next((word.partition(" ")[2] for word in words if word.startswith("legacy ")), None)
        return Event(
            name=block.name,
            program=program,
            number=number,
            legacy_number=int(legacy) if legacy is not None else None,
            family=family,
            event_id=int(event_id) if event_id else None,
            has_callback="no-callback" not in words,
            callback_only=tuple(facts.get("callback-only", "").split()),
            fields=parse_fields(signature, constants),
        )
    except (ValueError, KeyError, IndexError) as exc:
        raise ValueError(f"event '{block.name}': {exc}") from exc


def parse_struct(block: Block, constants: Mapping[str, int]) -> Struct:
    """The struct that a block declares."""
    return Struct(block.name, parse_fields(block.split()[0], constants))


def parse_union(block: Block, constants: Mapping[str, int]) -> Union:
    """The union that a block declares, as `1 a: type, 2 b: type`."""
    arms = []
    for part in block.split()[0].split(", "):
        case, _, field_text = part.partition(" ")
        arms.append((int(case), _parse_field(field_text, constants)))
    return Union(block.name, tuple(arms))
