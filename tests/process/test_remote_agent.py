"""The remote driver in a whole agent: our gateway before it, our gateway (as the far host) behind it."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pytest

import virtroupe
from client.event import Event
from tests.process.agent import Agent

pytestmark = [pytest.mark.process, pytest.mark.slow]

XML = "<domain type='test'><name>far</name><memory>65536</memory><os><type>hvm</type></os></domain>"


@pytest.fixture(scope="module")
def far() -> Iterator[Agent]:
    with Agent("[test]\nkeep = true\n") as agent:
        yield agent


@pytest.fixture(scope="module")
def near() -> Iterator[Agent]:
    with Agent() as agent:
        yield agent


def test_virsh_reaches_the_far_hosts_guests_through_two_gateways(near: Agent, far: Agent) -> None:
    name = quote(far.libvirt_uri("test:///default"), safe="")
    uri = f"test+unix:///default?socket={near.paths.libvirt_socket}&name={name}"
    listed = near._checked(["virsh", "-c", uri, "list", "--all", "--name"], True, None, 60.0).stdout.split()
    assert listed == ["test"]
    near._checked(["virsh", "-c", uri, "suspend", "test"], True, None, 60.0)
    assert far.virsh("test:///default", "domstate", "test").stdout.strip() == "paused"
    # changed behind the near agent's back, without an event: what it says is still true
    far.virsh("test:///default", "autostart", "test")
    told = near._checked(["virsh", "-c", uri, "dominfo", "test"], True, None, 60.0).stdout
    assert "Autostart:      enable" in told
    far.virsh("test:///default", "autostart", "test", "--disable")
    near._checked(["virsh", "-c", uri, "resume", "test"], True, None, 60.0)
    wrong = near._checked(["virsh", "-c", uri, "dominfo", "nobody"], False, None, 60.0)
    assert "failed to get domain 'nobody'" in wrong.stderr


async def test_events_of_the_far_host_have_our_guarantees(near: Agent, far: Agent) -> None:
    scope = far.libvirt_uri("test:///default")
    async with virtroupe.connect(scope, root=near.root) as conn:
        stream = conn.events(kinds=["lifecycle"])
        async with stream:
            dom = await conn.define(XML)
            await asyncio.to_thread(far.virsh, "test:///default", "start", "far")
            kill_actor(near, "remote")
            await asyncio.to_thread(far.virsh, "test:///default", "destroy", "far")
            await dom.undefine(timeout=30)
            seen: list[Event] = []
            async with asyncio.timeout(30):
                while not seen or seen[-1].data["event"] != 1:
                    event = await anext(stream)
                    assert isinstance(event, Event)
                    seen.append(event)
    assert [event.data["event"] for event in seen] == [0, 2, 5, 1]
    assert {event.scope for event in seen} == {scope}


def kill_actor(agent: Agent, name: str) -> None:
    """Kills an actor and waits until its successor is ready."""
    before = agent.status()["actors"][name]
    os.kill(before["pid"], signal.SIGKILL)
    end = time.monotonic() + 20
    while True:
        now = agent.status()["actors"][name]
        if now["pid"] != before["pid"] and now["state"] == "ready":
            return
        assert time.monotonic() < end
        time.sleep(0.05)


async def test_the_library_speaks_to_our_gateway_as_to_any_daemon(far: Agent) -> None:
    uri = far.libvirt_uri("test:///default")
    async with virtroupe.connect(uri) as conn, conn.events(kinds=["lifecycle"]) as stream:
        assert [guest.name for guest in await conn.list_guests()] == ["test"]
        dom = await conn.domain("test")
        await dom.suspend()
        await dom.resume()
        async with asyncio.timeout(10):
            seen = [await anext(stream), await anext(stream)]
    assert [event.data["event"] for event in seen if isinstance(event, Event)] == [3, 4]


def test_the_command_speaks_to_a_daemon_without_an_agent(far: Agent, near: Agent) -> None:
    uri = far.libvirt_uri("test:///default")
    words = [str(Path(sys.executable).with_name("virtroupe")), "-c", uri, "list", "--json"]
    (guest,) = json.loads(near._checked(words, True, None, 60.0).stdout)
    assert guest["name"] == "test"
