"""Daemons that hang, vanish, fall silent or talk nonsense: every call still ends, in time and with a clear error."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from remoting.connection import CALLS_MAX, connect_daemon
from schema.errors import DeadlinePassed, HypervisorGone, InvalidArguments, UnsupportedCall
from schema.objects import DomainRef
from tests.process.far_daemon import FarDaemon, far_daemon

pytestmark = [pytest.mark.process]

DOM = DomainRef("a", bytes(16), 1)


@pytest.fixture
def folder() -> Iterator[Path]:
    path = Path(tempfile.mkdtemp(prefix="vt", dir="/tmp"))
    yield path
    shutil.rmtree(path)


@pytest.fixture
async def daemon(folder: Path) -> AsyncIterator[FarDaemon]:
    async with far_daemon(folder / "s") as daemon:
        yield daemon


async def test_a_call_that_hangs_ends_in_time_and_others_go_on(daemon: FarDaemon) -> None:
    conn = await connect_daemon(daemon.uri)
    with pytest.raises(DeadlinePassed, match="domain_reboot"):
        await conn.call("domain_reboot", dom=DOM, flags=0, timeout=0.1)
    assert (await conn.call("connect_get_hostname")).hostname == "far"
    await conn.aclose()


async def test_no_more_calls_are_sent_than_a_daemon_reads_but_urgent_ones_pass(daemon: FarDaemon) -> None:
    conn = await connect_daemon(daemon.uri)
    hanging = [
        asyncio.ensure_future(conn.call("domain_reboot", dom=DOM, flags=0, timeout=30)) for _ in range(CALLS_MAX + 3)
    ]
    assert (await conn.call("connect_get_hostname", timeout=5)).hostname == "far"
    assert daemon.asked.count("domain_reboot") == CALLS_MAX
    with pytest.raises(DeadlinePassed):
        await conn.call("domain_reboot", dom=DOM, flags=0, timeout=0.1)
    daemon.hang_up()
    told = await asyncio.gather(*hanging, return_exceptions=True)
    assert all(isinstance(error, HypervisorGone) for error in told)
    with pytest.raises(HypervisorGone):
        await conn.call("connect_get_hostname")
    await conn.aclose()


async def test_a_cancelled_call_leaves_the_connection_whole(daemon: FarDaemon) -> None:
    conn = await connect_daemon(daemon.uri)
    call = asyncio.ensure_future(conn.call("domain_reboot", dom=DOM, flags=0))
    await asyncio.sleep(0.05)
    call.cancel()
    await asyncio.gather(call, return_exceptions=True)
    assert (await conn.call("connect_get_hostname")).hostname == "far"
    await conn.aclose()


async def test_a_silent_daemon_is_given_up(daemon: FarDaemon) -> None:
    daemon.answers_pings = False
    conn = await connect_daemon(daemon.uri, keepalive_s=0.05)
    call = asyncio.ensure_future(conn.call("domain_reboot", dom=DOM, flags=0, timeout=30))
    with pytest.raises(HypervisorGone, match="does not answer"):
        await asyncio.wait_for(call, 10)
    assert daemon.pings == 5
    await conn.aclose()


async def test_a_living_daemon_that_has_nothing_to_say_is_kept(daemon: FarDaemon) -> None:
    conn = await connect_daemon(daemon.uri, keepalive_s=0.02)
    await asyncio.sleep(0.5)
    assert conn.is_open
    assert daemon.pings > 5
    await conn.aclose()


@pytest.mark.parametrize(
    "nonsense", [b"GET / HTTP/1.1\r\n\r\n", bytes(64), b"\0\0\0\x1c" + b"\x20\x00\x80\x86" + b"\xff" * 20]
)
async def test_nonsense_ends_the_connection(daemon: FarDaemon, nonsense: bytes) -> None:
    conn = await connect_daemon(daemon.uri)
    daemon.send(nonsense)
    assert "broke the protocol" in (await asyncio.wait_for(asyncio.shield(conn.closed), 5)).message
    await conn.aclose()


async def test_events_are_told_in_order(daemon: FarDaemon) -> None:
    conn = await connect_daemon(daemon.uri)
    told: list[Any] = []
    conn.on_event = lambda event, data: told.append((event.name, data["event"]))
    for number in range(3):
        daemon.tell("domain_event_lifecycle", {"dom": DOM, "event": number, "detail": 0})
    await conn.call("connect_get_hostname")
    assert told == [("domain_event_lifecycle", number) for number in range(3)]
    await conn.aclose()


async def test_what_cannot_be_sent_is_refused_here(daemon: FarDaemon) -> None:
    conn = await connect_daemon(daemon.uri)
    with pytest.raises(InvalidArguments):
        await conn.call("domain_reboot", dom=DOM)
    with pytest.raises(InvalidArguments):
        await conn.call("domain_reboot", dom=DOM, flags="many")
    with pytest.raises(UnsupportedCall):
        await conn.call("domain_open_graphics_fd", dom=DOM, idx=0, flags=0)
    assert (await conn.call("connect_get_hostname")).hostname == "far"
    await conn.aclose()
