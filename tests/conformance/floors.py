"""How many cases of each group must pass. `python -m tests.conformance.floors` raises the numbers to what passes."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

FLOORS = Path(__file__).parent / "data" / "documents.json"
"""Documents, by area, kind and object."""
KIND_FLOORS = Path(__file__).parent / "data" / "kinds.json"
"""Other cases, by kind."""


def read_floors(path: Path = FLOORS) -> dict[str, int]:
    """The numbers by group."""
    floors: dict[str, int] = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    return floors


def raise_floors() -> None:
    """Writes what passes now where that is more; no number falls."""
    from tests.conformance.cases import AREAS, cases_of, group_of, run
    from tests.conformance.kinds import passing

    _raise(FLOORS, Counter(group_of(case) for area in AREAS for case in cases_of(area) if run(case).passed))
    _raise(KIND_FLOORS, passing())


def _raise(path: Path, passed: Counter[str]) -> None:
    floors = read_floors(path)
    for group, count in sorted(passed.items()):
        if count > floors.get(group, 0):
            print(f"{group}: {floors.get(group, 0)} -> {count}")
            floors[group] = count
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(dict(sorted(floors.items())), indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    raise_floors()
