"""The gateway's server in this process, on a real socket, with a broker and a driver in memory."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import socket
import tempfile
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import pytest

from broker.wire import STREAM_PAYLOAD_MAX, StreamKind, pack_frame, unpack_frame_header
from gateway.listening import Listening
from gateway.server import Gateway
from rpc.packet import LENGTH_MIN, PING, PING_BYTES, PONG, Packet, PacketType, Program, Status
from rpc.xdr import event_codec
from schema.errors import DomainStateError, DriverDegraded, ErrorCode, ErrorDomain
from schema.objects import DomainRef, StorageVolRef, TypedParam
from schema.table import need_event, need_procedure
from settings.config import Config, GatewaySettings
from tests.fakes.rpc_client import CallFailed, RpcClient, callback_id
from tests.fakes.scripted_peer import Answer, ScriptedPeer
from tests.unit.gateway.records import summary, uuid_of
from util.structured_log import StructuredLog


def descriptors() -> int:
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


@dataclass(slots=True)
class BareListening:
    """Listening sockets without a holder."""

    read_write: socket.socket
    read_only: socket.socket
    lifeline: None = None


class House:
    def __init__(self, folder: Path, settings: GatewaySettings) -> None:
        self.folder = folder
        self.writers: list[asyncio.StreamWriter] = []
        self.peer = ScriptedPeer({"a": summary(id=1, state=1, reason=1), "b": summary()})
        config = Config(gateway=settings)
        self.log_read, self.log_write = os.pipe2(os.O_NONBLOCK)
        self.gateway = Gateway(cast(Any, self.peer), config, StructuredLog("gateway", fd=self.log_write))
        self.listening = BareListening(self._bind("rw"), self._bind("ro"))
        self.serving = asyncio.ensure_future(self.gateway.serve(cast(Listening, self.listening)))

    def _bind(self, name: str) -> socket.socket:
        sock = socket.socket(socket.AF_UNIX)
        sock.setblocking(False)
        sock.bind(str(self.folder / name))
        sock.listen(64)
        return sock

    async def client(self, *, read_only: bool = False) -> RpcClient:
        client = await RpcClient.connect(self.folder / ("ro" if read_only else "rw"))
        self.writers.append(client.writer)
        return client

    async def opened(self, *, read_only: bool = False) -> RpcClient:
        """A client with an open connection, and the read model filled."""
        client = await (await self.client(read_only=read_only)).open()
        self.peer.alive()
        await self.until(lambda: self.gateway.feed.replica("test").is_current(self.gateway.clock(), 60.0))
        return client

    async def until(self, condition: Any, limit_s: float = 5.0) -> None:
        async with asyncio.timeout(limit_s):
            while not condition():
                await asyncio.sleep(0.002)

    def names_asked(self) -> list[str]:
        return [asked.procedure for asked in self.peer.asked]

    async def close(self) -> None:
        for writer in self.writers:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()
        self.serving.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self.serving
        for task in tuple(self.gateway.tasks):
            task.cancel()
        await asyncio.gather(*self.gateway.tasks, return_exceptions=True)
        self.listening.read_write.close()
        self.listening.read_only.close()
        os.close(self.log_read)
        os.close(self.log_write)


@contextlib.asynccontextmanager
async def made_house(**settings: Any) -> AsyncIterator[House]:
    folder = Path(tempfile.mkdtemp(prefix="vt", dir="/tmp"))
    house = House(folder, GatewaySettings(**{"documents_settle_s": 0.0, **settings}))
    try:
        yield house
    finally:
        await house.close()
        shutil.rmtree(folder)


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
        for feature, supported in ((14, 1), (15, 1), (9, 1), (16, 1), (8, 0), (6, 0)):
            assert (await client.call("connect_supports_feature", feature=feature)).supported == supported
        await client.call("connect_register_close_callback")
        assert (await client.call("connect_get_uri")).uri == "test:///default"
        await client.call("connect_unregister_close_callback")
        await client.call("connect_close")
        assert await client.is_closed()
    await house.until(lambda: "connect_close" in house.names_asked())


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


# --- reads ---


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


async def test_descriptors_are_taken_and_refused(house: House) -> None:
    async with await house.opened() as client:
        sock = client.writer.get_extra_info("socket")
        row = need_procedure("domain_create_with_files")
        payload = b"\0\0\0\1a\0\0\0" + uuid_of("a") + b"\0\0\0\1" + bytes(4)
        before = descriptors()
        for _ in range(5):
            packet = Packet(Program.REMOTE, 1, row.number, PacketType.CALL_WITH_FDS, client.serial, 0, payload, 1)
            client.serial += 1
            client.send(packet)
            await client.writer.drain()
            with socket.socket(fileno=os.dup(sock.fileno())) as copy:
                socket.send_fds(copy, [b"\0"], [house.log_read])
            with pytest.raises(CallFailed, match="descriptors cannot be passed"):
                client.result(row.name, await client.reply(packet.serial))
        assert (await client.call("connect_get_uri")).uri
        await house.until(lambda: descriptors() <= before + 1)


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


async def test_client_that_did_not_ask_for_it_is_not_asked() -> None:
    async with made_house(keepalive_interval_s=0.02, keepalive_count=1) as house, await house.client() as client:
        await client.call("auth_list")
        with pytest.raises(TimeoutError):
            await client.packet(0.2)


# --- events ---


async def test_registered_client_is_told_in_order_and_others_are_not(house: House) -> None:
    async with await house.opened() as client, await house.opened() as other:
        every = await client.call("connect_domain_event_callback_register_any", eventID=0, dom=None)
        only_b = await client.call(
            "connect_domain_event_callback_register_any", eventID=0, dom=DomainRef("b", uuid_of("b"), -1)
        )
        house.peer.change("a", (3, 0), state=3)
        house.peer.change("b", (2, 0), id=7, state=1)
        told = [await client.event() for _ in range(3)]
        assert sorted(callback_id(packet) for packet in told[1:]) == [every.callbackID, only_b.callbackID]
        assert callback_id(told[0]) == every.callbackID
        values = event_codec(need_event("domain_event_lifecycle")).decode(told[1].payload[4:])
        assert (values["dom"].name, values["dom"].id, values["event"]) == ("b", 7, 2)
        with pytest.raises(TimeoutError):
            await other.packet(0.05)
        await client.call("connect_domain_event_callback_deregister_any", callbackID=every.callbackID)
        house.peer.change("a", (4, 0), state=1)
        with pytest.raises(TimeoutError):
            await client.packet(0.05)


async def test_what_happened_before_the_registration_is_not_told(house: House) -> None:
    async with await house.opened() as client:

        def suspend(args: Any) -> None:
            house.peer.publishing = False
            house.peer.change("a", (3, 0), state=3)

        house.peer.answers["domain_suspend"] = suspend
        await client.call("domain_suspend", dom=house.peer.ref("a"))
        await client.call("connect_domain_event_callback_register_any", eventID=0, dom=None)
        house.peer.release()
        with pytest.raises(TimeoutError):
            await client.packet(0.05)
        house.peer.change("a", (4, 0), state=1)
        assert (
            event_codec(need_event("domain_event_lifecycle")).decode((await client.event()).payload[4:])["event"] == 4
        )


async def test_every_event_id_may_be_registered_and_no_other(house: House) -> None:
    async with await house.opened() as client:
        for event_id in range(27):
            await client.call("connect_domain_event_callback_register_any", eventID=event_id, dom=None)
        for event_id in (-1, 27):
            with pytest.raises(CallFailed, match=f"event ID {event_id}") as caught:
                await client.call("connect_domain_event_callback_register_any", eventID=event_id, dom=None)
            assert caught.value.record.code == 1
        await client.call("connect_network_event_register_any", eventID=0, net=None)
        await client.call("connect_storage_pool_event_register_any", eventID=1, pool=None)
        await client.call("connect_node_device_event_register_any", eventID=0, dev=None)
        await client.call("connect_secret_event_register_any", eventID=0, secret=None)
        await client.call("qemu_connect_domain_monitor_event_register", dom=None, event=None, flags=0)


async def test_older_registrations(house: House) -> None:
    async with await house.opened() as client:
        assert (await client.call("connect_domain_event_register")).cb_registered == 0
        with pytest.raises(CallFailed, match="event callback already tracked"):
            await client.call("connect_domain_event_register_any", eventID=0)
        house.peer.change("a", (3, 0), state=3)
        assert (await client.event()).procedure == 107
        await client.call("connect_domain_event_deregister")
        with pytest.raises(CallFailed, match="event ID 16"):
            await client.call("connect_domain_event_register_any", eventID=16)


async def test_client_that_does_not_take_its_events_is_disconnected_and_memory_stays_bounded(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.connection.OUT_MAX", 100_000)
    client = await house.opened()
    await client.call("connect_domain_event_callback_register_any", eventID=23, dom=None)
    client.writer.transport.pause_reading()  # type: ignore[attr-defined]
    ref = ["a", uuid_of("a"), 1]
    for _ in range(200):
        house.peer.emit("domain_event_metadata_change", "a", {"dom": ref, "type": 0, "nsuri": "x" * 5000})
    await house.until(lambda: not house.gateway.connections)
    async with await house.opened() as other:
        assert (await other.call("connect_get_uri")).uri
    client.writer.close()


async def test_driver_that_loses_its_own_connection_says_so_to_those_who_asked(house: House) -> None:
    async with await house.opened() as client, await house.opened() as other:
        await client.call("connect_register_close_callback")
        house.peer.emit("connect_event_connection_closed", None, {"reason": 1})
        packet = await client.event()
        assert (packet.procedure, packet.payload) == (362, b"\0\0\0\1")
        with pytest.raises(TimeoutError):
            await other.packet(0.05)


# --- streams ---


class Tickets:
    """The driver's side of streams."""

    def __init__(self, house: House) -> None:
        self.path = house.folder / "ticket"
        self.writers = house.writers
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(str(self.path))
        self.listener.listen(8)
        self.listener.setblocking(False)

    def answer(self, values: Any = None) -> Answer:
        return Answer(values, {"path": str(self.path), "token": b"t" * 32})

    async def accept(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        sock, _ = await asyncio.wait_for(asyncio.get_running_loop().sock_accept(self.listener), 5)
        reader, writer = await asyncio.open_unix_connection(sock=sock)
        self.writers.append(writer)
        assert await asyncio.wait_for(reader.readexactly(32), 5) == b"t" * 32
        return reader, writer

    @staticmethod
    async def frame(reader: asyncio.StreamReader) -> tuple[StreamKind, bytes]:
        async with asyncio.timeout(5):
            kind, length = unpack_frame_header(await reader.readexactly(5))
            return kind, await reader.readexactly(length)

    def close(self) -> None:
        self.listener.close()


@pytest.fixture
def tickets(house: House) -> Any:
    made = Tickets(house)
    yield made
    made.close()


async def open_console(house: House, client: RpcClient, tickets: Tickets) -> int:
    house.peer.answers["domain_open_console"] = lambda args: tickets.answer()
    serial = client.send_call("domain_open_console", dom=house.peer.ref("a"), dev_name=None, flags=0)
    assert (await client.reply(serial)).status == Status.OK
    return serial


async def test_console_goes_both_ways_until_the_client_ends_it(house: House, tickets: Tickets) -> None:
    async with await house.opened() as client:
        serial = await open_console(house, client, tickets)
        reader, writer = await tickets.accept()
        writer.write(pack_frame(StreamKind.DATA, b"login: "))
        packet = await client.packet()
        assert (packet.type, packet.status, packet.serial, packet.payload) == (3, 2, serial, b"login: ")
        client.send_stream("domain_open_console", serial, Status.CONTINUE, b"root\r")
        assert await tickets.frame(reader) == (StreamKind.DATA, b"root\r")
        client.send_stream("domain_open_console", serial, Status.OK)
        assert (await tickets.frame(reader))[0] is StreamKind.END
        packet = await client.packet()
        assert (packet.type, packet.status, packet.payload) == (3, 0, b"")
        writer.close()


async def test_console_whose_guest_ended_tells_the_end(house: House, tickets: Tickets) -> None:
    async with await house.opened() as client:
        serial = await open_console(house, client, tickets)
        _, writer = await tickets.accept()
        writer.write(pack_frame(StreamKind.END))
        packet = await client.packet()
        assert (packet.status, packet.payload) == (Status.CONTINUE, b"")
        client.send_stream("domain_open_console", serial, Status.OK)
        assert (await client.packet()).status == Status.OK
        writer.close()


async def test_console_goes_on_when_its_driver_died(house: House, tickets: Tickets) -> None:
    async with await house.opened() as client:
        serial = await open_console(house, client, tickets)
        _, writer = await tickets.accept()
        writer.write(pack_frame(StreamKind.DATA, b"one"))
        assert (await client.packet()).payload == b"one"
        writer.close()  # an end of file without END: the process is gone
        reader, writer = await tickets.accept()
        writer.write(pack_frame(StreamKind.DATA, b"two"))
        assert (await client.packet()).payload == b"two"
        client.send_stream("domain_open_console", serial, Status.CONTINUE, b"x")
        assert await tickets.frame(reader) == (StreamKind.DATA, b"x")
        assert house.names_asked().count("domain_open_console") == 2
        writer.close()


async def test_console_ends_with_the_error_when_it_cannot_be_opened_again(house: House, tickets: Tickets) -> None:
    async with await house.opened() as client:
        serial = await open_console(house, client, tickets)
        _, writer = await tickets.accept()

        def refuse(args: Any) -> None:
            raise DomainStateError("domain is not running")

        house.peer.answers["domain_open_console"] = refuse
        writer.close()
        packet = await client.packet()
        assert (packet.type, packet.status, packet.serial) == (PacketType.STREAM, Status.ERROR, serial)
        client.send_stream("domain_open_console", serial, Status.CONTINUE, b"late")
        client.send_stream("domain_open_console", serial, Status.OK)
        assert (await client.call("connect_get_uri")).uri  # what comes late is dropped without a word


async def test_abort_is_confirmed_and_the_driver_sees_it(house: House, tickets: Tickets) -> None:
    async with await house.opened() as client:
        serial = await open_console(house, client, tickets)
        reader, writer = await tickets.accept()
        client.send_stream("domain_open_console", serial, Status.ERROR)
        packet = await client.packet()
        assert (packet.type, packet.status) == (PacketType.STREAM, Status.OK)
        assert await asyncio.wait_for(reader.read(), 5) == b""
        writer.close()


async def test_screenshot_carries_its_type_and_then_its_bytes(house: House, tickets: Tickets) -> None:
    house.peer.answers["domain_screenshot"] = lambda args: tickets.answer("image/png")
    image = os.urandom(700_000)
    async with await house.opened() as client:
        serial = client.send_call("domain_screenshot", dom=house.peer.ref("a"), screen=0, flags=0)
        assert client.result("domain_screenshot", await client.reply(serial)).mime == "image/png"
        _, writer = await tickets.accept()
        for start in range(0, len(image), STREAM_PAYLOAD_MAX):
            writer.write(pack_frame(StreamKind.DATA, image[start : start + STREAM_PAYLOAD_MAX]))
        writer.write(pack_frame(StreamKind.END))
        got = b""
        while (packet := await client.packet()).payload:
            assert len(packet.payload) <= 262120
            got += packet.payload
        assert got == image
        client.send_stream("domain_screenshot", serial, Status.OK)
        assert (await client.packet()).status == Status.OK
        writer.close()


async def test_upload_is_confirmed_only_when_the_driver_has_it_all(house: House, tickets: Tickets) -> None:
    house.peer.answers["storage_vol_upload"] = lambda args: tickets.answer()
    async with await house.opened() as client:
        serial = client.send_call("storage_vol_upload", vol=StorageVolRef("p", "v", "k"), offset=0, length=0, flags=0)
        await client.reply(serial)
        reader, writer = await tickets.accept()
        client.send_stream("storage_vol_upload", serial, Status.CONTINUE, b"data")
        client.send_stream("storage_vol_upload", serial, Status.OK)
        assert await tickets.frame(reader) == (StreamKind.DATA, b"data")
        assert (await tickets.frame(reader))[0] is StreamKind.END
        with pytest.raises(TimeoutError):
            await client.packet(0.1)
        writer.write(pack_frame(StreamKind.END))
        assert (await client.packet()).status == Status.OK
        writer.close()


async def test_sink_that_takes_nothing_holds_up_its_client_in_bounds(
    house: House, tickets: Tickets, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.streams.STUCK_AFTER_S", 0.5)
    async with await house.opened() as client:
        serial = await open_console(house, client, tickets)
        _, writer = await tickets.accept()
        for _ in range(64):
            client.send_stream("domain_open_console", serial, Status.CONTINUE, bytes(262120))
        (connection,) = house.gateway.connections
        packet = await client.packet()
        assert (packet.type, packet.status) == (PacketType.STREAM, Status.ERROR)
        assert connection.link.buffered < 1 << 20
        assert (await client.call("connect_get_uri")).uri
        writer.close()


async def test_stream_ends_with_its_client(house: House, tickets: Tickets) -> None:
    client = await house.opened()
    await open_console(house, client, tickets)
    reader, writer = await tickets.accept()
    client.writer.close()
    assert await asyncio.wait_for(reader.read(), 5) == b""
    writer.close()


async def test_too_many_clients_are_turned_away_and_the_others_stay() -> None:
    async with made_house(max_clients=2) as house, await house.opened() as first, await house.client() as second:
        await second.call("auth_list")
        async with await house.client() as third:
            assert await third.is_closed()
        assert (await first.call("connect_get_uri")).uri


def test_lengths_agree() -> None:
    assert len(PING_BYTES) == LENGTH_MIN
