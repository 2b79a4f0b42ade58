"""Equal reads of several clients at the same time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from gateway import shared_reads
from schema.errors import ErrorCode, OperationFailed
from tests.fakes.rpc_client import CallFailed, RpcClient
from tests.process.gateway_in_loop import House, made_house


class Driver:
    """Answers `domain_get_max_vcpus` with how many of them it was asked, each when it is let."""

    def __init__(self, house: House) -> None:
        self.gates: list[asyncio.Event] = []
        self.failing = False
        house.peer.answers["domain_get_max_vcpus"] = self._answer
        self._house = house

    async def _answer(self, args: Any) -> dict[str, int]:
        gate = asyncio.Event()
        self.gates.append(gate)
        number = len(self.gates)
        await gate.wait()
        if self.failing:
            raise OperationFailed("the driver has no answer")
        return {"num": number}

    async def asked(self, times: int) -> None:
        """Waits until it was asked so often."""
        await self._house.until(lambda: len(self.gates) == times)


@pytest.fixture
async def house(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[House]:
    monkeypatch.setattr(shared_reads, "WAIT_MAX_S", 30.0)
    async with made_house() as house:
        yield house


def ask(house: House, client: RpcClient, name: str = "a") -> asyncio.Task[Any]:
    return asyncio.ensure_future(client.call("domain_get_max_vcpus", dom=house.peer.ref(name)))


async def received(house: House, calls: int) -> None:
    """Waits until the gateway has so many calls."""
    await house.until(lambda: house.gateway.calls_under_way == calls)


async def test_those_who_come_during_a_call_share_the_next_one(house: House) -> None:
    driver = Driver(house)
    clients = [await house.opened() for _ in range(5)]
    first = ask(house, clients[0])
    await driver.asked(1)
    others = [ask(house, client) for client in clients[1:]]
    await received(house, 5)
    assert len(driver.gates) == 1
    driver.gates[0].set()
    assert (await first).num == 1  # what was begun before the others asked is no answer to them
    await driver.asked(2)
    driver.gates[1].set()
    assert [(await other).num for other in others] == [2, 2, 2, 2]
    again = ask(house, clients[0])
    await driver.asked(3)
    driver.gates[2].set()
    assert (await again).num == 3
    assert house.gateway.calls_under_way == 0


async def test_other_questions_and_other_rights_have_calls_of_their_own(house: House) -> None:
    driver = Driver(house)
    writer, other, reader = await house.opened(), await house.opened(), await house.opened(read_only=True)
    asks = [ask(house, writer), ask(house, other, "b"), ask(house, reader)]
    await driver.asked(3)
    for gate in driver.gates:
        gate.set()
    assert {(await question).num for question in asks} == {1, 2, 3}


async def test_nobody_waits_for_a_slow_call(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shared_reads, "WAIT_MAX_S", 0.02)
    driver = Driver(house)
    clients = [await house.opened() for _ in range(3)]
    stuck = ask(house, clients[0])
    await driver.asked(1)
    second = ask(house, clients[1])
    await driver.asked(2)  # though the first is not answered
    driver.gates[1].set()
    assert (await second).num == 2
    third = ask(house, clients[2])
    await driver.asked(3)
    driver.gates[2].set()
    assert (await third).num == 3
    driver.gates[0].set()
    assert (await stuck).num == 1
    assert house.gateway.calls_under_way == 0


async def test_all_who_share_a_call_are_told_its_failure(house: House) -> None:
    driver = Driver(house)
    driver.failing = True
    clients = [await house.opened() for _ in range(3)]
    asks = [ask(house, clients[0])]
    await driver.asked(1)
    asks += [ask(house, client) for client in clients[1:]]
    await received(house, 3)
    driver.gates[0].set()
    await driver.asked(2)
    driver.gates[1].set()
    for question in asks:
        with pytest.raises(CallFailed) as failed:
            await question
        assert failed.value.record.code == ErrorCode.OPERATION_FAILED


async def test_a_client_that_leaves_takes_no_answer_from_the_others(house: House) -> None:
    driver = Driver(house)
    first, leaving, staying = await house.opened(), await house.opened(), await house.opened()
    asks = [ask(house, first)]
    await driver.asked(1)
    left = ask(house, leaving)
    await received(house, 2)
    asks.append(ask(house, staying))
    await received(house, 3)
    left.cancel()
    leaving.writer.close()
    await house.until(lambda: len(house.gateway.connections) == 2)
    driver.gates[0].set()
    await driver.asked(2)
    driver.gates[1].set()
    assert [(await question).num for question in asks] == [1, 2]
    assert house.gateway.calls_under_way == 0


async def test_changes_are_never_shared(house: House) -> None:
    house.peer.answers["domain_suspend"] = lambda args: None
    clients = [await house.opened() for _ in range(3)]
    await asyncio.gather(*(client.call("domain_suspend", dom=house.peer.ref("a")) for client in clients))
    assert house.names_asked().count("domain_suspend") == 3
