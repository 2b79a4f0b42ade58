"""The broker's promises for events, shown with real processes."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from broker.peer import HistoryLost, Peer
from broker.wire import Cursor, Position, Published, pack_value, unpack_value
from tests.fakes.role import FakeRole
from tests.process.broker_process import BrokerHouse, broker_house

BEGINNING = Cursor(0, 0)
pytestmark = [pytest.mark.process, pytest.mark.timeout(60)]


@pytest.fixture
def house() -> Iterator[BrokerHouse]:
    with broker_house() as house:
        yield house


async def history(peer: Peer, after: Cursor = BEGINNING, sources: list[str] | None = None) -> list[tuple[str, int]]:
    return [(r["source"], r["seq"]) async for r in records(peer, after, sources)]


async def records(
    peer: Peer, after: Cursor = BEGINNING, sources: list[str] | None = None
) -> AsyncIterator[dict[str, Any]]:
    async for _, record in peer.replay(after, sources):
        yield unpack_value(record)


async def test_an_event_is_journalled_acknowledged_and_published(house: BrokerHouse) -> None:
    role = await FakeRole.connect(house.paths, "test")
    client = await Peer.connect_client(house.paths)
    async with client.listen(["test"]) as live:
        async with asyncio.timeout(10):
            while (await live.next())[1].what != Published.ALIVE:
                pass
        role.publish(x=1)
        role.publish(x=2)
        await role.until(lambda: not role.window)
        seen: list[tuple[str, Position, int]] = []
        async with asyncio.timeout(10):
            while len(seen) < 2:
                source, position, body = await live.next()
                if position.what == Published.EVENT:
                    seen.append((source, position, unpack_value(body)["data"]["x"]))
    assert [(source, position.epoch, position.seq, x) for source, position, x in seen] == [
        ("test", 1, 1, 1),
        ("test", 1, 2, 2),
    ]
    head = await client.head()
    assert head == Cursor(seen[-1][1].generation, seen[-1][1].offset)
    assert await history(client) == [("test", 1), ("test", 2)]
    after_first = Cursor(seen[0][1].generation, seen[0][1].offset)
    assert await history(client, after_first) == [("test", 2)]
    assert await history(client, head) == []
    await client.aclose()
    await role.aclose()


async def test_a_long_replay_comes_in_parts_and_in_order(house: BrokerHouse) -> None:
    role = await FakeRole.connect(house.paths, "test")
    other = await FakeRole.connect(house.paths, "qemu")
    client = await Peer.connect_client(house.paths)
    for number in range(5000):
        role.publish(number=number)
        if number % 5 == 0:
            other.publish(number=number)
    await role.until(lambda: not role.window and not other.window, 30.0)
    assert await history(client, sources=["test"]) == [("test", seq) for seq in range(1, 5001)]
    assert await history(client, sources=["qemu"]) == [("qemu", seq) for seq in range(1, 1001)]
    assert len(await history(client)) == 6000
    await client.aclose()
    await role.aclose()
    await other.aclose()


async def test_a_cursor_that_the_journal_does_not_have_is_told_so(house: BrokerHouse) -> None:
    role = await FakeRole.connect(house.paths, "test")
    client = await Peer.connect_client(house.paths)
    role.publish()
    await role.until(lambda: not role.window)
    head = await client.head()
    with pytest.raises(HistoryLost) as caught:
        await history(client, Cursor(head.generation - 1, 0))
    assert caught.value.head == head
    with pytest.raises(HistoryLost):
        await history(client, Cursor(head.generation, head.offset + 1))
    await client.aclose()
    await role.aclose()


async def test_events_are_handed_over_without_loss_or_doubling_when_the_broker_dies(house: BrokerHouse) -> None:
    role = await FakeRole.connect(house.paths, "test")
    client = await Peer.connect_client(house.paths)
    for _ in range(4):
        for _ in range(300):
            role.publish()
            await asyncio.sleep(0)
        house.kill_broker()
        for _ in range(50):
            role.publish()
        house.start_broker()
    await role.until(lambda: not role.window, 20.0)
    assert await history(client) == [("test", seq) for seq in range(1, role.seq + 1)]
    generation = (await client.head()).generation
    assert generation == client.generation
    await client.aclose()
    await role.aclose()


async def test_numbers_go_on_after_the_death_of_an_actor(house: BrokerHouse) -> None:
    process = await house.role("test")
    client = await Peer.connect_client(house.paths)

    async def emit(count: int) -> None:
        await client.call("test", "domain_suspend", pack_value({"count": count}), deadline_s=20.0)

    await emit(10)
    process.send_signal(signal.SIGKILL)
    await house.role("test")
    await emit(10)
    async with asyncio.timeout(10):
        while len(found := [(r["epoch"], r["seq"]) async for r in records(client)]) < 20:
            await asyncio.sleep(0.02)
    assert found == [(1, seq) for seq in range(1, 11)] + [(2, seq) for seq in range(11, 21)]
    await client.aclose()


async def test_a_subscriber_hears_again_after_the_broker_came_back(house: BrokerHouse) -> None:
    role = await FakeRole.connect(house.paths, "test")
    client = await Peer.connect_client(house.paths)
    async with client.listen(None) as live:
        async with asyncio.timeout(10):
            await live.next()
        house.kill_broker()
        house.start_broker()
        await role.until(lambda: len(role.registered) == 2)
        async with asyncio.timeout(10):
            while (await live.next())[1].what != Published.ALIVE:
                pass
    await client.aclose()
    await role.aclose()


async def test_in_mode_always_events_are_acknowledged_after_the_sync() -> None:
    with broker_house('[journal]\nsync = "always"\n') as house:
        role = await FakeRole.connect(house.paths, "test")
        client = await Peer.connect_client(house.paths)
        for _ in range(200):
            role.publish()
        await role.until(lambda: not role.window, 20.0)
        assert await history(client) == [("test", seq) for seq in range(1, 201)]
        await client.aclose()
        await role.aclose()
