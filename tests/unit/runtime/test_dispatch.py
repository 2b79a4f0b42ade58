from __future__ import annotations

import asyncio
import errno
from pathlib import Path

import pytest

from actors.runtime.record_log import RecordLog
from schema.errors import (
    Busy,
    Cancelled,
    DeadlinePassed,
    ErrorDomain,
    HostSystemError,
    InternalError,
    InvalidArguments,
    NoSuchDomain,
    OperationDenied,
    UnknownProcedure,
    UnsupportedCall,
)
from schema.objects import DomainRef
from settings.config import ActorSettings
from tests.unit.runtime.house import House, open_house

A = DomainRef("a", b"a".ljust(16, b"-"), -1)


async def define(house: House, name: str = "a") -> DomainRef:
    result = await house.call("domain_define_xml_flags", xml=name, flags=0)
    ref: DomainRef = result.dom
    return ref


async def entered(house: House, count: int) -> None:
    async with asyncio.timeout(5):
        while len(house.host.entered) < count:
            await asyncio.sleep(0.001)


async def test_a_change_is_answered_with_its_event_before(tmp_path: Path) -> None:
    async with open_house(tmp_path) as house:
        ref = await define(house)
        assert (ref.name, ref.uuid, ref.id) == ("a", A.uuid, -1)
        assert house.broker.kinds() == ["epoch", "domain_event_lifecycle"]
        record = house.broker.records[-1]
        assert record["object"] == ["domain", A.uuid, "a"]
        assert record["origin"] == "call"
        assert record["trace"] == "trace-1"
        assert record["who"]["uid"] == 7
        (outcomes,) = house.broker.outcomes.values()
        assert outcomes[0][2] == record["seq"]


async def test_old_calls_are_answered_by_the_newer_ones(tmp_path: Path) -> None:
    async with open_house(tmp_path) as house:
        result = await house.call("domain_define_xml", xml="a")
        assert result.dom.name == "a"
        await house.call("domain_create", dom=A)
        assert house.host.objects.need_domain(A).summary["id"] == 1
        await house.call("domain_destroy", dom=A)
        assert house.host.entered == ["destroy"]


async def test_derived_answers_come_from_the_objects_of_the_connection(tmp_path: Path) -> None:
    async with open_house(tmp_path) as house:
        await define(house, "a")
        await define(house, "b")
        await house.call("domain_create_with_flags", dom=A, flags=0)
        assert (await house.call("connect_num_of_domains")).num == 1
        assert (await house.call("connect_list_domains", maxids=5)).ids == [1]
        assert (await house.call("connect_list_defined_domains", maxnames=5)).names == ["b"]
        result = await house.call("connect_list_all_domains", need_results=1, flags=1)
        assert [d.name for d in result.domains] == ["a"]
        assert result.ret == 1
        assert (await house.call("domain_lookup_by_id", id=1)).dom.name == "a"
        assert (await house.call("domain_get_state", dom=A, flags=0)).state == 1
        with pytest.raises(NoSuchDomain):
            await house.call("domain_lookup_by_name", name="zzz")
        with pytest.raises(NoSuchDomain):
            await house.call("domain_lookup_by_name", name="a", scope="toy:///other")


async def test_what_nobody_answers_is_unsupported_by_its_public_name(tmp_path: Path) -> None:
    async with open_house(tmp_path) as house:
        with pytest.raises(UnsupportedCall, match="virDomainReboot"):
            await house.call("domain_reboot", dom=A, flags=0)
        with pytest.raises(UnknownProcedure):
            await house.outcome(house.post("no_such_thing", body=b"\x80"))


async def test_a_body_that_does_not_fit_is_refused_by_procedure_and_field(tmp_path: Path) -> None:
    async with open_house(tmp_path) as house:
        with pytest.raises(InvalidArguments, match=r"domain_get_state.*flags"):
            await house.outcome(house.post("domain_get_state", body=b"\x81\xa5flags\xa1x"))


async def test_conditional_read_only_refusal_names_the_function(tmp_path: Path) -> None:
    async with open_house(tmp_path) as house:
        await define(house)
        reader = {"uid": 7, "read_only": True}
        assert "<name>a</name>" in (await house.call("domain_get_xml_desc", dom=A, flags=0, caller=reader)).xml
        with pytest.raises(OperationDenied, match="read only access prevents virDomainGetXMLDesc"):
            await house.call("domain_get_xml_desc", dom=A, flags=1, caller=reader)


async def test_errors_without_a_domain_get_the_drivers(tmp_path: Path) -> None:
    async with open_house(tmp_path) as house:
        with pytest.raises(NoSuchDomain) as caught:
            await house.call("domain_undefine_flags", dom=A, flags=0)
        assert caught.value.domain == ErrorDomain.TEST


