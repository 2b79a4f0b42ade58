"""The checker finds each kind of fault when one is planted in a history without faults."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest

from tests.storm.checker import DEFINED, STARTED, STOPPED, SUSPENDED, UNDEFINED, check
from tests.storm.history import Happening, History, Operation, read_history

A, B = "aa" * 16, "bb" * 16


def sound_history() -> History:
    history = History(initial={B: "running"}, final={A: "shutoff", B: "paused"})
    steps = [
        ("domain_define_xml_flags", A, DEFINED),
        ("domain_create_with_flags", A, STARTED),
        ("domain_suspend", B, SUSPENDED),
        ("domain_destroy_flags", A, STOPPED),
    ]
    versions: dict[str, int] = {}
    for i, (procedure, name, event) in enumerate(steps):
        history.operations.append(Operation("c1", f"c1:{i}", procedure, name, float(i), i + 0.5, "ok"))
        versions[name] = versions.get(name, 0) + 1
        history.journal.append(
            Happening(
                1,
                100 + i,
                "test",
                1,
                i + 1,
                "domain_event_lifecycle",
                name,
                versions[name],
                f"c1:{i}",
                {"event": event},
            )
        )
    history.operations.append(Operation("c1", "c1:9", "domain_create_with_flags", B, 9.0, 9.1, "DomainStateError"))
    history.subscribers = {"s1": copy.deepcopy(history.journal), "s2": copy.deepcopy(history.journal)}
    return history


def test_a_sound_history_has_no_fault() -> None:
    assert check(sound_history()) == []


def test_duplicates_are_allowed_when_the_cursor_tells_them() -> None:
    history = sound_history()
    history.subscribers["s1"].insert(2, history.subscribers["s1"][1])
    assert check(history) == []


def test_a_history_survives_its_file(tmp_path: Path) -> None:
    history = sound_history()
    history.write(tmp_path / "history.jsonl")
    assert read_history(tmp_path / "history.jsonl") == history


def dropped_event(h: History) -> None:
    del h.subscribers["s1"][1]


def dropped_from_the_journal(h: History) -> None:
    del h.journal[1]


def last_event_never_written(h: History) -> None:
    del h.journal[3]
    for seen in h.subscribers.values():
        del seen[3]


def doubled_effect(h: History) -> None:
    again = copy.deepcopy(h.journal[3])
    again.offset, again.seq, again.version = 104, 5, again.version + 1
    h.journal.append(again)
    for seen in h.subscribers.values():
        seen.append(copy.deepcopy(again))


def reordered(h: History) -> None:
    seen = h.subscribers["s2"]
    seen[0], seen[1] = seen[1], seen[0]


def reordered_object(h: History) -> None:
    h.journal[0].version, h.journal[1].version = 2, 1


def lost_change(h: History) -> None:
    h.final[B] = "running"


def lost_definition(h: History) -> None:
    del h.final[A]


def false_deletion_event(h: History) -> None:
    gone = Happening(1, 110, "test", 1, 5, "domain_event_lifecycle", B, 2, None, {"event": UNDEFINED}, gone=True)
    h.journal.append(gone)
    for seen in h.subscribers.values():
        seen.append(copy.deepcopy(gone))


def invented_object(h: History) -> None:
    h.final["cc" * 16] = "running"


def silence(h: History) -> None:
    h.operations[0].verdict = None


def unwritten_verdict(h: History) -> None:
    h.operations[2].verdict = "InternalError"


def effect_of_a_refused_call(h: History) -> None:
    h.operations[3].verdict = "Busy"


def impossible_answer(h: History) -> None:
    h.operations[4].verdict = "ok"


@pytest.mark.parametrize(
    ("plant", "named"),
    [
        (dropped_event, "lost 1 events"),
        (dropped_from_the_journal, "journal gap"),
        (last_event_never_written, "lost event"),
        (doubled_effect, "doubled effect"),
        (reordered, "out of order"),
        (reordered_object, "object order"),
        (lost_change, "lost change"),
        (lost_definition, "false deletion"),
        (false_deletion_event, "false deletion"),
        (invented_object, "invented object"),
        (silence, "silence"),
        (unwritten_verdict, "unwritten verdict"),
        (effect_of_a_refused_call, "effect of a refused call"),
        (impossible_answer, "impossible answer"),
    ],
)
def test_a_planted_fault_is_found(plant: object, named: str) -> None:
    history = sound_history()
    assert callable(plant)
    plant(history)
    faults = check(history)
    assert any(named in fault for fault in faults), faults
