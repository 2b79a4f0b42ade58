"""The library does the same at an agent of ours, over our gateway, and over a stock libvirtd: one suite for all."""

from __future__ import annotations

import asyncio
import os
import signal
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import virtroupe
from client.console import read_stream
from remoting.connection import connect_daemon
from schema.errors import HypervisorGone
from tests.bench.libvirtd import Libvirtd
from tests.bench.report import CannotRun
from tests.process.agent import Agent
from tests.real.two_sides import first_whole

pytestmark = [pytest.mark.real, pytest.mark.timeout(300)]

NAME = "everywhere"
XML = f"<domain type='test'><name>{NAME}</name><memory>65536</memory><os><type>hvm</type></os></domain>"


@dataclass
class Place:
    uri: str
    root: Path | None
    daemon: Libvirtd | None = None

    def connect(self, **more: Any) -> Any:
        return virtroupe.connect(self.uri, root=self.root, **more)


@pytest.fixture(scope="module")
def agent() -> Iterator[Agent]:
    with Agent() as agent:
        yield agent


@pytest.fixture(scope="module")
def libvirtd() -> Iterator[Libvirtd]:
    with tempfile.TemporaryDirectory(prefix="vt", dir="/tmp") as folder:
        try:
            with Libvirtd(Path(folder) / "d") as daemon:
                yield daemon
        except CannotRun as exc:
            pytest.skip(str(exc))


@pytest.fixture(params=["agent", "gateway", "libvirtd"])
def place(request: pytest.FixtureRequest) -> Place:
    if request.param == "libvirtd":
        daemon: Libvirtd = request.getfixturevalue("libvirtd")
        return Place(daemon.uri("test:///default"), None, daemon)
    agent: Agent = request.getfixturevalue("agent")
    if request.param == "gateway":
        return Place(agent.libvirt_uri("test:///default"), None)
    return Place("test:///default", agent.root)


async def test_a_guests_life_is_told_with_its_reasons(place: Place) -> None:
    async with place.connect() as conn, conn.events(kinds=["lifecycle"]) as stream:
        guest = await conn.define(XML)
        await guest.start()
        await guest.suspend()
        await guest.resume()
        await guest.shutdown()
        await guest.undefine()
        with pytest.raises(virtroupe.NoSuchDomain):
            await guest.state()
        words: list[str] = []
        async with asyncio.timeout(60):
            while len(words) < 6:
                event = await anext(stream)
                assert isinstance(event, virtroupe.Event)
                assert event.lifecycle is not None
                assert event.object is not None
                if event.object.uuid == guest.uuid:
                    words.append(" ".join(getattr(part, "name", "").lower() for part in event.lifecycle))
    assert words == [
        "defined added",
        "started booted",
        "suspended paused",
        "resumed unpaused",
        "stopped shutdown",
        "undefined removed",
    ]


async def test_reads_and_changes_of_a_guest(place: Place) -> None:
    async with place.connect() as conn:
        guest = await conn.define(XML)
        try:
            assert not await guest.is_active()
            assert await guest.is_persistent()
            await guest.set_autostart(True)
            assert await guest.autostart()
            await guest.start()
            assert (await guest.state()).state is virtroupe.DomainState.RUNNING
            assert f"<name>{NAME}</name>" in await guest.xml()
            assert (await guest.info()).max_memory_kib == 65536
            await guest.managed_save()
            assert await guest.has_managed_save()
            await guest.remove_managed_save()
            with pytest.raises(virtroupe.DomainStateError):
                await guest.destroy()
        finally:
            await guest.undefine()
        assert NAME not in [known.name for known in await conn.list_domains()]


async def test_networks_and_pools_are_there(place: Place) -> None:
    async with place.connect() as conn:
        assert "default" in [network.name for network in await conn.list_networks()]
        assert "default-pool" in [pool.name for pool in await conn.list_storage_pools()]
        assert (await conn.network_by_name("default")).name == "default"
        assert await conn.hypervisor() == "TEST"
        assert (await conn.node_info()).cpus == 16
        assert await conn.hostname() == os.uname().nodename


async def test_a_stream_comes_whole(place: Place) -> None:
    async with place.connect() as conn:
        guest = await conn.domain("test")

        async def take() -> bytes:
            told = await conn.called("domain_screenshot", {"dom": guest.ref, "screen": 0})
            return await read_stream(told.ticket)

        picture = await first_whole(take)
        assert picture.startswith(b"\x89PNG")
        assert picture.endswith(b"IEND\xaeB`\x82")


async def test_a_cancelled_call_leaves_the_connection_whole(place: Place) -> None:
    async with place.connect() as conn:
        for _ in range(20):
            task = asyncio.create_task(conn.capabilities())
            await asyncio.sleep(0)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        assert "test" in [guest.name for guest in await conn.list_domains()]


async def test_a_read_only_connection_changes_nothing(place: Place) -> None:
    async with place.connect(read_only=True) as conn:
        guest = await conn.domain("test")
        with pytest.raises(virtroupe.OperationDenied):
            await guest.suspend()
        assert (await guest.state()).state is virtroupe.DomainState.RUNNING


async def test_it_starts_no_thread(place: Place) -> None:
    before = {thread.name for thread in threading.enumerate()}
    async with place.connect() as conn, conn.events():
        await conn.list_domains()
        assert {thread.name for thread in threading.enumerate()} <= before | {"MainThread"}


def test_the_synchronous_library(place: Place) -> None:
    with virtroupe.sync.connect(place.uri, root=place.root) as conn:
        guest = conn.domain_by_name("test")
        with conn.events(kinds=["lifecycle"]) as events:
            guest.suspend()
            try:
                event = events.next_within(60.0)
            finally:
                guest.resume()
        assert isinstance(event, virtroupe.Event)
        assert event.object is not None
        assert event.object.name == "test"
        assert guest.state().state is virtroupe.DomainState.RUNNING
        with pytest.raises(virtroupe.NoSuchDomain):
            conn.domain_by_name("nobody")


async def test_a_frozen_daemon_is_given_up_and_found_again(libvirtd: Libvirtd) -> None:
    uri = libvirtd.uri("test:///default")
    conn = await connect_daemon(uri, keepalive_s=0.3)
    os.kill(libvirtd.pid, signal.SIGSTOP)
    try:
        began = time.monotonic()
        with pytest.raises(HypervisorGone, match="does not answer"):
            await conn.call("connect_get_capabilities", timeout=60)
        assert time.monotonic() - began < 50
    finally:
        os.kill(libvirtd.pid, signal.SIGCONT)
    await conn.aclose()
    async with virtroupe.connect(uri, wait_s=60) as again:
        assert "test" in [guest.name for guest in await again.list_domains()]
