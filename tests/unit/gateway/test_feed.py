from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest

from broker.peer import HistoryLost, Reply
from broker.wire import Cursor, Position, Published, pack_value, unpack_value
from gateway.feed import Feed
from schema.body import pack_result
from schema.errors import DriverDegraded
from schema.table import need_procedure
from tests.unit.gateway.records import SCOPE, domain_object, packed, uuid_of


class FakeBroker:
    """A journal, scripted snapshots, and what was asked for."""

    def __init__(self) -> None:
        self.journal: list[tuple[Cursor, bytes]] = []
        self.objects: list[dict[str, Any]] = [domain_object("a")]
        self.seq = 10
        self.epoch = 1
        self.asked: list[str] = []
        self.lost = False
        self.gate: asyncio.Event | None = None
        self.error: DriverDegraded | None = None
        self.messages: asyncio.Queue[tuple[str, Position, bytes]] = asyncio.Queue()

    @asynccontextmanager
    async def listen(self, sources: Sequence[str] | None) -> AsyncIterator[FakeBroker]:
        yield self

    async def next(self) -> tuple[str, Position, bytes]:
        return await self.messages.get()

    async def replay(self, after: Cursor, sources: Sequence[str] | None = None) -> AsyncIterator[tuple[Cursor, bytes]]:
        self.asked.append("replay")
        if self.lost:
            raise HistoryLost(Cursor(1, 0), Cursor(1, 99))
        for cursor, body in self.journal:
            if cursor > after:
                yield cursor, body

    async def head(self) -> Cursor:
        return Cursor(1, self.seq)

    async def call(
        self, destination: str, procedure: str, body: bytes, *, scope: str = "", deadline_s: float | None = 60.0
    ) -> Reply:
        self.asked.append(procedure)
        if self.gate is not None:
            await self.gate.wait()
        if self.error is not None:
            raise self.error
        if procedure == "actor_capabilities":
            answer = pack_result(need_procedure(procedure), ["domain_lookup_by_name"])
            return Reply("test", self.epoch, self.seq, answer, None)
        row = need_procedure("actor_snapshot")
        answer = pack_result(row, {"epoch": self.epoch, "seq": self.seq, "objects": self.objects})
        return Reply("test", self.epoch, self.seq, answer, None)


class House:
    def __init__(self) -> None:
        self.broker = FakeBroker()
        self.told: list[int] = []
        self.lost: list[str] = []
        self.feed = Feed(
            self.broker,
            deliver=lambda source, record: self.deliver(record),
            on_lost=self.lost.append,
            clock=lambda: 100.0,
            log=lambda *words, **fields: None,
        )
        self.replica = self.feed.replica("test")

    def deliver(self, record: Mapping[str, Any]) -> None:
        self.told.append(record["seq"])

    def event(self, seq: int, name: str = "a", **changes: Any) -> None:
        self.feed.take("test", Position(1, seq, 1, seq, Published.EVENT), packed(seq, name, **changes))

    def alive(self, seq: int, epoch: int = 1) -> None:
        self.feed.take("test", Position(1, seq, epoch, seq, Published.ALIVE), b"")

    async def settle(self) -> None:
        for _ in range(20):
            await asyncio.sleep(0)

    def is_current(self) -> bool:
        return self.replica.is_current(100.0, 2.0)


@pytest.fixture
async def house() -> AsyncIterator[House]:
    house = House()
    yield house
    await house.feed.aclose()


@pytest.fixture
async def filled(house: House) -> House:
    house.alive(10)
    await house.settle()
    assert house.is_current()
    return house


async def test_first_sign_of_life_fetches_a_snapshot(filled: House) -> None:
    assert filled.broker.asked == ["actor_snapshot", "actor_capabilities"]
    assert uuid_of("a") in filled.feed.view("test", SCOPE).domains.by_uuid


async def test_asking_for_a_view_fetches_a_snapshot(house: House) -> None:
    house.feed.view("test", SCOPE)
    await house.settle()
    assert house.replica.known


async def test_events_are_applied_and_told(filled: House) -> None:
    filled.event(11)
    filled.event(12, "b", id=4)
    assert filled.told == [11, 12]
    assert uuid_of("b") in filled.feed.view("test", SCOPE).domains.by_uuid


async def test_what_comes_during_the_snapshot_is_applied_after_it_without_what_it_holds(house: House) -> None:
    house.broker.gate = asyncio.Event()
    house.alive(10)
    for seq in (9, 10, 11, 12):
        house.event(seq)
    await house.settle()
    assert not house.replica.known
    house.broker.gate.set()
    await house.settle()
    assert house.told == [11, 12]
    assert house.replica.seq == 12


async def test_gap_is_filled_from_the_journal_in_order_and_once(filled: House) -> None:
    filled.event(11)
    filled.broker.journal = [(Cursor(1, seq), packed(seq, "a")) for seq in range(11, 15)]
    filled.event(14)
    filled.event(15)
    await filled.settle()
    filled.event(16)
    assert filled.told == [11, 12, 13, 14, 15, 16]
    assert filled.broker.asked == ["actor_snapshot", "actor_capabilities", "replay"]


async def test_lost_tail_is_noticed_by_a_sign_of_life(filled: House) -> None:
    filled.event(11)
    filled.broker.journal = [(Cursor(1, 12), packed(12, "a"))]
    filled.alive(12)
    assert not filled.is_current()
    await filled.settle()
    assert filled.told == [11, 12]
    assert filled.is_current()


