"""The broker's promises for calls, shown with real processes."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Iterator
from typing import Any

import pytest

from broker.peer import Peer
from broker.wire import pack_value, unpack_value
from schema.errors import Cancelled, DeadlinePassed, VirtError
from tests.fakes.role import FakeRole
from tests.process.broker_process import BrokerHouse, broker_house

pytestmark = [pytest.mark.process, pytest.mark.timeout(60)]


@pytest.fixture
def house() -> Iterator[BrokerHouse]:
    with broker_house() as house:
        yield house


async def ask(peer: Peer, procedure: str, to: str = "test", /, *, deadline_s: float = 20.0, **arguments: Any) -> Any:
    reply = await peer.call(to, procedure, pack_value(arguments), deadline_s=deadline_s)
    return unpack_value(reply.body)


async def test_a_call_reaches_its_actor_and_comes_back(house: BrokerHouse) -> None:
    role = await FakeRole.connect(house.paths, "test")
    client = await Peer.connect_client(house.paths, program="the test")
    reply = await client.call(
        "test",
        "domain_create",
        pack_value({"x": 1}),
        scope="test:///default",
        key=b"\0" * 16,
        idempotency_key="once",
        trace="t-1",
        caller={"uid": 12345, "user": "forged"},
    )
    answer = unpack_value(reply.body)
    assert reply.source == "test" and reply.epoch == 1
    assert answer["arguments"] == {"x": 1}
    assert (answer["scope"], answer["key"]) == ("test:///default", b"\0" * 16)
    assert (answer["idempotency_key"], answer["trace"]) == ("once", "t-1")
    caller = answer["caller"]
    assert (caller["uid"], caller["pid"], caller["via"]) == (os.geteuid(), os.getpid(), "native")
    assert caller["name"] == "the test" and caller["read_only"] is False
    await client.aclose()
    await role.aclose()


async def test_a_call_waits_for_an_actor_that_is_not_there(house: BrokerHouse) -> None:
    client = await Peer.connect_client(house.paths)
    waiting = asyncio.create_task(ask(client, "actor_ping"))
    await asyncio.sleep(0.2)
    assert not waiting.done()
    role = await FakeRole.connect(house.paths, "test")
    assert (await waiting)["epoch"] == 1
    await client.aclose()
    await role.aclose()


async def test_a_call_in_flight_when_its_actor_dies_is_sent_again_to_the_next_epoch(house: BrokerHouse) -> None:
    process = await house.role("test")
    client = await Peer.connect_client(house.paths)
    slow = asyncio.create_task(ask(client, "domain_reboot", s=0.3))
    first = await ask(client, "domain_create")
    assert (first["epoch"], first["flags"]) == (1, 0)
    process.kill()
    await house.role("test")
    answer = await slow
    assert (answer["epoch"], answer["flags"]) == (2, 1)
    await client.aclose()


async def test_a_broker_restart_loses_no_call(house: BrokerHouse) -> None:
    role = await FakeRole.connect(house.paths, "test")
    client = await Peer.connect_client(house.paths)
    slow = asyncio.create_task(ask(client, "domain_reboot", s=1.0))
    before = await ask(client, "domain_create")
    house.kill_broker()
    blind = asyncio.create_task(ask(client, "domain_create"))
    house.start_broker()
    after = await blind
    assert (await slow)["flags"] in (0, 1)
    assert after["epoch"] == before["epoch"] == role.peer.epoch == 1
    assert after["id"][:16] == before["id"][:16] and role.lost == 1
    ids = [call.id for call in role.calls if call.prologue.procedure == "domain_reboot"]
    assert len(set(ids)) == 1
    await client.aclose()
    await role.aclose()


async def test_a_stopped_broker_can_be_waited_for_within_the_deadline(house: BrokerHouse) -> None:
    client = await Peer.connect_client(house.paths)
    house.kill_broker(signal.SIGTERM)
    with pytest.raises(DeadlinePassed, match="broker"):
        await ask(client, "actor_ping", deadline_s=0.3)
    await client.aclose()


async def test_cancelling_the_waiting_task_cancels_the_call(house: BrokerHouse) -> None:
    role = await FakeRole.connect(house.paths, "test")
    client = await Peer.connect_client(house.paths)
    task = asyncio.create_task(ask(client, "domain_reboot", s=30.0))
    await role.until(lambda: len(role.calls) == 1)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await role.until(lambda: len(role.cancelled) == 1)
    assert role.cancelled == [(role.calls[0].source, role.calls[0].correlation)]
    await client.aclose()
    await role.aclose()


async def test_the_broker_keeps_the_deadline_of_an_actor_that_does_not(house: BrokerHouse) -> None:
    role = await FakeRole.connect(house.paths, "test")
    client = await Peer.connect_client(house.paths)
    begin = asyncio.get_running_loop().time()
    with pytest.raises(DeadlinePassed, match="did not answer 'domain_reboot'"):
        await ask(client, "domain_reboot", s=30.0, deadline_s=0.3)
    assert 0.3 <= asyncio.get_running_loop().time() - begin < 3.0
    await client.aclose()
    await role.aclose()


async def test_an_actors_error_reaches_the_caller_as_its_class(house: BrokerHouse) -> None:
    role = await FakeRole.connect(house.paths, "test")
    client = await Peer.connect_client(house.paths)
    with pytest.raises(VirtError, match="the script has no 'domain_destroy'") as caught:
        await ask(client, "domain_destroy")
    assert caught.value.kind == "InvalidArguments"
    assert not isinstance(caught.value, Cancelled)
    await client.aclose()
    await role.aclose()
