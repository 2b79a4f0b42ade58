"""Opening, reading, calling and staying alive, as a libvirt client meets them."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from typing import Any, cast

import pytest

from rpc.packet import LENGTH_MIN, PING, PING_BYTES, PONG, Program
from schema.enums.connect import ConnectFlags
from schema.errors import DomainStateError, ErrorCode, ErrorDomain
from schema.objects import DomainRef, TypedParam
from schema.table import need_procedure
from tests.fakes.rpc_client import CallFailed
from tests.process.gateway_in_loop import House, made_house
from tests.unit.gateway.records import uuid_of


@pytest.fixture
async def house() -> AsyncIterator[House]:
    async with made_house() as house:
        yield house


# --- opening and closing ---


async def test_handshake_as_virsh_makes_it(house: House) -> None:
    async with await house.client() as client:
        assert (await client.call("auth_list")).types == [0]
        assert (await client.call("connect_supports_feature", feature=10)).supported == 1
        await client.open()
        for feature, supported in ((14, 1), (15, 1), (9, 1), (16, 1), (8, 1), (6, 0)):
            assert (await client.call("connect_supports_feature", feature=feature)).supported == supported
        await client.call("connect_register_close_callback")
        assert (await client.call("connect_get_uri")).uri == "test:///default"
        await client.call("connect_unregister_close_callback")
        await client.call("connect_close")
        assert await client.is_closed()
    await house.until(lambda: "connect_close" in house.names_asked())


async def test_flags_that_libvirts_client_meant_for_itself_do_not_reach_the_driver(house: House) -> None:
    heard: list[int] = []
    house.peer.answers["connect_open"] = lambda args: heard.append(args.flags)
    own_daemon, start_it = 2, 4  # what an ordinary user's virsh sends along
    async with await house.client() as client:
        await client.open(flags=own_daemon | start_it)
    async with await house.client() as client:
        await client.open(flags=own_daemon | start_it | ConnectFlags.RO)
    assert heard == [0, ConnectFlags.RO]


async def test_nothing_but_the_handshake_is_served_before_the_connection_is_open(house: House) -> None:
    async with await house.client() as client:
        for name, args in (("connect_supports_feature", {"feature": 14}), ("connect_num_of_domains", {})):
            with pytest.raises(CallFailed, match="internal error: hypervisor connection not open") as caught:
                await client.call(name, **args)
            assert (caught.value.record.code, caught.value.record.domain) == (1, 7)


async def test_uri_without_a_driver_is_refused(house: House) -> None:
    async with await house.client() as client:
        with pytest.raises(CallFailed, match="no connection driver available for nosuch:///x") as caught:
            await client.open("nosuch:///x")
        assert caught.value.record.code == ErrorCode.NO_CONNECT


async def test_drivers_refusal_to_open_is_told_and_another_try_is_possible(house: House) -> None:
    def refuse(args: Any) -> None:
        raise DomainStateError("not now")

    house.peer.answers["connect_open"] = refuse
    async with await house.client() as client:
        with pytest.raises(CallFailed, match="not now"):
            await client.open()
        del house.peer.answers["connect_open"]
        await client.open()


async def test_second_open_of_a_connection_is_refused(house: House) -> None:
    async with await house.opened() as client:
        with pytest.raises(CallFailed, match="already open"):
            await client.open()


async def test_driver_hears_of_the_last_connection_only_and_a_new_one_waits_for_that(house: House) -> None:
    first, second = await house.opened(), await house.opened()
    await first.call("connect_close")
    assert "connect_close" not in house.names_asked()
    gate = asyncio.Event()
    house.peer.answers["connect_close"] = lambda args: wait_at(gate)
    second.writer.close()  # going away without a word is closing, too
    await house.until(lambda: "connect_close" in house.names_asked())
    opens = house.names_asked().count("connect_open")
    third = await house.client()
    opening = asyncio.create_task(third.open())
    await asyncio.sleep(0.05)
    assert house.names_asked().count("connect_open") == opens
    house.peer.answers["connect_close"] = lambda args: None
    gate.set()
    await opening
    third.writer.close()
    first.writer.close()


async def wait_at(gate: asyncio.Event) -> None:
    await gate.wait()


async def test_connection_that_is_being_opened_keeps_its_name_open(house: House) -> None:
    first = await house.opened()
    gate = asyncio.Event()
    house.peer.answers["connect_open"] = lambda args: wait_at(gate)
    second = await house.client()
    opening = asyncio.create_task(second.open())
    await house.until(lambda: house.names_asked().count("connect_open") == 2)
    await first.call("connect_close")
    house.peer.answers["connect_open"] = lambda args: None
    gate.set()
    await opening
    assert "connect_close" not in house.names_asked()
    await second.call("connect_close")
    await house.until(lambda: "connect_close" in house.names_asked())


async def test_refused_open_counts_as_none(house: House) -> None:
    first = await house.opened()

    def refuse(args: Any) -> None:
        raise DomainStateError("not now")

    house.peer.answers["connect_open"] = refuse
    second = await house.client()
    with pytest.raises(CallFailed):
        await second.open()
    await first.call("connect_close")
    await house.until(lambda: "connect_close" in house.names_asked())


async def test_keepalive_can_be_switched_off() -> None:
    async with made_house(keepalive_interval_s=0.0) as house, await house.client() as client:
        await client.call("connect_supports_feature", feature=10)
        with pytest.raises(TimeoutError):
            await client.packet(0.2)
        assert (await client.call("auth_list")).types == [0]


async def test_who_calls_is_the_kernels_word(house: House) -> None:
    async with await house.opened(read_only=True):
        caller = next(asked.caller for asked in house.peer.asked if asked.procedure == "connect_open")
    assert caller is not None
    assert (caller["uid"], caller["pid"], caller["via"]) == (os.getuid(), os.getpid(), "libvirt")
    assert caller["read_only"] is True


# --- calls ---


async def test_call_is_translated_both_ways(house: House) -> None:
    house.peer.answers["domain_get_info"] = lambda args: {
        "state": 1,
        "maxMem": 2048,
        "memory": 1024,
        "nrVirtCpu": 2,
        "cpuTime": 2**63,
    }
    async with await house.opened() as client:
        info = await client.call("domain_get_info", dom=house.peer.ref("a"))
        assert (info.maxMem, info.nrVirtCpu, info.cpuTime) == (2048, 2, 2**63)
        asked = house.peer.asked[-1]
        assert (asked.destination, asked.scope, asked.key) == ("test", "test:///default", uuid_of("a"))
        assert asked.deadline_s == need_procedure("domain_get_info").deadline_s


async def test_parameters_are_counted_first(house: House) -> None:
    params = [TypedParam.of_ullong("hard_limit", 1), TypedParam.of_ullong("soft_limit", 2)]
    house.peer.answers["domain_get_memory_parameters"] = lambda args: {"params": params, "nparams": 2}
    async with await house.opened() as client:
        count = await client.call("domain_get_memory_parameters", dom=house.peer.ref("a"), nparams=0, flags=0)
        assert (count.params, count.nparams) == ([], 2)
        full = await client.call("domain_get_memory_parameters", dom=house.peer.ref("a"), nparams=2, flags=0)
        assert full.params == params


async def test_unsupported_call_names_libvirts_function(house: House) -> None:
    async with await house.opened() as client:
        with pytest.raises(CallFailed, match="not supported by the connection driver: virDomainReset") as caught:
            await client.call("domain_reset", dom=house.peer.ref("a"), flags=0)
        assert caught.value.record.code == 3


async def test_unknown_procedure_begins_with_the_words_that_clients_look_for(house: House) -> None:
    async with await house.opened() as client:
        for number in (9999, 318):
            packet = await client.reply(client.send_raw(number, b""))
            with pytest.raises(CallFailed, match="unknown procedure: ") as caught:
                client.result("connect_close", packet)
            assert (caught.value.record.code, caught.value.record.domain) == (39, 7)


async def test_unknown_program_or_version_is_refused(house: House) -> None:
    async with await house.opened() as client:
        for program, version, words in (
            (0x12345678, 1, "Cannot find program"),
            (Program.REMOTE, 9, "version mismatch"),
        ):
            packet = await client.reply(client.send_raw(1, b"", program=program, version=version))
            assert packet.program == program
            with pytest.raises(CallFailed, match=words):
                client.result("connect_close", packet)


async def test_arguments_that_cannot_be_read_are_an_error_and_the_connection_goes_on(house: House) -> None:
    async with await house.opened() as client:
        packet = await client.reply(client.send_raw(need_procedure("domain_suspend").number, b"\0\0\0\7ab"))
        with pytest.raises(CallFailed, match="Unable to decode message payload"):
            client.result("domain_suspend", packet)
        assert (await client.call("connect_get_uri")).uri


async def test_text_that_is_not_unicode_is_an_invalid_argument(house: House) -> None:
    async with await house.opened() as client:
        with pytest.raises(CallFailed, match="domain_lookup_by_name: argument 'name': not valid UTF-8") as caught:
            await client.call("domain_lookup_by_name", name="a\udcff")
        assert caught.value.record.code == ErrorCode.INVALID_ARG


@pytest.mark.parametrize("data", [b"\0\0\0\x05abcde", b"\xff" * 64, b"GET / HTTP/1.0\r\n\r\n"])
async def test_who_does_not_speak_the_protocol_is_disconnected(house: House, data: bytes) -> None:
    async with await house.client() as client:
        client.writer.write(data)
        assert await client.is_closed()
    async with await house.opened() as client:
        assert (await client.call("connect_get_uri")).uri


@pytest.mark.parametrize(
    ("name", "function"),
    [("domain_suspend", "virDomainSuspend"), ("domain_destroy", "virDomainDestroy")],
)
@pytest.mark.parametrize("how", ["socket", "flag"])
async def test_readers_change_nothing(house: House, name: str, function: str, how: str) -> None:
    client = await house.client(read_only=how == "socket")
    await client.open(flags=0 if how == "socket" else 1)
    with pytest.raises(CallFailed, match=f"operation forbidden: read only access prevents {function}") as caught:
        await client.call(name, dom=DomainRef("a", uuid_of("a"), 1))
    assert (caught.value.record.code, caught.value.record.domain) == (29, ErrorDomain.DOMAIN)
    assert name not in house.names_asked()
    client.writer.close()


async def test_calls_of_one_client_run_side_by_side_up_to_a_limit(house: House) -> None:
    gate = asyncio.Event()
    running = 0

    async def wait(args: Any) -> None:
        nonlocal running
        running += 1
        await gate.wait()

    house.peer.answers["domain_suspend"] = wait
    async with await house.opened() as client:
        serials = [client.send_call("domain_suspend", dom=house.peer.ref("a")) for _ in range(9)]
        client.ping()
        assert (await client.packet()).procedure == PONG  # while its calls are stuck, a client is heard
        await house.until(lambda: running == 5)
        await asyncio.sleep(0.02)
        assert running == 5
        gate.set()
        answered = {(await client.packet()).serial for _ in serials}
        assert answered == set(serials)
        assert running == 9


async def test_a_client_that_goes_away_cancels_nothing(house: House) -> None:
    gate = asyncio.Event()
    done: list[bool] = []

    async def wait(args: Any) -> None:
        await gate.wait()
        done.append(True)

    house.peer.answers["domain_suspend"] = wait
    client = await house.opened()
    client.send_call("domain_suspend", dom=house.peer.ref("a"))
    await house.until(lambda: "domain_suspend" in house.names_asked())
    client.writer.close()
    await house.until(lambda: not house.gateway.connections)
    gate.set()
    await house.until(lambda: bool(done))


# --- keepalive ---


async def test_silent_client_is_asked_and_then_disconnected() -> None:
    async with made_house(keepalive_interval_s=0.05, keepalive_count=2) as house, await house.client() as client:
        await client.call("connect_supports_feature", feature=10)
        first = await client.packet()
        assert (first.program, first.procedure, first.serial) == (Program.KEEPALIVE, PING, 0)
        assert await client.is_closed()


async def test_client_that_answers_stays() -> None:
    async with made_house(keepalive_interval_s=0.05, keepalive_count=2) as house, await house.client() as client:
        await client.call("connect_supports_feature", feature=10)
        for _ in range(6):
            assert (await client.packet()).procedure == PING
            client.writer.write(PING_BYTES[:12] + b"\0\0\0\2" + PING_BYTES[16:])


async def test_client_that_this_side_does_not_read_is_not_taken_for_dead() -> None:
    gate = asyncio.Event()
    async with made_house(keepalive_interval_s=0.05, keepalive_count=2) as house:
        client = await house.opened()
        await client.call("connect_supports_feature", feature=10)
        house.peer.answers["domain_set_metadata"] = lambda args: wait_at(gate)
        for _ in range(9):  # more than is read while so many calls are open
            args = {"type": 0, "metadata": "x" * 20000, "key": None, "uri": None, "flags": 0}
            client.send_call("domain_set_metadata", dom=house.peer.ref("a"), **args)
        (connection,) = house.gateway.connections
        await house.until(lambda: connection.link.is_paused)
        await asyncio.sleep(0.4)
        assert not connection.link.closed
        gate.set()


async def test_listener_is_left_alone_while_nobody_can_be_accepted(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    tries = 0

    class Refusing:
        def fileno(self) -> int:
            return house.listening.read_write.fileno()

        def accept(self) -> None:
            nonlocal tries
            tries += 1
            raise OSError(24, "Too many open files")

    await house.opened()
    house.gateway.loop.remove_reader(house.listening.read_write.fileno())
    house.gateway.listen(cast(Any, Refusing()), house.gateway.admit)
    await house.client()
    await asyncio.sleep(0.35)
    assert 2 <= tries <= 5
    house.gateway.loop.remove_reader(house.listening.read_write.fileno())
    house.gateway.listen(house.listening.read_write, house.gateway.admit)
    async with await house.client() as client:
        assert (await client.call("auth_list")).types == [0]


async def test_client_that_did_not_ask_for_it_is_not_asked() -> None:
    async with made_house(keepalive_interval_s=0.02, keepalive_count=1) as house, await house.client() as client:
        await client.call("auth_list")
        with pytest.raises(TimeoutError):
            await client.packet(0.2)


async def test_too_many_clients_are_turned_away_and_the_others_stay() -> None:
    async with made_house(max_clients=2) as house, await house.opened() as first, await house.client() as second:
        await second.call("auth_list")
        async with await house.client() as third:
            assert await third.is_closed()
        assert (await first.call("connect_get_uri")).uri


def test_lengths_agree() -> None:
    assert len(PING_BYTES) == LENGTH_MIN