async def test_an_unexpected_exception_is_internal_and_the_object_is_read_anew(tmp_path: Path) -> None:
    async with open_house(tmp_path) as house:
        await define(house)
        with pytest.raises(InternalError, match="ZeroDivisionError"):
            await house.call("domain_set_autostart", dom=A, autostart=99)
        assert house.host.refreshed == []
        await house.call("domain_set_autostart", dom=A, autostart=1)
        assert house.host.refreshed == [("domain", A.uuid)]
        await house.call("domain_set_autostart", dom=A, autostart=1)
        assert house.host.refreshed == [("domain", A.uuid)]


async def test_a_stuck_change_ends_at_its_deadline_and_waiters_name_it(tmp_path: Path) -> None:
    async with open_house(tmp_path) as house:
        await define(house)
        stuck = house.post("domain_suspend", dom=A, deadline_s=0.3)
        await entered(house, 1)
        waiter = house.post("domain_set_autostart", dom=A, autostart=1, deadline_s=0.05)
        with pytest.raises(DeadlinePassed, match=r"held by domain_suspend for \d"):
            await house.outcome(waiter)
        with pytest.raises(
            DeadlinePassed, match=r"no answer from the hypervisor of domain 'a' \(held by domain_suspend"
        ):
            await house.outcome(stuck)
        await house.call("domain_set_autostart", dom=A, autostart=1)


async def test_queries_go_beside_a_stuck_change(tmp_path: Path) -> None:
    async with open_house(tmp_path) as house:
        await define(house)
        stuck = house.post("domain_suspend", dom=A)
        await entered(house, 1)
        assert (await house.call("domain_get_xml_desc", dom=A, flags=0)).xml
        house.host.gate.set()
        await house.outcome(stuck)


async def test_an_override_cancels_the_holder_and_goes_ahead(tmp_path: Path) -> None:
    async with open_house(tmp_path) as house:
        await define(house)
        stuck = house.post("domain_suspend", dom=A)
        waiting = house.post("domain_set_autostart", dom=A, autostart=1)
        await entered(house, 1)
        await house.call("domain_destroy_flags", dom=A, flags=0)
        with pytest.raises(Cancelled, match="domain_suspend was cancelled by domain_destroy_flags"):
            await house.outcome(stuck)
        await house.outcome(waiting)


async def test_full_lanes_answer_busy_at_once(tmp_path: Path) -> None:
    settings = ActorSettings(changes_per_guest=1, queries_per_guest=1)
    async with open_house(tmp_path, settings=settings) as house:
        await define(house)
        first, second = (house.post("domain_suspend", dom=A) for _ in range(2))
        third = house.post("domain_suspend", dom=A)
        with pytest.raises(Busy) as caught:
            await house.outcome(third)
        assert caught.value.retry_after_s
        query = house.post("domain_memory_stats", dom=A, maxStats=1, flags=0)
        with pytest.raises(Busy):
            await house.call("domain_memory_stats", dom=A, maxStats=1, flags=0)
        house.host.gate.set()
        for call in (first, second, query):
            await house.outcome(call)
        assert len(house.runtime.mailboxes) == 0


async def test_cancel_reaches_the_handler_and_has_one_outcome(tmp_path: Path) -> None:
    async with open_house(tmp_path) as house:
        await define(house)
        call = house.post("domain_suspend", dom=A)
        await entered(house, 1)
        assert house.stage.dispatcher is not None
        house.stage.dispatcher.on_cancel(call.source, call.correlation)
        with pytest.raises(Cancelled):
            await house.outcome(call)
        assert house.host.ended == ["suspend"]
        assert len(house.broker.outcomes[call.id]) == 1


async def test_a_call_cancelled_before_its_first_step_has_an_outcome(tmp_path: Path) -> None:
    async with open_house(tmp_path) as house:
        await define(house)
        call = house.post("domain_suspend", dom=A)
        assert house.stage.dispatcher is not None
        house.stage.dispatcher.on_cancel(call.source, call.correlation)
        with pytest.raises(Cancelled):
            await house.outcome(call)
        assert house.host.entered == []
        assert house.stage.dispatcher.depth == 0


async def test_a_resent_call_that_still_runs_is_answered_once(tmp_path: Path) -> None:
    async with open_house(tmp_path) as house:
        await define(house)
        call = house.post("domain_suspend", dom=A, correlation=77)
        await entered(house, 1)
        house.post("domain_suspend", dom=A, correlation=77, resend=True)
        house.host.gate.set()
        await house.outcome(call)
        assert house.host.entered == ["suspend"]
        assert len(house.broker.outcomes[call.id]) == 1


async def test_a_resent_change_is_answered_again_and_has_no_second_effect(tmp_path: Path) -> None:
    async with open_house(tmp_path) as house:
        first = house.post("domain_define_xml_flags", xml="a", flags=1, correlation=5)
        await house.outcome(first)
        events = len(house.broker.records)
        again = house.post("domain_define_xml_flags", xml="a", flags=1, correlation=5, resend=True)
        assert (await house.outcome(again)).dom.name == "a"
        assert len(house.broker.outcomes[first.id]) == 2
        assert len(house.broker.records) == events


