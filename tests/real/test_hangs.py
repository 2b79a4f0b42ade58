"""Hangs, not only deaths: a stopped driver, a blocked loop, a leak, a crash loop are noticed, fenced and replaced."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from pathlib import Path

import pytest

from broker.peer import Peer
from schema.body import pack_args, unpack_result
from schema.errors import VirtError
from schema.objects import DomainRef
from schema.table import need_procedure
from tests.process.agent import Agent
from tests.real.guest import RealGuest, needs_qemu, qemu_pid
from tests.storm.checker import WRITTEN_VERDICTS
from tests.storm.weather import pid_of_role

pytestmark = [pytest.mark.real, pytest.mark.slow, pytest.mark.timeout(240)]

URI = "qemu:///system"
NOTICED_S = 5.0


async def test_a_stopped_driver_is_fenced_replaced_and_harmless_when_it_wakes(tmp_path: Path) -> None:
    needs_qemu()
    guest = RealGuest("calm", memory_mib=64, boots=False)
    document = tmp_path / "calm.xml"
    document.write_text(guest.xml(), encoding="utf-8")
    with Agent() as agent:
        agent.run("-c", URI, "define", str(document))
        agent.run("-c", URI, "start", guest.name)
        process = qemu_pid(guest.uuid)
        ref = DomainRef(guest.name, guest.uuid.bytes, -1)
        peer = await Peer.connect_client(agent.paths, program="hangs")
        old = pid_of_role(agent.paths, "qemu")
        assert old is not None
        os.kill(old, signal.SIGSTOP)
        stopped = time.monotonic()
        reading = need_procedure("domain_get_info")
        changing = need_procedure("domain_set_autostart")
        read, change = await asyncio.gather(
            peer.call("qemu", reading.name, pack_args(reading, {"dom": ref}), scope=URI, key=ref.uuid, deadline_s=40),
            peer.call(
                "qemu",
                changing.name,
                pack_args(changing, {"dom": ref, "autostart": 1}),
                scope=URI,
                key=ref.uuid,
                deadline_s=40,
            ),
            return_exceptions=True,
        )
        took = time.monotonic() - stopped
        assert not isinstance(read, BaseException), read
        assert not isinstance(change, BaseException) or (
            isinstance(change, VirtError) and change.kind in WRITTEN_VERDICTS
        ), change
        assert took < NOTICED_S * 2 + 2, f"noticed and replaced after {took:.1f} s"
        new = pid_of_role(agent.paths, "qemu")
        assert new not in (None, old)
        try:
            os.kill(old, signal.SIGCONT)
        except ProcessLookupError:
            pass  # fenced means killed where a signal reaches it
        await asyncio.sleep(1)
        assert pid_of_role(agent.paths, "qemu") == new, "the old process took the role back"
        reply = await peer.call(
            "qemu", reading.name, pack_args(reading, {"dom": ref}), scope=URI, key=ref.uuid, deadline_s=10
        )
        assert unpack_result(reading, reply.body).state == 1
        assert qemu_pid(guest.uuid) == process
        await peer.aclose()


async def test_a_crash_looping_driver_is_degraded_alone_and_reset_by_hand() -> None:
    with Agent("[warden]\ncrashes_per_period = 3\ncrash_period_s = 60.0\n") as agent:
        agent.run("-c", "test:///default", "list", "--all")
        for _ in range(40):
            pid = pid_of_role(agent.paths, "test")
            if pid is not None:
                os.kill(pid, signal.SIGKILL)
            await asyncio.sleep(0.25)
            status = agent.status()
            if status["actors"]["test"]["state"] == "degraded":
                break
        else:
            raise AssertionError(f"never degraded: {status['actors']['test']}")
        assert status["actors"]["test"]["why"]
        peer = await Peer.connect_client(agent.paths, program="degraded")
        listing = need_procedure("domain_get_info")
        ref = DomainRef("test", bytes.fromhex("6695eb01f6a4830479aa97f2502e193f"), -1)
        body = pack_args(listing, {"dom": ref})
        begin = time.monotonic()
        with pytest.raises(VirtError) as caught:
            await peer.call(
                "test",
                listing.name,
                pack_args(listing, {"dom": ref}),
                scope="test:///default",
                key=ref.uuid,
                deadline_s=20,
            )
        assert caught.value.kind == "DriverDegraded"
        assert time.monotonic() - begin < 5, "a degraded driver's callers are told at once"
        assert agent.virsh("test:///default", "domstate", "test").stdout.strip() in ("no state", "nostate")
        agent.run("actor", "reset", "test")
        reply = await peer.call("test", listing.name, body, scope="test:///default", key=ref.uuid, deadline_s=20)
        assert unpack_result(listing, reply.body).state == 1
        await peer.aclose()
