"""Kills at every point of a change: what the next process finds is a copy of the state folder, made at that instant."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from actors.runtime.objects import Entry
from schema.enums.domain_state import DomainShutoffReason
from schema.errors import CallUndone, DomainStateError
from schema.objects import DomainRef
from tests.contract.house import copy_state
from tests.unit.runtime.house import FakeBroker, House, open_house, summary

A = DomainRef("a", b"a".ljust(16, b"-"), -1)
DEFINED, UNDEFINED, STARTED, STOPPED = 0, 1, 2, 5


def copy_at(root: Path, copy: Path, owner: Any, name: str, *, after: bool = False) -> None:
    """The state folder as it is when `owner.name` is called the next time (or has just returned) is kept in `copy`."""
    original: Callable[..., Any] = getattr(owner, name)

    def hooked(*args: Any, **kwargs: Any) -> Any:
        setattr(owner, name, original)
        if not after:
            copy_state(root, copy)
        result = original(*args, **kwargs)
        if after:
            copy_state(root, copy)
        return result

    setattr(owner, name, hooked)


async def define_until(root: Path, copy: Path, hook: Callable[[House], tuple[Any, str]], **kwargs: Any) -> bytes:
    """Defines 'a' in a process that is killed when the hooked function is called; gives the call's id."""
    async with open_house(root) as house:
        copy_at(root, copy, *hook(house), **kwargs)
        call = house.post("domain_define_xml_flags", xml="a", flags=1, correlation=9)
        await house.outcome(call)
        return call.id


async def resend(house: House) -> Any:
    return await house.outcome(house.post("domain_define_xml_flags", xml="a", flags=1, correlation=9, resend=True))


async def test_nothing_happened_and_nothing_is_published(tmp_path: Path) -> None:
    broker = FakeBroker()
    async with open_house(tmp_path, broker=broker) as house:
        await house.call("domain_define_xml_flags", xml="a", flags=0)
    known = len(broker.records)
    async with open_house(tmp_path, broker=broker, epoch=2):
        assert [(r["kind"], r["epoch"], r["seq"]) for r in broker.records[known:]] == [("epoch", 2, known + 1)]
        assert broker.records[-1]["data"]["previous"] == [1, known]


async def test_killed_before_the_file_the_call_runs_for_the_first_time(tmp_path: Path) -> None:
    await define_until(tmp_path / "1", tmp_path / "2", lambda house: (house.runtime.store, "_write_now"))
    async with open_house(tmp_path / "2", epoch=2, last=(1, 1)) as house:
        assert house.broker.kinds() == ["epoch"]
        assert (await resend(house)).dom.name == "a"
        assert house.broker.lifecycle() == [(DEFINED, 0)]


async def test_killed_between_file_and_event_the_difference_is_put_down_to_the_call(tmp_path: Path) -> None:
    call = await define_until(
        tmp_path / "1", tmp_path / "2", lambda house: (house.runtime.store, "_write_now"), after=True
    )
    async with open_house(tmp_path / "2", epoch=2, last=(1, 1)) as house:
        assert house.broker.lifecycle() == [(DEFINED, 0)]
        record = house.broker.records[-1]
        assert (record["call"], record["origin"], record["trace"]) == (call, "call", "trace-1")
        assert (await resend(house)).dom.name == "a"
        assert house.broker.lifecycle() == [(DEFINED, 0)]


async def test_killed_between_event_and_outcome_the_call_is_answered(tmp_path: Path) -> None:
    await define_until(tmp_path / "1", tmp_path / "2", lambda house: (house.runtime.call_log, "end"))
    async with open_house(tmp_path / "2", epoch=2, last=(1, 2)) as house:
        assert house.broker.kinds() == ["epoch"]
        assert (await resend(house)).dom.name == "a"
        assert house.broker.kinds() == ["epoch"]


async def test_what_was_recorded_and_not_heard_is_published_by_the_successor(tmp_path: Path) -> None:
    call = await define_until(tmp_path / "1", tmp_path / "2", lambda house: (house.runtime.call_log, "end"))
    async with open_house(tmp_path / "2", epoch=2, last=(1, 1)) as house:
        assert [(r["kind"], r["epoch"], r["seq"]) for r in house.broker.records] == [
            ("epoch", 2, 2),
            ("domain_event_lifecycle", 2, 3),
        ]
        assert house.broker.records[0]["data"]["previous"] == [1, 1]
        assert (house.broker.records[1]["call"], house.broker.records[1]["version"]) == (call, 1)
        copy_state(tmp_path / "2", tmp_path / "3")
    # killed again before it was heard: the same events, once each, under the next epoch
    async with open_house(tmp_path / "3", epoch=3, last=(2, 2)) as house:
        assert [(r["kind"], r["epoch"], r["seq"]) for r in house.broker.records] == [
            ("epoch", 3, 3),
            ("domain_event_lifecycle", 3, 4),
        ]


