"""Deaths, hangs and forgeries, shown with real processes."""

from __future__ import annotations

import asyncio
import os
import secrets
import signal
import socket
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import zmq

from broker.epochs import load_epochs
from broker.peer import IncomingCall, Peer
from broker.wire import (
    CallPrologue,
    Cursor,
    Kind,
    join_body,
    pack_call_prologue,
    pack_door,
    pack_header,
    pack_value,
    take_door,
    unpack_value,
)
from schema.body import unpack_result
from schema.errors import AccessDenied, Fenced, InvalidMessage, NoConnection, NotRegistered, OperationDenied
from schema.table import need_procedure
from tests.fakes.role import FakeRole, event_record
from tests.process.broker_process import BrokerHouse, broker_house

pytestmark = [pytest.mark.process, pytest.mark.timeout(90)]

IMPATIENT = "[broker]\nheartbeat_s = 0.1\nhang_after_s = 1.0\n"


@pytest.fixture
def house() -> Iterator[BrokerHouse]:
    with broker_house(IMPATIENT) as house:
        yield house


async def ask(peer: Peer, procedure: str, /, *, deadline_s: float = 30.0, **arguments: Any) -> Any:
    reply = await peer.call("test", procedure, pack_value(arguments), deadline_s=deadline_s)
    return unpack_value(reply.body)


async def status(peer: Peer) -> Any:
    reply = await peer.call("broker", "broker_status", pack_value({}), deadline_s=20.0)
    return unpack_result(need_procedure("broker_status"), reply.body).status


@asynccontextmanager
async def warden(house: BrokerHouse) -> AsyncIterator[FakeRole]:
    async def agree(role: FakeRole, call: IncomingCall, arguments: dict[str, Any]) -> dict[str, Any]:
        return {}

    answers = {"warden_actor_ensure": agree, "warden_actor_gone": agree, "warden_actor_ready": agree}
    role = await FakeRole.connect(house.paths, "warden", answers)  # type: ignore[arg-type]
    yield role
    await role.aclose()


def orders(role: FakeRole, procedure: str) -> list[dict[str, Any]]:
    return [unpack_value(call.body) for call in role.calls if call.prologue.procedure == procedure]


# -- hangs


async def test_a_stopped_actor_is_fenced_and_its_calls_go_to_the_next(house: BrokerHouse) -> None:
    async with warden(house) as watcher:
        old = await house.role("test")
        client = await Peer.connect_client(house.paths)
        await ask(client, "actor_ping")
        old.send_signal(signal.SIGSTOP)
        stuck = asyncio.create_task(ask(client, "domain_create"))
        await watcher.until(lambda: any(o["epoch"] == 1 for o in orders(watcher, "warden_actor_ensure")))
        assert "no heartbeat" in orders(watcher, "warden_actor_ensure")[0]["why"]
        await house.role("test")
        answer = await stuck
        assert (answer["flags"], answer["epoch"]) == (1, 3)
        # when it wakes, it finds that its time is over, and ends
        old.send_signal(signal.SIGCONT)
        assert await asyncio.to_thread(old.wait, 10) == 0
        assert (await ask(client, "actor_ping"))["epoch"] == 3
        assert (await status(client))["actors"]["test"]["hangs"] == 1
        await client.aclose()


async def test_an_actor_that_was_fenced_may_not_come_back_even_when_nobody_replaced_it(house: BrokerHouse) -> None:
    old = await house.role("test")
    client = await Peer.connect_client(house.paths)
    old.send_signal(signal.SIGSTOP)
    async with asyncio.timeout(20):
        while load_epochs(house.paths.broker_state)["test"].epoch != 2:  # its own is burnt
            await asyncio.sleep(0.05)
    house.kill_broker()
    house.start_broker()
    old.send_signal(signal.SIGCONT)
    assert await asyncio.to_thread(old.wait, 15) == 0
    assert (await status(client))["actors"]["test"]["pid"] is None
    await client.aclose()


