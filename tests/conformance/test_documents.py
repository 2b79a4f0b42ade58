"""Documents of the corpus, read and written, counted per area against the floors in `data/documents.json`."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from tests.conformance.cases import AREAS, cases_of, group_of, run
from tests.conformance.floors import read_floors


@pytest.mark.parametrize("area", AREAS)
def test_as_many_documents_pass_as_ever(area: str, capsys: pytest.CaptureFixture[str]) -> None:
    passed: Counter[str] = Counter()
    total: Counter[str] = Counter()
    failures: dict[str, list[str]] = {}
    for case in cases_of(area):
        outcome = run(case)
        group = group_of(case)
        total[group] += 1
        passed[group] += outcome.passed
        if not outcome.passed:
            failures.setdefault(group, []).append(case["id"])
    floors = read_floors()
    with capsys.disabled():
        for group in sorted(total):
            print(f"\n{group}: {passed[group]} of {total[group]} (floor {floors.get(group, 0)})", end="")
    assert total, f"the corpus has nothing for {area}"
    for group in total:
        assert passed[group] >= floors.get(group, 0), f"{group}: these fail: {', '.join(failures.get(group, ()))}"


def test_floors_name_groups_that_exist() -> None:
    groups = {group_of(case) for area in AREAS for case in cases_of(area)}
    assert set(read_floors()) <= groups


def test_floors_are_data_not_code() -> None:
    sources = "".join(path.read_text(encoding="utf-8") for path in Path(__file__).parent.glob("*.py"))
    named = [case["name"] for case in cases_of("domain") if f'"{case["name"]}"' in sources]
    assert not named