async def test_a_change_that_only_its_file_shows_is_not_made_again(tmp_path: Path) -> None:
    root, copy = tmp_path / "1", tmp_path / "2"
    async with open_house(root) as house:
        await house.call("domain_define_xml_flags", xml="a", flags=1)
        heard = house.broker.last()
        copy_at(root, copy, house.runtime.store, "_write_now", after=True)
        call = house.post("domain_set_memory_flags", dom=A, memory=77, flags=0, correlation=9)
        await house.outcome(call)
    async with open_house(copy, epoch=2, last=heard) as house:
        changed = house.broker.records[-1]
        assert (changed["kind"], changed["call"], changed["summary"]["mem"]) == ("changed", call.id, 77)
        await house.outcome(
            house.post("domain_set_memory_flags", dom=A, memory=77, flags=0, correlation=9, resend=True)
        )
        assert house.host.entered == []


async def test_removed_and_killed_before_the_event(tmp_path: Path) -> None:
    root, copy = tmp_path / "1", tmp_path / "2"
    async with open_house(root) as house:
        await house.call("domain_define_xml_flags", xml="a", flags=1)
        copy_at(root, copy, house.runtime.store, "_remove_now", after=True)
        call = house.post("domain_undefine_flags", dom=A, flags=0, correlation=9)
        await house.outcome(call)
        last = (1, house.broker.records[-2]["seq"])
    async with open_house(copy, epoch=2, last=last) as house:
        assert house.broker.lifecycle() == [(UNDEFINED, 0)]
        assert house.broker.records[-1]["call"] == call.id
        assert house.broker.records[-1]["summary"] is None
        await house.outcome(house.post("domain_undefine_flags", dom=A, flags=0, correlation=9, resend=True))
        # a call of its own finds no guest
        await house.call("domain_define_xml_flags", xml="a", flags=1)
        assert house.broker.records[-1]["version"] == 3


async def create_until(root: Path, copy: Path, hook: Callable[[House], tuple[Any, str]], **kwargs: Any) -> int:
    async with open_house(root) as house:
        await house.call("domain_define_xml_flags", xml="a", flags=1)
        copy_at(root, copy, *hook(house), **kwargs)
        heard: int = house.broker.records[-1]["seq"]
        await house.outcome(house.post("domain_create_with_flags", dom=A, flags=0, correlation=9))
        return heard


async def test_an_intent_without_effect_is_undone_and_the_caller_is_told(tmp_path: Path) -> None:
    heard = await create_until(tmp_path / "1", tmp_path / "2", lambda house: (house.runtime.store, "_write_now"))
    async with open_house(tmp_path / "2", epoch=2, last=(1, heard)) as house:
        assert house.broker.kinds() == ["epoch"]
        again = house.post("domain_create_with_flags", dom=A, flags=0, correlation=9, resend=True)
        with pytest.raises(CallUndone):
            await house.outcome(again)
        await house.call("domain_create_with_flags", dom=A, flags=0)
        with pytest.raises(DomainStateError):
            await house.call("domain_create_with_flags", dom=A, flags=0)


async def test_an_intent_finished_by_the_successor_is_answered_with_its_result(tmp_path: Path) -> None:
    heard = await create_until(
        tmp_path / "1", tmp_path / "2", lambda house: (house.runtime.store, "_write_now"), after=True
    )
    async with open_house(tmp_path / "2", epoch=2, last=(1, heard)) as house:
        assert house.broker.lifecycle() == [(STARTED, 0)]
        assert house.broker.records[-1]["call"] is not None
        again = house.post("domain_create_with_flags", dom=A, flags=0, correlation=9, resend=True)
        assert (await house.outcome(again)).dom.id == 1
        assert house.broker.lifecycle() == [(STARTED, 0)]


async def test_a_guest_that_ended_meanwhile_has_stopped_and_nobody_did_it(tmp_path: Path) -> None:
    broker = FakeBroker()
    async with open_house(tmp_path, broker=broker) as house:
        await house.call("domain_define_xml_flags", xml="a", flags=1)
        await house.call("domain_create_with_flags", dom=A, flags=0)
        house.runtime.store.path("run/a").unlink()
    known = len(broker.records)
    async with open_house(tmp_path, broker=broker, epoch=2):
        stopped = broker.records[-1]
        assert len(broker.records) == known + 2
        assert (stopped["data"]["event"], stopped["data"]["detail"]) == (STOPPED, 0)
        assert (stopped["origin"], stopped["call"]) == ("unknown", None)
        assert stopped["version"] == 3


