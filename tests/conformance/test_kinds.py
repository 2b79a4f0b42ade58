"""Cases that ask for one text, counted per kind against the floors in `data/kinds.json`."""

from __future__ import annotations

import pytest

from tests.conformance.floors import KIND_FLOORS, read_floors
from tests.conformance.kinds import KINDS, cases_of_kind, difference


@pytest.mark.parametrize("kind", KINDS)
def test_as_many_cases_pass_as_ever(kind: str, capsys: pytest.CaptureFixture[str]) -> None:
    failures = {}
    count = 0
    for case in cases_of_kind(kind):
        count += 1
        try:
            why = difference(case)
        except pytest.skip.Exception as exc:  # this host or this driver lacks what the case needs
            why = str(exc)
        if why:
            failures[case["id"]] = why
    floor = read_floors(KIND_FLOORS).get(kind, 0)
    with capsys.disabled():
        print(f"\n{kind}: {count - len(failures)} of {count} (floor {floor})", end="")
    assert count, f"the corpus has no case of the kind {kind}"
    assert count - len(failures) >= floor, f"{kind}: these fail: {failures}"
