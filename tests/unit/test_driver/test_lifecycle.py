"""What happens to guests, and what is told of it."""

from pathlib import Path
from typing import Any

import pytest

from conf.schemas import has_schema
from schema.errors import (
    DomainExists,
    DomainStateError,
    InternalError,
    NoSuchDomain,
    UnsupportedFlags,
    XmlInvalidSchema,
)
from tests.unit.test_driver.house import House, open_house

DEFINED, UNDEFINED, STARTED, SUSPENDED, RESUMED, STOPPED = range(6)
RUNNING, PAUSED, SHUTOFF = 1, 3, 5
UUID = "0a0a0a0a-1111-4222-8333-444444444401"
ALPHA = (
    f"<domain type='test'><name>alpha</name><uuid>{UUID}</uuid><memory>65536</memory><os><type>hvm</type></os></domain>"
)


async def define(house: House, xml: str = ALPHA) -> Any:
    return (await house.call("domain_define_xml_flags", xml=xml, flags=0)).dom


async def test_default_guest_runs_for_no_known_reason(tmp_path: Path) -> None:
    async with open_house(tmp_path) as house:
        dom = await house.domain("test")
        assert dom.id == 1
        assert await house.state(dom) == (RUNNING, 0)


async def test_life_of_a_guest_is_told_as_libvirt_tells_it(tmp_path: Path) -> None:
    async with open_house(tmp_path) as house:
        house.told()
        dom = await define(house)
        started = (await house.call("domain_create_with_flags", dom=dom, flags=0)).dom
        assert started.id == 2
        await house.call("domain_suspend", dom=dom)
        assert await house.state(dom) == (PAUSED, 1)
        await house.call("domain_resume", dom=dom)
        assert await house.state(dom) == (RUNNING, 5)
        await house.call("domain_reboot", dom=dom, flags=0)
        assert await house.state(dom) == (RUNNING, 1)
        await house.call("domain_shutdown", dom=dom)
        assert await house.state(dom) == (SHUTOFF, 1)
        await house.call("domain_create", dom=dom)
        await house.call("domain_destroy", dom=dom)
        assert await house.state(dom) == (SHUTOFF, 2)
        await define(house)
        await house.call("domain_undefine", dom=dom)
        assert house.told() == [
            (DEFINED, 0),
            (STARTED, 0),
            (SUSPENDED, 0),
            (RESUMED, 0),
            (STOPPED, 0),
            (STARTED, 0),
            (STOPPED, 1),
            (DEFINED, 1),
            (UNDEFINED, 0),
        ]
        assert await house.names() == ["test"]


async def test_transient_guest_is_gone_when_it_ends(tmp_path: Path) -> None:
    async with open_house(tmp_path) as house:
        dom = (await house.call("domain_create_xml", xml_desc=ALPHA, flags=0)).dom
        assert (await house.call("domain_is_persistent", dom=dom)).persistent == 0
        await house.call("domain_destroy", dom=dom)
        with pytest.raises(NoSuchDomain, match="no domain with matching uuid"):
            await house.call("domain_get_state", dom=dom, flags=0)


async def test_running_guest_that_is_undefined_becomes_transient(tmp_path: Path) -> None:
    async with open_house(tmp_path) as house:
        dom = await house.domain("test")
        await house.call("domain_undefine", dom=dom)
        assert await house.state(dom) == (RUNNING, 0)
        assert (await house.call("domain_is_persistent", dom=dom)).persistent == 0
        await house.call("domain_shutdown", dom=dom)
        assert await house.names() == []


@pytest.mark.parametrize(
    ("procedure", "message"),
    [
        ("domain_suspend", "internal error: domain 'alpha' not running"),
        ("domain_resume", "internal error: domain 'alpha' not paused"),
        ("domain_shutdown", "internal error: domain 'alpha' not running"),
        ("domain_destroy", "Requested operation is not valid: domain is not running"),
    ],
)
async def test_guest_that_is_off_refuses_what_needs_a_running_one(tmp_path: Path, procedure: str, message: str) -> None:
    async with open_house(tmp_path) as house:
        dom = await define(house)
        with pytest.raises((InternalError, DomainStateError)) as caught:
            await house.call(procedure, dom=dom)
        assert caught.value.message == message


