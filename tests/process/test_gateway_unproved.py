"""A client that has not proved who it is: nothing is answered but how to do that, and nothing reaches a driver."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from gateway.auth.sasl import Progress, SaslLink, SaslProof
from gateway.specials import auth
from rpc.packet import Packet, PacketType, Program, Status
from rpc.xdr import args_codec, error_codec
from schema.errors import ErrorCode
from schema.table import all_procedures
from tests.process.gateway_in_loop import House, made_house
from tests.process.plain_arguments import plain_args

OPEN = {"auth_list", "auth_sasl_init", "auth_sasl_start", "auth_sasl_step", "auth_polkit"}
SERVED = ("remote", "qemu", "lxc")


@pytest.fixture(params=["sasl", "polkit"])
async def house(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[House]:
    # whoever runs the tests is not asked about by polkit
    monkeypatch.setattr("gateway.auth.proofs.os.geteuid", lambda: 4_000_000)
    async with made_house(auth_unix=request.param, auth_unix_read_only="none") as house:
        real = house.gateway.caller_of
        house.gateway.caller_of = lambda sock: {**real(sock), "uid": 4_000_001}  # type: ignore[method-assign]
        yield house


async def test_no_call_is_answered(house: House) -> None:
    async with await house.client() as client:
        for row in all_procedures():
            if row.program not in SERVED or row.name in OPEN:
                continue
            payload = args_codec(row).encode(plain_args(row))
            serial = client.send_raw(row.number, payload, program=Program[row.program.upper()])
            packet = await client.reply(serial)
            assert packet.status == Status.ERROR, row.name
            record = error_codec().decode(packet.payload)
            assert (record.code, "authentication required" in record.message) == (ErrorCode.RPC, True), row.name
        assert house.names_asked().count("connect_open") == 0
        assert all(asked.caller is None for asked in house.peer.asked), "nothing was asked for a client"


async def test_it_is_told_what_its_socket_asks_for(house: House) -> None:
    wanted = 1 if house.gateway.settings.auth_unix == "sasl" else 2
    async with await house.client() as client, await house.client(read_only=True) as reader:
        assert (await client.call("auth_list")).types == [wanted]
        assert (await reader.call("auth_list")).types == [0]
        await reader.open()
        assert len(house.gateway.unproved) == 1
    await house.until(lambda: not house.gateway.unproved)


async def test_streams_and_descriptors_change_nothing(house: House) -> None:
    async with await house.client() as client:
        client.send_stream("storage_vol_upload", 3, Status.CONTINUE, b"data")
        client.send(Packet(Program.REMOTE, 1, 310, PacketType.CALL_WITH_FDS, 9, 0, b"", 0))
        packet = await client.reply(9)
        assert "authentication required" in error_codec().decode(packet.payload).message
        assert (await client.call("auth_list")).types


async def test_long_messages_are_not_waited_for(house: House) -> None:
    async with await house.client() as client:
        client.writer.write((30 << 20).to_bytes(4, "big") + bytes(1 << 20))
        assert await client.is_closed()
    await house.until(lambda: not house.gateway.connections)


async def test_there_is_a_limit_in_time_and_in_number(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.server.PROVE_S", 0.3)
    monkeypatch.setattr("gateway.server.SWEEP_S", 0.02)
    async with made_house(auth_unix="sasl", max_greetings=3, keepalive_interval_s=0.0) as house:
        clients = [await house.client() for _ in range(5)]
        closed = await asyncio.gather(*(client.is_closed() for client in clients))
        assert closed == [True] * 5
        assert not house.gateway.connections
        async with await house.client() as late:
            assert (await late.call("auth_list")).types == [1]


# --- what comes before the encryption does not count as said inside it ---


class FakeProof(SaslProof):
    """A proof that is complete at once, and encrypts."""

    def __init__(self) -> None:
        self.user = "fred"
        self.layer = self  # type: ignore[assignment]

    def close(self) -> None:
        pass


class FakeLink(SaslLink):
    """A link that remembers what encrypts it."""

    def __init__(self) -> None:
        self.encrypted_by: Any = None

    def encrypt_by(self, session: Any) -> None:
        self.encrypted_by = session


class FakeConnection:
    def __init__(self, *, has_unread: bool) -> None:
        self.link = FakeLink()
        self.has_unread = has_unread
        self.proved: dict[str, str] | None = None
        self.is_disconnected = False
        self.then: Any = None
        self.gateway = self
        self.log = self

    def info(self, *words: Any, **more: Any) -> None:
        pass

    def after_reply(self, then: Any) -> None:
        self.then = then

    def prove(self, **more: str) -> None:
        self.proved = more

    def disconnect(self) -> None:
        self.is_disconnected = True


@pytest.mark.parametrize("has_unread", [False, True])
def test_what_was_sent_too_early_ends_the_connection(has_unread: bool) -> None:
    connection, proof = FakeConnection(has_unread=has_unread), FakeProof()
    told = auth._answer(connection, proof, Progress(complete=True, data=None))  # type: ignore[arg-type]
    assert dict(told) == {"complete": 1, "nil": 1, "data": b""}
    assert connection.proved is None, "only when the reply is written"
    connection.then()
    assert connection.is_disconnected is has_unread
    assert connection.proved == (None if has_unread else {"sasl": "fred"})
    assert connection.link.encrypted_by is (None if has_unread else proof)
