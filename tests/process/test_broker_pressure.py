"""Peers that do not read, or send too much: bounded memory, nothing lost that was promised, everybody else unharmed."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from broker.peer import IncomingCall, Peer
from broker.wire import (
    CallPrologue,
    Cursor,
    Kind,
    Published,
    join_body,
    pack_call_prologue,
    pack_header,
    pack_value,
    unpack_value,
)
from schema.errors import Busy, DeadlinePassed, InvalidArguments
from tests.fakes.role import FakeRole
from tests.process.broker_process import BrokerHouse, broker_house

pytestmark = [pytest.mark.process, pytest.mark.timeout(120)]


@pytest.fixture
def house() -> Iterator[BrokerHouse]:
    with broker_house("[broker]\ncalls_per_client = 100\ncalls_per_actor = 200\n") as house:
        yield house


def rss_kib(house: BrokerHouse) -> int:
    assert house.broker is not None
    return int(Path(f"/proc/{house.broker.pid}/statm").read_text(encoding="ascii").split()[1]) * 4


async def frozen_subscriber(house: BrokerHouse, events: int) -> None:
    """One subscriber reads nothing for that many events, then finds all of them."""
    role = await FakeRole.connect(house.paths, "test")
    client = await Peer.connect_client(house.paths)
    async with client.listen(["test"]) as live:
        async with asyncio.timeout(10):
            while (await live.next())[1].what != Published.ALIVE:
                pass
        before = rss_kib(house)
        for number in range(events):
            role.publish(number=number, pad="x" * 200)
            if number % 500 == 0:
                await role.until(lambda: len(role.window) < 1000, 30.0)
        await role.until(lambda: not role.window, 30.0)
        assert rss_kib(house) - before < 30_000
        # what the socket still has is in order, its last is not the last, and the journal has the rest
        live_seqs: list[int] = []
        place = Cursor(client.generation, 0)
        while len(live_seqs) < events:
            try:
                async with asyncio.timeout(0.3):
                    _, position, _ = await live.next()
            except TimeoutError:
                break
            if position.what == Published.EVENT:
                if live_seqs and position.seq != live_seqs[-1] + 1:
                    break
                live_seqs.append(position.seq)
                place = Cursor(position.generation, position.offset)
        assert live_seqs == list(range(1, len(live_seqs) + 1))
        rest = [unpack_value(record)["seq"] async for _, record in client.replay(place)]
        assert live_seqs + rest == list(range(1, events + 1))
    await client.aclose()
    await role.aclose()


async def test_a_frozen_subscriber_costs_bounded_memory_and_loses_nothing(house: BrokerHouse) -> None:
    await frozen_subscriber(house, 15_000)


@pytest.mark.slow
async def test_a_subscriber_frozen_for_100_000_events_loses_nothing(house: BrokerHouse) -> None:
    await frozen_subscriber(house, 100_000)


async def test_a_client_that_never_reads_its_answers_harms_nobody(house: BrokerHouse) -> None:
    role = await FakeRole.connect(house.paths, "test")
    good = await Peer.connect_client(house.paths)
    deaf = await Peer.connect_client(house.paths)
    link = deaf._link
    assert link is not None
    deaf._loop.remove_reader(link._socket.fileno())
    body = join_body(pack_call_prologue(CallPrologue("domain_create")), pack_value({"pad": "x" * 1000}))
    before = rss_kib(house)
    for number in range(1, 30_000):
        link.send(b"test", pack_header(Kind.CALL, number, 60_000), body)
        if number % 1000 == 0:
            reply = await good.call("test", "connect_get_hostname", pack_value({"n": number}), deadline_s=30.0)
            assert unpack_value(reply.body)["arguments"] == {"n": number}
    assert rss_kib(house) - before < 100_000
    await good.aclose()
    await deaf.aclose()
    await role.aclose()


async def test_more_calls_than_a_client_may_have_are_told_busy_and_the_others_are_served(house: BrokerHouse) -> None:
    role = await FakeRole.connect(house.paths, "test")
    client = await Peer.connect_client(house.paths)
    calls = [client.call("test", "domain_reboot", pack_value({"s": 0.5}), deadline_s=30.0) for _ in range(150)]
    outcomes = await asyncio.gather(*calls, return_exceptions=True)
    busy = [outcome for outcome in outcomes if isinstance(outcome, Busy)]
    assert len(busy) == 50 and all(error.retry_after_s for error in busy)
    assert len(role.calls) == 100
    await client.aclose()
    await role.aclose()


async def test_arguments_that_are_too_long_are_refused_before_they_are_sent(house: BrokerHouse) -> None:
    client = await Peer.connect_client(house.paths)
    with pytest.raises(InvalidArguments, match="domain_create"):
        await client.call("test", "domain_create", bytes(17 * 1024 * 1024))
    with pytest.raises(DeadlinePassed):
        await client.call("test", "domain_create", pack_value({}), deadline_s=0.1)
    await client.aclose()


async def test_a_long_body_goes_through_whole(house: BrokerHouse) -> None:
    async def measure(role: FakeRole, call: IncomingCall, arguments: dict[str, object]) -> dict[str, object]:
        return {"length": len(str(arguments["xml"])), "back": "y" * 5_000_000}

    role = await FakeRole.connect(house.paths, "test", {"domain_create": measure})
    client = await Peer.connect_client(house.paths)
    reply = await client.call("test", "domain_create", pack_value({"xml": "x" * 15_000_000}), deadline_s=30.0)
    answer = unpack_value(reply.body)
    assert answer["length"] == 15_000_000 and len(answer["back"]) == 5_000_000
    await client.aclose()
    await role.aclose()
