"""The client library against a real broker that is killed: calls go on, and no event is lost, doubled or reordered."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any

import pytest

import virtroupe
from broker.peer import IncomingCall, Peer
from broker.wire import unpack_value
from client.events import BEGINNING
from schema.objects import DomainRef
from tests.fakes.role import FakeRole
from tests.process.broker_process import BrokerHouse, broker_house

pytestmark = [pytest.mark.process, pytest.mark.timeout(60)]

GUEST = ["web1", b"0123456789abcdef", 1]


async def _void(role: FakeRole, call: IncomingCall, arguments: dict[str, Any]) -> dict[str, Any]:
    return {}


async def _for_ever(role: FakeRole, call: IncomingCall, arguments: dict[str, Any]) -> dict[str, Any]:
    await asyncio.get_running_loop().create_future()
    return {}


async def _snapshot(role: FakeRole, call: IncomingCall, arguments: dict[str, Any]) -> dict[str, Any]:
    guest = {"type": "domain", "key": GUEST[1], "name": "web1", "version": 3, "summary": {"state": 1}, "scope": ""}
    return {"epoch": role.peer.epoch, "seq": role.seq, "objects": [guest]}


Roles = Callable[[BrokerHouse], Awaitable[FakeRole]]

ANSWERS = {
    "connect_open": _void,
    "domain_suspend": _void,
    "domain_managed_save": _for_ever,
    "actor_snapshot": _snapshot,
}


@pytest.fixture
def house() -> Iterator[BrokerHouse]:
    with broker_house() as made:
        yield made


@pytest.fixture
async def roles() -> AsyncIterator[Roles]:
    """Makes drivers that are gone when the test ends, however it ends."""
    made: list[FakeRole] = []

    async def make(house: BrokerHouse) -> FakeRole:
        role = await FakeRole.connect(house.paths, "test", ANSWERS)
        made.append(role)
        return role

    yield make
    for role in made:
        await role.aclose()


async def take(stream: virtroupe.EventStream, count: int) -> list[virtroupe.Event]:
    items = []
    async with asyncio.timeout(20):
        while len(items) < count:
            item = await anext(stream)
            assert isinstance(item, virtroupe.Event)
            items.append(item)
    return items


async def journal_of(house: BrokerHouse) -> list[tuple[str, int]]:
    peer = await Peer.connect_client(house.paths)
    try:
        return [
            (told["source"], told["seq"]) async for _, body in peer.replay(BEGINNING) for told in [unpack_value(body)]
        ]
    finally:
        await peer.aclose()


async def test_a_history_survives_kills_of_the_broker(house: BrokerHouse, roles: Roles) -> None:
    role = await roles(house)
    async with (
        virtroupe.connect("test:///default", root=house.root) as conn,
        conn.events(after=BEGINNING) as stream,
        conn.events(everywhere=True) as second,
    ):
        got: list[virtroupe.Event] = []
        also: list[virtroupe.Event] = []
        for round_ in range(3):
            for number in range(50):
                role.publish(number=number)
            await asyncio.to_thread(house.kill_broker)
            for number in range(50):
                role.publish(number=number)
            house.start_broker()
            count = 100 * (round_ + 1) - len(got)
            got += await take(stream, count)
            also += await take(second, count)
        assert [event.seq for event in got] == list(range(1, 301))
        assert [(event.source, event.seq) for event in got] == await journal_of(house)
        assert [event.cursor for event in also] == [event.cursor for event in got]


async def test_a_reader_that_reconnects_with_its_cursor_misses_nothing(house: BrokerHouse, roles: Roles) -> None:
    role = await roles(house)
    cursor: str | None = "0:0"
    got: list[int] = []
    for _ in range(5):
        for number in range(20):
            role.publish(number=number)
        async with virtroupe.connect("test:///default", root=house.root) as conn, conn.events(cursor) as stream:
            for event in await take(stream, 13):
                got.append(event.seq)
                cursor = str(event.cursor)
    assert got == list(range(1, 66))


async def test_a_cursor_that_the_journal_does_not_have_yields_a_resync(house: BrokerHouse, roles: Roles) -> None:
    role = await roles(house)
    for number in range(10):
        role.publish(number=number)
    await role.until(lambda: not role.window)
    long_ago = virtroupe.Cursor(7, 4711)
    async with (
        virtroupe.connect("test:///default", root=house.root) as conn,
        conn.events(after=long_ago) as stream,
        asyncio.timeout(20),
    ):
        resync = await anext(stream)
        assert isinstance(resync, virtroupe.Resync)
        assert [known.name for known in resync.domains] == ["web1"]
        assert resync.unknown == []
        assert resync.lost == (long_ago, resync.cursor)
        assert resync.cursor == await conn.cursor()
        role.publish(text="after")
        assert (await take(stream, 1))[0].seq == 11


async def test_a_cancelled_task_cancels_the_call_in_the_driver(house: BrokerHouse, roles: Roles) -> None:
    role = await roles(house)
    async with virtroupe.connect("test:///default", root=house.root) as conn:
        domain = virtroupe.Domain(conn, DomainRef(*GUEST))
        saving = asyncio.create_task(domain.managed_save())
        await role.until(lambda: any(call.prologue.procedure == "domain_managed_save" for call in role.calls))
        saving.cancel()
        with pytest.raises(asyncio.CancelledError):
            await saving
        await role.until(lambda: len(role.cancelled) == 1)
        await domain.suspend()


async def test_a_deadline_of_the_caller_ends_the_call(house: BrokerHouse, roles: Roles) -> None:
    await roles(house)
    async with virtroupe.connect("test:///default", root=house.root) as conn:
        domain = virtroupe.Domain(conn, DomainRef(*GUEST))
        begin = asyncio.get_running_loop().time()
        with pytest.raises(virtroupe.DeadlinePassed):
            await domain.managed_save(timeout=0.3)
        assert asyncio.get_running_loop().time() - begin < 5


async def test_a_call_waits_for_a_broker_that_is_restarted(house: BrokerHouse, roles: Roles) -> None:
    await roles(house)
    async with virtroupe.connect("test:///default", root=house.root) as conn:
        domain = virtroupe.Domain(conn, DomainRef(*GUEST))
        await asyncio.to_thread(house.kill_broker)
        suspending = asyncio.create_task(domain.suspend())
        await asyncio.sleep(0.1)
        assert not suspending.done()
        house.start_broker()
        async with asyncio.timeout(20):
            await suspending


async def test_a_broker_that_is_gone_is_named(house: BrokerHouse, roles: Roles) -> None:
    await roles(house)
    async with virtroupe.connect("test:///default", root=house.root) as conn:
        await asyncio.to_thread(house.kill_broker)
        with pytest.raises(virtroupe.DeadlinePassed, match="broker"):
            await conn.call("domain_suspend", dom=DomainRef(*GUEST), timeout=0.3)


async def test_a_killed_agent_is_told_soon(house: BrokerHouse) -> None:
    await asyncio.to_thread(house.kill_broker)
    begin = asyncio.get_running_loop().time()
    with pytest.raises(virtroupe.AgentUnreachable, match=r"door\.sock"):
        async with virtroupe.connect("test:///default", root=house.root):
            pass
    assert asyncio.get_running_loop().time() - begin < 10
