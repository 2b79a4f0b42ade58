"""Guests, networks, pools, snapshots and events of a connection."""

from __future__ import annotations

from uuid import UUID

import pytest

from client.connection import Connection
from client.domain import Domain
from client.errors import (
    CallPending,
    CallUndone,
    DriverDegraded,
    DriverGone,
    InvalidArguments,
    NoConnection,
    NoSuchDomain,
    OperationDenied,
    to_wire,
)
from client.event import Event
from client.events import BEGINNING
from client.facts import NodeInfo, Version
from client.outcome import OutcomeState
from schema.enums.connect import ConnectListAllDomainsFlags
from schema.enums.domain import DomainCreateFlags
from schema.enums.domain_state import DomainRunningReason, DomainState
from schema.objects import NetworkRef, StoragePoolRef
from tests.fakes.link import Answered, FakeCall, FakeLink
from tests.unit.client.guests import OFF, RUNNING, SCOPE, SNAPSHOT, UUID_1, UUID_2


async def test_domains_are_listed_as_objects(conn: Connection, link: FakeLink) -> None:
    link.scripts = {"connect_list_all_domains": [RUNNING, OFF]}
    running, off = await conn.list_domains()
    assert (running.name, running.uuid, running.id) == ("web1", UUID_1, 3)
    assert (off.name, off.uuid, off.id) == ("web2", UUID_2, None)
    assert link.calls[0].args.need_results == 1


async def test_guests_are_listed_with_one_call(conn: Connection, link: FakeLink) -> None:
    link.scripts = {"actor_snapshot": SNAPSHOT}
    guests = await conn.list_guests()
    assert [(guest.name, guest.id, guest.state.state) for guest in guests] == [
        ("web1", 3, DomainState.RUNNING),
        ("web2", None, DomainState.SHUTOFF),
    ]
    assert [guest.name for guest in await conn.list_guests(ConnectListAllDomainsFlags.ACTIVE)] == ["web1"]
    assert link.procedures == ["actor_snapshot", "actor_snapshot"]


async def test_guests_of_a_driver_that_is_down_are_what_was_last_known(conn: Connection, link: FakeLink) -> None:
    link.scripts = {
        "actor_snapshot": DriverDegraded("test", "it ended 11 times"),
        "connect_list_all_domains": [RUNNING, OFF],
        "domain_get_state": lambda call: (
            NoSuchDomain("gone meanwhile")
            if call.args.dom == OFF
            else Answered({"state": 0, "reason": 0}, source="gateway", ticket={"age_s": 12.5})
        ),
    }
    (guest,) = await conn.list_guests()
    assert (guest.name, guest.state.unknown, guest.state.age_s) == ("web1", True, 12.5)
    assert guest.state.state is DomainState.NOSTATE


async def test_an_error_among_many_questions_is_met_as_itself(conn: Connection, link: FakeLink) -> None:
    link.scripts = {
        "actor_snapshot": DriverDegraded("test", "it ended 11 times"),
        "connect_list_all_domains": [RUNNING, OFF],
        "domain_get_state": OperationDenied("no"),
    }
    with pytest.raises(OperationDenied):
        await conn.list_guests()


@pytest.mark.parametrize(
    ("text", "asked"),
    [
        ("web1", ["domain_lookup_by_name"]),
        ("3", ["domain_lookup_by_id"]),
        ("7", ["domain_lookup_by_id", "domain_lookup_by_name"]),
        (str(UUID_1), ["domain_lookup_by_uuid"]),
        ("99999999999", ["domain_lookup_by_name"]),
        ("x" * 36, ["domain_lookup_by_name"]),
    ],
)
async def test_a_guest_is_found_by_what_a_person_types(
    conn: Connection, link: FakeLink, text: str, asked: list[str]
) -> None:
    link.scripts = {
        "domain_lookup_by_name": RUNNING,
        "domain_lookup_by_uuid": RUNNING,
        "domain_lookup_by_id": lambda call: RUNNING if call.args.id == 3 else NoSuchDomain("no id"),
    }
    assert (await conn.domain(text)).uuid == UUID_1
    assert link.procedures == asked


