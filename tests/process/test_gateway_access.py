"""The access policy as a libvirt client meets it."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from gateway.reads import READERS
from rpc.packet import Program, Status
from rpc.xdr import args_codec, error_codec
from schema.errors import ErrorCode, ErrorDomain
from schema.objects import DomainRef, DomainStatsRecord, NetworkRef
from schema.table import all_procedures
from tests.fakes.rpc_client import CallFailed, callback_id
from tests.process.gateway_in_loop import House, made_house
from tests.process.plain_arguments import plain_args
from tests.unit.gateway.records import uuid_of

POLICY = """
[[rule]]
who = ["user:alice"]
what = ["connect:*"]

[[rule]]
who = ["user:alice"]
what = ["domain:getattr", "domain:read", "domain:start", "domain:write", "domain:save"]
which = ["name:a"]

[[rule]]
who = ["user:alice"]
what = ["network:getattr"]
which = ["name:lan"]
"""
ALICE = 64321  # no such user: her name is what the test says


@asynccontextmanager
async def policed(
    folder: Path, policy: str = POLICY, *, is_cached: bool = False, **settings: Any
) -> AsyncIterator[House]:
    """A house under a policy; with `is_cached` the driver says that its reads may come from the read model."""
    path = folder / "access.toml"
    path.write_text(policy, encoding="utf-8")
    async with made_house(access_policy=str(path), **settings) as house:
        alice = {
            "uid": ALICE,
            "gid": ALICE,
            "pid": 1,
            "user": "alice",
            "via": "libvirt",
            "name": "",
            "read_only": False,
        }
        house.gateway.caller_of = lambda sock: alice  # type: ignore[method-assign]
        refs = {
            "connect_list_all_domains": lambda args: {
                "domains": [house.peer.ref(name) for name in sorted(house.peer.guests) if selected(house, name, args)],
                "ret": len(house.peer.guests),
            },
            "domain_lookup_by_uuid": lambda args: {"dom": by_uuid(house, args.uuid)},
            "domain_get_xml_desc": lambda args: {"xml": f"<domain>{args.dom.name}</domain>"},
            "domain_create": lambda args: None,
            "domain_destroy": lambda args: None,
            "domain_define_xml": lambda args: {"dom": house.peer.ref("a")},
        }
        house.peer.answers.update(refs)
        served = sorted(name for name in READERS if "domain" in name) if is_cached else []
        house.peer.answers["actor_capabilities"] = lambda args: served
        yield house


def selected(house: House, name: str, args: Any) -> bool:
    active = house.peer.guests[name]["id"] != -1
    return not args.flags & 3 or bool(args.flags & (1 if active else 2))


def by_uuid(house: House, uuid: bytes) -> DomainRef:
    return next(house.peer.ref(name) for name in house.peer.guests if uuid_of(name) == uuid)


@pytest.fixture(params=[False, True], ids=["from the driver", "from the read model"])
async def house(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[House]:
    async with policed(tmp_path, is_cached=request.param) as house:
        yield house


async def denied(call: Any) -> None:
    with pytest.raises(CallFailed) as caught:
        await call
    assert caught.value.record.code == ErrorCode.ACCESS_DENIED
    assert caught.value.record.domain == ErrorDomain.ACCESS


def log_of(house: House) -> str:
    try:
        return os.read(house.log_read, 1 << 20).decode()
    except BlockingIOError:
        return ""


async def test_what_is_allowed_is_done_and_the_rest_is_refused(house: House) -> None:
    async with await house.opened() as client:
        a, b = house.peer.ref("a"), house.peer.ref("b")
        await client.call("domain_create", dom=a)
        await denied(client.call("domain_create", dom=b))
        await denied(client.call("domain_destroy", dom=a))
        assert house.names_asked().count("domain_create") == 1
        assert "domain_destroy" not in house.names_asked()
    told = log_of(house)
    assert "access refused who=alice uid=64321 permission=domain:start call=domain_create name=b" in told
    assert "permission=domain:stop call=domain_destroy" in told
    assert "access allowed" not in told


async def test_the_name_in_a_reference_is_not_believed(house: House) -> None:
    async with await house.opened() as client:
        await denied(client.call("domain_create", dom=DomainRef("a", uuid_of("b"), -1)))
        await client.call("domain_create", dom=DomainRef("b", uuid_of("a"), -1))


async def test_what_can_never_be_allowed_is_refused_before_it_is_parsed(house: House) -> None:
    async with await house.opened() as client:
        packet = await client.reply(client.send_raw(12, b"no domain"))  # domain_destroy
        assert error_codec().decode(packet.payload).code == ErrorCode.ACCESS_DENIED
        packet = await client.reply(client.send_raw(9, b"no domain"))  # domain_create
        assert error_codec().decode(packet.payload).code == ErrorCode.RPC


async def test_lookups_find_only_what_may_be_seen(house: House) -> None:
    async with await house.opened() as client:
        assert (await client.call("domain_lookup_by_name", name="a")).dom.name == "a"
        await denied(client.call("domain_lookup_by_name", name="b"))
        assert (await client.call("domain_lookup_by_uuid", uuid=uuid_of("a"))).dom.name == "a"
        await denied(client.call("domain_lookup_by_uuid", uuid=uuid_of("b")))
        with pytest.raises(CallFailed, match="no domain"):
            await client.call("domain_lookup_by_name", name="c")


async def test_lists_and_counts_hold_only_what_may_be_seen(house: House) -> None:
    house.peer.change("c", id=-1)
    async with await house.opened() as client:
        listed = await client.call("connect_list_all_domains", need_results=1, flags=0)
        assert ([ref.name for ref in listed.domains], listed.ret) == (["a"], 1)
        counted = await client.call("connect_list_all_domains", need_results=0, flags=0)
        assert (counted.domains, counted.ret) == ([], 1)
        assert (await client.call("connect_num_of_domains")).num == 1
        assert (await client.call("connect_list_domains", maxids=10)).ids == [1]
        assert (await client.call("connect_list_domains", maxids=0)).ids == []
        assert (await client.call("connect_num_of_defined_domains")).num == 0
        assert (await client.call("connect_list_defined_domains", maxnames=10)).names == []


async def test_statistics_hold_only_what_may_be_read(house: House) -> None:
    house.peer.answers["connect_get_all_domain_stats"] = lambda args: {
        "retStats": [DomainStatsRecord(house.peer.ref(name), []) for name in ("a", "b")]
    }
    async with await house.opened() as client:
        told = await client.call("connect_get_all_domain_stats", doms=[], stats=0, flags=0)
        assert [item.dom.name for item in told.retStats] == ["a"]


async def test_other_objects_are_judged_by_their_own_kind(house: House) -> None:
    nets = [NetworkRef("lan", uuid_of("lan")), NetworkRef("dmz", uuid_of("dmz"))]
    house.peer.answers["connect_list_all_networks"] = lambda args: {"nets": nets, "ret": 2}
    async with await house.opened() as client:
        listed = await client.call("connect_list_all_networks", need_results=1, flags=0)
        assert [net.name for net in listed.nets] == ["lan"]
        assert (await client.call("connect_num_of_networks")).num == 1
        assert (await client.call("connect_list_networks", maxnames=9)).names == ["lan"]


async def test_events_are_told_only_of_what_may_be_seen(house: House) -> None:
    async with await house.opened() as client:
        every = await client.call("connect_domain_event_callback_register_any", eventID=0, dom=None)
        house.peer.change("b", (2, 0), id=7, state=1)
        house.peer.change("a", (3, 0), state=3)
        assert callback_id(await client.event()) == every.callbackID
        with pytest.raises(TimeoutError):
            await client.packet(0.1)


async def test_a_new_object_is_judged_by_its_document(house: House) -> None:
    async with await house.opened() as client:
        await client.call("domain_define_xml", xml="<domain><name>a</name></domain>")
        await denied(client.call("domain_define_xml", xml="<domain><name>b</name></domain>"))
        await denied(client.call("domain_define_xml", xml="<domain"))
        await denied(client.call("domain_define_xml", xml="<domain/>"))
        assert house.names_asked().count("domain_define_xml") == 1


async def test_allowed_reads_cost_no_call(tmp_path: Path) -> None:
    async with policed(tmp_path, is_cached=True) as house, await house.opened() as client:
        before = len(house.peer.asked)
        assert (await client.call("domain_lookup_by_name", name="a")).dom.name == "a"
        assert (await client.call("domain_get_state", dom=house.peer.ref("a"), flags=0)).state == 1
        assert (await client.call("connect_list_all_domains", need_results=1, flags=0)).ret == 1
        house.peer.change("a2", id=-1)
        house.peer.change("a", (3, 0), state=3)
        await house.until(lambda: house.gateway.feed.replica("test").seq == house.peer.seq)
        assert (await client.call("domain_get_state", dom=house.peer.ref("a"), flags=0)).state == 3
        assert house.names_asked()[before:] == []
        assert house.gateway.cached_reads == 4
        await denied(client.call("domain_get_state", dom=house.peer.ref("b"), flags=0))
        assert house.names_asked()[before:] == []
        assert "access refused who=alice uid=64321 permission=domain:read call=domain_get_state name=b" in log_of(house)


async def test_nobody_gets_anything_without_a_rule(tmp_path: Path) -> None:
    """Over every call there is: none reaches a driver, none is answered with more than the connection itself."""
    async with policed(tmp_path, "", is_cached=True) as house, await house.client() as client:
        for row in all_procedures():
            if row.program not in ("remote", "qemu", "lxc") or not row.acl:
                continue
            payload = args_codec(row).encode(plain_args(row))
            packet = await client.reply(client.send_raw(row.number, payload, program=Program[row.program.upper()]))
            assert packet.status == Status.ERROR, row.name
            assert error_codec().decode(packet.payload).code == ErrorCode.ACCESS_DENIED, row.name
        asked = [call.procedure for call in house.peer.asked if call.caller is not None]
        assert asked == []


async def test_every_call_needs_its_permissions_on_its_object(tmp_path: Path) -> None:
    """Everything is allowed, but on objects of another name: no call on an object reaches a driver."""
    policy = '[[rule]]\nwho=["*"]\nwhat=["connect:*"]\n[[rule]]\nwho=["*"]\nwhat=["*"]\nwhich=["name:z"]\n'
    resolving = ("_lookup_", "connect_")
    async with policed(tmp_path, policy, is_cached=True) as house, await house.opened() as client:
        for row in all_procedures():
            if row.program not in ("remote", "qemu", "lxc") or not row.acl:
                continue
            if {permission.object for permission in row.acl} == {"connect"} or "_lookup_" in row.name:
                continue
            before = len(house.peer.asked)
            program = Program[row.program.upper()]
            packet = await client.reply(
                client.send_raw(row.number, args_codec(row).encode(plain_args(row)), program=program)
            )
            if not any(p.applies(0, {"flags": 0}) and p.object != "connect" for p in row.acl):
                continue
            assert packet.status == Status.ERROR, row.name
            assert error_codec().decode(packet.payload).code == ErrorCode.ACCESS_DENIED, row.name
            asked = [call.procedure for call in house.peer.asked[before:]]
            assert all(any(part in name for part in resolving) for name in asked), (row.name, asked)


async def test_who_runs_the_agent_stands_above_the_policy(tmp_path: Path) -> None:
    async with policed(tmp_path, "") as house:
        del house.gateway.caller_of  # as it really is: this process
        async with await house.opened() as client:
            await client.call("domain_create", dom=house.peer.ref("b"))


async def test_a_policy_that_cannot_be_read_lets_nobody_in(tmp_path: Path) -> None:
    async with policed(tmp_path, "[[rule]]\nwho=['alice']\nwhat=['*']") as house, await house.client() as client:
        await denied(client.call("connect_open", name="test:///default", flags=0))
        assert "the access policy cannot be used" in log_of(house)


async def test_what_is_allowed_is_logged_where_that_is_wanted(tmp_path: Path) -> None:
    async with policed(tmp_path, access_log_all=True) as house, await house.opened() as client:
        await client.call("domain_create", dom=house.peer.ref("a"))
        assert "access allowed who=alice uid=64321 permission=domain:start call=domain_create name=a" in log_of(house)
