"""Clients that send slowly, too much, or the same again: they are answered or disconnected, and nobody else notices."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import AsyncIterator
from typing import Any

import pytest

from rpc.packet import LENGTH_MAX, Packet, PacketType, Program, Status, pack_packet
from rpc.xdr import args_codec
from schema.body import args_struct
from schema.table import need_procedure
from tests.fakes.rpc_client import RpcClient
from tests.process.gateway_in_loop import House, made_house
from tests.unit.gateway.records import uuid_of

LONG = 24 << 20
SERIAL = 7


@pytest.fixture
async def house() -> AsyncIterator[House]:
    async with made_house(keepalive_interval_s=0.0) as house:
        yield house


def message(name: str, serial: int, /, **args: Any) -> bytes:
    row = need_procedure(name)
    payload = args_codec(row).encode(args_struct(row)(**args))
    return pack_packet(Packet(Program.REMOTE, 1, row.number, PacketType.CALL, serial, Status.OK, payload))


async def half_sent(house: House, size: int) -> RpcClient:
    """A client in the middle of a message of the greatest length, of which so many bytes have come."""
    client = await house.opened()
    client.writer.write(struct.pack(">I", LENGTH_MAX) + message("domain_define_xml", 1, xml="")[4:])
    client.writer.write(bytes(size))
    await client.writer.drain()
    return client


async def test_a_message_that_comes_byte_by_byte_is_answered_like_any_other(house: House) -> None:
    async with await house.opened() as quick:
        slow = await house.opened()
        for byte in message("domain_lookup_by_name", SERIAL, name="a"):
            slow.writer.write(bytes([byte]))
            await slow.writer.drain()
            assert (await quick.call("domain_lookup_by_uuid", uuid=uuid_of("a"))).dom.name == "a"
        packet = await slow.packet(30.0)
        assert (packet.serial, packet.status) == (SERIAL, Status.OK)


async def test_a_message_without_end_costs_what_came_of_it_and_goes_with_its_client(house: House) -> None:
    async with await house.opened() as quick:
        client = await half_sent(house, 1 << 20)
        (held,) = [one for one in house.gateway.connections if one.held > 1 << 19]
        await house.until(lambda: held.held > 1 << 20, 30.0)
        assert held.held < 3 << 20
        assert (await quick.call("domain_lookup_by_name", name="a")).dom.name == "a"
        client.writer.transport.abort()
        await house.until(lambda: held not in house.gateway.connections, 30.0)


async def test_those_go_who_send_the_longest_messages_when_it_is_too_much_together(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.server.HELD_TOTAL_MAX", LONG)
    monkeypatch.setattr("gateway.server.SWEEP_S", 0.05)
    async with made_house(keepalive_interval_s=0.0) as swept, await swept.opened() as quick:
        clients = [await half_sent(swept, LONG // 4) for _ in range(6)]
        connections = swept.gateway.connections
        await swept.until(lambda: len(connections) < 7 and sum(one.held for one in connections) <= LONG, 60.0)
        assert len(connections) > 1, "some had to go, not all"
        assert (await quick.call("domain_lookup_by_name", name="a")).dom.name == "a"
        for client in clients:
            client.writer.transport.abort()


@pytest.mark.parametrize("length", [LENGTH_MAX + 1, 0xFFFFFFFF, 0, 27])
async def test_a_length_that_cannot_be_ends_the_connection_before_anything_else_is_read(
    house: House, length: int
) -> None:
    async with await house.opened() as quick:
        client = await house.opened()
        client.writer.write(struct.pack(">I", length) + bytes(1 << 16))
        assert await client.is_closed()
        assert (await quick.call("connect_get_uri")).uri == "test:///default"


async def test_a_call_that_comes_again_is_a_call_again(house: House) -> None:
    house.peer.answers["domain_create"] = lambda args: None
    made = message("domain_create", SERIAL, dom=house.peer.ref("b"))
    async with await house.opened() as client:
        for _ in range(3):
            client.writer.write(made)
            assert (await client.packet(30.0)).serial == SERIAL
        # the same again while the first is under way: the serial is the client's own affair, each gets its answer
        gate = asyncio.Event()

        async def wait(args: Any) -> None:
            await gate.wait()

        house.peer.answers["domain_create"] = wait
        client.writer.write(made * 3)
        await house.until(lambda: house.names_asked().count("domain_create") == 6, 30.0)
        gate.set()
        assert [(await client.packet(30.0)).serial for _ in range(3)] == [SERIAL] * 3
        assert (await client.call("connect_get_uri")).uri == "test:///default"


async def test_what_another_connection_said_opens_nothing_here(house: House) -> None:
    """A session that was recorded proves nothing: replayed before the connection is open it is refused."""
    async with await house.opened() as victim:
        told = message("domain_create", SERIAL, dom=house.peer.ref("b"))
        async with await house.client() as thief:
            thief.writer.write(told)
            assert (await thief.packet(30.0)).status == Status.ERROR
            before = house.names_asked().count("domain_create")
            thief.writer.write(message("connect_close", 8))
            await thief.packet(30.0)
        assert before == house.names_asked().count("domain_create") == 0
        assert (await victim.call("connect_get_uri")).uri == "test:///default"