async def test_starting_and_destroying_tells_the_id(conn: Connection, link: FakeLink) -> None:
    link.scripts = {"domain_create_with_flags": RUNNING, "domain_destroy_flags": None}
    domain = Domain(conn, OFF)
    domain = Domain(conn, type(OFF)(RUNNING.name, RUNNING.uuid, -1))
    await domain.start(DomainCreateFlags.START_PAUSED)
    assert domain.id == 3
    assert link.calls[0].args.flags == DomainCreateFlags.START_PAUSED
    await domain.destroy()
    assert domain.id is None


async def test_state_and_info_are_values(conn: Connection, link: FakeLink) -> None:
    link.scripts = {
        "domain_get_state": {"state": 1, "reason": 5},
        "domain_get_info": {"state": 1, "maxMem": 2048, "memory": 1024, "nrVirtCpu": 2, "cpuTime": 77},
        "domain_memory_stats": {"stats": [[6, 1024], [99, 1]]},
        "domain_get_metadata": "a title",
    }
    domain = Domain(conn, RUNNING)
    state = await domain.state()
    assert (state.state, state.reason, state.unknown) == (DomainState.RUNNING, DomainRunningReason.UNPAUSED, False)
    info = await domain.info()
    assert (info.max_memory_kib, info.memory_kib, info.vcpus, info.cpu_time_ns) == (2048, 1024, 2, 77)
    assert {tag.name: value for tag, value in (await domain.memory_stats()).items()} == {"ACTUAL_BALLOON": 1024}


async def test_the_host_is_described(conn: Connection, link: FakeLink) -> None:
    link.scripts = {
        "node_get_info": {
            "model": b"x86_64".ljust(32, b"\0"),
            "memory": 4096,
            "cpus": 4,
            "mhz": 2000,
            "nodes": 1,
            "sockets": 1,
            "cores": 4,
            "threads": 1,
        },
        "connect_get_version": 7002000,
        "connect_get_lib_version": 9000000,
        "connect_list_all_networks": [NetworkRef("default", b"n" * 16)],
        "network_is_active": 1,
        "network_get_bridge_name": "virbr0",
        "connect_list_all_storage_pools": [StoragePoolRef("images", b"p" * 16)],
        "storage_pool_get_info": {"state": 2, "capacity": 100, "allocation": 40, "available": 60},
    }
    assert await conn.node_info() == NodeInfo("x86_64", 4096, 4, 2000, 1, 1, 4, 1)
    assert await conn.version() == Version(7, 2, 0)
    assert str(await conn.api_version()) == "9.0.0"
    (network,) = await conn.list_networks()
    assert (network.name, await network.is_active(), await network.bridge()) == ("default", True, "virbr0")
    (pool,) = await conn.list_storage_pools()
    info = await pool.info()
    assert (pool.name, info.state.name, info.available) == ("images", "RUNNING", 60)


async def test_a_snapshot_holds_this_connections_objects(conn: Connection, link: FakeLink) -> None:
    link.scripts = {"actor_snapshot": SNAPSHOT}
    snapshot = await conn.snapshot()
    assert [(known.type, known.name) for known in snapshot.objects] == [
        ("domain", "web2"),
        ("domain", "web1"),
        ("network", "default"),
    ]
    assert snapshot.unknown == []


async def test_a_snapshot_of_everything_names_the_drivers_that_cannot_be_asked(
    conn: Connection, link: FakeLink
) -> None:
    def told(call: FakeCall) -> object:
        return SNAPSHOT if call.destination == "test" else DriverGone("qemu", "it crashed")

    actors = {name: {"state": "ready"} for name in ("gateway", "qemu", "test", "warden")}
    link.scripts = {"actor_snapshot": told, "broker_status": {"status": {"actors": actors}}}
    snapshot = await conn.snapshot(everywhere=True)
    assert snapshot.unknown == ["qemu"]
    assert {known.source for known in snapshot.objects} == {"test"}
    assert "elsewhere" in {known.name for known in snapshot.objects}


