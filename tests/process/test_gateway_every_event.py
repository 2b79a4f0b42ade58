"""Every event that there is, told once to everybody who registered for it, before and after its driver began anew.

The newer registrations have a callback id, the older ones have none and exist for the first sixteen events of guests.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from gateway.subscriptions import LEGACY_EVENT_ID_MAX, PROGRAMS
from rpc.xdr import event_codec, legacy_event_codec
from schema.body import event_data
from schema.model import Event
from schema.table import all_events
from tests.fakes.rpc_client import RpcClient, callback_id
from tests.process.gateway_in_loop import House, made_house
from tests.process.plain_arguments import plain_value

REGISTER = {
    "domain": ("connect_domain_event_callback_register_any", "dom"),
    "network": ("connect_network_event_register_any", "net"),
    "storage_pool": ("connect_storage_pool_event_register_any", "pool"),
    "node_device": ("connect_node_device_event_register_any", "dev"),
    "secret": ("connect_secret_event_register_any", "secret"),
}
DEREGISTER = {
    "domain": "connect_domain_event_callback_deregister_any",
    **{family: f"connect_{family}_event_deregister_any" for family in REGISTER if family != "domain"},
}
TOLD = [event for event in all_events() if event.number]
BY_ID = [event for event in TOLD if event.family in REGISTER and event.event_id is not None]
OLDER = [event for event in BY_ID if event.family == "domain" and (event.event_id or 0) <= LEGACY_EVENT_ID_MAX]


@pytest.fixture
async def house() -> AsyncIterator[House]:
    async with made_house() as house:
        yield house


async def register(client: RpcClient) -> dict[str, int]:
    """Registers for everything; the callback id of each event."""
    ids = {}
    for event in BY_ID:
        call, argument = REGISTER[event.family]
        ids[event.name] = (await client.call(call, eventID=event.event_id, **{argument: None})).callbackID
    monitor = await client.call("qemu_connect_domain_monitor_event_register", dom=None, event=None, flags=0)
    ids["qemu_domain_monitor_event"] = monitor.callbackID
    await client.call("connect_register_close_callback")
    return ids


async def register_older(client: RpcClient) -> None:
    await client.call("connect_domain_event_register")
    for event in OLDER:
        if event.event_id:
            await client.call("connect_domain_event_register_any", eventID=event.event_id)


def data_of(event: Event) -> dict[str, Any]:
    return event_data(event.name, {item.name: plain_value(item) for item in event.fields})


def begin_anew(house: House) -> None:
    """The driver dies, and its next incarnation is ready."""
    peer = house.peer
    peer.say_state("restarting")
    previous = [peer.epoch, peer.seq]
    peer.epoch += 1
    peer.emit("epoch", None, {"previous": previous})
    peer.alive()


async def check_told(house: House, client: RpcClient, older: RpcClient, ids: dict[str, int]) -> None:
    """Each event reaches both clients once, in the form that each asked for."""
    for event in TOLD:
        house.peer.emit(event.name, "a", data_of(event))
        if event.name in ids or event.name == "connect_event_connection_closed":
            packet = await client.event()
            assert (packet.program, packet.procedure) == (PROGRAMS[event.program], event.number), event.name
            payload = packet.payload
            if event.has_callback:
                assert callback_id(packet) == ids[event.name], event.name
                payload = payload[4:]
            told = event_codec(event).decode(payload)
            assert event_codec(event).encode(told) == payload
        if event in OLDER:
            packet = await older.event()
            assert (packet.program, packet.procedure) == (PROGRAMS[event.program], event.legacy_number), event.name
            legacy_event_codec(event).decode(packet.payload)
    # whatever was told twice would stand before these answers
    for one in (client, older):
        await one.call("connect_get_uri")
        assert one.others == []


def test_nothing_is_left_out() -> None:
    assert {event.event_id for event in BY_ID if event.family == "domain"} == set(range(27))
    assert {event.event_id for event in OLDER} == set(range(LEGACY_EVENT_ID_MAX + 1))
    rest = {event.name for event in TOLD} - {event.name for event in BY_ID}
    assert {"qemu_domain_monitor_event", "connect_event_connection_closed"} <= rest


async def test_every_registration_outlives_the_driver(house: House) -> None:
    async with await house.opened() as client, await house.opened() as older:
        ids = await register(client)
        await register_older(older)
        assert len(set(ids.values())) == len(ids) == len(BY_ID) + 1
        await check_told(house, client, older, ids)
        for _ in range(3):
            begin_anew(house)
            await check_told(house, client, older, ids)
        for event in BY_ID:
            await client.call(DEREGISTER[event.family], callbackID=ids[event.name])
        await client.call("connect_unregister_close_callback")
        for event in TOLD:
            house.peer.emit(event.name, "a", data_of(event))
        monitor = await client.event()
        assert callback_id(monitor) == ids["qemu_domain_monitor_event"]
        await client.call("connect_get_uri")
        assert client.others == [], "nothing else is told any more"


async def test_what_happens_while_the_driver_is_away_is_told_when_it_is_back(house: House) -> None:
    """Its journal has the events; they come late, and once."""
    async with await house.opened() as client:
        ids = await register(client)
        house.peer.say_state("restarting")
        house.peer.publishing = False
        for event in BY_ID:
            house.peer.emit(event.name, "a", data_of(event))
        house.peer.publishing = True
        house.peer.epoch += 1
        house.peer.emit("epoch", None, {"previous": [1, house.peer.seq]})
        told = [callback_id(await client.event()) for _ in BY_ID]
        assert told == [ids[event.name] for event in BY_ID]
        await client.call("connect_get_uri")
        assert client.others == []
