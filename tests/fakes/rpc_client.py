"""A libvirt client in a test's own loop: sends any message, reads what comes, knows nothing else."""

from __future__ import annotations

import asyncio
import struct
from pathlib import Path
from typing import Any, Self

from rpc.packet import PING_BYTES, Packet, PacketReader, PacketType, Program, Status, pack_packet
from rpc.xdr import args_codec, error_codec, result_codec
from schema.body import args_struct
from schema.table import need_procedure

LIMIT_S = 5.0


class CallFailed(Exception):
    """The server answered with an error; `record` is it."""

    def __init__(self, record: Any) -> None:
        super().__init__(record.message)
        self.record = record


class RpcClient:
    """One connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self.packets = PacketReader()
        self.serial = 0
        self.others: list[Packet] = []

    @classmethod
    async def connect(cls, path: Path) -> Self:
        return cls(*await asyncio.open_unix_connection(str(path), limit=1 << 26))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *unused: object) -> None:
        self.writer.close()

    def send(self, packet: Packet) -> None:
        self.writer.write(pack_packet(packet))

    def send_call(self, name: str, /, **args: Any) -> int:
        """Sends a call and gives its serial."""
        row = need_procedure(name)
        payload = args_codec(row).encode(args_struct(row)(**args))
        return self.send_raw(row.number, payload, program=Program[row.program.upper()])

    def send_raw(self, number: int, payload: bytes, *, program: int = Program.REMOTE, version: int = 1) -> int:
        serial = self.serial
        self.serial += 1
        self.send(Packet(program, version, number, PacketType.CALL, serial, Status.OK, payload))
        return serial

    def send_stream(self, name: str, serial: int, status: int, data: bytes = b"") -> None:
        row = need_procedure(name)
        self.send(Packet(Program.REMOTE, 1, row.number, PacketType.STREAM, serial, status, data))

    def ping(self) -> None:
        self.writer.write(PING_BYTES)

    async def packet(self, limit_s: float = LIMIT_S) -> Packet:
        """The next message, whatever it is."""
        async with asyncio.timeout(limit_s):
            while (packet := self.packets.next_packet()) is None:
                data = await self.reader.read(1 << 16)
                if not data:
                    raise ConnectionResetError("the server closed the connection")
                self.packets.feed(data)
        return packet

    async def reply(self, serial: int) -> Packet:
        """The reply to a call; other messages are kept in `others`."""
        while True:
            packet = await self.packet()
            if packet.type == PacketType.REPLY and packet.serial == serial:
                return packet
            self.others.append(packet)

    async def call(self, name: str, /, **args: Any) -> Any:
        """A call's result. Raises CallFailed."""
        return self.result(name, await self.reply(self.send_call(name, **args)))

    @staticmethod
    def result(name: str, packet: Packet) -> Any:
        if packet.status == Status.ERROR:
            raise CallFailed(error_codec().decode(packet.payload))
        return result_codec(need_procedure(name)).decode(packet.payload)

    async def open(self, name: str | None = "test:///default", flags: int = 0) -> Self:
        await self.call("connect_open", name=name, flags=flags)
        return self

    async def event(self) -> Packet:
        """The next event."""
        for index, packet in enumerate(self.others):
            if packet.type == PacketType.MESSAGE:
                return self.others.pop(index)
        while (packet := await self.packet()).type != PacketType.MESSAGE:
            self.others.append(packet)
        return packet

    async def is_closed(self, limit_s: float = LIMIT_S) -> bool:
        """Whether the server closes the connection."""
        try:
            while True:
                await self.packet(limit_s)
        except ConnectionResetError:
            return True
        except TimeoutError:
            return False


def callback_id(packet: Packet) -> int:
    """What an event begins with."""
    number: int = struct.unpack(">i", packet.payload[:4])[0]
    return number
