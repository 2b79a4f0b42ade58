"""A monitor's connection: pipelined, answered by id, and clear about its end."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from actors.qemu.monitor.link import CommandRefused, Monitor, MonitorGone, open_monitor
from actors.qemu.monitor.protocol import Notice

GREETING = {"QMP": {"version": {"qemu": {"major": 7, "minor": 2, "micro": 0}}, "capabilities": []}}


class Peer:
    """The other end, played by a test."""

    def __init__(self, link: socket.socket) -> None:
        self.link = link
        self.link.setblocking(False)
        self.pending = b""

    async def commands(self, count: int) -> list[dict[str, Any]]:
        loop = asyncio.get_running_loop()
        while self.pending.count(b"\n") < count:
            self.pending += await loop.sock_recv(self.link, 65536)
        *lines, self.pending = self.pending.split(b"\n")
        return [json.loads(line) for line in lines]

    def say(self, *messages: dict[str, Any]) -> None:
        self.link.sendall(b"".join(json.dumps(one).encode() + b"\r\n" for one in messages))


@contextlib.asynccontextmanager
async def pair(
    on_notice: Callable[[Notice], None] = lambda notice: None, on_gone: Callable[[], None] = lambda: None
) -> AsyncIterator[tuple[Monitor, Peer]]:
    ours, theirs = socket.socketpair()
    monitor = await open_monitor(ours, on_notice, on_gone)
    try:
        yield monitor, Peer(theirs)
    finally:
        monitor.close()
        theirs.close()


async def test_commands_go_out_in_one_write_and_answers_find_their_callers() -> None:
    async with pair() as (monitor, peer):
        first, second, third = monitor.submit([("a", None), ("b", {"x": 1}), ("c", None)])
        asked = await peer.commands(3)
        assert [one["execute"] for one in asked] == ["a", "b", "c"]
        peer.say(GREETING, {"return": "C", "id": asked[2]["id"]}, {"return": "A", "id": asked[0]["id"]})
        assert (await third, await first) == ("C", "A")
        assert monitor.unanswered == ["b"]
        peer.say({"error": {"class": "GenericError", "desc": "no"}, "id": asked[1]["id"]})
        with pytest.raises(CommandRefused) as caught:
            await second
        assert (caught.value.command, caught.value.kind, caught.value.reason) == ("b", "GenericError", "no")
        assert monitor.greeting.result().version == (7, 2, 0)


async def test_events_are_told_in_order() -> None:
    told: list[str] = []
    async with pair(lambda notice: told.append(notice.name)) as (monitor, peer):
        future = monitor.submit([("x", None)])[0]
        (asked,) = await peer.commands(1)
        peer.say(GREETING, {"event": "STOP"}, {"event": "RESUME"}, {"return": {}, "id": asked["id"]})
        await future
        assert told == ["STOP", "RESUME"]


async def test_the_end_ends_every_waiting_command_and_is_told_once() -> None:
    gone: list[bool] = []
    async with pair(on_gone=lambda: gone.append(True)) as (monitor, peer):
        futures = monitor.submit([("a", None), ("b", None)])
        peer.link.close()
        for future in futures:
            with pytest.raises(MonitorGone):
                await future
        assert gone == [True] and not monitor.is_open
        with pytest.raises(MonitorGone):
            await monitor.execute("c")


async def test_who_lets_go_is_not_told() -> None:
    gone: list[bool] = []
    async with pair(on_gone=lambda: gone.append(True)) as (monitor, _):
        (future,) = monitor.submit([("a", None)])
        monitor.close()
        with pytest.raises(MonitorGone):
            await future
    assert gone == []


async def test_a_caller_that_goes_away_disturbs_nobody() -> None:
    async with pair() as (monitor, peer):
        first, second = monitor.submit([("a", None), ("b", None)])
        asked = await peer.commands(2)
        first.cancel()
        peer.say(GREETING, *({"return": n, "id": one["id"]} for n, one in enumerate(asked)))
        assert await second == 1


async def test_garbage_ends_the_connection() -> None:
    gone: list[bool] = []
    async with pair(on_gone=lambda: gone.append(True)) as (monitor, peer):
        peer.link.sendall(b"HTTP/1.1 400 Bad Request\n")
        assert "no JSON" in await monitor.gone
        assert gone == [True]


async def test_a_descriptor_crosses_under_a_name() -> None:
    async with pair() as (monitor, peer):
        read, write = os.pipe()
        task = asyncio.create_task(monitor.hand_over("saved", write))
        for _ in range(100):
            await asyncio.sleep(0.01)
            with contextlib.suppress(BlockingIOError):
                data, descriptors, _, _ = socket.recv_fds(peer.link, 4096, 1)
                break
        asked = json.loads(data)
        assert (asked["execute"], asked["arguments"]) == ("getfd", {"fdname": "saved"})
        peer.say(GREETING, {"return": {}, "id": asked["id"]})
        await task
        os.write(descriptors[0], b"through")
        assert os.read(read, 16) == b"through"
        for one in (read, write, *descriptors):
            os.close(one)
