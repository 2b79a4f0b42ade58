"""A driver on the runtime, as a process beside a real broker: killed, stopped, restarted."""

from __future__ import annotations

import asyncio
import os
import pwd
import re
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from broker.peer import Peer
from broker.stream import Stream, open_ticket
from broker.wire import Cursor
from schema.body import pack_args, unpack_result
from schema.errors import CallPending, DeadlinePassed, VirtError
from schema.table import need_procedure
from tests.process.broker_process import REPOSITORY, BrokerHouse

pytestmark = pytest.mark.process

SCOPE = "toy:///"


class ToyHouse(BrokerHouse):
    """A broker and the toy actor."""

    def __init__(self, config: str = "") -> None:
        super().__init__(config)
        self.paths.token("toy").write_bytes(secrets.token_bytes(32))
        self.paths.token("toy").chmod(0o600)
        self.actor: subprocess.Popen[bytes] | None = None
        self.actor_log = self.root / "toy.log"

    def start_actor(self) -> int:
        with self.actor_log.open("ab") as log:
            self.actor = subprocess.Popen(
                [sys.executable, "-m", "tests.process.toy_actor"],
                env={**os.environ, "VIRTROUPE_ROOT": str(self.root)},
                cwd=REPOSITORY,
                stdin=subprocess.DEVNULL,
                stderr=log,
            )
        return self.actor.pid

    def end_actor(self, number: int = signal.SIGKILL) -> int:
        assert self.actor is not None
        self.actor.send_signal(number)
        return self.actor.wait(timeout=20)

    def close(self) -> None:
        if self.actor is not None and self.actor.poll() is None:
            self.actor.kill()
            self.actor.wait(timeout=20)
        super().close()


class Client:
    """A native client of the toy actor."""

    def __init__(self, peer: Peer) -> None:
        self.peer = peer

    async def call(self, procedure: str, *, deadline_s: float = 20.0, key: str | None = None, **args: Any) -> Any:
        row = need_procedure(procedure)
        reply = await self.peer.call(
            "toy", procedure, pack_args(row, args), scope=SCOPE, deadline_s=deadline_s, idempotency_key=key
        )
        return unpack_result(row, reply.body)

    async def history(self) -> list[dict[str, Any]]:
        """Every record of the journal."""
        return [msgspec.msgpack.decode(record) async for _, record in self.peer.replay(Cursor(0, 0))]


@pytest.fixture
async def house() -> AsyncIterator[ToyHouse]:
    house = ToyHouse()
    house.start_broker()
    house.start_actor()
    try:
        yield house
    finally:
        await asyncio.to_thread(house.close)


@pytest.fixture
async def client(house: ToyHouse) -> AsyncIterator[Client]:
    peer = await Peer.connect_client(house.paths)
    yield Client(peer)
    await peer.aclose()


def check_history(records: list[dict[str, Any]]) -> None:
    assert [record["seq"] for record in records] == list(range(1, len(records) + 1))
    epochs: list[int] = []
    for before, record in zip([None, *records], records, strict=False):
        if not epochs or record["epoch"] != epochs[-1]:
            epochs.append(record["epoch"])
            assert record["kind"] == "epoch"
            previous = [0, 0] if before is None else [before["epoch"], before["seq"]]
            assert record["data"]["previous"] == previous
    assert epochs == sorted(set(epochs))


async def test_calls_and_events_of_a_real_actor(house: ToyHouse, client: Client) -> None:
    ref = (await client.call("domain_define_xml_flags", xml="a", flags=0)).dom
    assert (await client.call("domain_create_with_flags", dom=ref, flags=0)).dom.id == 1
    listed = await client.call("connect_list_all_domains", need_results=1, flags=0)
    assert [(d.name, d.id) for d in listed.domains] == [("a", 1)]
    records = await client.history()
    check_history(records)
    assert [record["data"].get("event") for record in records] == [None, 0, 2]
    assert len({record["call"] for record in records}) == 3
    ping = await client.call("actor_ping")
    assert house.actor is not None
    assert ping.pid == house.actor.pid
    snapshot = await client.call("actor_snapshot")
    assert (snapshot.seq, [o["name"] for o in snapshot.objects]) == (3, ["a"])


async def test_killed_under_load_nothing_is_lost_or_done_twice(house: ToyHouse, client: Client) -> None:
    """Each define is refused when it comes a second time, so a doubled effect would be an error here."""

    async def define(number: int) -> str:
        ref = (await client.call("domain_define_xml_flags", xml=f"g{number}", flags=1)).dom
        return str(ref.name)

    names: set[str] = set()
    for round_ in range(4):
        work = [asyncio.create_task(define(round_ * 100 + n)) for n in range(30)]
        await asyncio.sleep(0.03 + 0.02 * round_)
        house.end_actor()
        house.start_actor()
        names |= set(await asyncio.gather(*work))
    assert len(names) == 120
    records = await client.history()
    check_history(records)
    defined = [r["object"][2] for r in records if r["data"].get("event") == 0]
    assert sorted(defined) == sorted(names)
    listed = await client.call("connect_list_all_domains", need_results=1, flags=0)
    assert {d.name for d in listed.domains} == names


