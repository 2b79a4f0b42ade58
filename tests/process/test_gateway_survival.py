"""What a libvirt client sees of kills: of the driver and the broker, nothing but a delay."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from rpc.packet import Status
from rpc.xdr import event_codec
from schema.objects import DomainRef
from schema.table import need_event
from tests.fakes.rpc_client import CallFailed, RpcClient
from tests.process.gateway_house import GatewayHouse, gateway_house

pytestmark = pytest.mark.process

LIFECYCLE = need_event("domain_event_lifecycle")
SUSPENDED, RESUMED = 3, 4
SLOW_S = 30.0


@pytest.fixture
async def house() -> AsyncIterator[GatewayHouse]:
    with gateway_house() as house:
        try:
            yield house
        finally:
            house.show_logs()


async def opened(house: GatewayHouse) -> RpcClient:
    return await (await RpcClient.connect(house.paths.libvirt_socket)).open()


async def closed(*clients: RpcClient) -> None:
    for client in clients:
        client.writer.close()
        try:
            await client.writer.wait_closed()
        except OSError:
            pass


async def guest(client: RpcClient) -> DomainRef:
    found: DomainRef = (await client.call("domain_lookup_by_name", name="test")).dom
    return found


async def slow_call(client: RpcClient, name: str, /, **args: Any) -> Any:
    """A call that may have to wait for a driver."""
    async with asyncio.timeout(SLOW_S):
        serial = client.send_call(name, **args)
        while True:
            packet = await client.packet(SLOW_S)
            if packet.serial == serial and packet.type == 1:
                return client.result(name, packet)
            client.others.append(packet)


async def next_event(client: RpcClient) -> int:
    number: int = event_codec(LIFECYCLE).decode((await client.event()).payload[4:])["event"]
    return number


async def test_calls_and_registrations_outlive_the_driver(house: GatewayHouse) -> None:
    client, watcher = await opened(house), await opened(house)
    dom = await guest(client)
    await watcher.call("connect_domain_event_callback_register_any", eventID=0, dom=None)
    for _ in range(3):
        house.kill("test")
        call = asyncio.create_task(slow_call(client, "domain_suspend", dom=dom))
        await asyncio.sleep(0.05)
        assert not call.done()
        house.start("test")
        await call
        assert (await slow_call(client, "domain_get_state", dom=dom, flags=0)).state == 3
        await slow_call(client, "domain_resume", dom=dom)
        assert (await slow_call(client, "domain_get_state", dom=dom, flags=0)).state == 1
    assert [await next_event(watcher) for _ in range(6)] == [SUSPENDED, RESUMED] * 3
    await closed(client, watcher)


async def test_reads_wait_for_the_driver_and_then_tell_the_truth(house: GatewayHouse) -> None:
    client = await opened(house)
    dom = await guest(client)
    house.kill("test")
    # The read model may answer until its signs of life are missed; whatever answers, it is no error.
    call = asyncio.create_task(slow_call(client, "domain_get_info", dom=dom))
    house.start("test")
    assert (await call).state == 1
    await closed(client)


async def test_calls_and_registrations_outlive_the_broker(house: GatewayHouse) -> None:
    client, watcher = await opened(house), await opened(house)
    dom = await guest(client)
    await watcher.call("connect_domain_event_callback_register_any", eventID=0, dom=None)
    for _ in range(3):
        house.kill("broker")
        call = asyncio.create_task(slow_call(client, "domain_suspend", dom=dom))
        await asyncio.sleep(0.05)
        house.start("broker")
        await call
        await slow_call(client, "domain_resume", dom=dom)
    assert [await next_event(watcher) for _ in range(6)] == [SUSPENDED, RESUMED] * 3
    await closed(client, watcher)


async def test_both_at_once(house: GatewayHouse) -> None:
    client, watcher = await opened(house), await opened(house)
    dom = await guest(client)
    await watcher.call("connect_domain_event_callback_register_any", eventID=0, dom=None)
    house.kill("broker")
    house.kill("test")
    call = asyncio.create_task(slow_call(client, "domain_suspend", dom=dom))
    house.start("test")
    house.start("broker")
    await call
    assert await next_event(watcher) == SUSPENDED
    await closed(client, watcher)


async def test_client_in_a_loop_sees_no_error_while_the_driver_is_killed(house: GatewayHouse) -> None:
    client, other = await opened(house), await opened(house)
    dom = await guest(client)
    stop = asyncio.Event()
    calls = 0

    async def loop() -> None:
        nonlocal calls
        while not stop.is_set():
            assert (await slow_call(client, "domain_get_state", dom=dom, flags=0)).state in (1, 3)
            await slow_call(client, "domain_get_info", dom=dom)
            calls += 2

    async def change() -> None:
        while not stop.is_set():
            try:
                await slow_call(other, "domain_suspend", dom=dom)
                await slow_call(other, "domain_resume", dom=dom)
            except CallFailed as exc:
                # A verdict may say that it was undone; nothing else may be said.
                assert "undone" in str(exc) or "not paused" in str(exc) or "not running" in str(exc), str(exc)

    running = [asyncio.create_task(loop()), asyncio.create_task(change())]
    for _ in range(4):
        await asyncio.sleep(0.3)
        house.kill("test")
        house.start("test")
    await asyncio.sleep(0.5)
    stop.set()
    async with asyncio.timeout(SLOW_S):
        await asyncio.gather(*running)
    assert calls > 20
    await closed(client, other)


async def test_new_gateway_serves_what_the_old_one_did(house: GatewayHouse) -> None:
    client = await opened(house)
    await client.call("domain_suspend", dom=await guest(client))
    house.kill("gateway")
    assert await client.is_closed()
    waiting = await RpcClient.connect(house.paths.libvirt_socket)
    serial = waiting.send_call("auth_list")
    house.start("gateway")
    packet = await waiting.packet(SLOW_S)
    assert (packet.serial, packet.status) == (serial, Status.OK)
    await waiting.open()
    assert (await slow_call(waiting, "domain_get_state", dom=await guest(waiting), flags=0)).state == 3
    await closed(client, waiting)
