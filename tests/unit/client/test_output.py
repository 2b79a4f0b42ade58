"""Tables, facts and JSON."""

from __future__ import annotations

import json
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.wire import Cursor
from client.command.arguments import kib_of
from client.command.faults import report
from client.command.output import facts, plain, printable, size, table, to_json
from client.errors import InvalidArguments, XmlDetailError
from client.facts import Version
from schema.enums.domain_state import DomainState
from schema.objects import DomainRef


def test_a_table_is_as_wide_as_its_cells() -> None:
    told = table(["Id", "Name"], [[1, "a-long-name"], ["-", "b"]])
    assert told == " Id   Name\n-------------------\n 1    a-long-name\n -    b\n"


def test_a_name_cannot_command_the_terminal() -> None:
    assert table(["Name"], [["web\x1b[2J\n\x9b"]]).splitlines()[-1] == " web\\x1b[2J\\x0a\\x9b"
    assert facts([("Name", "a\rb")]) == "Name: a\\x0db\n"
    assert printable("größe 10") == "größe 10"


def test_an_empty_table_has_its_headings() -> None:
    assert table(["Name"], []) == " Name\n-------\n"


def test_facts_without_a_value_are_left_out() -> None:
    assert facts([("Id", 1), ("CPU time", None), ("Name", "x")]) == "Id:   1\nName: x\n"


def test_json_has_enums_as_words_and_bytes_in_hex() -> None:
    told = {
        "state": DomainState.SHUTOFF,
        "uuid": UUID(int=1),
        "key": b"\x00\xff",
        "cursor": Cursor(1, 2),
        "version": Version(1, 2, 3),
        "dom": DomainRef("web1", b"0" * 16, 1),
        DomainState.RUNNING: {"set": {1}},
    }
    assert json.loads(to_json(told)) == {
        "state": "shutoff",
        "uuid": str(UUID(int=1)),
        "key": "00ff",
        "cursor": [1, 2],
        "version": [1, 2, 3],
        "dom": ["web1", (b"0" * 16).hex(), 1],
        "running": {"set": [1]},
    }


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text() | st.binary() | st.sampled_from(DomainState) | st.uuids(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text() | st.integers(), inner) | st.tuples(inner),
    )
)
def test_anything_that_an_answer_may_hold_becomes_json(value: object) -> None:
    assert json.loads(to_json(value, indent=None)) == plain(value)


@pytest.mark.parametrize(
    ("kib", "words"),
    [(None, "-"), (0, "0 KiB"), (1023, "1023 KiB"), (1024, "1 MiB"), (1536, "1.5 MiB"), (1048576 * 300, "300 GiB")],
)
def test_memory_is_shown_in_the_largest_unit(kib: int | None, words: str) -> None:
    assert size(kib) == words


@given(st.integers(0, 2**50), st.sampled_from(["", "k", "KiB", "M", "MiB", "g", "GiB", "T"]))
def test_amounts_of_memory_are_exact(amount: int, unit: str) -> None:
    power = {"": 0, "k": 0, "m": 1, "g": 2, "t": 3}[unit.lower()[:1]]
    assert kib_of(f"{amount}{unit}") == amount * 1024**power


def test_where_a_document_is_wrong_is_shown_below_its_line(capsys: pytest.CaptureFixture[str]) -> None:
    error = XmlDetailError("(domain_definition):2: expected '>'\n<os\x1b[2J>\n---^")
    assert report(error, as_json=False) == 1
    assert capsys.readouterr().err == "error: (domain_definition):2: expected '>'\n<os\\x1b[2J>\n---^\n"
    report(InvalidArguments("one\nthing"), as_json=False)
    assert capsys.readouterr().err.count("\n") == 1
