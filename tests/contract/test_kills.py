"""A driver whose guests are files, killed before and after any write: nothing is lost, invented or done twice."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from schema.enums.domain_event import DomainEventType as Event
from schema.errors import CallUndone, VirtError
from schema.objects import DomainRef
from tests.contract.driver import ContractDriver
from tests.contract.house import FakeBroker, House, copy_state, open_house

NAME, UUID = "contract", "c0000000-0000-4000-8000-00000000000c"
REF = DomainRef(NAME, bytes.fromhex(UUID.replace("-", "")), -1)
Change = tuple[str, dict[str, Any], int | None]


def life_of(driver: ContractDriver) -> list[Change]:
    assert driver.define_xml is not None
    define: Change = ("domain_define_xml_flags", {"xml": driver.define_xml(NAME, UUID), "flags": 0}, Event.DEFINED)
    whole: list[Change] = [
        define,
        ("domain_set_autostart", {"dom": REF, "autostart": 1}, None),
        ("domain_create_with_flags", {"dom": REF, "flags": 0}, Event.STARTED),
        ("domain_suspend", {"dom": REF}, Event.SUSPENDED),
        ("domain_resume", {"dom": REF}, Event.RESUMED),
        ("domain_destroy_flags", {"dom": REF, "flags": 0}, Event.STOPPED),
        ("domain_undefine_flags", {"dom": REF, "flags": 0}, Event.UNDEFINED),
        define,
    ]
    return [change for change in whole if change[0] not in driver.unsupported]


class Killer:
    """Keeps the folder as it is at the n-th moment, and how far things had come."""

    def __init__(self, root: Path, copy: Path, at: int, broker: FakeBroker) -> None:
        self.root, self.copy, self.at, self.broker = root, copy, at, broker
        self.moments = self.calls_done = self.heard = 0
        self.done = -1

    def around(self, original: Callable[..., Any]) -> Callable[..., Any]:
        def hooked(*args: Any, **kwargs: Any) -> Any:
            self._moment()
            result = original(*args, **kwargs)
            self._moment()
            return result

        return hooked

    def _moment(self) -> None:
        if self.moments == self.at:
            copy_state(self.root, self.copy)
            self.heard, self.done = len(self.broker.records), self.calls_done
        self.moments += 1


async def change(house: House, number: int, what: Change, *, resend: bool = False) -> tuple[bytes, str]:
    call = house.post(what[0], correlation=number, resend=resend, **what[1])
    try:
        await house.outcome(call)
    except CallUndone:
        return call.id, "undone"
    except VirtError as exc:
        return call.id, exc.message
    return call.id, "ok"


def replay(records: list[dict[str, Any]]) -> dict[tuple[str, str, bytes], tuple[str, int, dict[str, Any]]]:
    known = {}
    for record in records:
        if record["object"] is not None:
            kind, key, name = record["object"]
            if record["summary"] is None:
                known.pop((kind, record["scope"], key), None)
            else:
                known[kind, record["scope"], key] = (name, record["version"], record["summary"])
    return known


def check_versions(records: list[dict[str, Any]]) -> None:
    versions: dict[tuple[str, str, bytes], int] = {}
    for record in records:
        if record["object"] is not None:
            identity = (record["object"][0], record["scope"], record["object"][1])
            before = versions.get(identity, 0)
            assert record["version"] in (before, before + 1)
            versions[identity] = record["version"]


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("hears", ["everything", "nothing of the last call"])
async def test_killed_at_any_write(
    guest_driver: ContractDriver, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, hears: str
) -> None:
    if not guest_driver.guests_are_files:
        pytest.skip(f"guests of '{guest_driver.name}' are processes: tests/real kills it")
    life = life_of(guest_driver)
    at = 0
    while True:
        root, copy, broker = tmp_path / str(at), tmp_path / f"{at}k", FakeBroker()
        guest_driver.prepare(root)
        killer = Killer(root, copy, at, broker)
        ids: list[bytes] = []
        async with open_house(guest_driver.actor(), guest_driver.scope, root, broker=broker) as house:
            with monkeypatch.context() as patch:
                for name in ("pwrite", "rename", "unlink"):
                    patch.setattr(os, name, killer.around(getattr(os, name)))
                for number, what in enumerate(life, 100):
                    call_id, outcome = await change(house, number, what)
                    assert outcome == "ok"
                    ids.append(call_id)
                    killer.calls_done += 1
        if killer.done < 0:
            break
        heard = broker.records[: killer.heard]
        if hears != "everything":
            heard = [record for record in heard if record["call"] not in ids[killer.done :]]
        last = (heard[-1]["epoch"], heard[-1]["seq"])
        guest_driver.prepare(copy)
        async with open_house(guest_driver.actor(), guest_driver.scope, copy, epoch=2, last=last) as house:
            outcomes = ["ok"] * killer.done
            for number, what in list(enumerate(life, 100))[killer.done :]:
                _, outcome = await change(house, number, what, resend=number == 100 + killer.done)
                outcomes.append(outcome)
            records = heard + house.broker.records
            snapshot = await house.call("actor_snapshot")
        assert [record["seq"] for record in records] == list(range(1, len(records) + 1))
        check_versions(records)
        whole = {(o["type"], o["scope"], o["key"]): (o["name"], o["version"], o["summary"]) for o in snapshot.objects}
        assert replay(records) == whole
        in_flight = outcomes[killer.done]
        assert in_flight in ("ok", "undone"), f"moment {at}: {life[killer.done][0]} ended in: {in_flight}"
        for call_id, outcome, (name, _, event) in zip(ids, outcomes, life, strict=True):
            if event is not None:
                told = Counter(r["data"].get("event") for r in records if r["call"] == call_id)[event]
                assert told == (outcome == "ok"), f"moment {at}: {name} ended in {outcome} and was told {told} times"
        at += 1
    assert at > 4 * len(life)
