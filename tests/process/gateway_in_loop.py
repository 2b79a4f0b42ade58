"""The gateway's server in the test's own loop, on a real socket, with a broker and a driver in memory."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import socket
import tempfile
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from gateway.listening import Listening
from gateway.server import Gateway
from settings.config import Config, GatewaySettings
from tests.fakes.rpc_client import RpcClient
from tests.fakes.scripted_peer import ScriptedPeer
from tests.unit.gateway.records import summary
from util.structured_log import StructuredLog


def descriptors() -> int:
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


@dataclass(slots=True)
class BareListening:
    """Listening sockets without a holder."""

    read_write: socket.socket
    read_only: socket.socket
    lifeline: None = None


class House:
    def __init__(self, folder: Path, settings: GatewaySettings) -> None:
        self.folder = folder
        self.writers: list[asyncio.StreamWriter] = []
        self.peer = ScriptedPeer({"a": summary(id=1, state=1, reason=1), "b": summary()})
        config = Config(gateway=settings)
        self.log_read, self.log_write = os.pipe2(os.O_NONBLOCK)
        self.gateway = Gateway(cast(Any, self.peer), config, StructuredLog("gateway", fd=self.log_write))
        self.listening = BareListening(self._bind("rw"), self._bind("ro"))
        self.serving = asyncio.ensure_future(self.gateway.serve(cast(Listening, self.listening)))

    def _bind(self, name: str) -> socket.socket:
        sock = socket.socket(socket.AF_UNIX)
        sock.setblocking(False)
        sock.bind(str(self.folder / name))
        sock.listen(64)
        return sock

    async def client(self, *, read_only: bool = False) -> RpcClient:
        client = await RpcClient.connect(self.folder / ("ro" if read_only else "rw"))
        self.writers.append(client.writer)
        return client

    async def opened(self, *, read_only: bool = False) -> RpcClient:
        """A client with an open connection, and the read model filled."""
        client = await (await self.client(read_only=read_only)).open()
        self.peer.alive()
        await self.until(lambda: self.gateway.feed.replica("test").is_current(self.gateway.clock(), 60.0))
        return client

    async def until(self, condition: Any, limit_s: float = 5.0) -> None:
        async with asyncio.timeout(limit_s):
            while not condition():
                await asyncio.sleep(0.002)

    def names_asked(self) -> list[str]:
        return [asked.procedure for asked in self.peer.asked]

    async def close(self) -> None:
        for writer in self.writers:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()
        self.serving.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self.serving
        tasks = (*self.gateway.tasks, *self.peer.running)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self.listening.read_write.close()
        self.listening.read_only.close()
        os.close(self.log_read)
        os.close(self.log_write)


@contextlib.asynccontextmanager
async def made_house(**settings: Any) -> AsyncIterator[House]:
    folder = Path(tempfile.mkdtemp(prefix="vt", dir="/tmp"))
    house = House(folder, GatewaySettings(**{"documents_settle_s": 0.0, **settings}))
    try:
        yield house
    finally:
        await house.close()
        shutil.rmtree(folder)