async def test_killed_in_a_stuck_change_it_runs_again(house: ToyHouse, client: Client) -> None:
    ref = (await client.call("domain_define_xml_flags", xml="a", flags=0)).dom
    stuck = asyncio.create_task(client.call("domain_suspend", dom=ref, deadline_s=3.0))
    await asyncio.sleep(0.1)
    house.end_actor()
    house.start_actor()
    assert (await client.call("domain_get_state", dom=ref, flags=0)).state == 5
    with pytest.raises((DeadlinePassed, CallPending), match="domain_suspend"):
        await stuck


async def test_killed_broker_loses_no_call_and_no_event(house: ToyHouse, client: Client) -> None:
    work = [asyncio.create_task(client.call("domain_define_xml_flags", xml=f"g{n}", flags=1)) for n in range(60)]
    await asyncio.sleep(0.03)
    house.kill_broker()
    house.start_broker()
    assert len({(await task).dom.name for task in work}) == 60
    records = await client.history()
    check_history(records)
    assert len([r for r in records if r["data"].get("event") == 0]) == 60


async def test_broker_and_actor_killed_together(house: ToyHouse, client: Client) -> None:
    work = [asyncio.create_task(client.call("domain_define_xml_flags", xml=f"g{n}", flags=1)) for n in range(60)]
    await asyncio.sleep(0.05)
    house.kill_broker()
    house.end_actor()
    house.start_broker()
    house.start_actor()
    assert len({(await task).dom.name for task in work}) == 60
    records = await client.history()
    check_history(records)
    assert len([r for r in records if r["data"].get("event") == 0]) == 60


async def test_an_orderly_stop_ends_with_zero_and_in_time(house: ToyHouse, client: Client) -> None:
    await client.call("domain_define_xml_flags", xml="a", flags=0)
    begin = time.monotonic()
    assert await asyncio.to_thread(house.end_actor, signal.SIGTERM) == 0
    assert time.monotonic() - begin < 5
    house.start_actor()
    assert (await client.call("connect_num_of_defined_domains")).num == 1
    assert "Traceback" not in house.actor_log.read_text()


async def test_a_second_incarnation_fences_the_first(house: ToyHouse, client: Client) -> None:
    """SIGSTOP, replaced, SIGCONT: the old one ends itself and has done nothing."""
    await client.call("domain_define_xml_flags", xml="a", flags=0)
    old = house.actor
    assert old is not None
    old.send_signal(signal.SIGSTOP)
    lock = house.paths.lock("toy")
    lock.unlink()  # as the warden does when the holder cannot be killed
    try:
        house.start_actor()
        await client.call("domain_define_xml_flags", xml="b", flags=0)
        old.send_signal(signal.SIGCONT)
        assert await asyncio.to_thread(old.wait, 20) != 0
        await client.call("domain_define_xml_flags", xml="c", flags=0)
        check_history(await client.history())
    finally:
        if old.poll() is None:
            old.kill()
            old.wait(timeout=20)


async def screenshot(client: Client, ref: Any, mib: int, flags: int) -> Stream:
    row = need_procedure("domain_screenshot")
    reply = await client.peer.call(
        "toy", row.name, pack_args(row, {"dom": ref, "screen": mib, "flags": flags}), scope=SCOPE, deadline_s=20.0
    )
    assert unpack_result(row, reply.body).mime == "image/zeros"
    assert reply.ticket is not None
    return await open_ticket(reply.ticket)


async def test_bulk_data_goes_past_the_broker(house: ToyHouse, client: Client) -> None:
    ref = (await client.call("domain_define_xml_flags", xml="a", flags=0)).dom
    total = 0
    async with await screenshot(client, ref, 32, 0) as stream:
        house.kill_broker()  # which no stream notices
        async with asyncio.timeout(20):
            while piece := await stream.read():
                total += len(piece)
    assert total == 32 * 1024 * 1024
    house.start_broker()
    await client.call("actor_ping")


async def test_a_stream_of_a_driver_that_died_ends_without_an_end(house: ToyHouse, client: Client) -> None:
    ref = (await client.call("domain_define_xml_flags", xml="a", flags=0)).dom
    async with await screenshot(client, ref, 8, 1) as stream:
        await stream.read()
        house.end_actor()
        with pytest.raises(ConnectionResetError):
            async with asyncio.timeout(20):
                while await stream.read():
                    pass
    house.start_actor()
    async with await screenshot(client, ref, 1, 0) as stream:
        assert await stream.read()


