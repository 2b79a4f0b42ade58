"""A running guest, three subscribers and a client that never stops calling, while each role is killed in turn."""

from __future__ import annotations

import asyncio
import signal
import statistics
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

import virtroupe
from broker.peer import Peer
from client.event import event_from_record
from schema.body import pack_args
from schema.errors import VirtError
from schema.objects import DomainRef
from schema.table import need_procedure
from tests.process.agent import Agent
from tests.real.guest import RealGuest, needs_qemu, qemu_pid
from tests.storm.checker import WRITTEN_VERDICTS
from tests.storm.clients import happening_of, write_down
from tests.storm.history import Happening
from tests.storm.weather import Process, pid_of_role, processes_of_agent

pytestmark = [pytest.mark.real, pytest.mark.slow, pytest.mark.timeout(300)]

URI = "qemu:///system"
RECOVERY_S = 0.3  # the promise; a test allows five times as much
CONFIG = "[warden]\ncrashes_per_period = 1000\n"


@dataclass
class Caller:
    """A native client in a closed loop of a read, a read of the guest's own monitor, and a change."""

    agent: Agent
    guest: RealGuest
    good: list[float] = field(default_factory=list)
    verdicts: list[str] = field(default_factory=list)
    failed_reads: list[str] = field(default_factory=list)

    async def run(self) -> None:
        ref = DomainRef(self.guest.name, self.guest.uuid.bytes, -1)
        autostart = 0
        peer = await Peer.connect_client(self.agent.paths, program="survival", wait_s=60)
        try:
            while True:
                await self._read(peer, "domain_get_state", {"dom": ref, "flags": 0})
                await self._read(peer, "domain_get_info", {"dom": ref})
                autostart ^= 1
                verdict = await self._call(peer, "domain_set_autostart", {"dom": ref, "autostart": autostart})
                self.verdicts.append(verdict)
                await asyncio.sleep(0.005)
        finally:
            await peer.aclose()

    async def _read(self, peer: Peer, procedure: str, arguments: dict[str, object]) -> None:
        verdict = await self._call(peer, procedure, arguments)
        if verdict != "ok":
            self.failed_reads.append(f"{procedure}: {verdict}")

    async def _call(self, peer: Peer, procedure: str, arguments: dict[str, object]) -> str:
        body = pack_args(need_procedure(procedure), arguments)
        try:
            await peer.call("qemu", procedure, body, scope=URI, key=self.guest.uuid.bytes, deadline_s=60.0)
        except VirtError as error:
            return error.kind
        self.good.append(time.monotonic())
        return "ok"

    async def next_good(self, after: float, limit_s: float) -> float:
        """Seconds from `after` to the next call that succeeded entirely later."""
        end = time.monotonic() + limit_s
        seen = len(self.good)
        while time.monotonic() < end:
            if len(self.good) > seen:
                return self.good[seen] - after
            await asyncio.sleep(0.005)
        raise AssertionError(f"no call succeeded within {limit_s} s")


@asynccontextmanager
async def subscriber(agent: Agent, after: object, seen: list[Happening]) -> AsyncIterator[asyncio.Task[None]]:
    async def listen() -> None:
        async with virtroupe.connect(URI, root=agent.root) as conn, conn.events(after=after) as stream:
            await write_down(stream, seen)

    task = asyncio.create_task(listen())
    try:
        yield task
    finally:
        task.cancel()
        await asyncio.wait({task})


async def settled(role: str, agent: Agent, old: int | None) -> None:
    """Another process serves in the role."""
    async with asyncio.timeout(30):
        while (pid := pid_of_role(agent.paths, role)) is None or pid == old:
            await asyncio.sleep(0.01)


async def test_every_role_is_killed_while_a_guest_runs(tmp_path: Path) -> None:
    needs_qemu()
    with Agent(CONFIG) as agent:
        guest = RealGuest("survivor", log=tmp_path / "console.log")
        (tmp_path / "survivor.xml").write_text(guest.xml(), encoding="utf-8")
        agent.run("-c", URI, "define", str(tmp_path / "survivor.xml"))
        watcher = await Peer.connect_client(agent.paths, program="watcher")
        begin = await watcher.head()
        histories: list[list[Happening]] = [[], [], []]
        async with (
            subscriber(agent, begin, histories[0]) as first,
            subscriber(agent, begin, histories[1]) as second,
            subscriber(agent, begin, histories[2]) as third,
        ):
            await asyncio.to_thread(agent.run, "-c", URI, "start", "survivor")
            pid = qemu_pid(guest.uuid)
            assert pid is not None
            caller = Caller(agent, guest)
            calling = asyncio.create_task(caller.run())
            await caller.next_good(time.monotonic(), 20)

            recovery: dict[str, list[float]] = {}
            for role in ("qemu", "broker", "gateway", "warden") * 3:
                old = agent.kill(role, signal.SIGKILL)
                killed = time.monotonic()
                recovery.setdefault(role, []).append(await caller.next_good(killed, 30))
                await settled(role, agent, old)
                assert qemu_pid(guest.uuid) == pid, f"killing {role} changed the guest's process"
                await asyncio.sleep(0.3)

            # supervisord: its tree must be gone before a new one serves
            # (the holder of libvirt's listening sockets serves nobody and outlives it, so that clients wait)
            tree = {p.pid for p in processes_of_agent(agent.paths) if _is_of_the_tree(p)}
            agent.kill("supervisord", signal.SIGKILL)
            async with asyncio.timeout(10):
                while any(_runs_ours(p) for p in tree):
                    await asyncio.sleep(0.01)
            await asyncio.to_thread(agent.start)
            await caller.next_good(time.monotonic(), 30)
            assert qemu_pid(guest.uuid) == pid
            assert not {p.pid for p in processes_of_agent(agent.paths)} & tree, "the old tree serves beside the new one"

            calling.cancel()
            await asyncio.wait({calling})
            assert not caller.failed_reads, caller.failed_reads[:5]
            assert set(caller.verdicts) <= WRITTEN_VERDICTS, set(caller.verdicts) - WRITTEN_VERDICTS
            assert statistics.median(recovery["qemu"]) < RECOVERY_S * 5, recovery

            await asyncio.to_thread(agent.run, "-c", URI, "destroy", "survivor")
            assert qemu_pid(guest.uuid) is None
            await asyncio.sleep(1)
            head = await watcher.head()
            journal = [happening_of(event_from_record(c, body)) async for c, body in watcher.replay(begin, ["qemu"])]
            wanted = [h for h in journal if (h.generation, h.offset) <= tuple(head)]
            for task, seen in zip((first, second, third), histories, strict=True):
                async with asyncio.timeout(20):
                    while len(_distinct(seen)) < len(wanted):
                        assert not task.done(), task
                        await asyncio.sleep(0.05)
                assert _distinct(seen) == wanted
            lifecycle = [h.data["event"] for h in wanted if h.kind == "domain_event_lifecycle"]
            # QEMU may come to say that it is told to end
            assert [one for one in lifecycle if one != 6] == [4, 2, 5], "resumed, started and stopped, and nothing else"
        await watcher.aclose()


def _distinct(seen: list[Happening]) -> list[Happening]:
    return list({(h.generation, h.offset): h for h in seen}.values())


def _is_of_the_tree(process: Process) -> bool:
    return "qemu-system" not in process.words[0] and "gateway.holder" not in process.words


def _runs_ours(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b") ")[2][:1]
    except OSError:
        return False
    return state not in (b"Z", b"X")
