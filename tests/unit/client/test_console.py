"""A console goes on when the driver that offers it is replaced."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from typing import Any

import pytest

from client import console
from client.console import Console, read_stream
from client.errors import DomainStateError, DriverGone, InternalError, ResourceBusy, VirtError


class FakeStream:
    """Reads what it was given; an exception in it is raised, and after the last item the stream breaks."""

    def __init__(self, *items: bytes | Exception) -> None:
        self.items: deque[bytes | Exception] = deque(items)
        self.written: list[bytes] = []
        self.broken = False
        self.closed = False

    async def read(self) -> bytes:
        await asyncio.sleep(0)
        if not self.items:
            self.broken = True
            raise ConnectionResetError("the driver is gone")
        item = self.items.popleft()
        if isinstance(item, Exception):
            raise item
        return item

    async def write(self, data: bytes) -> None:
        if self.broken:
            raise BrokenPipeError
        self.written.append(data)

    async def finish(self) -> None:
        self.items.append(b"")

    def close(self) -> None:
        self.closed = True


class FakeDriver:
    """Offers one stream after the other; an exception in their place is the answer to the call."""

    def __init__(self, *offers: FakeStream | Exception) -> None:
        self.offers = deque(offers)

    async def open(self) -> dict[str, Any] | None:
        if isinstance(self.offers[0], Exception):
            raise self.offers.popleft()  # type: ignore[misc]
        return {"path": "/p", "token": b"t"}

    async def take(self, ticket: dict[str, Any]) -> FakeStream:
        offer = self.offers.popleft()
        assert isinstance(offer, FakeStream)
        return offer

    async def console(self) -> Console:
        return await Console.open(self.open, self.take)


async def read_all(opened: Console) -> Sequence[bytes]:
    parts = []
    while data := await opened.read():
        parts.append(data)
    return parts


async def test_a_console_that_the_driver_ends_is_over() -> None:
    opened = await FakeDriver(FakeStream(b"login: ", b"")).console()
    assert await read_all(opened) == [b"login: "]
    assert await opened.read() == b""


async def test_a_new_driver_offers_the_console_again() -> None:
    first, second = FakeStream(b"before"), FakeStream(b"after", b"")
    opened = await FakeDriver(first, second).console()
    assert await read_all(opened) == [b"before", b"after"]
    assert opened.reopened == 1
    assert first.closed


async def test_keys_typed_while_the_driver_restarts_arrive() -> None:
    first, second = FakeStream(), FakeStream(b"", b"")
    first.broken = True
    opened = await FakeDriver(first, second).console()
    await opened.write(b"ls\r")
    assert second.written == [b"ls\r"]


async def test_reader_and_writer_reopen_it_once() -> None:
    first, second = FakeStream(), FakeStream(b"hello", b"")
    first.broken = True
    opened = await FakeDriver(first, second).console()
    parts, _ = await asyncio.gather(read_all(opened), opened.write(b"x"))
    assert parts == [b"hello"]
    assert second.written == [b"x"]
    assert opened.reopened == 1


async def test_a_guest_that_ended_meanwhile_ends_the_console() -> None:
    opened = await FakeDriver(FakeStream(b"bye"), DomainStateError("domain is not running")).console()
    assert await read_all(opened) == [b"bye"]


async def test_the_end_that_the_dead_driver_still_holds_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(console, "RETRY_S", 0.001)
    busy = ResourceBusy("active console session exists for this domain")
    opened = await FakeDriver(FakeStream(), busy, busy, FakeStream(b"again", b"")).console()
    assert await read_all(opened) == [b"again"]


async def test_a_driver_that_does_not_come_back_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(console, "RETRY_S", 0.001)
    monkeypatch.setattr(console, "REOPEN_S", 0.01)
    driver = FakeDriver(FakeStream(), *[ResourceBusy("held")] * 1000)
    opened = await driver.console()
    with pytest.raises(DriverGone):
        await opened.read()


async def test_an_error_of_the_driver_is_told_not_retried() -> None:
    opened = await FakeDriver(FakeStream(InternalError("the device is gone"))).console()
    with pytest.raises(InternalError):
        await opened.read()


async def test_a_busy_console_is_refused_at_first() -> None:
    with pytest.raises(ResourceBusy):
        await FakeDriver(ResourceBusy("held")).console()


async def test_a_stream_is_read_to_its_end() -> None:
    stream = FakeStream(b"P6 ", b"1 1", b"")
    assert await read_stream({"path": "/p"}, FakeDriver(stream).take) == b"P6 1 1"
    assert stream.closed


async def test_a_stream_that_breaks_off_is_not_taken_for_whole() -> None:
    stream = FakeStream(b"half")
    with pytest.raises(VirtError):
        await read_stream({"path": "/p"}, FakeDriver(stream).take)
    assert stream.closed
