"""A libvirt daemon that is an actor in the test's own loop: calls come by libvirt's protocol, events go out by it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec

from actors.runtime.actor import Actor
from rpc.packet import EVENT_SERIAL, PONG_BYTES, PROGRAM_VERSION, PacketType, Program, Status, pack_parts
from rpc.session import CallReceived, PingReceived, ServerSession
from rpc.xdr import args_codec, error_codec, event_codec, result_codec
from schema.body import convert_event, result_struct
from schema.errors import UnknownProcedure, UnsupportedCall, VirtError
from schema.objects import ErrorRecord
from schema.table import all_events, procedure_by_number
from tests.contract.house import FakeBroker, House, open_house

_EVENTS = {event.name: event for event in all_events() if event.program == "remote"}


class TellingBroker(FakeBroker):
    """Hands each event on as it comes."""

    def __init__(self) -> None:
        super().__init__()
        self.tell: Any = lambda record: None

    def send_event(self, seq: int, record: bytes) -> None:
        super().send_event(seq, record)
        self.tell(self.records[-1])


class DaemonOfActor:
    """Every client hears every event, with callback 0."""

    def __init__(self, house: House) -> None:
        self.house = house
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        session = ServerSession(pending_max=1000)
        self._writers.add(writer)
        try:
            while data := await reader.read(65536):
                session.feed(data)
                while (event := session.next_event()) is not None:
                    if isinstance(event, PingReceived):
                        writer.write(PONG_BYTES)
                    elif isinstance(event, CallReceived):
                        task = asyncio.create_task(self._answer(session, event, writer))
                        self._tasks.add(task)
                        task.add_done_callback(self._tasks.discard)
        finally:
            self._writers.discard(writer)
            writer.close()

    async def _answer(self, session: ServerSession, call: CallReceived, writer: asyncio.StreamWriter) -> None:
        procedure = procedure_by_number("remote", call.procedure)
        args = msgspec.structs.asdict(args_codec(procedure).decode(call.payload))
        try:
            if procedure.name == "auth_list":
                values: Any = {"types": [0]}
            elif procedure.name == "connect_supports_feature":
                values = {"supported": 1}
            elif procedure.name == "connect_close":
                values = {}
            elif "register" in procedure.name:
                values = {field.name: 0 for field in procedure.ret}
            else:
                found = await self.house.call(procedure.name, **args)
                values = msgspec.structs.asdict(found) if found is not None else {}
        except VirtError as exc:
            if isinstance(exc, UnsupportedCall | UnknownProcedure):
                exc = UnsupportedCall(procedure.function)
            record = ErrorRecord(
                int(exc.code), int(exc.domain) or 12, exc.message, 2, None, exc.str1, exc.str2, exc.str3,
                exc.int1, exc.int2, None,
            )  # fmt: skip
            payload = error_codec().encode(record)
            writer.write(session.error(call.program, PROGRAM_VERSION, call.procedure, call.serial, payload))
            return
        payload = result_codec(procedure).encode(result_struct(procedure)(**values))
        writer.write(session.reply(call.program, call.procedure, call.serial, payload))

    def tell(self, record: dict[str, Any]) -> None:
        event = _EVENTS.get(record["kind"])
        if event is None:
            return
        data = msgspec.structs.asdict(convert_event(event.name, record["data"]))
        payload = bytes(4) + event_codec(event).encode(data)
        message = pack_parts(
            Program.REMOTE, PROGRAM_VERSION, event.number, PacketType.MESSAGE, EVENT_SERIAL, Status.OK, payload
        )
        for writer in self._writers:
            if not writer.is_closing():
                writer.write(message)

    def close(self) -> None:
        for writer in self._writers:
            writer.close()
        for task in self._tasks:
            task.cancel()


@asynccontextmanager
async def daemon_of_actor(actor: Actor[Any], scope: str, root: Path, socket: Path) -> AsyncIterator[DaemonOfActor]:
    """Serves the actor's scope at a socket."""
    broker = TellingBroker()
    async with open_house(actor, scope, root, broker=broker) as house:
        daemon = DaemonOfActor(house)
        broker.tell = daemon.tell
        socket.unlink(missing_ok=True)
        server = await asyncio.start_unix_server(daemon.serve, str(socket))
        try:
            yield daemon
        finally:
            server.close()
            daemon.close()
            await server.wait_closed()
