"""What every driver with guests promises about their life, its events, and what survives a kill."""

from __future__ import annotations

import errno
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from actors.runtime import store
from schema.enums.domain_event import DomainEventType as Event
from schema.enums.domain_state import DomainState
from schema.errors import HostSystemError, NoSuchDomain, VirtError
from schema.objects import DomainRef
from schema.summaries import LIST_DOMAINS_FLAGS
from tests.contract.driver import ContractDriver
from tests.contract.house import FakeBroker, House, copy_state, open_house

pytestmark = pytest.mark.usefixtures("needs")

NAME, UUID = "contract", "c0000000-0000-4000-8000-00000000000c"
REF = DomainRef(NAME, bytes.fromhex(UUID.replace("-", "")), -1)


@pytest.fixture
async def house(guest_driver: ContractDriver, tmp_path: Path) -> AsyncIterator[House]:
    guest_driver.prepare(tmp_path)
    async with open_house(guest_driver.actor(), guest_driver.scope, tmp_path) as house:
        yield house
        await end_guest(house)


async def end_guest(house: House) -> None:
    """A driver's real processes must not outlive the test."""
    if (entry := house.runtime.objects.find("domain", REF.uuid)) is not None and entry.summary["id"] != -1:
        await house.call("domain_destroy_flags", dom=REF, flags=0)


def xml_of(driver: ContractDriver, name: str = NAME, uuid: str = UUID) -> str:
    assert driver.define_xml is not None
    return driver.define_xml(name, uuid)


async def define(house: House, driver: ContractDriver) -> DomainRef:
    result = await house.call("domain_define_xml_flags", xml=xml_of(driver), flags=0)
    ref: DomainRef = result.dom
    return ref


def told(house: House, since: int = 0) -> list[int]:
    """The lifecycle events of the guest after the first `since` records."""
    return [
        record["data"]["event"]
        for record in house.broker.records[since:]
        if record["kind"] == "domain_event_lifecycle" and record["object"][1] == REF.uuid
    ]


async def state_of(house: House) -> int:
    return int((await house.call("domain_get_state", dom=REF, flags=0)).state)


async def test_a_definition_is_listed_found_and_told(house: House, guest_driver: ContractDriver) -> None:
    ref = await define(house, guest_driver)
    assert (ref.name, ref.uuid, ref.id) == (NAME, REF.uuid, -1)
    assert (await house.call("domain_lookup_by_name", name=NAME)).dom == ref
    assert (await house.call("domain_lookup_by_uuid", uuid=ref.uuid)).dom == ref
    listed = await house.call("connect_list_all_domains", need_results=1, flags=0)
    assert ref in listed.domains
    assert NAME in (await house.call("connect_list_defined_domains", maxnames=100)).names
    assert told(house) == [Event.DEFINED]
    assert f"<name>{NAME}</name>" in (await house.call("domain_get_xml_desc", dom=ref, flags=0)).xml


@pytest.mark.needs("domain_create_with_flags", "domain_suspend", "domain_destroy_flags")
async def test_a_whole_life_in_order_with_its_events(house: House, guest_driver: ContractDriver) -> None:
    await define(house, guest_driver)
    running = (await house.call("domain_create_with_flags", dom=REF, flags=0)).dom
    assert running.id > 0
    assert await state_of(house) == DomainState.RUNNING
    assert (await house.call("domain_lookup_by_id", id=running.id)).dom == running
    with pytest.raises(VirtError):
        await house.call("domain_create_with_flags", dom=REF, flags=0)
    await house.call("domain_suspend", dom=REF)
    assert await state_of(house) == DomainState.PAUSED
    await house.call("domain_resume", dom=REF)
    assert await state_of(house) == DomainState.RUNNING
    await house.call("domain_destroy_flags", dom=REF, flags=0)
    assert await state_of(house) == DomainState.SHUTOFF
    await house.call("domain_undefine_flags", dom=REF, flags=0)
    with pytest.raises(NoSuchDomain):
        await house.call("domain_lookup_by_name", name=NAME)
    kinds = told(house)
    assert [
        e for e in kinds if e in (Event.DEFINED, Event.STARTED, Event.SUSPENDED, Event.STOPPED, Event.UNDEFINED)
    ] == [
        Event.DEFINED,
        Event.STARTED,
        Event.SUSPENDED,
        Event.STOPPED,
        Event.UNDEFINED,
    ]
    assert Event.RESUMED in kinds
    assert house.broker.records[-1]["summary"] is None


def replay(records: list[dict[str, Any]]) -> dict[tuple[str, str, bytes], tuple[str, int, dict[str, Any]]]:
    """What a subscriber knows who has only heard the events."""
    known = {}
    for record in records:
        if record["object"] is not None:
            kind, key, name = record["object"]
            if record["summary"] is None:
                known.pop((kind, record["scope"], key), None)
            else:
                known[kind, record["scope"], key] = (name, record["version"], record["summary"])
    return known


@pytest.mark.needs("domain_create_with_flags", "domain_suspend", "domain_destroy_flags", "domain_set_autostart")
async def test_events_alone_give_the_same_picture_as_a_snapshot(house: House, guest_driver: ContractDriver) -> None:
    async def check() -> None:
        snapshot = await house.call("actor_snapshot")
        assert snapshot.seq == house.broker.records[-1]["seq"]
        whole = {(o["type"], o["scope"], o["key"]): (o["name"], o["version"], o["summary"]) for o in snapshot.objects}
        assert replay(house.broker.records) == whole

    await check()
    await define(house, guest_driver)
    for name, args in (
        ("domain_set_autostart", {"autostart": 1}),
        ("domain_create_with_flags", {"flags": 0}),
        ("domain_suspend", {}),
        ("domain_resume", {}),
        ("domain_set_autostart", {"autostart": 0}),
        ("domain_destroy_flags", {"flags": 0}),
        ("domain_undefine_flags", {"flags": 0}),
    ):
        await house.call(name, dom=REF, **args)
        await check()


