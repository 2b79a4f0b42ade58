from __future__ import annotations

import asyncio
import os
import shutil
import tempfile
from collections.abc import AsyncIterator, Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest
import uvloop

from actors.runtime.streams import Streamed, Tickets
from broker.stream import Stream, open_ticket
from schema.errors import HypervisorGone, InternalError, InvalidMessage, OperationFailed
from tests.unit.runtime.house import DEVNULL
from util.structured_log import StructuredLog


class Desk:
    """Tickets in a folder with a short path, and what failed."""

    def __init__(self, folder: Path) -> None:
        self.failures: list[BaseException] = []
        self.tickets = Tickets(folder / "tickets", StructuredLog("toy", fd=DEVNULL), self.failures.append)

    async def open(self, serve: Callable[[Stream], Coroutine[Any, Any, None]]) -> Stream:
        return await open_ticket(self.tickets.issue(Streamed(serve)))


@pytest.fixture
async def desk() -> AsyncIterator[Desk]:
    folder = Path(tempfile.mkdtemp(prefix="vt", dir="/tmp"))
    desk = Desk(folder)
    yield desk
    await desk.tickets.close()
    shutil.rmtree(folder)
    assert not desk.failures


async def read_all(stream: Stream) -> bytes:
    parts = []
    async with asyncio.timeout(20):
        while piece := await stream.read():
            parts.append(piece)
    return b"".join(parts)


async def test_data_goes_both_ways_and_ends(desk: Desk) -> None:
    async def echo(stream: Stream) -> None:
        while piece := await stream.read():
            await stream.write(piece.upper())
        await stream.finish()

    async with await desk.open(echo) as stream:
        await stream.write(b"hello ")
        await stream.write(b"you")
        await stream.finish()
        assert await read_all(stream) == b"HELLO YOU"
        assert await stream.read() == b""


async def test_a_fast_writer_waits_for_a_slow_reader(desk: Desk) -> None:
    sent = 0

    async def pour(stream: Stream) -> None:
        nonlocal sent
        for _ in range(256):
            await stream.write(bytes(65536))
            sent += 65536
        await stream.finish()

    async with await desk.open(pour) as stream:
        await asyncio.sleep(0.1)
        held = sent
        assert held < 4 * 1024 * 1024
        assert len(await read_all(stream)) == 256 * 65536


async def test_holes_are_told_or_read_as_zeros(desk: Desk) -> None:
    async def sparse(stream: Stream) -> None:
        await stream.write(b"a")
        await stream.write_hole(600_000)
        await stream.write(b"b")
        await stream.finish()

    async with await desk.open(sparse) as stream:
        assert [await stream.read_frame() for _ in range(4)] == [b"a", 600_000, b"b", None]
    async with await desk.open(sparse) as stream:
        assert await read_all(stream) == b"a" + bytes(600_000) + b"b"


async def test_an_error_of_the_server_is_raised_at_the_reader(desk: Desk) -> None:
    async def fail(stream: Stream) -> None:
        await stream.write(b"part")
        raise HypervisorGone("guest 'a' ended")

    async with await desk.open(fail) as stream:
        assert await stream.read() == b"part"
        with pytest.raises(HypervisorGone, match="guest 'a' ended"):
            await stream.read()


async def test_a_fault_of_the_server_is_internal(desk: Desk) -> None:
    async def fault(stream: Stream) -> None:
        raise ZeroDivisionError

    async with await desk.open(fault) as stream:
        with pytest.raises(InternalError, match="ZeroDivisionError"):
            await stream.read()


async def test_an_error_of_the_client_reaches_the_server(desk: Desk) -> None:
    seen: list[Exception] = []
    done = asyncio.Event()

    async def receive(stream: Stream) -> None:
        try:
            await read_all(stream)
        except OperationFailed as exc:
            seen.append(exc)
        done.set()

    async with await desk.open(receive) as stream:
        await stream.write(b"x")
        await stream.abort(OperationFailed("upload given up"))
        await asyncio.wait_for(done.wait(), 10)
    assert [str(exc) for exc in seen] == ["operation failed: upload given up"]


async def test_a_server_that_vanishes_is_not_an_end(desk: Desk) -> None:
    async def vanish(stream: Stream) -> None:
        await stream.write(b"x")

    async with await desk.open(vanish) as stream:
        assert await stream.read() == b"x"
        with pytest.raises(ConnectionResetError):
            await stream.read()


async def test_a_client_that_vanishes_ends_the_server(desk: Desk) -> None:
    async def pour(stream: Stream) -> None:
        while True:
            await stream.write(bytes(65536))

    stream = await desk.open(pour)
    await stream.read()
    assert desk.tickets.count == 1
    stream.close()
    async with asyncio.timeout(10):
        while desk.tickets.count:
            await asyncio.sleep(0.01)


async def test_a_token_is_good_once(desk: Desk) -> None:
    async def hold(stream: Stream) -> None:
        await stream.read()

    ticket = desk.tickets.issue(Streamed(hold))
    async with await open_ticket(ticket), await open_ticket(ticket) as second:
        with pytest.raises(ConnectionResetError):
            await second.read()


async def test_a_wrong_token_opens_nothing(desk: Desk) -> None:
    async def hold(stream: Stream) -> None:
        await stream.write(b"secret")

    ticket = desk.tickets.issue(Streamed(hold))
    async with await open_ticket({**ticket, "token": bytes(32)}) as stream:
        with pytest.raises(ConnectionResetError):
            await stream.read()
    with pytest.raises(InvalidMessage):
        await open_ticket({"path": 1})


async def test_a_driver_that_is_gone_refuses(desk: Desk) -> None:
    with pytest.raises(ConnectionRefusedError):
        await open_ticket({"path": str(desk.tickets.path), "token": bytes(32)})


async def test_descriptors_cross(desk: Desk) -> None:
    async def give(stream: Stream) -> None:
        reader, writer = os.pipe()
        os.write(writer, b"through")
        os.close(writer)
        await stream.write_descriptor(reader)
        os.close(reader)
        await stream.finish()

    async with await desk.open(give) as stream:
        fd = await stream.read_descriptor()
        assert os.read(fd, 100) == b"through"
        os.close(fd)


SIZE = 8 * 1024 * 1024


async def both_ways(stream: Stream) -> None:
    async def pour() -> None:
        await stream.write(bytes(SIZE))
        await stream.finish()

    pouring = asyncio.create_task(pour())
    assert len(await read_all(stream)) == SIZE
    await pouring


async def test_both_directions_at_once(desk: Desk) -> None:
    async with await desk.open(both_ways) as stream:
        await both_ways(stream)


def test_the_same_on_the_loop_that_actors_run_on() -> None:
    async def all_of_it() -> None:
        folder = Path(tempfile.mkdtemp(prefix="vt", dir="/tmp"))
        desk = Desk(folder)
        await test_both_directions_at_once(desk)
        await test_descriptors_cross(desk)
        await test_a_client_that_vanishes_ends_the_server(desk)
        await test_an_error_of_the_server_is_raised_at_the_reader(desk)
        await desk.tickets.close()
        shutil.rmtree(folder)
        assert not desk.failures

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(all_of_it())
