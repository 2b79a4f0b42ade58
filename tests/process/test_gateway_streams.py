"""Streams between a libvirt client and a driver's ticket."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import AsyncIterator
from typing import Any

import pytest

from broker.wire import STREAM_PAYLOAD_MAX, StreamKind, pack_frame, pack_value, unpack_frame_header
from rpc.packet import Packet, PacketType, Program, Status
from rpc.xdr import hole_codec
from schema.errors import DomainStateError, to_wire
from schema.objects import StorageVolRef
from schema.table import need_procedure
from tests.fakes.rpc_client import RpcClient
from tests.fakes.scripted_peer import Answer
from tests.process.gateway_in_loop import House, made_house


@pytest.fixture
async def house() -> AsyncIterator[House]:
    async with made_house() as house:
        yield house


class Tickets:
    """The driver's side of streams."""

    def __init__(self, house: House) -> None:
        self.path = house.folder / "ticket"
        self.writers = house.writers
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(str(self.path))
        self.listener.listen(8)
        self.listener.setblocking(False)

    def answer(self, values: Any = None) -> Answer:
        return Answer(values, {"path": str(self.path), "token": b"t" * 32})

    async def accept(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        sock, _ = await asyncio.wait_for(asyncio.get_running_loop().sock_accept(self.listener), 5)
        reader, writer = await asyncio.open_unix_connection(sock=sock)
        self.writers.append(writer)
        assert await asyncio.wait_for(reader.readexactly(32), 5) == b"t" * 32
        return reader, writer

    @staticmethod
    async def frame(reader: asyncio.StreamReader) -> tuple[StreamKind, bytes]:
        async with asyncio.timeout(5):
            kind, length = unpack_frame_header(await reader.readexactly(5))
            return kind, await reader.readexactly(length)

    def close(self) -> None:
        self.listener.close()


@pytest.fixture
def tickets(house: House) -> Any:
    made = Tickets(house)
    yield made
    made.close()


async def open_console(house: House, client: RpcClient, tickets: Tickets) -> int:
    house.peer.answers["domain_open_console"] = lambda args: tickets.answer()
    serial = client.send_call("domain_open_console", dom=house.peer.ref("a"), dev_name=None, flags=0)
    assert (await client.reply(serial)).status == Status.OK
    return serial


async def test_console_goes_both_ways_until_the_client_ends_it(house: House, tickets: Tickets) -> None:
    async with await house.opened() as client:
        serial = await open_console(house, client, tickets)
        reader, writer = await tickets.accept()
        writer.write(pack_frame(StreamKind.DATA, b"login: "))
        packet = await client.packet()
        assert (packet.type, packet.status, packet.serial, packet.payload) == (3, 2, serial, b"login: ")
        client.send_stream("domain_open_console", serial, Status.CONTINUE, b"root\r")
        assert await tickets.frame(reader) == (StreamKind.DATA, b"root\r")
        client.send_stream("domain_open_console", serial, Status.OK)
        assert (await tickets.frame(reader))[0] is StreamKind.END
        packet = await client.packet()
        assert (packet.type, packet.status, packet.payload) == (3, 0, b"")
        writer.close()


async def test_console_whose_guest_ended_tells_the_end(house: House, tickets: Tickets) -> None:
    async with await house.opened() as client:
        serial = await open_console(house, client, tickets)
        _, writer = await tickets.accept()
        writer.write(pack_frame(StreamKind.END))
        packet = await client.packet()
        assert (packet.status, packet.payload) == (Status.CONTINUE, b"")
        client.send_stream("domain_open_console", serial, Status.OK)
        assert (await client.packet()).status == Status.OK
        writer.close()


async def test_console_goes_on_when_its_driver_died(house: House, tickets: Tickets) -> None:
    async with await house.opened() as client:
        serial = await open_console(house, client, tickets)
        _, writer = await tickets.accept()
        writer.write(pack_frame(StreamKind.DATA, b"one"))
        assert (await client.packet()).payload == b"one"
        writer.close()  # an end of file without END: the process is gone
        reader, writer = await tickets.accept()
        writer.write(pack_frame(StreamKind.DATA, b"two"))
        assert (await client.packet()).payload == b"two"
        client.send_stream("domain_open_console", serial, Status.CONTINUE, b"x")
        assert await tickets.frame(reader) == (StreamKind.DATA, b"x")
        assert house.names_asked().count("domain_open_console") == 2
        writer.close()


async def test_console_ends_with_the_error_when_it_cannot_be_opened_again(house: House, tickets: Tickets) -> None:
    async with await house.opened() as client:
        serial = await open_console(house, client, tickets)
        _, writer = await tickets.accept()

        def refuse(args: Any) -> None:
            raise DomainStateError("domain is not running")

        house.peer.answers["domain_open_console"] = refuse
        writer.close()
        packet = await client.packet()
        assert (packet.type, packet.status, packet.serial) == (PacketType.STREAM, Status.ERROR, serial)
        client.send_stream("domain_open_console", serial, Status.CONTINUE, b"late")
        client.send_stream("domain_open_console", serial, Status.OK)
        assert (await client.call("connect_get_uri")).uri  # what comes late is dropped without a word


async def test_abort_is_confirmed_and_the_driver_sees_it(house: House, tickets: Tickets) -> None:
    async with await house.opened() as client:
        serial = await open_console(house, client, tickets)
        reader, writer = await tickets.accept()
        client.send_stream("domain_open_console", serial, Status.ERROR)
        packet = await client.packet()
        assert (packet.type, packet.status) == (PacketType.STREAM, Status.OK)
        assert await asyncio.wait_for(reader.read(), 5) == b""
        writer.close()


async def test_screenshot_carries_its_type_and_then_its_bytes(house: House, tickets: Tickets) -> None:
    house.peer.answers["domain_screenshot"] = lambda args: tickets.answer("image/png")
    image = os.urandom(700_000)
    async with await house.opened() as client:
        serial = client.send_call("domain_screenshot", dom=house.peer.ref("a"), screen=0, flags=0)
        assert client.result("domain_screenshot", await client.reply(serial)).mime == "image/png"
        _, writer = await tickets.accept()
        for start in range(0, len(image), STREAM_PAYLOAD_MAX):
            writer.write(pack_frame(StreamKind.DATA, image[start : start + STREAM_PAYLOAD_MAX]))
        writer.write(pack_frame(StreamKind.END))
        got = b""
        while (packet := await client.packet()).payload:
            assert len(packet.payload) <= 262120
            got += packet.payload
        assert got == image
        client.send_stream("domain_screenshot", serial, Status.OK)
        assert (await client.packet()).status == Status.OK
        writer.close()


async def test_upload_is_confirmed_only_when_the_driver_has_it_all(house: House, tickets: Tickets) -> None:
    house.peer.answers["storage_vol_upload"] = lambda args: tickets.answer()
    async with await house.opened() as client:
        serial = client.send_call("storage_vol_upload", vol=StorageVolRef("p", "v", "k"), offset=0, length=0, flags=0)
        await client.reply(serial)
        reader, writer = await tickets.accept()
        client.send_stream("storage_vol_upload", serial, Status.CONTINUE, b"data")
        client.send_stream("storage_vol_upload", serial, Status.OK)
        assert await tickets.frame(reader) == (StreamKind.DATA, b"data")
        assert (await tickets.frame(reader))[0] is StreamKind.END
        with pytest.raises(TimeoutError):
            await client.packet(0.1)
        writer.write(pack_frame(StreamKind.END))
        assert (await client.packet()).status == Status.OK
        writer.close()


async def test_sink_that_takes_nothing_holds_up_its_client_in_bounds(
    house: House, tickets: Tickets, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.streams.STUCK_AFTER_S", 0.5)
    async with await house.opened() as client:
        serial = await open_console(house, client, tickets)
        _, writer = await tickets.accept()
        for _ in range(64):
            client.send_stream("domain_open_console", serial, Status.CONTINUE, bytes(262120))
        (connection,) = house.gateway.connections
        packet = await client.packet()
        assert (packet.type, packet.status) == (PacketType.STREAM, Status.ERROR)
        assert connection.link.buffered < 1 << 20
        assert (await client.call("connect_get_uri")).uri
        writer.close()


async def test_stream_ends_with_its_client(house: House, tickets: Tickets) -> None:
    client = await house.opened()
    await open_console(house, client, tickets)
    reader, writer = await tickets.accept()
    client.writer.close()
    assert await asyncio.wait_for(reader.read(), 5) == b""
    writer.close()


# --- holes ---

SPARSE = 1
VOL = StorageVolRef("pool", "vol", "/pool/vol")


async def open_volume(house: House, client: RpcClient, tickets: Tickets, call: str, flags: int = SPARSE) -> int:
    house.peer.answers[call] = lambda args: tickets.answer()
    serial = client.send_call(call, vol=VOL, offset=0, length=0, flags=flags)
    assert (await client.reply(serial)).status == Status.OK
    return serial


def send_hole(client: RpcClient, call: str, serial: int, length: int, flags: int = 0) -> None:
    payload = hole_codec().encode({"length": length, "flags": flags})
    number = need_procedure(call).number
    client.send(Packet(Program.REMOTE, 1, number, PacketType.STREAM_HOLE, serial, Status.CONTINUE, payload))


async def test_holes_of_an_upload_reach_the_driver_as_holes(house: House, tickets: Tickets) -> None:
    async with await house.opened() as client:
        serial = await open_volume(house, client, tickets, "storage_vol_upload")
        reader, writer = await tickets.accept()
        client.send_stream("storage_vol_upload", serial, Status.CONTINUE, b"head")
        send_hole(client, "storage_vol_upload", serial, 1 << 40)
        client.send_stream("storage_vol_upload", serial, Status.CONTINUE, b"tail")
        client.send_stream("storage_vol_upload", serial, Status.OK)
        assert await tickets.frame(reader) == (StreamKind.DATA, b"head")
        assert await tickets.frame(reader) == (StreamKind.HOLE, (1 << 40).to_bytes(8, "big"))
        assert await tickets.frame(reader) == (StreamKind.DATA, b"tail")
        assert (await tickets.frame(reader))[0] is StreamKind.END
        writer.write(pack_frame(StreamKind.END))
        packet = await client.packet()
        assert (packet.type, packet.status) == (PacketType.STREAM, Status.OK)
        writer.close()


async def test_holes_of_a_download_reach_the_client_as_holes(house: House, tickets: Tickets) -> None:
    async with await house.opened() as client:
        serial = await open_volume(house, client, tickets, "storage_vol_download")
        _, writer = await tickets.accept()
        writer.write(pack_frame(StreamKind.DATA, b"head"))
        writer.write(pack_frame(StreamKind.HOLE, (1 << 40).to_bytes(8, "big")) + pack_frame(StreamKind.END))
        told = [await client.packet() for _ in range(3)]
        assert [packet.type for packet in told] == [PacketType.STREAM, PacketType.STREAM_HOLE, PacketType.STREAM]
        assert told[1].status == Status.CONTINUE
        assert hole_codec().decode(told[1].payload) == {"length": 1 << 40, "flags": 0}
        assert (told[2].status, told[2].payload) == (Status.CONTINUE, b"")
        client.send_stream("storage_vol_download", serial, Status.OK)
        assert (await client.packet()).status == Status.OK
        writer.close()


async def test_a_client_that_takes_no_holes_gets_zeros(house: House, tickets: Tickets) -> None:
    async with await house.opened() as client:
        await open_volume(house, client, tickets, "storage_vol_download", flags=0)
        _, writer = await tickets.accept()
        writer.write(pack_frame(StreamKind.HOLE, (300_000).to_bytes(8, "big")) + pack_frame(StreamKind.END))
        data = b""
        while (packet := await client.packet()).payload:
            assert packet.type == PacketType.STREAM
            data += packet.payload
        assert data == bytes(300_000)
        writer.close()


@pytest.mark.parametrize(("sparse", "length", "flags"), [(0, 1, 0), (SPARSE, -1, 0), (SPARSE, 1, 1)])
async def test_a_hole_that_cannot_be_ends_the_connection(
    house: House, tickets: Tickets, sparse: int, length: int, flags: int
) -> None:
    async with await house.opened() as client, await house.opened() as other:
        serial = await open_volume(house, client, tickets, "storage_vol_upload", sparse)
        await tickets.accept()
        send_hole(client, "storage_vol_upload", serial, length, flags)
        assert await client.is_closed()
        assert (await other.call("connect_get_uri")).uri


async def test_holes_behind_a_failure_are_dropped(house: House, tickets: Tickets) -> None:
    async with await house.opened() as client:
        serial = await open_volume(house, client, tickets, "storage_vol_upload")
        _, writer = await tickets.accept()
        writer.write(pack_frame(StreamKind.ERROR, pack_value(to_wire(DomainStateError("no room")))))
        packet = await client.packet()
        assert packet.status == Status.ERROR
        send_hole(client, "storage_vol_upload", serial, 4096)
        client.send_stream("storage_vol_upload", serial, Status.OK)
        assert (await client.call("connect_get_uri")).uri
        writer.close()


async def test_many_holes_do_not_pile_up(house: House, tickets: Tickets) -> None:
    async with await house.opened() as client:
        serial = await open_volume(house, client, tickets, "storage_vol_upload")
        reader, writer = await tickets.accept()
        for _ in range(40_000):
            send_hole(client, "storage_vol_upload", serial, 4096)
        client.send_stream("storage_vol_upload", serial, Status.OK)
        (connection,) = house.gateway.connections
        await house.until(lambda: connection.link.is_paused)
        holes = 0
        while (frame := await tickets.frame(reader))[0] is StreamKind.HOLE:
            holes += 1
        assert (holes, frame[0]) == (40_000, StreamKind.END)
        writer.write(pack_frame(StreamKind.END))
        assert (await client.packet()).status == Status.OK
        writer.close()
