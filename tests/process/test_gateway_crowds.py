"""Many clients at once, clients that do not read, and long answers: everybody is served, and memory stays bounded."""

from __future__ import annotations

import asyncio
import resource
from collections.abc import Iterator

import pytest

from gateway.stream_side import OUT_HIGH
from rpc.packet import LENGTH_MIN, Packet
from schema.objects import DomainRef
from tests.fakes.rpc_client import RpcClient
from tests.process.gateway_house import GatewayHouse, gateway_house
from tests.process.gateway_in_loop import House, made_house
from tests.process.test_gateway_fuzz import gateway_pid, rss_kib
from tests.unit.gateway.records import summary, uuid_of

CROWD = 500
GUESTS = 5000
PATIENCE_S = 100.0


class Patient(RpcClient):
    """A client that waits as long as it takes on a busy host."""

    async def packet(self, limit_s: float = PATIENCE_S) -> Packet:
        return await super().packet(limit_s)


# --- five hundred at once ---


@pytest.fixture
def crowded() -> Iterator[GatewayHouse]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < 2 * CROWD:
        pytest.skip(f"the host allows {hard} open files only")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, 2 * CROWD), hard))
    with gateway_house("[test]\nkeep = true\n") as made:
        yield made
        print(made.log_of("gateway")[-2000:])
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


async def one_of_many(house: GatewayHouse, number: int, together: asyncio.Barrier) -> str:
    """Connects, waits until everybody has, and does what a tool does."""
    async with await Patient.connect(house.paths.libvirt_socket) as client:
        await client.open()
        async with asyncio.timeout(PATIENCE_S):
            await together.wait()
        listed = await client.call("connect_list_all_domains", need_results=1, flags=0)
        guest: DomainRef = listed.domains[0]
        await client.call("connect_domain_event_callback_register_any", eventID=0, dom=None)
        info = await client.call("domain_get_info", dom=guest)
        assert info.state == 1
        if number % 50 == 0:
            await client.call(
                "domain_set_metadata", dom=guest, type=1, metadata=f"t{number}", key=None, uri=None, flags=0
            )
        name: str = (await client.call("domain_lookup_by_uuid", uuid=guest.uuid)).dom.name
        await client.call("connect_close")
        return name


@pytest.mark.process
@pytest.mark.timeout(300)
async def test_five_hundred_clients_at_once(crowded: GatewayHouse) -> None:
    async with await Patient.connect(crowded.paths.libvirt_socket) as first:
        await first.open()
        pid = gateway_pid(crowded)
        before = rss_kib(pid)
        together = asyncio.Barrier(CROWD)
        async with asyncio.TaskGroup() as group:
            crowd = [group.create_task(one_of_many(crowded, number, together)) for number in range(CROWD)]
        assert [task.result() for task in crowd] == ["test"] * CROWD
        assert rss_kib(pid) - before < 60_000
        assert (await first.call("connect_num_of_domains")).num == 1
    assert "failed here" not in crowded.log_of("gateway")


# --- long answers, and who does not read them ---


def fill(house: House) -> None:
    house.peer.guests.clear()
    for number in range(GUESTS):
        house.peer.guests[f"guest-{number:05}"] = summary(id=number if number % 2 else -1)


async def test_long_answers_wait_for_their_reader_in_bounds() -> None:
    async with made_house(keepalive_interval_s=0.0) as house:
        fill(house)
        slow, quick = await house.opened(), await house.opened()
        whole = await quick.call("connect_list_all_domains", need_results=1, flags=0)
        assert len(whole.domains) == GUESTS
        slow.writer.transport.pause_reading()  # type: ignore[attr-defined]
        serials = [slow.send_call("connect_list_all_domains", need_results=1, flags=0) for _ in range(60)]
        await house.until(lambda: max(c.link.buffered for c in house.gateway.connections) > OUT_HIGH, 30.0)
        assert (await quick.call("domain_lookup_by_name", name="guest-00007")).dom.id == 7
        held = max(connection.link.buffered for connection in house.gateway.connections)
        size = 8 + sum(28 + len(ref.name) for ref in whole.domains)
        assert OUT_HIGH < held < OUT_HIGH + 2 * size
        slow.writer.transport.resume_reading()  # type: ignore[attr-defined]
        for serial in serials:
            packet = await slow.packet(PATIENCE_S)
            assert packet.serial == serial
            assert len(packet.payload) + LENGTH_MIN > 150_000
        await house.until(lambda: not any(connection.link.buffered for connection in house.gateway.connections))


async def test_the_slowest_go_when_all_together_hold_too_much(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.server.HELD_TOTAL_MAX", 6 << 20)
    monkeypatch.setattr("gateway.server.SWEEP_S", 0.05)
    async with made_house(keepalive_interval_s=0.0) as house:
        fill(house)
        quick = await house.opened()
        slow = [await house.opened() for _ in range(6)]
        for client in slow:
            client.writer.transport.pause_reading()  # type: ignore[attr-defined]
            for _ in range(12):
                client.send_call("connect_list_all_domains", need_results=1, flags=0)
        await house.until(lambda: len(house.gateway.connections) < 6, 60.0)
        await house.until(lambda: sum(c.link.buffered for c in house.gateway.connections) <= 6 << 20, 60.0)
        assert (await quick.call("domain_lookup_by_uuid", uuid=uuid_of("guest-00001"))).dom.id == 1
        for client in slow:
            client.writer.close()
