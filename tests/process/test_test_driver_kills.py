"""The test driver is killed in the middle of changes, and what it answers afterwards."""

from __future__ import annotations

import itertools
import subprocess
import threading
from collections.abc import Iterator

import pytest

from tests.process.agent import Agent

pytestmark = [pytest.mark.process, pytest.mark.slow]

URI = "test:///default"
KILLS = 6


@pytest.fixture(scope="module")
def agent() -> Iterator[Agent]:
    with Agent() as agent:
        yield agent


def definition(name: str) -> str:
    return f"<domain type='test'><name>{name}</name><memory>2048</memory><os><type>hvm</type></os></domain>"


def names(agent: Agent) -> set[str]:
    listed = agent.virsh(URI, "list", "--all", "--name").stdout
    return {line for line in listed.split("\n") if line}


def test_every_definition_that_was_acknowledged_survives_kills(agent: Agent) -> None:
    acknowledged: list[str] = []
    failed: list[str] = []
    stop = threading.Event()
    words = ["virsh", "-c", agent.libvirt_uri(URI), "define", "/dev/stdin"]

    def define_guests() -> None:
        for number in itertools.count():
            if stop.is_set():
                return
            name = f"kept-{number}"
            done = subprocess.run(
                words, input=definition(name), capture_output=True, text=True, timeout=60, check=False
            )
            (acknowledged if done.returncode == 0 else failed).append(name)

    # without a client that stays, the default state would come back after each virsh
    holder = subprocess.Popen(["virsh", "-q", "-c", agent.libvirt_uri(URI)], stdin=subprocess.PIPE, text=True)
    worker = threading.Thread(target=define_guests)
    try:
        assert holder.stdin is not None
        worker.start()
        for _ in range(KILLS):
            before = len(acknowledged)
            killed = agent.kill("test")
            agent.wait_for_pid("test", other_than=killed)
            agent.wait_ready("test")
            deadline = threading.Event()
            while len(acknowledged) == before and worker.is_alive():
                deadline.wait(0.02)
        stop.set()
        worker.join(60)
        assert not worker.is_alive()
        assert failed == []
        assert set(acknowledged) | {"test"} == names(agent)
    finally:
        stop.set()
        holder.stdin.close()  # type: ignore[union-attr]
        holder.wait(20)
        worker.join(60)


def test_default_state_comes_back_when_virsh_leaves(agent: Agent) -> None:
    agent.virsh(URI, "destroy test; undefine test; list --all")
    assert names(agent) == {"test"}


def test_change_of_a_native_client_stays(agent: Agent) -> None:
    agent.run("-c", URI, "define", "/dev/stdin", input=definition("native"))
    agent.virsh(URI, "destroy", "test")
    killed = agent.kill("test")
    agent.wait_for_pid("test", other_than=killed)
    assert names(agent) == {"native", "test"}
    assert agent.virsh(URI, "domstate", "test").stdout.strip() == "shut off"