async def test_gap_beyond_the_journal_is_a_snapshot_and_said_to_those_who_miss_events(filled: House) -> None:
    filled.broker.lost = True
    filled.broker.seq = 30
    filled.broker.objects = [domain_object("z")]
    filled.event(30)
    await filled.settle()
    assert filled.lost == ["test"]
    assert set(filled.feed.view("test", SCOPE).domains.by_uuid) == {uuid_of("z")}
    filled.event(31)
    assert filled.told == [31]


async def test_what_cannot_be_held_during_a_replay_is_found_again(
    filled: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.feed.HELD_MAX", 32)
    filled.broker.gate = asyncio.Event()
    filled.broker.lost = True
    filled.event(13)
    for seq in range(14, 14 + 32 + 10):
        filled.event(seq)
    filled.broker.seq = 20
    filled.broker.gate.set()
    filled.broker.lost = False
    last = 14 + 32 + 9
    filled.broker.journal = [(Cursor(1, seq), packed(seq, "a")) for seq in range(11, last + 1)]
    await filled.settle()
    filled.alive(last)
    await filled.settle()
    assert filled.replica.seq == last
    assert filled.told == list(range(filled.told[0], last + 1))


async def test_driver_that_cannot_be_asked_is_asked_again_at_the_next_sign_of_life(house: House) -> None:
    house.broker.error = DriverDegraded("test", "it crashed")
    house.alive(10)
    await asyncio.sleep(0.25)
    assert not house.replica.known
    house.broker.error = None
    house.alive(10)
    await house.settle()
    assert house.is_current()


async def test_states_are_taken_from_the_broker(filled: House) -> None:
    filled.feed.take("test", Position(1, 10, 1, 10, Published.STATE), pack_value({"state": "degraded", "why": "x"}))
    assert filled.replica.is_unknown
    filled.feed.take("test", Position(1, 10, 1, 10, Published.STATE), b"\xc1")
    assert filled.replica.is_unknown


async def test_platform_has_no_read_model(house: House) -> None:
    house.feed.take("gateway", Position(1, 1, 1, 1, Published.ALIVE), b"")
    await house.settle()
    assert house.broker.asked == []


async def test_waiting_for_a_number_ends_when_it_came_or_with_the_time(filled: House) -> None:
    assert await filled.feed.reached("test", 10, 0.01)
    assert not await filled.feed.reached("test", 11, 0.01)
    waiting = asyncio.create_task(filled.feed.reached("test", 12, 5.0))
    await filled.settle()
    filled.event(11)
    await filled.settle()
    assert not waiting.done()
    filled.event(12)
    assert await waiting


async def test_published_messages_reach_the_read_model(filled: House) -> None:
    running = asyncio.create_task(filled.feed.run())
    filled.broker.messages.put_nowait(("test", Position(1, 11, 1, 11, Published.EVENT), packed(11, "a")))
    await filled.settle()
    assert filled.told == [11]
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running


async def test_degraded_driver_that_was_never_seen_is_known_from_a_whole_journal(house: House) -> None:
    house.broker.error = DriverDegraded("test", "it crashed")
    house.broker.journal = [(Cursor(1, seq), packed(seq, name)) for seq, name in enumerate("aba", 1)]
    house.feed.take("test", Position(1, 3, 1, 3, Published.STATE), pack_value({"state": "degraded", "why": "x"}))
    await house.settle()
    assert house.replica.is_unknown
    assert set(house.feed.view("test", SCOPE).domains.by_uuid) == {uuid_of("a"), uuid_of("b")}
    assert house.told == []
    assert "domain_get_state" in house.replica.serves


async def test_a_journal_whose_beginning_is_gone_is_not_taken_for_the_whole(house: House) -> None:
    house.broker.error = DriverDegraded("test", "it crashed")
    house.broker.journal = [(Cursor(1, seq), packed(seq, "a")) for seq in (5, 6)]
    house.feed.take("test", Position(1, 6, 1, 6, Published.STATE), pack_value({"state": "degraded", "why": "x"}))
    await house.settle()
    assert not house.replica.known


async def test_guests_that_are_new_or_changed_are_named(filled: House) -> None:
    named: list[bytes] = []
    feed = Feed(
        filled.broker,
        deliver=lambda source, record: None,
        on_lost=filled.lost.append,
        on_domain=lambda view, uuid: named.append(uuid),
        clock=lambda: 100.0,
        log=lambda *words, **fields: None,
    )
    feed.view("test", SCOPE)
    await filled.settle()
    for seq, name, gone in ((11, "b", False), (12, "b", True)):
        feed.take("test", Position(1, seq, 1, seq, Published.EVENT), packed(seq, name, gone=gone))
    assert named == [uuid_of("a"), uuid_of("b")]
    await feed.aclose()


async def test_a_new_incarnation_is_asked_what_it_serves(filled: House) -> None:
    record = {**unpack_value(packed(11, "a", epoch=2)), "kind": "epoch", "object": None, "summary": None}
    filled.feed.take("test", Position(1, 11, 2, 11, Published.EVENT), pack_value(record))
    await filled.settle()
    assert filled.broker.asked.count("actor_capabilities") == 2
