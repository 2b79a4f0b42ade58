"""What every actor promises, with or without guests."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from schema.errors import InvalidArguments, NoSuchDomain, UnknownProcedure, UnsupportedCall
from schema.objects import DomainRef
from schema.table import all_procedures, find_procedure
from settings.drivers import find_driver
from tests.contract.driver import ContractDriver
from tests.contract.house import FakeBroker, open_house

NOBODY = DomainRef("nobody", b"\xfe" * 16, -1)


def test_its_name_is_that_of_its_folder_and_in_the_driver_table(driver: ContractDriver) -> None:
    actor = driver.actor()
    module = type(actor).__module__
    assert module == f"actors.{actor.name}.driver" or module == f"actors.secondary.{actor.name}.driver"
    known = find_driver(actor.name)
    if known is None:
        assert actor.schemes == ()
    else:
        assert known.schemes == actor.schemes
        assert module == f"{known.module}.driver"


def test_each_handler_is_a_procedure_that_it_may_answer(driver: ContractDriver) -> None:
    for name in driver.actor().handlers():
        procedure = find_procedure(name)
        assert procedure is not None
        assert procedure.served_by not in ("broker", "warden")


def test_what_is_said_to_be_unsupported_is_not_answered(driver: ContractDriver) -> None:
    answered = driver.actor().handlers()
    assert [name for name in driver.unsupported if name in answered] == []
    assert [name for name in driver.unsupported if find_procedure(name) is None] == []


async def test_it_starts_on_an_empty_host_and_says_who_it_is(driver: ContractDriver, tmp_path: Path) -> None:
    driver.prepare(tmp_path)
    async with open_house(driver.actor(), driver.scope, tmp_path) as house:
        assert house.broker.kinds()[0] == "epoch"
        assert (await house.call("actor_ping")).pid == os.getpid()
        assert (await house.call("connect_get_uri")).uri == driver.scope
        assert (await house.call("actor_capabilities")).procedures == sorted(driver.actor().handlers())


async def test_a_second_start_publishes_nothing_but_its_epoch(driver: ContractDriver, tmp_path: Path) -> None:
    driver.prepare(tmp_path)
    broker = FakeBroker()
    async with open_house(driver.actor(), driver.scope, tmp_path, broker=broker) as house:
        before = (await house.call("actor_snapshot")).objects
    known = len(broker.records)
    async with open_house(driver.actor(), driver.scope, tmp_path, broker=broker, epoch=2) as house:
        assert [record["kind"] for record in broker.records[known:]] == ["epoch"]
        assert (await house.call("actor_snapshot")).objects == before


async def test_what_it_does_not_answer_is_unsupported_by_its_public_name(
    driver: ContractDriver, tmp_path: Path
) -> None:
    driver.prepare(tmp_path)
    async with open_house(driver.actor(), driver.scope, tmp_path) as house:
        answered = driver.actor().handlers()
        for procedure in all_procedures():
            if procedure.name in answered:
                continue
            with pytest.raises(UnsupportedCall) as caught:
                await house.outcome(house.post(procedure.name, body=b""))
            assert caught.value.str2 == procedure.function
        with pytest.raises(UnknownProcedure):
            await house.outcome(house.post("no_such_procedure", body=b""))


async def test_a_body_that_is_none_is_refused_by_name(driver: ContractDriver, tmp_path: Path) -> None:
    driver.prepare(tmp_path)
    async with open_house(driver.actor(), driver.scope, tmp_path) as house:
        for name in driver.actor().handlers():
            with pytest.raises(InvalidArguments, match=name):
                await house.outcome(house.post(name, body=b"\x81\xa7nothing\xc0"))


async def test_calls_about_a_guest_that_is_not_there_say_so(driver: ContractDriver, tmp_path: Path) -> None:
    driver.prepare(tmp_path)
    async with open_house(driver.actor(), driver.scope, tmp_path) as house:
        for name, handler in driver.actor().handlers().items():
            fields = handler.procedure.args
            if [field.type for field in fields if not field.optional] == ["domain"]:
                expected = (NoSuchDomain, UnsupportedCall) if driver.passes_calls_on else NoSuchDomain
                with pytest.raises(expected):
                    await house.call(name, **{fields[0].name: NOBODY})