async def test_a_ledger_that_was_lost_is_made_anew_from_the_journal(house: ToyHouse, client: Client) -> None:
    for number in range(5):
        await client.call("domain_define_xml_flags", xml=f"g{number}", flags=0)
    house.end_actor()
    for path in house.paths.role_state("toy").glob("ledger-*.log"):
        path.unlink()
    house.start_actor()
    await client.call("domain_define_xml_flags", xml="after", flags=0)
    records = await client.history()
    check_history(records)
    assert [r["kind"] for r in records[-2:]] == ["epoch", "domain_event_lifecycle"]
    assert len(records) == 8


async def test_memory_stays_flat_under_load(house: ToyHouse, client: Client) -> None:
    ref = (await client.call("domain_define_xml_flags", xml="a", flags=0)).dom

    def rss_kib() -> int:
        assert house.actor is not None
        text = Path(f"/proc/{house.actor.pid}/status").read_text()
        return int(text.split("VmRSS:")[1].split()[0])

    async def change(count: int) -> None:
        for _ in range(count // 50):
            await asyncio.gather(*(client.call("domain_set_autostart", dom=ref, autostart=n % 2) for n in range(50)))

    await change(10_000)
    before = rss_kib()
    await change(10_000)
    assert rss_kib() - before < 8_000


def start_skeleton(house: ToyHouse) -> subprocess.Popen[bytes]:
    with (house.root / "skeleton.log").open("ab") as log:
        return subprocess.Popen(
            [sys.executable, "-I", "-m", "actors.skeleton"],
            env={**os.environ, "VIRTROUPE_ROOT": str(house.root)},
            stdin=subprocess.DEVNULL,
            stderr=log,
        )


async def test_the_skeleton_answers_what_the_runtime_answers(house: ToyHouse) -> None:
    token = house.paths.token("skeleton")
    token.write_bytes(secrets.token_bytes(32))
    house.kill_broker()
    house.start_broker()
    process = start_skeleton(house)
    try:
        peer = await Peer.connect_client(house.paths)
        row = need_procedure("actor_capabilities")
        reply = await peer.call("skeleton", row.name, pack_args(row, {}), deadline_s=20.0)
        assert "actor_ping" in unpack_result(row, reply.body).procedures
        with pytest.raises(VirtError, match="virConnectGetCapabilities"):
            await peer.call("skeleton", "connect_get_capabilities", b"\x80", deadline_s=20.0)
        await peer.aclose()
    finally:
        process.terminate()
        assert process.wait(timeout=20) == 0


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give up its rights")
async def test_an_actor_goes_on_as_its_own_user() -> None:
    house = ToyHouse('[actors.toy]\nuser = "nobody"\nopen_files = 512\n')
    house.root.chmod(0o711)
    house.start_broker()
    try:
        peer = await Peer.connect_client(house.paths)  # the broker serves: the actor's token is its user's to read
        house.start_actor()
        client = Client(peer)
        await client.call("domain_define_xml_flags", xml="a", flags=0)
        assert house.actor is not None
        status = Path(f"/proc/{house.actor.pid}/status").read_text()
        nobody = pwd.getpwnam("nobody").pw_uid
        assert f"Uid:\t{nobody}\t{nobody}\t{nobody}\t{nobody}" in status
        limits = Path(f"/proc/{house.actor.pid}/limits").read_text()
        assert re.search(r"Max open files\s+512\s", limits)
        assert (house.paths.role_state("toy") / "domains/a.xml").stat().st_uid == nobody
        await peer.aclose()
    finally:
        await asyncio.to_thread(house.close)


async def test_stopped_in_a_stuck_change_the_successor_answers_it(house: ToyHouse, client: Client) -> None:
    """SIGTERM waits a moment for calls that run; one that still hangs gets no answer, and runs in the next process."""
    ref = (await client.call("domain_define_xml_flags", xml="a", flags=0)).dom
    stuck = asyncio.create_task(client.call("domain_suspend", dom=ref, deadline_s=12.0))
    await asyncio.sleep(0.1)
    assert await asyncio.to_thread(house.end_actor, signal.SIGTERM) == 0
    house.start_actor()
    async with asyncio.timeout(10):
        while not (running := (await client.call("actor_calls")).calls):
            await asyncio.sleep(0.02)
    assert running[0]["procedure"] == "domain_suspend"
    stuck.cancel()
    with pytest.raises(asyncio.CancelledError):
        await stuck