async def test_start_of_a_running_guest_is_refused(tmp_path: Path) -> None:
    async with open_house(tmp_path) as house:
        dom = await house.domain("test")
        with pytest.raises(InternalError, match="Domain 'test' is already running"):
            await house.call("domain_create", dom=dom)


async def test_flags_that_libvirt_refuses_are_refused_in_its_words(tmp_path: Path) -> None:
    async with open_house(tmp_path) as house:
        dom = await define(house)
        with pytest.raises(UnsupportedFlags) as caught:
            await house.call("domain_create_with_flags", dom=dom, flags=1)
        assert caught.value.message == "unsupported flags (0x1) in function testDomainCreateWithFlags"


async def test_name_and_uuid_of_different_guests_are_refused(tmp_path: Path) -> None:
    async with open_house(tmp_path) as house:
        await define(house)
        with pytest.raises(DomainExists, match=f"domain 'alpha' is already defined with uuid {UUID}"):
            await define(house, ALPHA.replace(">alpha<", ">beta<"))
        with pytest.raises(DomainExists, match=f"domain 'alpha' already exists with uuid {UUID}"):
            await define(house, ALPHA.replace("4401", "4402"))


async def test_two_definitions_of_one_name_at_once_leave_one_guest(tmp_path: Path) -> None:
    async with open_house(tmp_path) as house:
        calls = [
            house.post("domain_define_xml_flags", xml=ALPHA.replace("4401", f"44{number:02}"), flags=0)
            for number in range(10, 20)
        ]
        outcomes = []
        for call in calls:
            try:
                outcomes.append(await house.outcome(call))
            except DomainExists:
                outcomes.append(None)
        assert sum(outcome is not None for outcome in outcomes) == 1
        assert await house.names() == ["alpha", "test"]


async def test_renamed_guest_is_found_by_its_new_name_only(tmp_path: Path) -> None:
    async with open_house(tmp_path) as house:
        dom = await define(house)
        house.told()
        await house.call("domain_rename", dom=dom, new_name="beta", flags=0)
        assert house.told() == [(UNDEFINED, 1), (DEFINED, 2)]
        assert (await house.domain("beta")).uuid == dom.uuid
        with pytest.raises(NoSuchDomain):
            await house.domain("alpha")
        with pytest.raises(DomainStateError, match="domain with name 'test' already exists"):
            await house.call("domain_rename", dom=dom, new_name="test", flags=0)


async def test_definition_of_a_running_guest_changes_its_next_start(tmp_path: Path) -> None:
    async with open_house(tmp_path) as house:
        dom = await define(house)
        await house.call("domain_create", dom=dom)
        await define(house, ALPHA.replace("65536", "32768"))
        assert (await house.call("domain_get_info", dom=dom)).maxMem == 65536
        await house.call("domain_destroy", dom=dom)
        assert (await house.call("domain_get_info", dom=dom)).maxMem == 32768


async def test_reboot_of_a_guest_that_is_to_end_then_ends_it(tmp_path: Path) -> None:
    async with open_house(tmp_path) as house:
        dom = await house.domain("test")
        await house.call("domain_set_lifecycle_action", dom=dom, type=1, action=0, flags=1)
        house.told()
        await house.call("domain_reboot", dom=dom, flags=0)
        assert await house.state(dom) == (SHUTOFF, 1)
        assert house.told() == [(STOPPED, 0)]


@pytest.mark.skipif(not has_schema("domain.rng"), reason="libvirt's schemas are not installed")
async def test_what_no_schema_knows_is_refused_where_validation_is_asked_for(tmp_path: Path) -> None:
    odd = ALPHA.replace("</os>", "</os><nonsense/>")
    async with open_house(tmp_path) as house:
        for procedure, name, flag in (("domain_define_xml_flags", "xml", 1), ("domain_create_xml", "xml_desc", 16)):
            with pytest.raises(XmlInvalidSchema, match=r"domain\.rng"):
                await house.call(procedure, **{name: odd}, flags=flag)
        network = "<network><name>n</name><nonsense/></network>"
        with pytest.raises(XmlInvalidSchema, match=r"network\.rng"):
            await house.call("network_define_xml_flags", xml=network, flags=1)
        assert (await define(house, odd)).name == "alpha"
