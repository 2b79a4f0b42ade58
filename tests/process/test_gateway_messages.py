"""Every message that libvirt's clients were seen to send, whole and broken: each is answered, none does harm."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from typing import Any

import pytest

from rpc.packet import Packet, PacketReader, PacketType, Program, pack_packet
from tests.fakes.rpc_client import RpcClient
from tests.process.gateway_in_loop import House, made_house
from tests.shared import shared_json

SEED = 20
ENDS = {"CONNECT_CLOSE", "CONNECT_OPEN"}


@pytest.fixture
async def house() -> AsyncIterator[House]:
    async with made_house() as house:
        yield house


def recorded_calls() -> list[tuple[str, Packet]]:
    """The recorded calls of the programs that are served."""
    calls = []
    vectors: list[dict[str, Any]] = shared_json("libvirt-rpc", "vectors.json")["vectors"]
    for vector in vectors:
        program, _, name = vector["proc"].partition(".")
        if vector["type"] == "call" and program in ("remote", "qemu", "lxc") and name not in ENDS:
            reader = PacketReader()
            reader.feed(bytes.fromhex(vector["hex"]))
            packet = reader.next_packet()
            assert packet is not None
            calls.append((vector["proc"], packet))
    return calls


CALLS = recorded_calls()


async def test_every_recorded_call_is_answered(house: House) -> None:
    assert len(CALLS) > 350
    async with await house.opened() as client:
        for name, packet in CALLS:
            serial = client.serial
            client.serial += 1
            client.send(packet._replace(serial=serial))
            reply = await client.reply(serial)
            assert (reply.program, reply.procedure) == (packet.program, packet.procedure), name


async def test_every_recorded_call_is_answered_before_the_connection_is_open(house: House) -> None:
    async with await house.client() as client:
        for _, packet in CALLS:
            serial = client.serial
            client.serial += 1
            client.send(packet._replace(serial=serial))
            await client.reply(serial)


async def test_broken_calls_are_answered_or_end_their_connection_only(house: House) -> None:
    chance = random.Random(SEED)
    async with await house.opened() as steady:
        client = await house.opened()
        for _, packet in CALLS * 2:
            payload = bytearray(packet.payload)
            for _ in range(chance.randint(1, 4)):
                if payload:
                    payload[chance.randrange(len(payload))] = chance.randrange(256)
            cut = chance.randrange(len(payload) + 1) if chance.random() < 0.3 else len(payload)
            broken = packet._replace(serial=client.serial, payload=bytes(payload[:cut]))
            client.serial += 1
            client.send(broken)
            try:
                await client.reply(broken.serial)
            except ConnectionResetError:
                client = await house.opened()
        assert (await steady.call("connect_get_uri")).uri == "test:///default"


async def test_noise_ends_its_connection_only(house: House) -> None:
    chance = random.Random(SEED)
    async with await house.opened() as steady:
        for _ in range(60):
            client = await house.opened()
            data = bytearray(pack_packet(chance.choice(CALLS)[1]._replace(serial=client.serial)))
            for _ in range(chance.randint(1, 6)):
                data[chance.randrange(28)] = chance.randrange(256)
            client.writer.write(bytes(data) + chance.randbytes(40))
            client.writer.write_eof()
            assert await client.is_closed()
        assert (await steady.call("connect_get_uri")).uri == "test:///default"


async def test_stream_messages_without_a_stream_are_dropped(house: House) -> None:
    async with await house.opened() as client:
        for status in (0, 1, 2):
            client.send(Packet(Program.REMOTE, 1, 201, PacketType.STREAM, 99, status, b"x"))
        assert (await client.call("connect_get_uri")).uri == "test:///default"


async def test_hole_in_a_stream_that_has_none_ends_the_connection(house: House) -> None:
    client: RpcClient = await house.opened()
    client.send(Packet(Program.REMOTE, 1, 201, PacketType.STREAM_HOLE, 99, 2, bytes(12)))
    assert await client.is_closed()
