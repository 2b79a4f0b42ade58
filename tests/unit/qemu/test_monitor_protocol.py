"""QMP as bytes: what is understood, what is refused, however it is cut into pieces."""

from __future__ import annotations

import itertools
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.qemu.monitor.protocol import (
    Answer,
    Greeting,
    LocalMonitorError,
    Notice,
    Refusal,
    RemoteMonitorError,
    Session,
    State,
)

GREETING = (
    b'{"QMP": {"version": {"qemu": {"micro": 0, "minor": 2, "major": 7}, "package": "v"}, "capabilities": ["oob"]}}\r\n'
)
LINES = (
    GREETING
    + b'{"return": {}, "id": 1}\r\n'
    + b'{"timestamp": {"seconds": 5, "microseconds": 250000}, "event": "STOP"}\r\n'
    + b'{"id": 2, "error": {"class": "CommandNotFound", "desc": "The command x has not been found"}}\r\n'
)


def test_messages_are_told_apart() -> None:
    session = Session()
    greeting, answer, notice, refusal = session.receive(LINES)
    assert greeting == Greeting((7, 2, 0), "v", ("oob",))
    assert answer == Answer(1, {})
    assert notice == Notice("STOP", {}, 5.25)
    assert refusal == Refusal(2, "CommandNotFound", "The command x has not been found")
    assert session.state is State.OPEN


@given(st.lists(st.integers(0, len(LINES)), max_size=12))
def test_it_does_not_matter_how_the_bytes_are_cut(cuts: list[int]) -> None:
    places = [0, *sorted(cuts), len(LINES)]
    session, messages = Session(), []
    for start, end in itertools.pairwise(places):
        messages += session.receive(LINES[start:end])
    assert messages == Session().receive(LINES)


def test_commands_are_numbered_and_arguments_left_out_when_there_are_none() -> None:
    session = Session()
    first, data = session.command("query-status")
    assert json.loads(data) == {"execute": "query-status", "id": first}
    second, data = session.command("balloon", {"value": 1})
    assert json.loads(data) == {"execute": "balloon", "arguments": {"value": 1}, "id": second}
    assert second != first and data.endswith(b"\n")


@pytest.mark.parametrize(
    "text",
    [
        b"nonsense\n",
        b"[1]\n",
        b"{}\n",
        b'{"return": {}}\n',
        b'{"QMP": {}}\n',
        b'{"event": 7}\n',
        b'{"error": 1, "id": 1}\n',
    ],
)
def test_what_breaks_the_rules_is_refused(text: bytes) -> None:
    with pytest.raises(RemoteMonitorError):
        Session().receive(text)


def test_a_second_greeting_is_refused() -> None:
    session = Session()
    session.receive(GREETING)
    with pytest.raises(RemoteMonitorError, match="twice"):
        session.receive(GREETING)


def test_an_endless_line_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("actors.qemu.monitor.protocol.LINE_MAX", 100)
    session = Session()
    session.receive(b"x" * 100)
    with pytest.raises(RemoteMonitorError, match="more than"):
        session.receive(b"x")


def test_a_closed_session_cannot_be_used() -> None:
    session = Session()
    session.close()
    with pytest.raises(LocalMonitorError):
        session.command("stop")
    with pytest.raises(LocalMonitorError):
        session.receive(b"{}\n")


@given(st.binary(max_size=200))
def test_any_bytes_are_messages_or_an_error(data: bytes) -> None:
    session = Session()
    try:
        session.receive(data + b"\n")
    except RemoteMonitorError:
        pass
