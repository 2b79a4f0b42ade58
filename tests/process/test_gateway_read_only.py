"""A read-only client can change nothing: every call of every program is tried."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from rpc.packet import Program, Status
from rpc.xdr import args_codec, error_codec
from schema.errors import ErrorCode
from schema.model import Procedure, ReadOnly
from schema.table import all_procedures, need_procedure
from tests.process.gateway_in_loop import House, made_house
from tests.process.plain_arguments import plain_args

WIRE = [row for row in all_procedures() if row.program in ("remote", "qemu", "lxc")]
LAST = ("connect_close", "auth_polkit", "auth_sasl_init", "auth_sasl_start", "auth_sasl_step")
HARMLESS = {"connect_open", "connect_close"}
"""They are said to the driver, but change nothing that anybody else sees."""


@pytest.fixture(params=["socket", "flag"])
async def read_only(request: pytest.FixtureRequest) -> AsyncIterator[tuple[House, Any]]:
    async with made_house() as house:
        if request.param == "socket":
            client = await house.opened(read_only=True)
        else:
            client = await (await house.client()).open(flags=1)
        yield house, client


def refused(row: Procedure, args: Any) -> bool:
    """Whether libvirt's own rule refuses the call, as the facts of its API say."""
    if row.ro is ReadOnly.CONDITIONAL:
        value = getattr(args, row.ro_param)
        return bool(value & row.ro_value) if row.ro_param == "flags" else value == row.ro_value
    return row.ro is ReadOnly.REFUSED


async def outcome(client: Any, row: Procedure, args: Any) -> int:
    """The error code of a call; 0 when it succeeds."""
    program = Program[row.program.upper()]
    packet = await client.reply(client.send_raw(row.number, args_codec(row).encode(args), program=program))
    return int(error_codec().decode(packet.payload).code) if packet.status == Status.ERROR else 0


async def test_nothing_that_changes_reaches_a_driver(read_only: tuple[House, Any]) -> None:
    house, client = read_only
    tried = 0
    for row in WIRE:
        if row.name in LAST or row.name == "connect_open":
            continue
        bits = [1 << bit for bit in range(32) if row.ro_value & (1 << bit)]
        for flags in (0, *bits) if row.ro is ReadOnly.CONDITIONAL else (0,):
            args = plain_args(row, **({row.ro_param: flags} if flags else {}))
            before = len(house.peer.asked)
            code = await outcome(client, row, args)
            asked = [call.procedure for call in house.peer.asked[before:]]
            if refused(row, args):
                assert code == ErrorCode.OPERATION_DENIED, row.name
                assert asked == [], row.name
            else:
                assert code != ErrorCode.OPERATION_DENIED, row.name
            changing = [name for name in asked if not need_procedure(name).is_read and name not in HARMLESS]
            assert changing == [], f"{row.name} reached the driver"
            assert all(call.caller["read_only"] for call in house.peer.asked[before:] if call.caller), row.name
            tried += 1
    assert tried > 395


def test_every_change_is_refused_by_the_table() -> None:
    """But for what a client does to nothing but its own connection."""
    own = ("connect_open", "connect_close", "auth_", "connect_register", "connect_unregister", "connect_set_keepalive")
    changing = [row.name for row in WIRE if not row.is_read and row.ro is ReadOnly.ALLOWED]
    assert [name for name in changing if not name.startswith(own)] == []
