"""A running gateway and clients that send anything, nothing, or take nothing: the others do not notice."""

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from rpc.packet import Packet, PacketType, Program, Status, pack_packet
from schema.objects import DomainRef
from tests.fakes.rpc_client import RpcClient
from tests.process.gateway_house import GatewayHouse, gateway_house
from tests.wire.random_messages import RandomMessages

pytestmark = pytest.mark.process

IDLE = 5000
CLIENT_KIB = 24.0


@pytest.fixture
def house() -> Iterator[GatewayHouse]:
    with gateway_house(f"[gateway]\nmax_clients = {IDLE + 100}\n") as made:
        yield made
        print(made.log_of("gateway")[-3000:])


def rss_kib(pid: int) -> int:
    status = Path(f"/proc/{pid}/status").read_text()
    return int(next(line.split()[1] for line in status.splitlines() if line.startswith("VmRSS")))


def gateway_pid(house: GatewayHouse) -> int:
    return int(house.paths.lock("gateway").read_text().split()[0])


async def answers_in(house: GatewayHouse) -> float:
    """How long a new client waits for a connection and a list."""
    begun = time.monotonic()
    async with await RpcClient.connect(house.paths.libvirt_socket) as client:
        await client.open()
        await client.call("connect_list_all_domains", need_results=1, flags=0)
    return time.monotonic() - begun


async def send_anything(house: GatewayHouse, source: RandomMessages, messages: int) -> int:
    """One client's random messages; how many bytes it got for them."""
    rng = source.random
    reader, writer = await asyncio.open_unix_connection(str(house.paths.libvirt_socket))
    got = 0
    try:
        if rng.random() < 0.9:
            client = RpcClient(reader, writer)
            await client.open()
        for serial in range(1, messages):
            strange = rng.random() < 0.03
            writer.write(source.other(serial) if strange else source.call(serial))
            if rng.random() < 0.2:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(0.01):
                        got += len(await reader.read(1 << 20))
            if reader.at_eof():
                break
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(0.2):
                while data := await reader.read(1 << 20):
                    got += len(data)
    except ConnectionError:
        pass
    finally:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()
    return got


async def fuzz(house: GatewayHouse, seed: int, clients: int) -> None:
    pid = gateway_pid(house)
    await answers_in(house)
    async with await RpcClient.connect(house.paths.libvirt_socket) as steady:
        await steady.open()
        uuid = (await steady.call("domain_lookup_by_name", name="test")).dom.uuid
        source = RandomMessages(seed, (uuid,))
        got = 0
        for _ in range(clients):
            got += await send_anything(house, source, 60)
            await steady.call("connect_get_uri")
        assert got > 1000
    assert await answers_in(house) < 20
    assert gateway_pid(house) == pid
    assert rss_kib(pid) < 400_000
    log = house.log_of("gateway")
    assert "failed here" not in log
    assert "Traceback" not in log


async def test_random_and_broken_calls_do_no_harm(house: GatewayHouse) -> None:
    await fuzz(house, 4711, 40)


@pytest.mark.soak
async def test_many_random_and_broken_calls_do_no_harm(house: GatewayHouse) -> None:
    seed = int.from_bytes(os.urandom(4), "big")
    print(f"seed {seed}")
    await fuzz(house, seed, 4000)


async def test_five_thousand_idle_clients_cost_little_and_delay_nobody(house: GatewayHouse) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < IDLE + 500:
        pytest.skip(f"the host allows {hard} open files only")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, IDLE + 500), hard))
    held = []
    try:
        await answers_in(house)
        pid = gateway_pid(house)
        before = rss_kib(pid)
        for _ in range(IDLE):
            sock = socket.socket(socket.AF_UNIX)
            held.append(sock)
            sock.connect(str(house.paths.libvirt_socket))
        # They are accepted in their order; asyncio cannot wait for room in a listener's queue.
        held[-1].sendall(pack_packet(Packet(Program.REMOTE, 1, 66, PacketType.CALL, 0, Status.OK, b"")))
        held[-1].settimeout(20)
        assert len(held[-1].recv(100)) == 36
        assert await answers_in(house) < 5
        per_client = (rss_kib(pid) - before) / IDLE
        assert per_client < CLIENT_KIB
        assert max(await asyncio.gather(*(answers_in(house) for _ in range(20)))) < 10
    finally:
        for sock in held:
            sock.close()
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


async def test_who_never_reads_its_events_is_disconnected_and_nobody_else_waits(house: GatewayHouse) -> None:
    async with (
        await RpcClient.connect(house.paths.libvirt_socket) as deaf,
        await RpcClient.connect(house.paths.libvirt_socket) as busy,
    ):
        await deaf.open()
        await busy.open()
        guest: DomainRef = (await busy.call("domain_lookup_by_name", name="test")).dom
        for _ in range(4000):
            deaf.send_call("connect_domain_event_callback_register_any", eventID=0, dom=None)
        replies = 0
        while replies < 4000:
            replies += (await deaf.packet()).type == PacketType.REPLY
        deaf.writer.transport.pause_reading()  # type: ignore[attr-defined]
        pid = gateway_pid(house)
        slowest = 0.0
        for _ in range(400):
            begun = time.monotonic()
            await busy.call("domain_suspend", dom=guest)
            await busy.call("domain_resume", dom=guest)
            slowest = max(slowest, time.monotonic() - begun)
            if "client does not take its events" in house.log_of("gateway"):
                break
        assert "client does not take its events" in house.log_of("gateway")
        assert slowest < 5
        assert rss_kib(pid) < 400_000
        assert await answers_in(house) < 5
