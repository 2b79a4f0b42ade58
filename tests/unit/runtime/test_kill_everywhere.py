"""A process that is killed before or after any single write to its folder: nothing is lost, invented or done twice."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from schema.errors import CallUndone, DomainStateError, NoSuchDomain
from schema.objects import DomainRef
from tests.contract.house import FakeBroker, House, copy_state
from tests.unit.runtime.house import open_house

A = DomainRef("a", b"a".ljust(16, b"-"), -1)
Change = tuple[str, dict[str, Any], int | None]

LIFE: list[Change] = [
    ("domain_define_xml_flags", {"xml": "a", "flags": 1}, 0),
    ("domain_set_autostart", {"dom": A, "autostart": 1}, None),
    ("domain_create_with_flags", {"dom": A, "flags": 0}, 2),
    ("domain_undefine_flags", {"dom": A, "flags": 0}, 1),
    ("domain_define_xml_flags", {"xml": "a", "flags": 1}, 0),
]


class Killer:
    """Keeps the folder as it is at the n-th moment, and what had happened until then."""

    def __init__(self, root: Path, copy: Path, at: int, broker: FakeBroker) -> None:
        self.root, self.copy, self.at, self.broker = root, copy, at, broker
        self.moments = 0
        self.done = -1
        self.calls_done = 0
        self.heard = 0

    def moment(self) -> None:
        if self.moments == self.at:
            copy_state(self.root, self.copy)
            self.heard = len(self.broker.records)
            self.done = self.calls_done
        self.moments += 1

    def around(self, original: Callable[..., Any]) -> Callable[..., Any]:
        def hooked(*args: Any, **kwargs: Any) -> Any:
            self.moment()
            result = original(*args, **kwargs)
            self.moment()
            return result

        return hooked


async def live(house: House, killer: Killer) -> list[bytes]:
    ids = []
    for number, (name, args, _) in enumerate(LIFE, 100):
        call = house.post(name, correlation=number, **args)
        ids.append(call.id)
        await house.outcome(call)
        killer.calls_done += 1
    return ids


async def go_on(house: House, first: int) -> list[str]:
    """The call in flight is sent again, the others follow; gives what became of each."""
    outcomes = []
    for number, (name, args, _) in list(enumerate(LIFE, 100))[first:]:
        call = house.post(name, correlation=number, resend=number == 100 + first, **args)
        try:
            await house.outcome(call)
        except (CallUndone, DomainStateError, NoSuchDomain) as exc:
            outcomes.append(type(exc).__name__)
        else:
            outcomes.append("ok")
    return outcomes


def replay(records: list[dict[str, Any]]) -> dict[bytes, tuple[int, dict[str, Any]]]:
    known = {}
    for record in records:
        if record["object"] is not None:
            if record["summary"] is None:
                known.pop(record["object"][1], None)
            else:
                known[record["object"][1]] = (record["version"], record["summary"])
    return known


def check_journal(records: list[dict[str, Any]], ids: list[bytes], outcomes: list[str]) -> None:
    assert [record["seq"] for record in records] == list(range(1, len(records) + 1))
    assert next(r["data"]["previous"] for r in records if r["kind"] == "epoch") == [0, 0]
    version = 0
    for record in records:
        if record["object"] is not None:
            assert record["version"] in (version, version + 1)
            version = record["version"]
    for call_id, outcome, (_, _, event) in zip(ids, outcomes, LIFE, strict=True):
        if event is not None:
            told = Counter(r["data"].get("event") for r in records if r["call"] == call_id)[event]
            assert told == (1 if outcome == "ok" else 0)


@pytest.mark.parametrize("hears", ["everything", "nothing of the last call"])
async def test_killed_at_any_write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, hears: str) -> None:
    at = 0
    seen: set[int] = set()
    while True:
        folder = tmp_path / str(at)
        broker = FakeBroker()
        killer = Killer(folder / "1", folder / "2", at, broker)
        async with open_house(folder / "1", broker=broker) as house:
            with monkeypatch.context() as patch:
                for name in ("pwrite", "rename", "unlink"):
                    patch.setattr(os, name, killer.around(getattr(os, name)))
                ids = await live(house, killer)
        if killer.done < 0:
            break
        seen.add(killer.done)
        heard = broker.records[: killer.heard]
        if hears != "everything":
            heard = [r for r in heard if r["call"] not in ids[killer.done :]]
        last = (heard[-1]["epoch"], heard[-1]["seq"]) if heard else (0, 0)
        async with open_house(folder / "2", epoch=2, last=last) as house:
            outcomes = ["ok"] * killer.done + await go_on(house, killer.done)
            records = heard + house.broker.records
            check_journal(records, ids, outcomes)
            snapshot = await house.call("actor_snapshot")
            assert replay(records) == {o["key"]: (o["version"], o["summary"]) for o in snapshot.objects}
            assert snapshot.seq == records[-1]["seq"]
        at += 1
    assert seen == set(range(len(LIFE)))
    assert at > 40
