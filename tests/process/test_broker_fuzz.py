"""Whatever comes through a socket, the broker goes on serving, and keeps its memory."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import socket
from pathlib import Path
from typing import Any

import pytest
import zmq

from broker.peer import Peer
from broker.wire import (
    CallPrologue,
    join_body,
    pack_call_prologue,
    pack_door,
    pack_header,
    pack_value,
    unpack_value,
)
from broker.zmtp import pack_message
from schema.errors import VirtError
from tests.fakes.role import FakeRole, event_record
from tests.process.broker_process import BrokerHouse, broker_house

pytestmark = [pytest.mark.process, pytest.mark.timeout(600)]

PROCEDURES = ("domain_create", "connect_get_hostname", "broker_status", "broker_actor_state", "warden_actor_stop", "x")
DESTINATIONS = (b"test", b"broker", b"warden", b"gateway", b"", b"nowhere", b"\xff\0", b"t" * 300)


class Noise:
    """Bytes that are more or less wrong."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)

    def some(self, most: int = 200) -> bytes:
        return self.random.randbytes(self.random.randrange(most))

    def value(self, depth: int = 0) -> Any:
        choice = self.random.randrange(9 if depth < 3 else 6)
        if choice == 6:
            return [self.value(depth + 1) for _ in range(self.random.randrange(6))]
        if choice >= 7:
            return {
                self.random.choice(("v", "role", "resume", "after", "ready", "x")): self.value(depth + 1) for _ in "ab"
            }
        return (None, True, self.random.randrange(-5, 2**40), self.some(20), "client", -0.5)[choice]

    def header(self) -> bytes:
        kind, flags = self.random.randrange(256), self.random.randrange(2**16)
        header = pack_header(kind, self.random.randrange(2**64), self.random.randrange(2000), flags)
        return bytes([self.random.choice((1, 1, 1, 1, 0, 2))]) + header[1:]

    def body(self) -> bytes:
        choice = self.random.randrange(5)
        if choice == 0:
            return self.some()
        if choice == 1:
            return pack_value(self.value())
        if choice == 2:
            return event_record(
                self.random.choice(("test", "qemu")), self.random.randrange(4), self.random.randrange(9), "x", {}
            )
        prologue = pack_call_prologue(
            CallPrologue(self.random.choice(PROCEDURES), "", None, None, None, self.random.choice((None, {"uid": 0})))
        )
        return join_body(prologue, pack_value(self.value()))

    def frames(self) -> list[bytes]:
        frames = [self.random.choice(DESTINATIONS), self.header(), self.body()]
        twist = self.random.randrange(12)
        if twist == 0:
            frames.pop()
        elif twist == 1:
            frames.insert(self.random.randrange(4), self.some())
        elif twist == 2:
            frames = [self.some() for _ in range(self.random.randrange(1, 9))]
        elif twist == 3:
            frames[1] = self.some(20)
        return frames

    def hello(self) -> bytes:
        choice = self.random.randrange(4)
        if choice == 0:
            return self.some(400)
        if choice == 1:
            return pack_door(self.value())
        hello = {"v": 1, "role": "client", "program": "x", "resume": None}
        hello[self.random.choice(tuple(hello))] = self.value()
        data = pack_door(hello)
        return data if choice == 2 else data[: self.random.randrange(len(data))]


def shout(path: Path, data: bytes) -> None:
    """Raw bytes into a unix socket."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock, contextlib.suppress(OSError):
        sock.settimeout(0.02)
        sock.connect(os.fspath(path))
        sock.sendall(data)
        if len(data) % 3:
            sock.recv(100)


def rss_kib(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1]) * 4


async def storm(house: BrokerHouse, rounds: int, seed: int) -> None:
    noise = Noise(seed)
    paths = house.paths
    role = await FakeRole.connect(paths, "test")
    good = await Peer.connect_client(paths)
    context = zmq.Context()
    strangers = []
    for path in (paths.actors_route, paths.clients_route, paths.clients_route_read_only):
        stranger = context.socket(zmq.DEALER)
        stranger.setsockopt(zmq.ROUTING_ID, b"t" + noise.random.randbytes(noise.random.choice((15, 16, 33))))
        stranger.connect(f"ipc://{path}")
        strangers.append(stranger)
    subscriber = context.socket(zmq.XSUB)
    subscriber.connect(f"ipc://{paths.events}")
    bad = [await Peer.connect_client(paths, read_only=only) for only in (False, True)]
    qemu = await FakeRole.connect(paths, "qemu")
    bad.append(qemu.peer)
    assert house.broker is not None
    before = 0
    for number in range(rounds):
        for stranger in strangers:
            with contextlib.suppress(zmq.Again):
                stranger.send_multipart(noise.frames(), zmq.NOBLOCK)
        for peer in bad:
            link = peer._link
            if link is not None:
                link.write(pack_message(noise.frames()))
        subscriber.send(noise.random.choice((b"\1", b"\0", b"\2", b"")) + noise.some(2))  # libzmq keeps each topic
        if number % 5 == 0:
            for path in (paths.actors_door, paths.clients_door, paths.clients_door_read_only):
                shout(path, noise.hello())
            for path in (paths.actors_route, paths.clients_route, paths.events, paths.metrics):
                shout(path, noise.some(500))
        if number % 50 == 0:
            answer = await good.call("test", "domain_create", pack_value({"n": number}), deadline_s=60.0)
            assert unpack_value(answer.body)["arguments"] == {"n": number}
        if number == rounds // 4:
            before = rss_kib(house.broker.pid)
    for peer, garbage in zip(bad, (b"\0\0\0\5hello", b"\xff" * 100, pack_door({"beat": "x"}) * 50), strict=True):
        if peer._link is not None:
            peer._link.lifeline.send(garbage)
    role.publish(last=True)
    await role.until(lambda: not role.window, 60.0)
    answer = await good.call("test", "domain_create", pack_value({"n": -1}), deadline_s=60.0)
    assert unpack_value(answer.body)["arguments"] == {"n": -1}
    assert house.broker.poll() is None, house.log.read_text(encoding="utf-8")
    assert "Traceback" not in house.log.read_text(encoding="utf-8")
    assert "broker: internal error" not in house.log.read_text(encoding="utf-8")
    assert rss_kib(house.broker.pid) - before < 20_000
    for stranger in (*strangers, subscriber):
        stranger.close(linger=0)
    for peer in bad:
        with contextlib.suppress(VirtError):
            await peer.aclose()
    await good.aclose()
    await role.aclose()
    context.term()


async def test_noise_on_every_socket_does_not_stop_the_broker() -> None:
    with broker_house() as house:
        await storm(house, 600, 1)


@pytest.mark.soak
@pytest.mark.parametrize("seed", range(5))
async def test_much_noise_on_every_socket_does_not_stop_the_broker(seed: int) -> None:
    with broker_house() as house:
        await storm(house, 20_000, 100 + seed)


async def test_peers_that_come_and_go_leave_nothing_behind() -> None:
    with broker_house() as house:
        role = await FakeRole.connect(house.paths, "test")
        assert house.broker is not None
        fds = Path(f"/proc/{house.broker.pid}/fd")
        peer = await Peer.connect_client(house.paths)
        await peer.call("test", "domain_create", pack_value({}))
        await peer.aclose()
        before = len(list(fds.iterdir()))
        for _ in range(100):
            peer = await Peer.connect_client(house.paths)
            await peer.call("test", "domain_create", pack_value({}))
            await peer.aclose()
        async with asyncio.timeout(10):
            while len(list(fds.iterdir())) > before + 2:
                await asyncio.sleep(0.05)
        await role.aclose()