async def test_a_blocked_loop_is_noticed_though_the_heartbeat_goes_on(house: BrokerHouse) -> None:
    async with warden(house) as watcher:
        old = await house.role("test")
        client = await Peer.connect_client(house.paths)
        blocked = asyncio.create_task(ask(client, "domain_resume", s=30))
        await watcher.until(lambda: any(o["epoch"] == 1 for o in orders(watcher, "warden_actor_ensure")))
        assert "no progress" in orders(watcher, "warden_actor_ensure")[0]["why"]
        blocked.cancel()
        old.kill()
        await asyncio.gather(blocked, return_exceptions=True)
        await client.aclose()


async def test_the_warden_is_asked_for_an_actor_that_a_call_needs_and_told_of_its_end(house: BrokerHouse) -> None:
    async with warden(house) as watcher:
        client = await Peer.connect_client(house.paths)
        waiting = asyncio.create_task(ask(client, "actor_ping"))
        await watcher.until(lambda: len(orders(watcher, "warden_actor_ensure")) == 1)
        assert orders(watcher, "warden_actor_ensure")[0] == {"name": "test", "why": "a call needs it", "epoch": None}
        process = await house.role("test")
        await waiting
        process.kill()
        await watcher.until(lambda: len(orders(watcher, "warden_actor_gone")) == 1)
        process = await house.role("test")
        process.terminate()
        await watcher.until(lambda: len(orders(watcher, "warden_actor_gone")) == 2)
        gone = orders(watcher, "warden_actor_gone")
        assert [(g["name"], g["epoch"], g["orderly"]) for g in gone] == [("test", 1, False), ("test", 2, True)]
        await client.aclose()


async def test_a_warden_that_comes_later_is_asked_for_what_is_needed(house: BrokerHouse) -> None:
    client = await Peer.connect_client(house.paths)
    waiting = asyncio.create_task(ask(client, "actor_ping"))
    await asyncio.sleep(0.1)
    async with warden(house) as watcher:
        await watcher.until(lambda: len(orders(watcher, "warden_actor_ensure")) == 1)
        await house.role("test")
        await waiting
    await client.aclose()


async def test_a_degraded_actor_is_told_by_the_warden_alone(house: BrokerHouse) -> None:
    body = pack_value({"name": "test", "state": "degraded", "why": "it crashes", "retry_at": None})
    client = await Peer.connect_client(house.paths)
    with pytest.raises(AccessDenied):
        await client.call("broker", "broker_actor_state", body)
    async with warden(house) as watcher:
        await watcher.peer.call("broker", "broker_actor_state", body)
        from schema.errors import DriverDegraded

        with pytest.raises(DriverDegraded, match="it crashes"):
            await ask(client, "actor_ping")
    await client.aclose()


# -- deaths


async def test_calls_survive_kills_of_the_broker_with_one_effect_each(house: BrokerHouse) -> None:
    role = await FakeRole.connect(house.paths, "test")
    clients = [await Peer.connect_client(house.paths) for _ in range(4)]
    done = 0

    async def load(client: Peer) -> None:
        nonlocal done
        for number in range(150):
            answer = await ask(client, "domain_create", number=number)
            assert answer["arguments"] == {"number": number}
            done += 1

    running = [asyncio.create_task(load(client)) for client in clients]
    for target in (100, 250, 400):
        while done < target:
            await asyncio.sleep(0.001)
        house.kill_broker()
        house.start_broker()
    await asyncio.gather(*running)
    assert done == 600
    assert len(role.effects) == 600 and set(role.effects.values()) == {1}
    for client in clients:
        await client.aclose()
    await role.aclose()


