"""Milliseconds from kill -9 of a role to the next successful call, and what each process costs in memory."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

from broker.peer import Peer
from schema.body import pack_args
from schema.table import need_procedure
from tests.bench.report import Measure, median
from tests.process.agent import Agent
from tests.storm.weather import pid_of_role

URI = "test:///default"
ROUNDS = 9


def pss_mib(pid: int) -> float:
    """Proportional share of a process's memory, in MiB."""
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii").splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) / 1024
    return 0.0


async def recoveries(agent: Agent, role: str) -> list[float]:
    """Seconds from each kill to the next call that succeeded."""
    peer = await Peer.connect_client(agent.paths, program="bench-recovery")
    asking = need_procedure("connect_get_max_vcpus")
    body = pack_args(asking, {"type": None})
    times = []
    for _ in range(ROUNDS):
        await peer.call("test", asking.name, body, scope=URI, deadline_s=30)
        await asyncio.sleep(1)
        old = agent.kill(role)
        begin = time.perf_counter()
        await peer.call("test", asking.name, body, scope=URI, deadline_s=30)
        times.append(time.perf_counter() - begin)
        while pid_of_role(agent.paths, role) in (None, old):
            await asyncio.sleep(0.01)
    await peer.aclose()
    return times


def measure() -> list[Measure]:
    """Milliseconds and MiB."""
    rows = []
    with Agent("[warden]\ncrashes_per_period = 1000\n") as agent:
        agent.run("-c", URI, "list")
        for role in ("broker", "warden", "gateway", "test"):
            pid = pid_of_role(agent.paths, role)
            rows.append(Measure(f"memory of {role} (PSS)", pss_mib(pid) if pid else 0.0, "MiB"))
        for role in ("test", "broker", "warden", "gateway"):
            times = asyncio.run(recoveries(agent, role))
            goal = 300 if role == "test" else None
            rows.append(Measure(f"kill -9 of {role} to next call, median", median(times) * 1e3, "ms", goal=goal))
    return rows
