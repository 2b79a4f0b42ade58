from __future__ import annotations

import asyncio
import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from actors.runtime import store as module
from actors.runtime.call_log import CallLog, End, Kept, Origin
from actors.runtime.context import CurrentCall, enter_call
from actors.runtime.intents import Intents
from actors.runtime.store import Store, finish_despite_cancel
from schema.errors import HostSystemError
from schema.table import need_procedure


async def at_once(work: Callable[..., Any], *args: Any) -> Any:
    return work(*args)


@pytest.fixture
def calls(tmp_path: Path) -> CallLog:
    calls = CallLog(tmp_path / "log", 60.0)
    calls.load()
    return calls


@pytest.fixture
def store(tmp_path: Path, calls: CallLog) -> Store:
    return Store(tmp_path / "files", calls, at_once)


async def test_a_file_is_there_whole(store: Store) -> None:
    await store.write("a/b.xml", b"one")
    await store.write("a/b.xml", b"two")
    assert store.read("a/b.xml") == b"two"
    assert store.list("a", ".xml") == ["a/b.xml"]
    assert store.list("none") == []
    await store.remove("a/b.xml")
    await store.remove("a/b.xml")
    assert store.read("a/b.xml") is None


async def test_a_path_stays_inside(store: Store) -> None:
    for path in ("../x", "/etc/passwd", "a/../../x"):
        with pytest.raises(ValueError, match="leads out"):
            await store.write(path, b"")


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EIO])
async def test_what_cannot_be_written_changes_nothing(
    store: Store, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    await store.write("a", b"before")

    def fail(path: Path, data: bytes) -> None:
        path.write_bytes(data[:2])
        raise OSError(number, "no")

    monkeypatch.setattr(module, "_write_synced", fail)
    with pytest.raises(HostSystemError, match=rf"cannot write '.*/a': {os.strerror(number)}") as caught:
        await store.write("a", b"after")
    assert caught.value.int1 == number
    assert store.read("a") == b"before"
    assert store.list("") == ["a"]
    assert [path.name for path in store.folder.iterdir()] == ["a"]


def change(name: str) -> CurrentCall:
    call = CurrentCall(b"id" * 12, need_procedure(name))
    enter_call(call)
    return call


async def test_the_file_of_a_change_is_announced_before_it_is_written(store: Store, calls: CallLog) -> None:
    change("domain_undefine")
    await store.remove("a")
    await store.write("b", b"data")
    (step,) = calls.steps.values()
    assert (step.path, step.result) == ("b", b"\x80")
    assert store.has_content("b", step.crc)
    assert store.has_content("a", None)
    assert not store.has_content("b", None)


async def test_a_change_that_returns_something_has_to_say_what(store: Store) -> None:
    change("domain_define_xml")
    with pytest.raises(TypeError, match="result="):
        await store.write("a", b"")
    assert store.read("a") is None
    await store.write("counter", b"1", completes=False)


async def test_inside_an_intent_a_file_is_not_the_whole_change(store: Store, calls: CallLog) -> None:
    call = change("domain_define_xml")
    async with Intents(calls, at_once).change("define"):
        await store.write("a", b"")
        assert call.open_intents == 1
    assert not calls.steps
    assert call.open_intents == 0


async def test_reads_and_background_work_are_no_changes(store: Store, calls: CallLog) -> None:
    await store.write("a", b"")
    change("domain_get_xml_desc")
    await store.write("a", b"")
    assert not calls.steps


async def test_a_write_ends_before_the_cancellation_does() -> None:
    begun, gate = asyncio.Event(), asyncio.Event()
    trace: list[str] = []

    async def work() -> str:
        begun.set()
        await gate.wait()
        return "written"

    async def handler() -> None:
        trace.append(await finish_despite_cancel(asyncio.ensure_future(work())))
        trace.append("published")
        await asyncio.sleep(10)
        trace.append("never")

    task = asyncio.create_task(handler())
    await begun.wait()
    task.cancel()
    await asyncio.sleep(0)
    gate.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert trace == ["written", "published"]


async def test_notes_of_an_intent_are_there_after_a_kill(tmp_path: Path, calls: CallLog) -> None:
    intents = Intents(calls, at_once)
    intent = intents.change("create", {"name": "a"}, key=("domain", b"u" * 16))
    await intent.__aenter__()
    await intent.note(pid=17)
    calls.close()
    after = CallLog(tmp_path / "log", 60.0)
    after.load()
    (open_,) = Intents(after, at_once).open
    assert (open_.kind, open_.data, open_.key) == ("create", {"name": "a", "pid": 17}, ("domain", b"u" * 16))
    await open_.undo()
    assert Intents(after, at_once).open == []


async def test_an_intent_that_cannot_be_written_down_does_not_begin(
    calls: CallLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> int:
        raise HostSystemError(errno.ENOSPC, "cannot write")

    monkeypatch.setattr(calls._log, "append", full)
    began = False
    with pytest.raises(HostSystemError):
        async with Intents(calls, at_once).change("create"):
            began = True
    assert not began


def test_large_results_are_kept_by_their_bytes() -> None:
    kept: Kept[int] = Kept(100, 1000)
    for n in range(10):
        kept.put(n, End(Origin(b"", ""), bytes(300), None, float(n)))
    assert [n for n in range(10) if n in kept] == [7, 8, 9]
    kept.put(7, End(Origin(b"", ""), bytes(2000), None, 10.0))
    assert [n for n in range(10) if n in kept] == [7]
    kept.forget_before(11.0)
    kept.put(1, End(Origin(b"", ""), bytes(900), None, 12.0))
    assert len(kept) == 1


def test_what_is_remembered_of_calls_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("actors.runtime.call_log.RECENT_MAX", 100)
    monkeypatch.setattr("actors.runtime.call_log.KEYED_MAX", 50)
    monkeypatch.setattr("actors.runtime.call_log.COMPACT_BYTES", 10_000)
    calls = CallLog(tmp_path, 3600.0)
    calls.load()
    procedure = need_procedure("domain_suspend")
    for n in range(1000):
        call = CurrentCall(n.to_bytes(24, "big"), procedure, caller={"uid": 1}, idempotency_key=f"k{n}")
        calls.begin(call, ("domain", b"u" * 16))
        calls.end(call, b"\x80", None)
    assert len(calls.ended) == 100
    assert calls.find_keyed(1, "k949") is None
    assert calls.find_keyed(1, "k950") is not None
    assert not calls.begun
    old = calls.compact()
    assert old is not None
    old.discard()
    calls.close()
    after = CallLog(tmp_path, 3600.0)
    after.load()
    assert after.find_keyed(1, "k999") is not None
    assert (999).to_bytes(24, "big") in after.ended