@pytest.mark.needs("domain_create_with_flags", "domain_destroy_flags")
async def test_each_change_has_its_effect_once_however_often_it_is_sent(
    house: House, guest_driver: ContractDriver
) -> None:
    changes: list[tuple[str, dict[str, Any]]] = [
        ("domain_define_xml_flags", {"xml": xml_of(guest_driver), "flags": 0}),
        ("domain_create_with_flags", {"dom": REF, "flags": 0}),
        ("domain_destroy_flags", {"dom": REF, "flags": 0}),
        ("domain_undefine_flags", {"dom": REF, "flags": 0}),
    ]
    for number, (name, args) in enumerate(changes, 50):
        first = await house.outcome(house.post(name, correlation=number, **args))
        records = len(house.broker.records)
        again = await house.outcome(house.post(name, correlation=number, resend=True, **args))
        assert again == first
        assert len(house.broker.records) == records


@pytest.mark.needs("domain_set_autostart")
async def test_killed_at_rest_everything_is_as_it_was(guest_driver: ContractDriver, tmp_path: Path) -> None:
    broker = FakeBroker()
    root, copy = tmp_path / "1", tmp_path / "2"
    guest_driver.prepare(root)
    async with open_house(guest_driver.actor(), guest_driver.scope, root, broker=broker) as house:
        await define(house, guest_driver)
        await house.call("domain_set_autostart", dom=REF, autostart=1)
        before = await house.call("actor_snapshot")
        xml = (await house.call("domain_get_xml_desc", dom=REF, flags=0)).xml
        copy_state(root, copy)
    guest_driver.prepare(copy)
    known = len(broker.records)
    async with open_house(guest_driver.actor(), guest_driver.scope, copy, broker=broker, epoch=2) as house:
        assert [record["kind"] for record in broker.records[known:]] == ["epoch"]
        after = await house.call("actor_snapshot")
        assert sorted(after.objects, key=repr) == sorted(before.objects, key=repr)
        assert (await house.call("domain_get_xml_desc", dom=REF, flags=0)).xml == xml


async def test_a_definition_that_was_not_heard_is_told_by_the_successor(
    guest_driver: ContractDriver, tmp_path: Path
) -> None:
    root, copy = tmp_path / "1", tmp_path / "2"
    guest_driver.prepare(root)
    async with open_house(guest_driver.actor(), guest_driver.scope, root) as house:
        heard = house.broker.last()
        call = house.post("domain_define_xml_flags", xml=xml_of(guest_driver), flags=0)
        await house.outcome(call)
        copy_state(root, copy)
    guest_driver.prepare(copy)
    async with open_house(guest_driver.actor(), guest_driver.scope, copy, epoch=2, last=heard) as house:
        assert told(house) == [Event.DEFINED]
        assert house.broker.records[-1]["call"] == call.id


async def test_on_a_full_disk_a_definition_is_refused_and_nothing_is_half_written(
    house: House, guest_driver: ContractDriver, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = await house.call("actor_snapshot")

    def full(path: Path, data: bytes) -> None:
        path.write_bytes(data[:1])
        raise OSError(errno.ENOSPC, "full")

    with monkeypatch.context() as patch:
        patch.setattr(store, "_write_synced", full)
        with pytest.raises(HostSystemError, match="No space left on device"):
            await house.call("domain_define_xml_flags", xml=xml_of(guest_driver), flags=0)
        assert await house.call("actor_snapshot") == before
        with pytest.raises(NoSuchDomain):
            await house.call("domain_lookup_by_name", name=NAME)
    await define(house, guest_driver)


@pytest.mark.parametrize("text", ["", "<domain", "<network/>", "<domain/>", "<!DOCTYPE domain><domain/>", "<domain>\0"])
async def test_what_is_no_definition_is_refused(house: House, text: str) -> None:
    records = len(house.broker.records)
    with pytest.raises(VirtError) as caught:
        await house.call("domain_define_xml_flags", xml=text, flags=0)
    assert caught.value.expected
    assert len(house.broker.records) == records


async def test_a_read_only_caller_sees_no_secrets(house: House, guest_driver: ContractDriver) -> None:
    await define(house, guest_driver)
    reader = {"uid": 7, "read_only": True}
    assert (await house.call("domain_get_xml_desc", dom=REF, flags=0, caller=reader)).xml
    with pytest.raises(VirtError, match="read only access prevents virDomainGetXMLDesc"):
        await house.call("domain_get_xml_desc", dom=REF, flags=1, caller=reader)


async def test_lists_refuse_flags_that_they_do_not_know(house: House) -> None:
    unknown = 1 << 31
    assert not unknown & LIST_DOMAINS_FLAGS
    with pytest.raises(VirtError, match="unsupported flags"):
        await house.call("connect_list_all_domains", need_results=1, flags=unknown)


async def test_a_guest_of_another_connection_is_not_seen(house: House, guest_driver: ContractDriver) -> None:
    await define(house, guest_driver)
    with pytest.raises(VirtError):
        await house.call("domain_lookup_by_name", name=NAME, scope=f"{guest_driver.name}:///elsewhere")
