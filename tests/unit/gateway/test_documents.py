from __future__ import annotations

import asyncio

import pytest

from gateway.documents import OVERDUE_S, PLAIN, Documents
from gateway.replica import Replica, View
from schema.errors import NoSuchDomain
from tests.fakes.scripted_peer import ScriptedPeer
from tests.unit.gateway.records import SCOPE, summary, uuid_of


async def run_for(documents: Documents, seconds: float) -> None:
    running = asyncio.create_task(documents.run())
    await asyncio.sleep(seconds)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


def made() -> tuple[ScriptedPeer, View]:
    peer = ScriptedPeer({"a": summary()})
    replica = Replica("test")
    replica.load(1, peer.seq, [], 0.0)
    view = replica.view(SCOPE)
    view.put("domain", uuid_of("a"), "a", 1, summary())
    peer.answers["domain_get_xml_desc"] = lambda args: "<domain/>"
    return peer, view


async def test_document_of_a_guest_that_rests_is_fetched_once() -> None:
    peer, view = made()
    documents = Documents(peer, asyncio.get_running_loop().time, 0.03)
    for _ in range(3):
        documents.changed(view, uuid_of("a"))
    await run_for(documents, 0.01)
    assert not peer.asked
    await run_for(documents, 0.2)
    assert [asked.procedure for asked in peer.asked] == ["domain_get_xml_desc"]
    assert PLAIN in view.domains.by_uuid[uuid_of("a")].xml
    documents.changed(view, uuid_of("a"))
    await run_for(documents, 0.2)
    assert len(peer.asked) == 1


async def test_guest_that_is_gone_is_passed_over() -> None:
    peer, view = made()
    documents = Documents(peer, asyncio.get_running_loop().time, 0.01)
    documents.changed(view, bytes(16))
    documents.changed(view, uuid_of("a"))

    def gone(args: object) -> None:
        raise NoSuchDomain("a")

    peer.answers["domain_get_xml_desc"] = gone
    await run_for(documents, 0.2)
    assert len(peer.asked) == 1
    assert not view.domains.by_uuid[uuid_of("a")].xml


async def test_nothing_is_fetched_when_it_is_switched_off() -> None:
    peer, view = made()
    documents = Documents(peer, asyncio.get_running_loop().time, 0.0)
    documents.changed(view, uuid_of("a"))
    await run_for(documents, 0.05)
    assert not peer.asked


async def test_documents_are_left_alone_while_others_change(monkeypatch: pytest.MonkeyPatch) -> None:
    peer, view = made()
    now = [100.0]
    documents = Documents(peer, lambda: now[0], 2.0)
    slept: list[float] = []
    sleep = asyncio.sleep

    async def pass_time(seconds: float) -> None:
        slept.append(seconds)
        now[0] += seconds
        if len(slept) < 5:  # another guest changes all the time
            documents.changed(view, bytes(16))
        await sleep(0)

    documents.changed(view, uuid_of("a"))
    monkeypatch.setattr("gateway.documents.asyncio.sleep", pass_time)
    running = asyncio.create_task(documents.run())
    while not peer.asked:
        await sleep(0)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    assert slept[:5] == [2.0, 0.5, 0.5, 0.5, 0.5]


async def test_a_document_that_is_long_overdue_is_fetched_all_the_same() -> None:
    peer, view = made()
    now = [100.0]
    documents = Documents(peer, lambda: now[0], 2.0)
    documents.changed(view, uuid_of("a"))
    now[0] += 2.0 + OVERDUE_S
    documents.changed(view, bytes(16))
    await run_for(documents, 0.05)
    assert len(peer.asked) == 1
