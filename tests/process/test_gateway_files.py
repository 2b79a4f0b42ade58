"""Open files beside a call: from a client to the driver, from the driver's side to the client, and nowhere else."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from broker.stream import open_ticket
from rpc.packet import Packet, PacketReader, PacketType, Program, Status, pack_packet
from rpc.xdr import args_codec, error_codec, result_codec
from schema.body import args_struct
from schema.errors import OperationFailed
from schema.table import need_procedure
from tests.process.gateway_in_loop import House, descriptors, made_house

LIMIT_S = 10.0


class FileClient:
    """A client that sends and gets descriptors as libvirt's does: each with a byte of its own behind the message."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.reader = PacketReader()
        self.serial = 0
        self.fds: list[int] = []

    def packed(self, name: str, fds: int, /, **args: Any) -> bytes:
        row = need_procedure(name)
        payload = args_codec(row).encode(args_struct(row)(**args))
        type_ = PacketType.CALL_WITH_FDS if fds else PacketType.CALL
        program = Program[row.program.upper()]
        made = pack_packet(Packet(program, 1, row.number, type_, self.serial, Status.OK, payload, fds))
        self.serial += 1
        return made

    async def send_fd(self, fd: int) -> None:
        while True:
            try:
                socket.send_fds(self.sock, [b"\0"], [fd])
                return
            except BlockingIOError:
                await asyncio.sleep(0.001)

    async def packet(self) -> Packet:
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(LIMIT_S):
            while (packet := self.reader.next_packet()) is None:
                ready = loop.create_future()
                loop.add_reader(self.sock, ready.set_result, None)
                try:
                    await ready
                finally:
                    loop.remove_reader(self.sock)
                data, fds, _, _ = socket.recv_fds(self.sock, 65536, 32)
                self.fds += fds
                if not data:
                    raise ConnectionResetError
                self.reader.feed(data)
        return packet

    async def call(self, name: str, /, *fds: int, **args: Any) -> Packet:
        await asyncio.get_running_loop().sock_sendall(self.sock, self.packed(name, len(fds), **args))
        for fd in fds:
            await self.send_fd(fd)
        return await self.packet()

    async def error(self, name: str, /, *fds: int, **args: Any) -> str:
        packet = await self.call(name, *fds, **args)
        assert packet.status == Status.ERROR
        return str(error_codec().decode(packet.payload).message)


@asynccontextmanager
async def connected(house: House, socket_name: str = "rw") -> AsyncIterator[FileClient]:
    sock = socket.socket(socket.AF_UNIX)
    sock.setblocking(False)
    await asyncio.get_running_loop().sock_connect(sock, str(house.folder / socket_name))
    client = FileClient(sock)
    try:
        await client.call("connect_open", name="test:///default", flags=0)
        yield client
    finally:
        sock.close()


@pytest.fixture
async def house() -> AsyncIterator[House]:
    async with made_house() as house:
        yield house


def reads_files(house: House, found: list[bytes]) -> Callable[[Any], Any]:
    """A driver's handler that reads the files of its call."""

    async def answer(args: Any) -> Any:
        ticket = house.peer.asked[-1].files
        assert ticket is not None
        async with await open_ticket(ticket) as stream:
            for _ in range(ticket["count"]):
                fd = await stream.read_descriptor()
                found.append(os.pread(fd, 64, 0))
                os.close(fd)
        return {"dom": house.peer.ref("a")} if hasattr(args, "xml_desc") else None

    return answer


def temporary(text: bytes) -> int:
    fd = os.memfd_create("vt")
    os.write(fd, text)
    return fd


async def test_files_reach_the_driver_in_their_order(house: House) -> None:
    found: list[bytes] = []
    house.peer.answers["domain_create_xml_with_files"] = reads_files(house, found)
    mine = [temporary(b"first"), temporary(b"second"), temporary(b"third")]
    before = descriptors()
    async with connected(house) as client:
        for _ in range(3):
            packet = await client.call("domain_create_xml_with_files", *mine, xml_desc="<domain/>", flags=0)
            row = need_procedure("domain_create_xml_with_files")
            assert result_codec(row).decode(packet.payload).dom.name == "a"
    assert found == [b"first", b"second", b"third"] * 3
    await house.until(lambda: descriptors() <= before)
    for fd in mine:
        os.close(fd)


async def test_files_may_come_later_than_their_message(house: House) -> None:
    found: list[bytes] = []
    house.peer.answers["domain_fd_associate"] = reads_files(house, found)
    mine = [temporary(b"one"), temporary(b"two")]
    async with connected(house) as client:
        loop = asyncio.get_running_loop()
        ref = house.peer.ref("a")
        data = client.packed("domain_fd_associate", 2, dom=ref, name="g", flags=0)
        for start in range(0, len(data), 7):
            await loop.sock_sendall(client.sock, data[start : start + 7])
        await client.send_fd(mine[0])
        await asyncio.sleep(0.02)
        assert "domain_fd_associate" not in house.names_asked()
        await client.send_fd(mine[1])
        assert (await client.packet()).status == Status.OK
    assert found == [b"one", b"two"]
    for fd in mine:
        os.close(fd)


