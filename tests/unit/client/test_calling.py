"""What a call sends, and what becomes of its answer."""

from __future__ import annotations

import asyncio

import pytest

from client.connection import Connection
from client.domain import Domain
from client.errors import DeadlinePassed, InvalidArguments, NoConnection, NoSuchDomain, UnknownProcedure
from schema.model import DEFAULT_DEADLINES_S, CallClass
from tests.fakes.link import FakeLink
from tests.unit.client.guests import RUNNING, SCOPE, UUID_1


async def test_the_object_of_a_call_stands_in_its_prologue(conn: Connection, link: FakeLink) -> None:
    link.scripts = {
        "domain_lookup_by_name": RUNNING,
        "domain_lookup_by_uuid": RUNNING,
        "domain_get_xml_desc": "<domain/>",
        "domain_define_xml_flags": RUNNING,
        "connect_get_hostname": "h",
    }
    await conn.domain_by_name("web1")
    domain = await conn.domain_by_uuid(UUID_1)
    await domain.xml()
    await conn.define("<domain/>")
    await conn.hostname()
    assert [call.key for call in link.calls] == ["web1", UUID_1.bytes, UUID_1.bytes, None, None]
    assert {(call.destination, call.scope) for call in link.calls} == {("test", SCOPE)}


async def test_a_name_that_does_not_fit_in_a_prologue_stays_out_of_it(conn: Connection, link: FakeLink) -> None:
    link.scripts = {"domain_lookup_by_name": NoSuchDomain("no")}
    with pytest.raises(NoSuchDomain):
        await conn.domain_by_name("é" * 513)
    assert link.calls[0].key is None


async def test_deadlines_are_the_schemas_until_said_otherwise(conn: Connection, link: FakeLink) -> None:
    link.scripts = {"domain_get_state": {"state": 1, "reason": 1}, "domain_suspend": None, "domain_managed_save": None}
    domain = Domain(conn, RUNNING)
    await domain.state()
    await domain.suspend()
    await domain.managed_save()
    await domain.state(timeout=0.5)
    await domain.suspend(timeout=None)
    defaults = [DEFAULT_DEADLINES_S[kind] for kind in (CallClass.READ, CallClass.CHANGE, CallClass.TASK)]
    assert [call.deadline_s for call in link.calls] == [*defaults, 0.5, None]


async def test_a_deadline_that_has_passed_sends_nothing(conn: Connection, link: FakeLink) -> None:
    with pytest.raises(DeadlinePassed):
        await Domain(conn, RUNNING).suspend(timeout=0)
    assert link.calls == []


async def test_idempotency_key_and_trace_go_along(conn: Connection, link: FakeLink) -> None:
    link.scripts = {"domain_create_with_flags": RUNNING}
    await Domain(conn, RUNNING).start(idempotency_key="deploy-7", trace="t1")
    assert (link.calls[0].idempotency_key, link.calls[0].trace) == ("deploy-7", "t1")


async def test_any_procedure_can_be_called_by_name(conn: Connection, link: FakeLink) -> None:
    link.scripts = {"domain_get_state": {"state": 3, "reason": 1}, "qemu_domain_agent_command": None}
    told = await conn.call("domain_get_state", dom=Domain(conn, RUNNING))
    assert (told.state, told.reason) == (3, 1)
    await conn.call("qemu_domain_agent_command", {"timeout": 7}, dom=RUNNING, cmd="{}", timeout=2.0)
    assert (link.calls[1].args.timeout, link.calls[1].deadline_s) == (7, 2.0)


async def test_wrong_arguments_are_refused_before_anything_is_sent(conn: Connection, link: FakeLink) -> None:
    with pytest.raises(InvalidArguments, match="domain_suspend: missing argument 'dom'"):
        await conn.call("domain_suspend")
    with pytest.raises(InvalidArguments, match="unknown argument 'colour'"):
        await conn.call("domain_suspend", dom=RUNNING, colour="red")
    with pytest.raises(UnknownProcedure):
        await conn.call("domain_levitate", dom=RUNNING)
    assert link.calls == []


async def test_an_error_is_what_the_driver_raised(conn: Connection, link: FakeLink) -> None:
    link.scripts = {"domain_lookup_by_name": NoSuchDomain("no domain with matching name 'web9'")}
    with pytest.raises(NoSuchDomain, match="web9"):
        await conn.domain_by_name("web9")


async def test_a_cancelled_task_cancels_its_call(conn: Connection, link: FakeLink) -> None:
    link.scripts = {"domain_managed_save": lambda call: asyncio.get_running_loop().create_future()}
    saving = asyncio.ensure_future(Domain(conn, RUNNING).managed_save())
    await asyncio.sleep(0)
    saving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await saving
    assert link.cancelled == ["domain_managed_save"]


async def test_a_uri_without_a_driver_is_refused(link: FakeLink) -> None:
    with pytest.raises(NoConnection, match="nosuch:///system"):
        await Connection(link, "nosuch:///system", "nosuch:///system").hostname()


async def test_the_agents_own_procedures_go_to_their_process(conn: Connection, link: FakeLink) -> None:
    link.scripts = {"broker_status": {"status": {"pid": 1}}, "warden_actor_list": {"actors": []}}
    assert await conn.status() == {"pid": 1}
    await conn.call("warden_actor_list")
    assert [call.destination for call in link.calls] == ["broker", "warden"]
