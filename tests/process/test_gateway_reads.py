"""What is answered from the read model, when it is not, and what is said while the driver is away."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from schema.errors import DriverDegraded, ErrorDomain
from tests.fakes.rpc_client import CallFailed
from tests.process.gateway_in_loop import House, made_house


@pytest.fixture
async def house() -> AsyncIterator[House]:
    async with made_house() as house:
        yield house


async def test_reads_are_answered_without_asking_the_driver(house: House) -> None:
    async with await house.opened() as client:
        before = len(house.peer.asked)
        found = (await client.call("domain_lookup_by_name", name="a")).dom
        assert found == house.peer.ref("a")
        state = await client.call("domain_get_state", dom=found, flags=0)
        assert (state.state, state.reason) == (1, 1)
        assert (await client.call("connect_list_all_domains", need_results=1, flags=0)).ret == 2
        assert len(house.peer.asked) == before


async def test_unknown_name_is_the_drivers_to_refuse(house: House) -> None:
    async with await house.opened() as client:
        with pytest.raises(CallFailed, match="no domain with matching name 'z'") as caught:
            await client.call("domain_lookup_by_name", name="z")
        record = caught.value.record
        assert (record.code, record.domain, record.int1) == (42, ErrorDomain.TEST, -1)


async def test_client_reads_what_it_was_told_although_the_event_is_late(house: House) -> None:
    async with await house.opened() as client:

        def suspend(args: Any) -> None:
            house.peer.publishing = False
            house.peer.change("a", (3, 0), state=3, reason=1)
            asyncio.get_running_loop().call_later(0.02, house.peer.release)

        house.peer.answers["domain_suspend"] = suspend
        await client.call("domain_suspend", dom=house.peer.ref("a"))
        before = len(house.peer.asked)
        assert (await client.call("domain_get_state", dom=house.peer.ref("a"), flags=0)).state == 3
        assert len(house.peer.asked) == before


async def test_read_is_forwarded_while_the_read_model_stays_behind(house: House) -> None:
    async with await house.opened() as client:

        def suspend(args: Any) -> None:
            house.peer.publishing = False
            house.peer.change("a", (3, 0), state=3, reason=1)

        house.peer.answers["domain_suspend"] = suspend
        house.peer.answers["domain_get_state"] = lambda args: {"state": 3, "reason": 1}
        await client.call("domain_suspend", dom=house.peer.ref("a"))
        assert (await client.call("domain_get_state", dom=house.peer.ref("a"), flags=0)).state == 3
        assert house.names_asked()[-1] == "domain_get_state"
        async with await house.client() as other:  # nor does anybody else read less than somebody was told
            await other.open()
            assert (await other.call("domain_get_state", dom=house.peer.ref("a"), flags=0)).state == 3
        house.peer.release()


async def test_reads_wait_at_the_driver_while_it_restarts(house: House) -> None:
    async with await house.opened() as client:
        house.peer.say_state("restarting")
        await house.until(lambda: house.gateway.feed.replica("test").state == "restarting")
        gate = asyncio.Event()

        async def wait(args: Any) -> dict[str, int]:
            await gate.wait()
            return {"state": 1, "reason": 1}

        house.peer.answers["domain_get_state"] = wait
        serial = client.send_call("domain_get_state", dom=house.peer.ref("a"), flags=0)
        with pytest.raises(TimeoutError):
            await client.packet(0.1)
        gate.set()
        assert client.result("domain_get_state", await client.reply(serial)).state == 1


async def test_state_is_unknown_while_the_driver_is_given_up_but_nothing_is_gone(house: House) -> None:
    async with await house.opened() as client:
        house.peer.say_state("degraded")
        await house.until(lambda: house.gateway.feed.replica("test").is_unknown)
        assert (await client.call("connect_list_all_domains", need_results=1, flags=0)).ret == 2
        assert (await client.call("domain_get_state", dom=house.peer.ref("a"), flags=0)).state == 0

        def gone(args: Any) -> None:
            raise DriverDegraded("test", "it crashed too often")

        house.peer.answers["domain_get_info"] = gone
        with pytest.raises(CallFailed, match="driver 'test' is degraded") as caught:
            await client.call("domain_get_info", dom=house.peer.ref("a"))
        assert caught.value.record.str3 is None


async def test_new_client_is_told_what_is_known_of_a_driver_that_is_given_up(house: House) -> None:
    def gone(args: Any) -> None:
        raise DriverDegraded("test", "it crashed too often")

    async with await house.opened():
        for name in ("connect_open", "domain_get_state", "domain_suspend", "domain_lookup_by_name"):
            house.peer.answers[name] = gone
        async with await house.client() as client:  # before the news of the state came
            await client.open()
            assert (await client.call("connect_list_all_domains", need_results=1, flags=0)).ret == 2
            found = (await client.call("domain_lookup_by_name", name="a")).dom
            assert (await client.call("domain_get_state", dom=found, flags=0)).state == 0
            with pytest.raises(CallFailed, match="driver 'test' is degraded"):
                await client.call("domain_suspend", dom=found)
            with pytest.raises(CallFailed, match="driver 'test' is degraded"):
                await client.call("domain_lookup_by_name", name="z")
        async with await house.client() as client:
            with pytest.raises(CallFailed, match="driver 'test' is degraded"):
                await client.open("test:///nosuch.xml")
        house.peer.answers.clear()
        house.peer.say_state("ready")
        house.peer.alive()
        async with await house.opened() as client:
            assert (await client.call("domain_get_state", dom=found, flags=0)).state == 1


async def test_document_is_asked_for_once_until_the_guest_changes(house: House) -> None:
    house.peer.answers["domain_get_xml_desc"] = lambda args: f"<domain>{house.peer.seq}</domain>"
    async with await house.opened() as client:

        async def xml(flags: int = 0) -> str:
            result = await client.call("domain_get_xml_desc", dom=house.peer.ref("a"), flags=flags)
            return str(result.xml)

        first = await xml()
        assert await xml() == first
        assert house.names_asked().count("domain_get_xml_desc") == 1
        house.peer.change("a", state=3)
        await house.until(lambda: house.gateway.feed.replica("test").seq == house.peer.seq)
        assert await xml() != first
        for _ in range(2):
            await xml(1)  # what holds secrets is never kept
        assert house.names_asked().count("domain_get_xml_desc") == 4


async def test_document_with_secrets_is_refused_to_readers(house: House) -> None:
    house.peer.answers["domain_get_xml_desc"] = lambda args: "<domain/>"
    async with await house.opened(read_only=True) as client:
        assert (await client.call("domain_get_xml_desc", dom=house.peer.ref("a"), flags=0)).xml == "<domain/>"
        for flags in (1, 8):
            with pytest.raises(CallFailed, match="operation forbidden: virDomainGetXMLDesc with secure flag"):
                await client.call("domain_get_xml_desc", dom=house.peer.ref("a"), flags=flags)