async def test_an_error_of_a_driver_that_answers_is_not_taken_for_silence(conn: Connection, link: FakeLink) -> None:
    link.scripts = {"actor_snapshot": OperationDenied("no")}
    with pytest.raises(OperationDenied):
        await conn.snapshot()


async def test_events_are_those_of_the_connection(conn: Connection, link: FakeLink) -> None:
    about = ["domain", UUID_1.bytes, "web1"]
    async with conn.events(kinds=["lifecycle"], objects=[Domain(conn, RUNNING)]) as stream:
        link.journal.append("qemu", "domain_event_lifecycle", about=about, scope="qemu:///system")
        link.journal.append("test", "domain_event_reboot", about=about, scope=SCOPE)
        link.journal.append("test", "domain_event_lifecycle", about=about, scope=SCOPE, data={"event": 2, "detail": 0})
        event = await anext(stream)
    assert isinstance(event, Event)
    assert event.source == "test"
    assert event.lifecycle is not None
    assert [part.name for part in event.lifecycle if not isinstance(part, int) or hasattr(part, "name")] == [
        "STARTED",
        "BOOTED",
    ]
    assert event.object is not None and event.object.uuid == UUID_1


async def test_events_of_everywhere_come_from_all_drivers(conn: Connection, link: FakeLink) -> None:
    async with conn.events(everywhere=True) as stream:
        link.journal.append("qemu", scope="qemu:///system")
        link.journal.append("test", scope=SCOPE)
        items = [await anext(stream), await anext(stream)]
    assert [item.source for item in items if isinstance(item, Event)] == ["qemu", "test"]


async def test_the_beginning_is_the_oldest_event_that_is_kept(conn: Connection, link: FakeLink) -> None:
    kept = [link.journal.append("test", scope=SCOPE) for _ in range(3)]
    link.journal.forget(2)
    async with conn.events(after=BEGINNING) as stream:
        event = await anext(stream)
    assert event.cursor == kept[2].cursor == await conn.cursor()


@pytest.mark.parametrize(
    ("told", "state", "error"),
    [
        ({"state": "done", "result": b"", "error": None}, OutcomeState.DONE, None),
        ({"state": "unknown", "error": None}, OutcomeState.UNKNOWN, None),
        ({"state": "undone", "error": to_wire(CallUndone("the driver died"))}, OutcomeState.UNDONE, CallUndone),
    ],
)
async def test_a_pending_outcome_is_told_later(
    conn: Connection, link: FakeLink, told: dict[str, object], state: OutcomeState, error: type[Exception] | None
) -> None:
    link.scripts = {"actor_call_outcome": told}
    outcome = await conn.outcome_of(CallPending("00ff"))
    assert outcome.state is state
    assert outcome.error is None if error is None else isinstance(outcome.error, error)
    assert (link.calls[0].args.id, link.calls[0].destination) == (b"\x00\xff", "test")
    with pytest.raises(InvalidArguments):
        await conn.outcome_of("no id")


async def test_opening_lets_the_driver_judge_the_uri(conn: Connection, link: FakeLink) -> None:
    link.scripts = {"connect_open": NoConnection("test:///nowhere")}
    with pytest.raises(NoConnection):
        await conn.open()
    assert link.calls[0].args.name == SCOPE


async def test_a_driver_that_is_down_for_good_can_still_be_connected_to(conn: Connection, link: FakeLink) -> None:
    link.scripts = {"connect_open": DriverDegraded("test", "it ended 11 times")}
    await conn.open()


async def test_leaving_the_connection_closes_its_peer(conn: Connection, link: FakeLink) -> None:
    async with conn:
        assert not link.closed
    assert link.closed


def test_domains_are_equal_when_they_name_the_same_guest(conn: Connection, link: FakeLink) -> None:
    assert Domain(conn, RUNNING) == Domain(conn, type(RUNNING)("renamed", RUNNING.uuid, -1))
    assert Domain(conn, RUNNING) != Domain(conn, OFF)
    assert len({Domain(conn, RUNNING), Domain(conn, RUNNING)}) == 1
    assert UUID(str(Domain(conn, RUNNING).uuid)) == UUID_1
