"""Hundreds of kills under load: each call has its verdict, each event is seen once and in order, nothing is lost."""

from __future__ import annotations

import os
import uuid
from pathlib import Path

import pytest

from tests.process.agent import Agent
from tests.real.guest import needs_qemu, qemu_pid
from tests.storm.checker import check
from tests.storm.storm import Outcome, Plan, weather_a_storm
from tests.storm.weather import processes_of_agent

CONFIG = """
[warden]
crashes_per_period = 100000

[log]
level = "info"
"""
ROLES = ("test", "test", "test", "broker", "gateway", "warden")


def small_domain(name: str, identity: uuid.UUID, title: str = "storm") -> str:
    """A definition that differs with its title, so that each new one is a change."""
    return (
        f"<domain type='test'><name>{name}</name><uuid>{identity}</uuid><title>{title}</title>"
        "<memory unit='KiB'>8192</memory><vcpu>1</vcpu><os><type>hvm</type></os></domain>"
    )


def assert_weathered(outcome: Outcome, paths: object, record: Path) -> None:
    faults = check(outcome.history)
    assert not faults, f"{len(faults)} broken promises ({record}):\n" + "\n".join(faults[:20])
    assert not outcome.reads_failed, outcome.reads_failed[:10]
    assert outcome.calls > outcome.history.journal.__len__() // 10
    assert outcome.history.journal, "a storm without one event proves nothing"


def assert_flat(outcome: Outcome, limit_kib: int) -> None:
    """Memory at the end is what it was after the first fifth, give or take a little."""
    for role in ("broker", "test"):
        samples = [s[role] for s in outcome.memory_kib if s.get(role)]
        if len(samples) < 10:
            continue
        fifth = max(len(samples) // 5, 3)
        early, late = max(samples[:fifth]), sorted(samples[-fifth:])[fifth // 2]
        assert late - early < limit_kib, f"{role} grew from {early} to {late} KiB: {samples}"


async def weather(agent: Agent, kills: int, record: Path, seed: int) -> Outcome:
    plan = Plan(
        uri="test:///default",
        driver="test",
        document=small_domain,
        kills=kills,
        roles=ROLES,
        seed=seed,
        limit_s=kills * 1.5 + 60,
    )
    return await weather_a_storm(agent.root, agent.paths, plan, record)


@pytest.mark.process
@pytest.mark.slow
@pytest.mark.timeout(900)
async def test_five_hundred_kills_break_no_promise(tmp_path: Path) -> None:
    with Agent(CONFIG) as agent:
        record = tmp_path / "history.jsonl"
        outcome = await weather(agent, int(os.environ.get("VIRTROUPE_STORM_KILLS", "500")), record, seed=7)
        assert_weathered(outcome, agent.paths, record)
        assert_flat(outcome, 40 * 1024)
        zombies = [p for p in processes_of_agent(agent.paths) if p.state == "Z"]
        assert len(zombies) <= 1, zombies  # one may be on its way from the kill to the reap
    assert not list(processes_of_agent(agent.paths)), "processes outlived their agent"


def small_guest(name: str, identity: uuid.UUID, title: str = "storm") -> str:
    """A real guest without anything to boot, which starts quickly."""
    return (
        f"<domain type='qemu'><name>{name}</name><uuid>{identity}</uuid><title>{title}</title>"
        "<memory unit='MiB'>32</memory><vcpu>1</vcpu><os><type arch='x86_64' machine='pc'>hvm</type></os></domain>"
    )


@pytest.mark.real
@pytest.mark.slow
@pytest.mark.timeout(400)
async def test_fifty_kills_amid_real_starts_break_no_promise(tmp_path: Path) -> None:
    needs_qemu()
    with Agent(CONFIG) as agent:
        plan = Plan(
            uri="qemu:///system",
            driver="qemu",
            document=small_guest,
            kills=50,
            roles=("qemu",),
            clients=3,
            guests_per_client=2,
            seed=11,
            limit_s=200,
            pause_s=(0.05, 0.6),
        )
        record = tmp_path / "history.jsonl"
        outcome = await weather_a_storm(agent.root, agent.paths, plan, record)
        try:
            assert_weathered(outcome, agent.paths, record)
            guests = {op.object for op in outcome.history.operations if op.object}
            for guest in guests:
                runs = qemu_pid(uuid.UUID(hex=guest)) is not None
                state = outcome.history.final.get(guest)
                assert runs == (state in ("running", "paused")), (
                    f"{guest} is {state}, its process {'runs' if runs else 'is gone'}"
                )
        finally:
            for name in agent.run("-c", plan.uri, "list", "--all", "--name").stdout.split():
                agent.run("-c", plan.uri, "destroy", name, check=False)


@pytest.mark.soak
@pytest.mark.timeout(20000)
@pytest.mark.parametrize("seed", range(20))
async def test_ten_thousand_kills_break_no_promise(tmp_path: Path, seed: int) -> None:
    with Agent(CONFIG) as agent:
        record = tmp_path / "history.jsonl"
        outcome = await weather(agent, 500, record, seed)
        assert_weathered(outcome, agent.paths, record)
        assert_flat(outcome, 40 * 1024)
    assert not list(processes_of_agent(agent.paths)), "processes outlived their agent"