async def test_events_are_handed_over_once_across_the_deaths_of_both(house: BrokerHouse) -> None:
    client = await Peer.connect_client(house.paths)
    role = await FakeRole.connect(house.paths, "test")
    number = 0
    for step in range(6):
        for _ in range(100):
            role.publish(number=number)
            number += 1
            if number % 10 == 0:
                await asyncio.sleep(0)
        if step % 2:
            house.kill_broker()
            for _ in range(20):
                role.publish(number=number)
                number += 1
        # the actor dies without a word, what was not acknowledged is what its ledger would still know
        unheard = {seq: unpack_value(record)["data"]["number"] for seq, record in role.window.items()}
        await role.aclose()
        if step % 2:
            house.start_broker()
        role = await FakeRole.connect(house.paths, "test")
        last = role.peer.last
        for seq, lost in sorted(unheard.items()):
            if seq > last[1]:
                role.publish(number=lost)
    await role.until(lambda: not role.window)
    found = [unpack_value(record) async for _, record in client.replay(Cursor(0, 0))]
    assert [record["data"]["number"] for record in found] == list(range(number))
    assert [record["seq"] for record in found] == list(range(1, number + 1))
    await client.aclose()
    await role.aclose()


# -- forgeries


async def test_a_wrong_token_is_refused(house: BrokerHouse) -> None:
    right = house.paths.token("qemu").read_bytes()
    house.paths.token("qemu").write_bytes(b"x" * 32)
    stolen = house.paths.token("test").read_bytes()
    try:
        for token in (b"", b"y" * 32, stolen):
            answer = knock(house, "actors", {"v": 1, "role": "qemu", "token": token, "pid": 1, "resume": None})
            assert answer is not None and answer["error"][0] == "AccessDenied"
    finally:
        house.paths.token("qemu").write_bytes(right)


async def test_an_actor_cannot_come_through_the_clients_door_nor_a_client_through_theirs(house: BrokerHouse) -> None:
    token = house.paths.token("qemu").read_bytes()
    hello = {"v": 1, "role": "qemu", "token": token, "pid": 1, "resume": None}
    for door in ("clients", "clients-ro"):
        answer = knock(house, door, hello)
        assert answer is not None and answer["error"][0] == InvalidMessage.__name__
    answer = knock(house, "actors", {"v": 1, "role": "client", "program": "", "resume": None})
    assert answer is not None and answer["error"][0] == InvalidMessage.__name__
    answer = knock(house, "actors", {"v": 1, "role": "nobody", "token": token, "resume": None})
    assert answer is not None and answer["error"][0] == NoConnection.__name__


async def test_another_process_cannot_resume_an_actors_epoch(house: BrokerHouse) -> None:
    await house.role("test")
    client = await Peer.connect_client(house.paths)
    token = house.paths.token("test").read_bytes()
    for resume in ([b"test#1." + b"0" * 32, 1], [b"test#0." + b"0" * 32, 0]):
        answer = knock(house, "actors", {"v": 1, "role": "test", "token": token, "pid": 1, "resume": resume})
        assert answer is not None and answer["error"][0] == Fenced.__name__
    assert (await ask(client, "actor_ping"))["epoch"] == 1
    await client.aclose()


async def test_a_routing_id_that_was_not_granted_is_dropped_and_counted(house: BrokerHouse) -> None:
    role = await FakeRole.connect(house.paths, "test")
    client = await Peer.connect_client(house.paths)
    context = zmq.Context()
    body = join_body(pack_call_prologue(CallPrologue("domain_create")), pack_value({}))
    record = event_record("test", 1, 1, "changed", {})
    forged = [
        [b"test", pack_header(Kind.CALL, 1), body],
        [b"broker", pack_header(Kind.EVENT, 1), record],
        [b"broker", pack_header(Kind.REGISTER, 1), pack_value({"ready": True, "procedures": [], "version": ""})],
    ]
    for path in (house.paths.clients_route, house.paths.clients_route_read_only, house.paths.actors_route):
        for identity in (b"c" + secrets.token_bytes(16), b"test#1." + b"0" * 32, b"test#2." + b"0" * 32, b"broker"):
            with dealer(context, path, identity) as sender:
                for message in forged:
                    sender.send_multipart(message)
    async with asyncio.timeout(10):
        while (await status(client))["counters"]["strangers"] < 3 * 4 * len(forged):
            await asyncio.sleep(0.02)
    assert not role.calls
    assert (await status(client))["counters"]["events"] == 0
    await client.aclose()
    await role.aclose()
    context.term()


