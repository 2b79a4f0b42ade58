"""A driver with one guest whose console answers in capitals: `python -m tests.fakes.console`, as role `test`.

It can be killed in the middle. `q` ends the console from the guest's side, as a guest that powers off does.
"""

from __future__ import annotations

import asyncio
import os
import signal
from typing import Any

from actors.runtime.streams import Streamed, Tickets
from broker.peer import IncomingCall
from broker.stream import Stream
from broker.wire import pack_value
from settings.process import current
from tests.fakes.role import FakeRole
from util.structured_log import StructuredLog

GUEST = ["web1", b"0123456789abcdef", 1]


async def _serve_console(stream: Stream) -> None:
    await stream.write(f"console of {os.getpid()}\r\n".encode())
    while data := await stream.read():
        await stream.write(data.upper())
        if b"q" in data:
            await stream.finish()
            return


class ConsoleRole(FakeRole):
    """Answers `domain_open_console` with a ticket."""

    tickets: Tickets

    def on_call(self, call: IncomingCall) -> None:
        if call.prologue.procedure == "domain_open_console":
            ticket = self.tickets.issue(Streamed(_serve_console))
            self.peer.reply(call, pack_value({}), seq=self.seq, ticket=ticket)
        else:
            super().on_call(call)


async def _void(role: FakeRole, call: IncomingCall, arguments: dict[str, Any]) -> dict[str, Any]:
    return {}


async def _lookup(role: FakeRole, call: IncomingCall, arguments: dict[str, Any]) -> dict[str, Any]:
    return {"dom": GUEST}


async def _main() -> None:
    paths, _ = current()
    answers = {"connect_open": _void, "domain_lookup_by_name": _lookup, "domain_open_console": _void}
    role = await ConsoleRole.connect(paths, "test", answers, ready=False)
    assert isinstance(role, ConsoleRole)
    role.tickets = Tickets(paths.tickets("test"), StructuredLog("test"), lambda error: os._exit(1))
    role.ready()
    ended = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, ended.set)
    await ended.wait()
    await role.tickets.close()
    await role.aclose()


if __name__ == "__main__":
    asyncio.run(_main())
