"""The command against a whole agent: drivers that are down for good, an agent that is ended and started again."""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import virtroupe
from tests.process.agent import Agent

pytestmark = [pytest.mark.process, pytest.mark.timeout(120)]

URI = "test:///default"
VIRTROUPE = str(Path(sys.executable).with_name("virtroupe"))


@pytest.fixture(scope="module")
def agent() -> Iterator[Agent]:
    with Agent("[warden]\ncrashes_per_period = 2\n") as made:
        yield made


def ask(agent: Agent, *args: str) -> subprocess.CompletedProcess[str]:
    return agent.run("-c", URI, *args, check=False)


def crash_until_degraded(agent: Agent) -> None:
    end = time.monotonic() + 30
    while ask(agent, "info", "test").returncode != 6:
        assert time.monotonic() < end
        if (pid := agent.pid("test")) is not None:
            os.kill(pid, signal.SIGKILL)
        time.sleep(0.05)


def test_a_driver_that_is_down_for_good_is_told_as_such_and_comes_back(agent: Agent) -> None:
    crash_until_degraded(agent)
    refused = ask(agent, "suspend", "test")
    assert refused.returncode == 6
    assert "degraded" in refused.stderr and "virtroupe actor reset test" in refused.stderr
    listed = ask(agent, "list")
    assert listed.returncode == 0
    assert listed.stdout.splitlines()[-1].startswith(" 1    test   unknown for ")
    (guest,) = json.loads(ask(agent, "list", "--json").stdout)
    assert guest["unknown"] is True and guest["age_s"] >= 0
    assert ask(agent, "domstate", "test").stdout.startswith("unknown")
    assert "degraded" in ask(agent, "top", "--once").stdout
    agent.run("actor", "reset", "test")
    assert ask(agent, "list").stdout.splitlines()[-1] == " 1    test   running"


async def test_an_unknown_state_is_marked_in_the_library(agent: Agent) -> None:
    crash_until_degraded(agent)
    async with virtroupe.connect(URI, root=agent.root) as conn:
        domain = await conn.domain("test")
        state = await domain.state()
        assert state.unknown and state.age_s is not None
        assert state.state is virtroupe.DomainState.NOSTATE
        with pytest.raises(virtroupe.DriverDegraded):
            await domain.info()
        assert (await conn.snapshot()).unknown == ["test"]
        agent.run("actor", "reset", "test")
        assert not (await domain.state()).unknown


def test_events_go_on_when_the_agent_is_ended_and_started_again(agent: Agent) -> None:
    with virtroupe.sync.connect(URI, root=agent.root) as conn:
        cursor = conn.cursor()
    with subprocess.Popen(
        [VIRTROUPE, "--root", str(agent.root), "-c", URI, "events", "--json", "--after", str(cursor), "--count", "4"],
        stdout=subprocess.PIPE,
        text=True,
    ) as watching:
        try:
            assert ask(agent, "suspend", "test").returncode == 0
            assert watching.stdout is not None
            first = watching.stdout.readline()
            assert ask(agent, "resume", "test").returncode == 0
            agent.run("down")
            gone = ask(agent, "list")
            assert gone.returncode == 3
            assert "virtroupe up" in gone.stderr and "door.sock" in gone.stderr
            agent.start()
            assert ask(agent, "suspend", "test").returncode == 0
            assert ask(agent, "resume", "test").returncode == 0
            rest, _ = watching.communicate(timeout=30)
        finally:
            watching.kill()
    told = [json.loads(line) for line in (first, *rest.splitlines())]
    assert [item["event"] for item in told] == ["suspended", "resumed", "suspended", "resumed"]
    assert len({item["cursor"] for item in told}) == 4


def test_a_start_of_the_command_is_quick(agent: Agent) -> None:
    def took_s() -> float:
        # processor time: what else runs on the host must not matter
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        assert ask(agent, "list").returncode == 0
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime

    assert min(took_s() for _ in range(5)) < 5 * 0.25