async def test_a_read_only_client_can_change_nothing(house: BrokerHouse) -> None:
    role = await FakeRole.connect(house.paths, "test")
    client = await Peer.connect_client(house.paths, read_only=True)
    with pytest.raises(OperationDenied):
        await ask(client, "domain_create")
    with pytest.raises(OperationDenied):
        await client.call("warden", "warden_actor_stop", pack_value({"name": "test"}))
    answer = await ask(client, "connect_get_hostname")
    assert answer["caller"]["read_only"] is True
    # what is an actor's to send is not taken from a client, whatever it says
    link = client._link
    assert link is not None
    ready = pack_value({"ready": True, "procedures": [], "version": ""})
    link.send(b"broker", pack_header(Kind.EVENT, 1), event_record("test", 1, 1, "changed", {}))
    link.send(b"broker", pack_header(Kind.REGISTER, 0), ready)
    link.send(b"broker", pack_header(Kind.BYE, 0), b"")
    link.send(role.calls[0].source, pack_header(Kind.REPLY, 1), b"\0\0")
    async with asyncio.timeout(10):
        while (await status(client))["counters"]["misuse"] < 4:
            await asyncio.sleep(0.02)
    seen = await status(client)
    assert seen["counters"]["events"] == 0
    assert seen["actors"]["test"]["state"] == "ready" and len(role.calls) == 1
    await client.aclose()
    await role.aclose()


async def test_a_secret_of_the_read_only_door_opens_no_other(house: BrokerHouse) -> None:
    client = await Peer.connect_client(house.paths, read_only=True)
    assert client._resume is not None
    hello = {"v": 1, "role": "client", "program": "", "resume": list(client._resume)}
    answer = knock(house, "clients", hello)
    assert answer is not None and answer["error"][0] == NotRegistered.__name__
    await client.aclose()


async def test_an_actor_cannot_speak_for_another(house: BrokerHouse) -> None:
    test = await FakeRole.connect(house.paths, "test")
    qemu = await FakeRole.connect(house.paths, "qemu")
    client = await Peer.connect_client(house.paths)
    slow = asyncio.create_task(ask(client, "domain_reboot", s=0.5))
    await test.until(lambda: len(test.calls) == 1)
    # an answer to a call that was another's, and an event under another's name
    qemu.peer.reply(test.calls[0], pack_value({"forged": True}), seq=0)
    qemu.peer.send_event(1, event_record("test", 1, 1, "changed", {}))
    assert "forged" not in await slow
    seen = await status(client)
    assert seen["counters"]["late_answers"] >= 1 and seen["counters"]["events_refused"] == 1
    await client.aclose()
    await test.aclose()
    await qemu.aclose()


def knock(house: BrokerHouse, door: str, hello: dict[str, Any]) -> dict[str, Any] | None:
    """What a door answers to a hello; None when it closes without a word."""
    paths = {
        "actors": house.paths.actors_door,
        "clients": house.paths.clients_door,
        "clients-ro": house.paths.clients_door_read_only,
    }
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
        sock.settimeout(10)
        for _ in range(1000):
            try:
                sock.connect(os.fspath(paths[door]))
                break
            except OSError:
                time.sleep(0.01)
        sock.sendall(pack_door(hello))
        buffer = bytearray()
        while (answer := take_door(buffer)) is None:
            data = sock.recv(65536)
            if not data:
                return None
            buffer += data
        return answer


def dealer(context: Any, path: Any, identity: bytes) -> Any:
    """A raw socket that says it is somebody."""
    sender = context.socket(zmq.DEALER)
    sender.setsockopt(zmq.ROUTING_ID, identity)
    sender.setsockopt(zmq.LINGER, 2000)
    sender.connect(f"ipc://{path}")
    return sender
