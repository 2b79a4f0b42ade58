"""Milliseconds from the call that changes a guest to its event at the last of many native subscribers."""

from __future__ import annotations

import asyncio
import time
import uuid
from contextlib import AsyncExitStack

import virtroupe
from broker.peer import Peer
from schema.body import pack_args
from schema.objects import DomainRef
from schema.table import need_procedure
from tests.bench.report import Measure, median, percentile
from tests.process.agent import Agent

URI = "test:///default"
ROUNDS = 60


async def fan_out(agent: Agent, subscribers: int) -> list[float]:
    """Seconds until the last subscriber had each event. All subscribers live in this process, as many tasks."""
    arrived = 0
    everybody = asyncio.Event()

    async def listen(conn: virtroupe.Connection, ready: asyncio.Event) -> None:
        nonlocal arrived
        async with conn.events(kinds=["domain_event_lifecycle"]) as events:
            ready.set()
            async for _ in events:
                arrived += 1
                if arrived == subscribers:
                    everybody.set()

    times = []
    async with AsyncExitStack() as stack:
        tasks = []
        for _ in range(subscribers):
            conn = await stack.enter_async_context(virtroupe.connect(URI, root=agent.root))
            ready = asyncio.Event()
            tasks.append(asyncio.create_task(listen(conn, ready)))
            await ready.wait()
        await asyncio.sleep(1)
        peer = await Peer.connect_client(agent.paths, program="bench-events")
        guest = DomainRef("test", uuid.UUID("6695eb01-f6a4-8304-79aa-97f2502e193f").bytes, -1)
        for n in range(ROUNDS):
            name = ("domain_suspend", "domain_resume")[n % 2]
            arrived = 0
            everybody.clear()
            begin = time.perf_counter()
            await peer.call("test", name, pack_args(need_procedure(name), {"dom": guest}), scope=URI, key=guest.uuid)
            async with asyncio.timeout(10):
                await everybody.wait()
            times.append(time.perf_counter() - begin)
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        await peer.aclose()
    return times


def measure() -> list[Measure]:
    """Milliseconds."""
    rows = []
    with Agent() as agent:
        for subscribers in (1, 10, 100):
            times = asyncio.run(fan_out(agent, subscribers))
            rows.append(
                Measure(
                    f"event to the last of {subscribers} subscribers, p50",
                    median(times) * 1e3,
                    "ms",
                    note=f"p99 {percentile(times, 0.99) * 1e3:.1f} ms; all subscribers share one process here",
                )
            )
    return rows