async def test_another_call_takes_none_and_they_do_not_pile_up(house: House) -> None:
    mine = temporary(b"x")
    async with connected(house) as client:
        before = descriptors()
        for _ in range(5):
            text = await client.error("domain_get_info", mine, dom=house.peer.ref("a"))
            assert "file descriptors cannot be passed to virDomainGetInfo" in text
        assert (await client.call("connect_get_uri")).status == Status.OK
        assert descriptors() == before
    os.close(mine)


async def test_bytes_without_descriptors_are_refused(house: House) -> None:
    async with connected(house) as client:
        loop = asyncio.get_running_loop()
        data = client.packed("domain_fd_associate", 1, dom=house.peer.ref("a"), name="g", flags=0)
        await loop.sock_sendall(client.sock, data + b"\0")
        packet = await client.packet()
        assert "cannot be passed" in error_codec().decode(packet.payload).message
        assert "domain_fd_associate" not in house.names_asked()


async def test_files_are_let_go_when_the_driver_refuses_or_the_client_leaves(house: House) -> None:
    def refuse(args: Any) -> None:
        raise OperationFailed("not today")

    house.peer.answers["domain_fd_associate"] = refuse
    mine = temporary(b"x")
    ref = house.peer.ref("a")
    before = descriptors()
    async with connected(house) as client:
        assert "not today" in await client.error("domain_fd_associate", mine, dom=ref, name="g", flags=0)
        gate = asyncio.Event()

        async def wait(args: Any) -> None:
            await gate.wait()

        house.peer.answers["domain_fd_associate"] = wait
        loop = asyncio.get_running_loop()
        await loop.sock_sendall(client.sock, client.packed("domain_fd_associate", 1, dom=ref, name="g", flags=0))
        await client.send_fd(mine)
        await house.until(lambda: house.names_asked().count("domain_fd_associate") == 2)
    gate.set()
    await house.until(lambda: descriptors() <= before)
    os.close(mine)


async def test_a_reader_may_not_lend_files(house: House) -> None:
    mine = temporary(b"x")
    async with connected(house, "ro") as client:
        before = descriptors()
        text = await client.error("domain_fd_associate", mine, dom=house.peer.ref("a"), name="g", flags=0)
        assert "read only" in text
        assert descriptors() == before
    os.close(mine)


async def test_a_driver_may_fetch_them_again(house: House) -> None:
    found: list[bytes] = []
    read = reads_files(house, found)

    async def twice(args: Any) -> None:
        await read(args)
        await read(args)

    house.peer.answers["domain_fd_associate"] = twice
    mine = temporary(b"again")
    async with connected(house) as client:
        packet = await client.call("domain_fd_associate", mine, dom=house.peer.ref("a"), name="g", flags=0)
        assert packet.status == Status.OK
    assert found == [b"again"] * 2
    os.close(mine)


async def test_who_does_not_know_the_token_gets_nothing(house: House) -> None:
    async def guess(args: Any) -> None:
        ticket = house.peer.asked[-1].files
        assert ticket is not None
        async with await open_ticket({**ticket, "token": bytes(32)}) as stream:
            with pytest.raises(ConnectionResetError):
                await stream.read_descriptor()

    house.peer.answers["domain_fd_associate"] = guess
    mine = temporary(b"secret")
    async with connected(house) as client:
        packet = await client.call("domain_fd_associate", mine, dom=house.peer.ref("a"), name="g", flags=0)
        assert packet.status == Status.OK
    os.close(mine)


async def test_a_client_gets_one_end_and_the_driver_the_other(house: House) -> None:
    async def serve(args: Any) -> None:
        ticket = house.peer.asked[-1].files
        assert ticket is not None
        async with await open_ticket(ticket) as stream:
            with socket.socket(fileno=await stream.read_descriptor()) as sock:
                sock.sendall(b"RFB 003.008\n")

    house.peer.answers["domain_open_graphics_fd"] = serve
    before = descriptors()
    async with connected(house) as client:
        for _ in range(3):
            packet = await client.call("domain_open_graphics_fd", dom=house.peer.ref("a"), idx=0, flags=0)
            assert (packet.type, packet.fds) == (PacketType.REPLY_WITH_FDS, 1)
            with socket.socket(fileno=client.fds.pop()) as sock:
                sock.setblocking(True)
                sock.settimeout(LIMIT_S)
                assert sock.recv(64) == b"RFB 003.008\n"
                assert sock.recv(64) == b""

        def refuse(args: Any) -> None:
            raise OperationFailed("there is no display")

        house.peer.answers["domain_open_graphics_fd"] = refuse
        assert "no display" in await client.error("domain_open_graphics_fd", dom=house.peer.ref("a"), idx=0, flags=0)
    await house.until(lambda: descriptors() <= before)
