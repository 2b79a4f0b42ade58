"""A daemon that misbehaves when told to: the server's side of `rpc` behind a unix socket, in the test's own loop."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from rpc.packet import EVENT_SERIAL, PONG_BYTES, PROGRAM_VERSION, PacketType, Program, Status, pack_parts
from rpc.session import CallReceived, PingReceived, ServerSession
from rpc.xdr import args_codec, error_codec, event_codec, result_codec
from schema.body import result_struct
from schema.objects import ErrorRecord
from schema.table import need_event, procedure_by_number

Answer = Callable[[Any], dict[str, Any]]


class FarDaemon:
    """What it answers, by procedure. What is in `hangs` gets no answer, anything else is not supported."""

    def __init__(self, socket: Path) -> None:
        self.socket = socket
        self.asked: list[str] = []
        self.answers_pings = True
        self.pings = 0
        self.answers: dict[str, Answer] = {
            "auth_list": lambda args: {"types": [0]},
            "connect_supports_feature": lambda args: {"supported": 1},
            "connect_open": lambda args: {},
            "connect_close": lambda args: {},
            "connect_get_hostname": lambda args: {"hostname": "far"},
        }
        self.hangs = {"domain_reboot"}
        self.writers: list[asyncio.StreamWriter] = []

    @property
    def uri(self) -> str:
        return f"test+unix:///default?socket={self.socket}"

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        session = ServerSession(pending_max=1000)
        self.writers.append(writer)
        while data := await reader.read(65536):
            session.feed(data)
            while (event := session.next_event()) is not None:
                if isinstance(event, PingReceived):
                    self.pings += 1
                    if self.answers_pings:
                        writer.write(PONG_BYTES)
                elif isinstance(event, CallReceived):
                    self.answer(session, event, writer)
        writer.close()

    def answer(self, session: ServerSession, call: CallReceived, writer: asyncio.StreamWriter) -> None:
        procedure = procedure_by_number("remote", call.procedure)
        self.asked.append(procedure.name)
        answer = self.answers.get(procedure.name)
        if answer is None and procedure.name not in self.hangs:
            error = ErrorRecord(3, 12, "not supported", 2, None, "%s", "not supported", None, -1, -1, None)
            payload = error_codec().encode(error)
            writer.write(session.error(call.program, PROGRAM_VERSION, call.procedure, call.serial, payload))
        if answer is not None:
            values = answer(args_codec(procedure).decode(call.payload))
            payload = result_codec(procedure).encode(result_struct(procedure)(**values))
            writer.write(session.reply(call.program, call.procedure, call.serial, payload))

    def tell(self, name: str, data: dict[str, Any]) -> None:
        event = need_event(name)
        payload = bytes(4) + event_codec(event).encode(data)
        self.send(
            pack_parts(
                Program.REMOTE,
                PROGRAM_VERSION,
                event.number,
                PacketType.MESSAGE,
                EVENT_SERIAL,
                Status.OK,
                payload,
            )
        )

    def send(self, data: bytes) -> None:
        for writer in self.writers:
            if not writer.is_closing():
                writer.write(data)

    def hang_up(self) -> None:
        for writer in self.writers:
            writer.close()


@asynccontextmanager
async def far_daemon(socket: Path) -> AsyncIterator[FarDaemon]:
    daemon = FarDaemon(socket)
    server = await asyncio.start_unix_server(daemon.serve, str(socket))
    try:
        yield daemon
    finally:
        server.close()
        daemon.hang_up()
        await server.wait_closed()
