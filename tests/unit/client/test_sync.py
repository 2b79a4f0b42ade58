"""The library without await."""

from __future__ import annotations

import ast
import asyncio
import threading
from pathlib import Path

import pytest

from client import connecting, sync
from client.errors import NoSuchDomain
from client.event import Event
from schema.enums.domain_state import DomainState
from tests.fakes.link import FakeLink
from tests.unit.client.guests import OFF, RUNNING, SCOPE
from tests.unit.client.sync_stub import stub


@pytest.fixture
def link(monkeypatch: pytest.MonkeyPatch) -> FakeLink:
    made = FakeLink(connect_open=None)

    async def open_link(*_: object, **__: object) -> FakeLink:
        return made

    monkeypatch.setattr(connecting, "open_link", open_link)
    return made


def test_the_stub_says_what_the_asynchronous_classes_say() -> None:
    written = Path(sync.__file__).with_suffix(".pyi").read_text(encoding="utf-8")
    assert _meaning(written) == _meaning(stub()), "run: python -m tests.unit.client.sync_stub > client/sync.pyi"


def _meaning(text: str) -> tuple[set[str], list[str]]:
    tree = ast.parse(text)
    imports = {
        f"{getattr(node, 'module', '')} {alias.name}"
        for node in tree.body
        if isinstance(node, ast.Import | ast.ImportFrom)
        for alias in node.names
    }
    rest = [ast.unparse(node) for node in tree.body if isinstance(node, ast.ClassDef | ast.FunctionDef)]
    return imports, rest


def test_calls_are_plain_functions_and_no_thread_is_started(link: FakeLink) -> None:
    link.scripts |= {
        "connect_list_all_domains": [RUNNING, OFF],
        "domain_get_state": {"state": 1, "reason": 1},
        "domain_suspend": None,
    }
    threads = threading.active_count()
    with sync.connect(SCOPE, root="/nowhere") as conn:
        running, off = conn.list_domains()
        assert isinstance(running, sync.Domain)
        assert (running.name, off.id) == ("web1", None)
        assert running.state().state is DomainState.RUNNING
        running.suspend(timeout=3.0)
        assert threading.active_count() == threads
    assert link.closed
    assert link.calls[-1].deadline_s == 3.0


def test_objects_may_be_arguments(link: FakeLink) -> None:
    link.scripts |= {"domain_lookup_by_name": RUNNING, "domain_get_state": {"state": 3, "reason": 1}}
    with sync.connect(SCOPE, root="/nowhere") as conn:
        domain = conn.domain("web1")
        assert conn.call("domain_get_state", dom=domain).state == 3
        with conn.events(objects=[domain]) as stream:
            link.journal.append("test", about=["domain", RUNNING.uuid, "web1"], scope=SCOPE)
            event = next(stream)
        assert isinstance(event, Event)


def test_events_are_an_iterator_that_can_be_asked_for_a_while(link: FakeLink) -> None:
    with sync.connect(SCOPE, root="/nowhere") as conn, conn.events() as stream:
        assert stream.next_within(0.02) is None
        link.journal.append("test", scope=SCOPE)
        link.journal.append("test", scope=SCOPE)
        first = stream.next_within(1.0)
        assert isinstance(first, Event)
        second = next(iter(stream))
        assert isinstance(second, Event)
        assert (first.seq, second.seq) == (1, 2)


def test_errors_are_the_same_classes(link: FakeLink) -> None:
    link.scripts |= {"domain_lookup_by_name": NoSuchDomain("web9")}
    with sync.connect(SCOPE, root="/nowhere") as conn, pytest.raises(NoSuchDomain):
        conn.domain_by_name("web9")


def test_a_failed_connection_leaves_no_loop_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    runners: list[asyncio.Runner] = []

    class Watched(asyncio.Runner):
        def __init__(self) -> None:
            super().__init__()
            runners.append(self)

    monkeypatch.setattr("client.sync.asyncio.Runner", Watched)
    link = FakeLink(connect_open=NoSuchDomain("x"))

    async def open_link(*_: object, **__: object) -> FakeLink:
        return link

    monkeypatch.setattr(connecting, "open_link", open_link)
    with pytest.raises(NoSuchDomain):
        sync.connect(SCOPE, root="/nowhere")
    assert link.closed
    (runner,) = runners
    with pytest.raises(RuntimeError, match="closed"):
        runner.get_loop()
