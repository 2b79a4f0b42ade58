"""Events, as libvirt's clients register for them and are told."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from rpc.xdr import event_codec
from schema.objects import DomainRef
from schema.table import need_event
from tests.fakes.rpc_client import CallFailed, callback_id
from tests.process.gateway_in_loop import House, made_house
from tests.unit.gateway.records import uuid_of


@pytest.fixture
async def house() -> AsyncIterator[House]:
    async with made_house() as house:
        yield house


async def test_registered_client_is_told_in_order_and_others_are_not(house: House) -> None:
    async with await house.opened() as client, await house.opened() as other:
        every = await client.call("connect_domain_event_callback_register_any", eventID=0, dom=None)
        only_b = await client.call(
            "connect_domain_event_callback_register_any", eventID=0, dom=DomainRef("b", uuid_of("b"), -1)
        )
        house.peer.change("a", (3, 0), state=3)
        house.peer.change("b", (2, 0), id=7, state=1)
        told = [await client.event() for _ in range(3)]
        assert sorted(callback_id(packet) for packet in told[1:]) == [every.callbackID, only_b.callbackID]
        assert callback_id(told[0]) == every.callbackID
        values = event_codec(need_event("domain_event_lifecycle")).decode(told[1].payload[4:])
        assert (values["dom"].name, values["dom"].id, values["event"]) == ("b", 7, 2)
        with pytest.raises(TimeoutError):
            await other.packet(0.05)
        await client.call("connect_domain_event_callback_deregister_any", callbackID=every.callbackID)
        house.peer.change("a", (4, 0), state=1)
        with pytest.raises(TimeoutError):
            await client.packet(0.05)


async def test_what_happened_before_the_registration_is_not_told(house: House) -> None:
    async with await house.opened() as client:

        def suspend(args: Any) -> None:
            house.peer.publishing = False
            house.peer.change("a", (3, 0), state=3)

        house.peer.answers["domain_suspend"] = suspend
        await client.call("domain_suspend", dom=house.peer.ref("a"))
        await client.call("connect_domain_event_callback_register_any", eventID=0, dom=None)
        house.peer.release()
        with pytest.raises(TimeoutError):
            await client.packet(0.05)
        house.peer.change("a", (4, 0), state=1)
        assert (
            event_codec(need_event("domain_event_lifecycle")).decode((await client.event()).payload[4:])["event"] == 4
        )


async def test_every_event_id_may_be_registered_and_no_other(house: House) -> None:
    async with await house.opened() as client:
        for event_id in range(27):
            await client.call("connect_domain_event_callback_register_any", eventID=event_id, dom=None)
        for event_id in (-1, 27):
            with pytest.raises(CallFailed, match=f"event ID {event_id}") as caught:
                await client.call("connect_domain_event_callback_register_any", eventID=event_id, dom=None)
            assert caught.value.record.code == 1
        await client.call("connect_network_event_register_any", eventID=0, net=None)
        await client.call("connect_storage_pool_event_register_any", eventID=1, pool=None)
        await client.call("connect_node_device_event_register_any", eventID=0, dev=None)
        await client.call("connect_secret_event_register_any", eventID=0, secret=None)
        await client.call("qemu_connect_domain_monitor_event_register", dom=None, event=None, flags=0)


async def test_older_registrations(house: House) -> None:
    async with await house.opened() as client:
        assert (await client.call("connect_domain_event_register")).cb_registered == 0
        with pytest.raises(CallFailed, match="event callback already tracked"):
            await client.call("connect_domain_event_register_any", eventID=0)
        house.peer.change("a", (3, 0), state=3)
        assert (await client.event()).procedure == 107
        await client.call("connect_domain_event_deregister")
        with pytest.raises(CallFailed, match="event ID 16"):
            await client.call("connect_domain_event_register_any", eventID=16)


async def test_client_that_does_not_take_its_events_is_disconnected_and_memory_stays_bounded(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.connection.OUT_MAX", 100_000)
    client = await house.opened()
    await client.call("connect_domain_event_callback_register_any", eventID=23, dom=None)
    client.writer.transport.pause_reading()  # type: ignore[attr-defined]
    ref = ["a", uuid_of("a"), 1]
    for _ in range(200):
        house.peer.emit("domain_event_metadata_change", "a", {"dom": ref, "type": 0, "nsuri": "x" * 5000})
    await house.until(lambda: not house.gateway.connections)
    async with await house.opened() as other:
        assert (await other.call("connect_get_uri")).uri
    client.writer.close()


async def test_driver_that_loses_its_own_connection_says_so_to_those_who_asked(house: House) -> None:
    async with await house.opened() as client, await house.opened() as other:
        await client.call("connect_register_close_callback")
        house.peer.emit("connect_event_connection_closed", None, {"reason": 1})
        packet = await client.event()
        assert (packet.procedure, packet.payload) == (362, b"\0\0\0\1")
        with pytest.raises(TimeoutError):
            await other.packet(0.05)