async def test_at_the_first_start_objects_become_known_without_lifecycle_events(tmp_path: Path) -> None:
    folder = tmp_path / "state" / "toy" / "domains"
    folder.mkdir(parents=True)
    (folder / "a.xml").write_text("a")
    async with open_house(tmp_path) as house:
        assert house.broker.kinds() == ["epoch", "changed"]
        assert house.broker.records[-1]["summary"]["persistent"]


async def test_a_key_is_kept_across_the_death_of_the_driver(tmp_path: Path) -> None:
    broker = FakeBroker()
    async with open_house(tmp_path, broker=broker) as house:
        await house.call("domain_define_xml_flags", xml="a", flags=1, idempotency_key="once")
    async with open_house(tmp_path, broker=broker, epoch=2) as house:
        again = house.post("domain_define_xml_flags", xml="a", flags=1, correlation=4711, idempotency_key="once")
        assert (await house.outcome(again)).dom.name == "a"
        assert broker.kinds().count("domain_event_lifecycle") == 1
        outcome = await house.call("actor_call_outcome", id=again.id)
        assert outcome.state == "unknown"  # the key's first call is the one that was made


async def test_a_suspend_that_was_seen_in_the_difference_is_done(tmp_path: Path) -> None:
    """The hypervisor did it, the driver died before its event: found, told, put down to the call, not done again."""
    root, copy = tmp_path / "1", tmp_path / "2"
    async with open_house(root) as house:
        await house.call("domain_define_xml_flags", xml="a", flags=1)
        await house.call("domain_create_with_flags", dom=A, flags=0)
        heard = house.broker.last()
        call = house.post("domain_destroy_flags", dom=A, flags=0, correlation=9)
        await house.outcome(call)
        house.runtime.store.path("run/a").unlink()
        copy_state(root, copy)
    strip_ends(copy, call.id)
    async with open_house(copy, epoch=2, last=heard) as house:
        assert house.broker.lifecycle() == [(STOPPED, 0)]
        assert house.broker.records[-1]["call"] == call.id
        await house.outcome(house.post("domain_destroy_flags", dom=A, flags=0, correlation=9, resend=True))
        assert house.host.entered == []


def strip_ends(root: Path, call: bytes) -> None:
    """Takes the record of a call's outcome out of the log, as if the process had died before it."""
    from actors.runtime.call_log import End, _decoder
    from actors.runtime.record_log import RecordLog

    folder = root / "state" / "toy"
    log = RecordLog(folder, "calls")
    payloads = [payload for _, payload in log.load()]
    log.close()
    for path in folder.glob("calls-*.log"):
        path.unlink()
    log = RecordLog(folder, "calls")
    list(log.load())
    for payload in payloads:
        record = _decoder.decode(payload)
        if not (isinstance(record, End) and record.origin.call == call):
            log.append(payload)
    log.close()


def test_an_entry_equals_another_with_the_same_answers() -> None:
    one = Entry("domain", "", b"k", "n", dict(summary()))
    other = Entry("domain", "", b"k", "n", dict(summary(reason=DomainShutoffReason.SHUTDOWN)), 7)
    assert one.equals(other)
    assert not one.equals(Entry("domain", "", b"k", "n", dict(summary(mem=2))))


async def test_a_ledger_that_was_lost_is_made_anew_from_the_journal(tmp_path: Path) -> None:
    """Nothing spurious: what the journal tells of is known, what changed since is told."""
    broker = FakeBroker()
    async with open_house(tmp_path, broker=broker) as house:
        for name in ("a", "b", "c"):
            await house.call("domain_define_xml_flags", xml=name, flags=0)
        await house.call("domain_undefine_flags", dom=DomainRef("c", b"c".ljust(16, b"-")), flags=0)
        house.runtime.store.path("domains/b.xml").unlink()
    for path in (tmp_path / "state" / "toy").glob("ledger-*.log"):
        path.unlink()
    known = list(broker.records)

    async def history() -> AsyncIterator[bytes]:
        for record in known:
            yield msgspec.msgpack.encode(record)

    async with open_house(tmp_path, broker=broker, epoch=2, history=history()) as house:
        told = broker.records[len(known) :]
        assert [(r["kind"], r["object"] and r["object"][2]) for r in told] == [
            ("epoch", None),
            ("domain_event_lifecycle", "b"),
        ]
        assert told[0]["data"]["previous"] == [1, len(known)]
        assert told[1]["summary"] is None
        await house.call("domain_define_xml_flags", xml="c", flags=0)
        assert broker.records[-1]["version"] == 3
