"""Streams of libvirt's own Python binding through the gateway, to a driver of the test that has a volume in a file."""

from __future__ import annotations

import asyncio
import json
import os
import random
import secrets
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from broker.stream import Stream
from schema.errors import OperationFailed
from schema.objects import StoragePoolRef, StorageVolRef
from tests.fakes.scripted_peer import Answer
from tests.process.gateway_in_loop import House, made_house
from tests.real.test_libvirt_clients import SCRIPTS, SYSTEM_PYTHON
from tests.real.virsh_session import need_virsh
from tests.unit.gateway.records import uuid_of

pytestmark = [pytest.mark.real, pytest.mark.process, pytest.mark.timeout(300)]

SPARSE = 1
CHUNK = 50_000
TOKEN = 32
Serve = Callable[[Stream], Awaitable[None]]


class Volumes:
    """The driver's side: one volume that works, one that fails in the middle."""

    def __init__(self, house: House, folder: Path) -> None:
        self.file = folder / "volume"
        self.listener = socket.socket(socket.AF_UNIX)
        self.path = house.folder / "tickets"
        self.listener.bind(str(self.path))
        self.listener.listen(64)
        self.listener.setblocking(False)
        self.waiting: dict[bytes, Serve] = {}
        self.tasks: set[asyncio.Task[None]] = set()
        self._spawn(self._accept())
        pool = StoragePoolRef("pool", uuid_of("pool"))
        house.peer.answers |= {
            "storage_pool_lookup_by_name": lambda args: {"pool": pool},
            "storage_vol_lookup_by_name": lambda args: {"vol": StorageVolRef("pool", args.name, f"/{args.name}")},
            "storage_vol_upload": self.upload,
            "storage_vol_download": self.download,
        }

    def _spawn(self, work: Any) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    async def _accept(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            sock, _ = await loop.sock_accept(self.listener)
            self._spawn(self._serve(sock))

    async def _serve(self, sock: socket.socket) -> None:
        async with Stream(sock) as stream:
            token = b""
            while len(token) < TOKEN:
                token += await asyncio.get_running_loop().sock_recv(sock, TOKEN - len(token))
            try:
                await self.waiting.pop(token)(stream)
            except OperationFailed as exc:
                await stream.abort(exc)
            except ConnectionError:
                pass

    def _ticket(self, serve: Serve) -> Answer:
        token = secrets.token_bytes(TOKEN)
        self.waiting[token] = serve
        return Answer(None, {"path": str(self.path), "token": token})

    def upload(self, args: Any) -> Answer:
        async def serve(stream: Stream) -> None:
            with self.file.open("wb") as file:
                while (item := await stream.read_frame()) is not None:
                    if args.vol.name == "broken":
                        raise OperationFailed("the disk is full")
                    if isinstance(item, int):
                        file.truncate(file.seek(item, os.SEEK_CUR))
                    else:
                        file.write(item)
            await stream.finish()

        return self._ticket(serve)

    def download(self, args: Any) -> Answer:
        async def serve(stream: Stream) -> None:
            if args.vol.name == "broken":
                await stream.write(bytes(CHUNK))
                raise OperationFailed("the disk cannot be read")
            with self.file.open("rb") as file:
                size = self.file.stat().st_size
                fd, place = file.fileno(), 0
                while place < size:
                    data = _next_data(fd, place, size) if args.flags & SPARSE else place
                    if data > place:
                        await stream.write_hole(data - place)
                        place = data
                        continue
                    stop = os.lseek(fd, place, os.SEEK_HOLE) if args.flags & SPARSE else size
                    part = os.pread(fd, min(CHUNK, stop - place), place)
                    await stream.write(part)
                    place += len(part)
            await stream.finish()

        return self._ticket(serve)

    async def close(self) -> None:
        for task in tuple(self.tasks):
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)
        self.listener.close()


def _next_data(fd: int, place: int, size: int) -> int:
    try:
        return os.lseek(fd, place, os.SEEK_DATA)
    except OSError:
        return size


@pytest.fixture
async def house() -> AsyncIterator[House]:
    need_virsh()
    async with made_house() as house:
        yield house


async def run_client(house: House, folder: Path, *words: str) -> str:
    """What a client prints that streams to and from the volume."""
    volumes = Volumes(house, folder)
    client = await asyncio.create_subprocess_exec(
        *words, f"test+unix:///default?socket={house.folder / 'rw'}", str(folder),
        stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    try:
        async with asyncio.timeout(100):
            told, errors = await client.communicate()
        assert client.returncode == 0, errors.decode()
    finally:
        if client.returncode is None:
            client.kill()
            await client.wait()
        await volumes.close()
    return told.decode()


async def test_perls_streams(house: House, tmp_path: Path) -> None:
    data = random.Random(815).randbytes(1_000_003)
    (tmp_path / "full").write_bytes(data)
    told = await run_client(house, tmp_path, "perl", str(SCRIPTS / "streams.pl"))
    facts = dict(line.split("=", 1) for line in told.splitlines())
    assert (tmp_path / "full.perl").read_bytes() == data
    assert (tmp_path / "sparse.perl").read_bytes() == data
    assert (facts["piecewise"], facts["holes"], facts["alive"]) == (str(len(data)), "0", "1")
    assert "the disk cannot be read" in facts["error"]
    await house.until(lambda: not house.gateway.connections)


async def test_every_way_to_stream(house: House, tmp_path: Path) -> None:
    data = random.Random(4711).randbytes(3_000_001)
    (tmp_path / "full").write_bytes(data)
    with (tmp_path / "sparse").open("wb") as file:
        for place in (0, 4 << 20, 9 << 20):
            file.seek(place)
            file.write(data[: 1 << 20])
        file.truncate(12 << 20)
    told = await run_client(house, tmp_path, SYSTEM_PYTHON, str(SCRIPTS / "streams.py"))
    found = json.loads(told)
    assert (tmp_path / "full.back").read_bytes() == data
    assert (tmp_path / "sparse.back").read_bytes() == (tmp_path / "sparse").read_bytes()
    assert sum(found["holes"]) == 9 << 20
    assert (tmp_path / "sparse.back").stat().st_blocks * 512 < 5 << 20
    assert found["by events"] is True
    assert found["side by side"] == [True] * 5
    assert found["alive after an abort"] == 1
    assert "the disk cannot be read" in found["a failure in the middle"]
    assert "the disk is full" in found["a failure of the sink"]
    await house.until(lambda: not house.gateway.connections)
