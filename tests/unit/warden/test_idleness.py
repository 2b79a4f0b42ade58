"""Who is not needed."""

from typing import Any

import pytest

from warden.idleness import Idleness, has_guests


def entry(received: int = 5, **more: int) -> dict[str, int]:
    return {"received": received, "calls": 0, "waiting": 0, "depth": 0, "epoch": 1, **more}


def test_idleness_grows_while_nothing_happens() -> None:
    idleness = Idleness()
    assert [idleness.look(now, entry()) for now in (10.0, 11.0, 15.0)] == [0.0, 1.0, 5.0]


@pytest.mark.parametrize("busy", [{"received": 6}, {"calls": 1}, {"waiting": 1}, {"depth": 1}, {"epoch": 2}])
def test_any_work_begins_it_anew(busy: dict[str, int]) -> None:
    idleness = Idleness()
    idleness.look(0.0, entry())
    assert idleness.look(9.0, entry(**busy)) == 0.0


def test_the_question_whether_it_is_idle_is_no_work() -> None:
    idleness = Idleness()
    idleness.look(0.0, entry(received=5))
    idleness.excuse(9.0)
    assert idleness.look(10.0, entry(received=6)) == 1.0


@pytest.mark.parametrize(
    ("objects", "needed"),
    [
        ([], False),
        ([{"type": "domain", "summary": {"id": -1}}], False),
        ([{"type": "domain", "summary": {"id": 3}}], True),
        ([{"type": "network", "summary": {"active": True}}, {"type": "secret", "summary": None}], False),
        ([{"type": "domain", "summary": {"id": -1}}, {"type": "domain", "summary": {"id": 1}}], True),
    ],
)
def test_a_guest_that_runs_keeps_an_actor(objects: list[dict[str, Any]], needed: bool) -> None:
    assert has_guests(objects) is needed
