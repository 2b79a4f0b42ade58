"""The first thing a user does: define a guest, start it, see its console, shut it down, read what happened."""

from __future__ import annotations

import asyncio
import json
import time
from pathlib import Path

import pytest

import virtroupe
from tests.process.agent import Agent
from tests.real.guest import READY, RealGuest, needs_qemu, qemu_pid

pytestmark = [pytest.mark.real, pytest.mark.slow, pytest.mark.timeout(240)]

URI = "qemu:///system"


async def until(what: str, limit_s: float, holds: object) -> None:
    """Waits until `holds()` is true."""
    assert callable(holds)
    end = time.monotonic() + limit_s
    while not holds():
        assert time.monotonic() < end, f"not within {limit_s} s: {what}"
        await asyncio.sleep(0.05)


def text_of(path: Path) -> str:
    """What a file holds by now."""
    return path.read_text(errors="replace") if path.exists() else ""


async def test_a_guest_boots_prints_its_marker_and_shuts_down(tmp_path: Path) -> None:
    needs_qemu()
    console = tmp_path / "console.log"
    guest = RealGuest("first", log=console)
    document = tmp_path / "first.xml"
    document.write_text(guest.xml(), encoding="utf-8")
    with Agent() as agent:
        told: list[tuple[int, int]] = []

        async def listen() -> None:
            async with (
                virtroupe.connect(URI, root=agent.root) as conn,
                conn.events(after=start, kinds=["domain_event_lifecycle"]) as events,
            ):
                async for event in events:
                    assert isinstance(event, virtroupe.Event)
                    told.append((event.data["event"], event.data["detail"]))

        async with virtroupe.connect(URI, root=agent.root) as conn:
            start = await conn.cursor()
        listener = asyncio.create_task(listen())
        await asyncio.to_thread(agent.run, "-c", URI, "define", str(document))
        await asyncio.to_thread(agent.run, "-c", URI, "start", "first")
        listed = await asyncio.to_thread(agent.run, "-c", URI, "--json", "list", "--all")
        assert [(d["name"], d["state"]) for d in json.loads(listed.stdout)] == [("first", "running")]
        await until(
            "the console's marker", 60, lambda: console.exists() and READY in console.read_text(errors="replace")
        )
        await asyncio.to_thread(agent.run, "-c", URI, "shutdown", "first")
        await until("the guest's end", 60, lambda: qemu_pid(guest.uuid) is None)
        # defined, resumed, started, shutdown and stopped, each with libvirt's detail
        wanted = [(0, 0), (4, 0), (2, 0), (6, 1), (5, 0)]
        await until("the events", 10, lambda: len(told) >= len(wanted) or listener.done())
        assert told == wanted
        listener.cancel()
        await asyncio.wait({listener})
        await asyncio.to_thread(agent.run, "-c", URI, "undefine", "first")


async def test_the_same_through_virsh(tmp_path: Path) -> None:
    needs_qemu()
    console = tmp_path / "console.log"
    guest = RealGuest("through-virsh", log=console)
    document = tmp_path / "guest.xml"
    document.write_text(guest.xml(), encoding="utf-8")
    with Agent() as agent:
        watching = await asyncio.create_subprocess_exec(
            "virsh",
            "-c",
            agent.libvirt_uri(URI),
            "event",
            "--all",
            "--loop",
            "--timeout",
            "150",
            stdout=asyncio.subprocess.PIPE,
            stdin=asyncio.subprocess.DEVNULL,
        )
        try:
            await asyncio.sleep(2)
            for words in (["define", str(document)], ["start", guest.name]):
                await asyncio.to_thread(agent.virsh, URI, *words)
            assert "running" in (await asyncio.to_thread(agent.virsh, URI, "list")).stdout
            await until("the marker", 60, lambda: READY in text_of(console))
            await asyncio.to_thread(agent.virsh, URI, "shutdown", guest.name)
            await until("the guest's end", 60, lambda: qemu_pid(guest.uuid) is None)
            await asyncio.to_thread(agent.virsh, URI, "undefine", guest.name)
            await asyncio.sleep(1)
        finally:
            watching.terminate()
        told = (await watching.stdout.read()).decode() if watching.stdout else ""
        await watching.wait()
        lines = [line for line in told.splitlines() if "'lifecycle'" in line]
        said = [line.split(": ", 1)[1] for line in lines]
        assert said == [
            "Defined Added",
            "Resumed Unpaused",
            "Started Booted",
            "Shutdown Finished after guest request",
            "Stopped Shutdown",
            "Undefined Removed",
        ], told
