"""The API as a table: every procedure, event, struct and bound, read from the text files beside this module.

Each file of `procedures/` holds one object's procedures; `docs/design` tells why it is text. The files are read once,
at the first question; a block is parsed when it is first asked for, because an actor serves a tenth of them.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

from schema.errors import UnknownProcedure
from schema.model import Event, Procedure, Struct, Union
from schema.reading import (
    Block,
    parse_event,
    parse_procedure,
    parse_struct,
    parse_union,
    read_blocks,
    read_constants,
    read_head,
)

if TYPE_CHECKING:
    from pathlib import Path


class _Tables:
    """What the files say, indexed but not yet parsed."""

    def __init__(self, folder: Path) -> None:
        self.constants = read_constants((folder / "constants.txt").read_text(encoding="utf-8"))
        self.procedures: dict[str, Block] = {}
        self.events: dict[str, Block] = {}
        self.structs: dict[str, Block] = {}
        self.numbers: dict[tuple[str, int], str] = {}
        for path in sorted((folder / "procedures").glob("*.txt")):
            for block in read_blocks(path):
                self._add(self.procedures, block)
                program, number, _ = read_head(block.head)
                if number:
                    self.numbers[program, number] = block.name
        for block in read_blocks(folder / "events.txt"):
            self._add(self.events, block)
        for block in read_blocks(folder / "structs.txt"):
            self._add(self.structs, block)

    @staticmethod
    def _add(table: dict[str, Block], block: Block) -> None:
        if block.name in table:
            raise ValueError(f"'{block.name}' is declared twice")
        table[block.name] = block


@cache
def _tables() -> _Tables:
    from pathlib import Path  # not before anybody needs the table: it takes a while to import

    return _Tables(Path(__file__).parent)


@cache
def find_procedure(name: str) -> Procedure | None:
    """The procedure of that name, if there is one."""
    tables = _tables()
    block = tables.procedures.get(name)
    return None if block is None else parse_procedure(block, tables.constants)


def need_procedure(name: str) -> Procedure:
    """The procedure of that name.

    Raises UnknownProcedure when the API has none.
    """
    procedure = find_procedure(name)
    if procedure is None:
        raise UnknownProcedure(name)
    return procedure


def procedure_by_number(program: str, number: int) -> Procedure:
    """The procedure that libvirt's protocol calls by a number.

    Raises UnknownProcedure when the program has none of that number, or when it is an event.
    """
    name = _tables().numbers.get((program, number))
    if name is None:
        raise UnknownProcedure(number)
    return need_procedure(name)


@cache
def all_procedures() -> tuple[Procedure, ...]:
    """All procedures, file by file."""
    return tuple(need_procedure(name) for name in _tables().procedures)


def procedure_names() -> frozenset[str]:
    """The names of all procedures, without parsing one."""
    return frozenset(_tables().procedures)


@cache
def find_event(name: str) -> Event | None:
    """The event of that name, if there is one."""
    tables = _tables()
    block = tables.events.get(name)
    return None if block is None else parse_event(block, tables.constants)


def need_event(name: str) -> Event:
    """The event of that name.

    Raises UnknownProcedure when the API has none.
    """
    event = find_event(name)
    if event is None:
        raise UnknownProcedure(name)
    return event


@cache
def all_events() -> tuple[Event, ...]:
    """All events, in the order of `events.txt`."""
    return tuple(need_event(name) for name in _tables().events)


@cache
def find_event_by_id(family: str, event_id: int) -> Event | None:
    """The event that clients of a family (`domain`, `network`, ...) register for under a number."""
    for event in all_events():
        if event.family == family and event.event_id == event_id:
            return event
    return None


@cache
def need_struct(name: str) -> Struct:
    """The struct of that name.

    Raises KeyError when there is none: names of structs come from the table itself.
    """
    tables = _tables()
    block = tables.structs[name]
    if block.head != "struct":
        raise KeyError(name)
    return parse_struct(block, tables.constants)


@cache
def need_union(name: str) -> Union:
    """The union of that name.

    Raises KeyError when there is none.
    """
    tables = _tables()
    block = tables.structs[name]
    if block.head != "union":
        raise KeyError(name)
    return parse_union(block, tables.constants)


@cache
def all_structs() -> tuple[Struct, ...]:
    """All structs, in the order of `structs.txt`."""
    return tuple(need_struct(name) for name, block in _tables().structs.items() if block.head == "struct")


def is_union(name: str) -> bool:
    """Whether a type that a field names is a union."""
    block = _tables().structs.get(name)
    return block is not None and block.head == "union"


def need_constant(name: str) -> int:
    """A bound or flag by its name in `constants.txt`."""
    return _tables().constants[name]
