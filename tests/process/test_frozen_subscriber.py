"""A subscriber that is stopped for many events costs no process of a whole agent memory, and loses nothing.

Here each event is a change on disk; test_broker_pressure stops one for 100,000 events of a driver that writes nothing.
"""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
import uuid
from pathlib import Path

import pytest

from broker.peer import Peer
from client.event import event_from_record
from schema.body import pack_args
from schema.objects import DomainRef
from schema.table import need_procedure
from tests.process.agent import Agent
from tests.storm.test_storm import small_domain as document_of
from tests.storm.weather import pid_of_role, rss_kib

CLIENTS = 16
URI = "test:///default"
GROWTH_KIB = 64 * 1024


async def changes(peer: Peer, guest: DomainRef, count: int) -> None:
    """Suspends and resumes one guest; each is one event."""
    bodies = [(name, pack_args(need_procedure(name), {"dom": guest})) for name in ("domain_suspend", "domain_resume")]
    for _ in range(count // 2):
        for name, body in bodies:
            await peer.call("test", name, body, scope=URI, key=guest.uuid, deadline_s=60)


async def new_guest(peer: Peer, name: str) -> DomainRef:
    guest = DomainRef(name, uuid.uuid4().bytes, -1)
    creating = need_procedure("domain_create_xml")
    xml = document_of(name, uuid.UUID(bytes=guest.uuid))
    await peer.call("test", creating.name, pack_args(creating, {"xml_desc": xml, "flags": 0}), scope=URI, deadline_s=60)
    return guest


def start_subscriber(agent: Agent, notes: Path, after: str) -> subprocess.Popen[bytes]:
    """A subscriber in a process of its own, which can be stopped."""
    program = Path(__file__).with_name("subscriber.py")
    words = [sys.executable, str(program), str(agent.root), URI, str(notes), after]
    return subprocess.Popen(words, stdin=subprocess.DEVNULL, cwd=program.parents[2])


@pytest.mark.process
@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("events", [16_000, pytest.param(100_000, marks=pytest.mark.soak)])
async def test_a_frozen_subscriber_costs_nobody_memory_and_loses_nothing(tmp_path: Path, events: int) -> None:
    notes = tmp_path / "notes"
    with Agent() as agent:
        peers = [await Peer.connect_client(agent.paths, program=f"maker{n}") for n in range(CLIENTS)]
        guests = [await new_guest(peer, f"busy{n}") for n, peer in enumerate(peers)]
        begin = await peers[0].head()
        subscriber = start_subscriber(agent, notes, str(begin))
        try:
            async with asyncio.timeout(20):
                while not notes.exists() or "listening" not in notes.read_text(encoding="ascii"):
                    await asyncio.sleep(0.05)
            subscriber.send_signal(signal.SIGSTOP)
            roles = ("broker", "test", "gateway", "warden")
            # what a first thousand events cost is warmth, not growth
            await asyncio.gather(*(changes(p, g, 500) for p, g in zip(peers, guests, strict=True)))
            before = {role: rss_kib(pid_of_role(agent.paths, role) or 0) for role in roles}
            share = events // CLIENTS
            await asyncio.gather(*(changes(p, g, share) for p, g in zip(peers, guests, strict=True)))
            after = {role: rss_kib(pid_of_role(agent.paths, role) or 0) for role in roles}
            grown = {role: after[role] - before[role] for role in roles if after[role] - before[role] > GROWTH_KIB}
            assert not grown, (before, after)
            subscriber.send_signal(signal.SIGCONT)

            head = await peers[0].head()
            wanted = []
            async for cursor, body in peers[0].replay(begin, ["test"]):
                if tuple(cursor) <= tuple(head):
                    event = event_from_record(cursor, body)
                    wanted.append(f"{event.cursor} {event.source} {event.epoch} {event.seq} {event.kind}")
            assert len(wanted) >= events
            async with asyncio.timeout(120):
                while notes.stat().st_size < sum(len(line) + 1 for line in wanted):
                    assert subscriber.poll() is None, "the subscriber ended"
                    await asyncio.sleep(0.2)
            noted = [line for line in notes.read_text(encoding="ascii").splitlines() if line != "listening"]
            assert noted[: len(wanted)] == wanted
        finally:
            subscriber.send_signal(signal.SIGCONT)
            subscriber.kill()
            subscriber.wait()
        for peer in peers:
            await peer.aclose()