async def test_an_idempotency_key_runs_once_even_side_by_side(tmp_path: Path) -> None:
    async with open_house(tmp_path) as house:
        calls = [house.post("domain_define_xml_flags", xml="a", flags=1, idempotency_key="k") for _ in range(3)]
        for call in calls:
            assert (await house.outcome(call)).dom.name == "a"
        assert house.broker.kinds().count("domain_event_lifecycle") == 1
        with pytest.raises(InvalidArguments, match="idempotency key 'k' was used for another call"):
            await house.call("domain_define_xml_flags", xml="b", flags=1, idempotency_key="k")
        other = {"uid": 8, "read_only": False}
        await house.call("domain_define_xml_flags", xml="b", flags=1, idempotency_key="k", caller=other)


async def test_what_a_task_left_behind_does_later_is_not_the_calls_doing(tmp_path: Path) -> None:
    async with open_house(tmp_path) as house:
        await define(house)
        gate = asyncio.Event()
        left: list[asyncio.Task[None]] = []

        async def later() -> None:
            await gate.wait()
            entry = house.host.objects.need_domain(A)
            house.host.objects.put("domain", entry.key, entry.name, {**entry.summary, "mem": 5})

        original = house.host.need_domain

        def need_and_spawn(dom: DomainRef) -> object:
            left.append(asyncio.create_task(later()))
            return original(dom)

        house.host.need_domain = need_and_spawn
        await house.call("domain_set_autostart", dom=A, autostart=1)
        assert house.broker.records[-1]["origin"] == "call"
        gate.set()
        await left[0]
        assert (house.broker.records[-1]["origin"], house.broker.records[-1]["call"]) == ("guest", None)


async def test_calls_without_an_outcome_can_be_seen(tmp_path: Path) -> None:
    async with open_house(tmp_path) as house:
        await define(house)
        stuck = house.post("domain_suspend", dom=A)
        waiting = house.post("domain_set_autostart", dom=A, autostart=1)
        await entered(house, 1)
        seen = (await house.call("actor_calls")).calls
        assert [(call["procedure"], call["id"]) for call in seen] == [
            ("domain_suspend", stuck.id),
            ("domain_set_autostart", waiting.id),
        ]
        assert seen[0]["state"] == "running"
        assert seen[1]["state"].startswith("waits for the state change lock of domain 'a' (held by domain_suspend")
        house.host.gate.set()
        await house.outcome(waiting)
        assert (await house.call("actor_calls")).calls == []


async def test_on_a_full_disk_changes_are_refused_and_a_guest_can_still_be_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with open_house(tmp_path) as house:
        await define(house)
        stuck = house.post("domain_suspend", dom=A)
        await entered(house, 1)

        def full(*_: object) -> int:
            raise HostSystemError(errno.ENOSPC, "cannot write")

        with monkeypatch.context() as patch:
            patch.setattr(RecordLog, "append", full)
            with pytest.raises(HostSystemError, match="No space left"):
                await house.call("domain_define_xml_flags", xml="b", flags=0)
            await house.call("domain_destroy_flags", dom=A, flags=0)
            with pytest.raises(Cancelled):
                await house.outcome(stuck)
        await house.call("domain_define_xml_flags", xml="b", flags=0)


async def test_a_call_that_shares_a_key_and_is_resent_has_one_outcome(tmp_path: Path) -> None:
    async with open_house(tmp_path) as house:
        await define(house)
        first = house.post("domain_suspend", dom=A, idempotency_key="k")
        second = house.post("domain_suspend", dom=A, idempotency_key="k", correlation=4000)
        house.post("domain_suspend", dom=A, idempotency_key="k", correlation=4000, resend=True)
        await entered(house, 1)
        house.host.gate.set()
        await house.outcome(first)
        await house.outcome(second)
        assert [len(house.broker.outcomes[call.id]) for call in (first, second)] == [1, 1]


async def test_one_of_two_callers_with_a_key_may_give_up(tmp_path: Path) -> None:
    async with open_house(tmp_path) as house:
        await define(house)
        first, second = (house.post("domain_suspend", dom=A, idempotency_key="k") for _ in range(2))
        await entered(house, 1)
        assert house.stage.dispatcher is not None
        house.stage.dispatcher.on_cancel(first.source, first.correlation)
        with pytest.raises(Cancelled):
            await house.outcome(first)
        house.host.gate.set()
        await house.outcome(second)


async def test_a_result_that_does_not_fit_is_an_internal_error(tmp_path: Path) -> None:
    async with open_house(tmp_path) as house:
        await define(house)
        house.host.need_domain = lambda dom: type("Nameless", (), {"name": "x\ud800"})
        with pytest.raises(InternalError, match="domain_get_xml_desc failed: InvalidMessage"):
            await house.call("domain_get_xml_desc", dom=A, flags=0)


async def test_a_call_that_asks_for_more_than_a_reply_can_hold_is_refused(tmp_path: Path) -> None:
    async with open_house(tmp_path) as house:
        with pytest.raises(InternalError, match="maxids is 16385, more than 16384"):
            await house.call("connect_list_domains", maxids=16385)
