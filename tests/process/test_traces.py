"""One trace id leads through the logs of every process that a call passed."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

import virtroupe
from tests.process.agent import Agent

pytestmark = pytest.mark.process


def lines(agent: Agent, trace: str) -> dict[str, list[dict[str, Any]]]:
    """The log lines with that trace id, by the role that wrote them."""
    found: dict[str, list[dict[str, Any]]] = {}
    for path in agent.paths.log.glob("*.log"):
        for text in path.read_text().splitlines():
            if text.startswith("{") and (line := json.loads(text)).get("trace") == trace:
                found.setdefault(line["role"], []).append(line)
    return found


async def suspend_and_resume(agent: Agent, trace: str) -> list[str | None]:
    """Two calls of a native client and the traces of the events that they cause; only the first trace is given."""
    async with virtroupe.connect("test:///default", root=agent.root) as conn:
        domain = await conn.domain("test")
        async with conn.events(kinds=["lifecycle"]) as events:
            await domain.suspend(trace=trace)
            await domain.resume()
            async with asyncio.timeout(10):
                told = [await anext(events), await anext(events)]
    return [event.trace for event in told if isinstance(event, virtroupe.Event)]


def test_a_trace_id_stands_in_the_logs_of_all_processes_and_in_the_event() -> None:
    with Agent("[log]\njson = true\n") as agent:
        given, made = asyncio.run(suspend_and_resume(agent, "order-66"))
        assert given == "order-66"
        assert made and made != given
        for trace, procedure in ((given, "domain_suspend"), (made, "domain_resume")):
            agent.wait_until(lambda trace=trace: {"broker", "test"} <= set(lines(agent, trace)), f"lines of {trace}")  # type: ignore[misc]
            assert {line["procedure"] for role in lines(agent, trace).values() for line in role} == {procedure}

        agent.virsh("test:///default", "suspend", "test")
        calls = [
            json.loads(text)
            for text in (agent.paths.log / "gateway.log").read_text().splitlines()
            if '"domain_suspend"' in text
        ]
        trace = calls[-1]["trace"]
        agent.wait_until(lambda: {"gateway", "broker", "test"} <= set(lines(agent, trace)), f"lines of {trace}")
