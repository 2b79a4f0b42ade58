"""What a storm leaves behind: who asked for what and was told what, what the journal says, what subscribers saw.

A history is written as the storm goes (JSON lines) and read by `checker.py`, which knows nothing of how it was made.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path


@dataclass(slots=True)
class Operation:
    """One call of one client. `verdict` is "ok", an error's kind, or None when no outcome ever came."""

    client: str
    call: str  # the id under which events name it: caller's routing id and correlation id
    procedure: str
    object: str  # uuid in hex, or "" for host calls
    invoked: float
    ended: float | None = None
    verdict: str | None = None
    message: str = ""
    answer: dict[str, object] = field(default_factory=dict)


@dataclass(slots=True)
class Happening:
    """One event record, as the journal or a subscriber has it."""

    generation: int
    offset: int
    source: str
    epoch: int
    seq: int
    kind: str
    object: str  # uuid in hex, "" when the event has none
    version: int
    call: str | None
    data: dict[str, object] = field(default_factory=dict)
    gone: bool = False  # the event says that the object exists no longer


@dataclass(slots=True)
class History:
    """Everything the checker reads."""

    operations: list[Operation] = field(default_factory=list)
    journal: list[Happening] = field(default_factory=list)
    subscribers: dict[str, list[Happening]] = field(default_factory=dict)
    final: dict[str, str] = field(
        default_factory=dict
    )  # object -> "running" | "paused" | "shutoff", as lists tell at the end
    initial: dict[str, str] = field(default_factory=dict)

    def write(self, path: Path) -> None:
        """One JSON object a line: kind and fields."""
        with path.open("w", encoding="utf-8") as out:
            for kind, rows in self._rows():
                for row in rows:
                    out.write(json.dumps({"row": kind, **row}) + "\n")

    def _rows(self) -> Iterable[tuple[str, Iterable[dict[str, object]]]]:
        yield "operation", (asdict(o) for o in self.operations)
        yield "journal", (asdict(h) for h in self.journal)
        for name, seen in self.subscribers.items():
            yield "seen", ({"by": name, **asdict(h)} for h in seen)
        yield "initial", ({"object": k, "state": v} for k, v in self.initial.items())
        yield "final", ({"object": k, "state": v} for k, v in self.final.items())


def read_history(path: Path) -> History:
    """The history that `History.write` wrote."""
    history = History()
    for line in path.read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        kind = row.pop("row")
        if kind == "operation":
            history.operations.append(Operation(**row))
        elif kind == "journal":
            history.journal.append(Happening(**row))
        elif kind == "seen":
            history.subscribers.setdefault(row.pop("by"), []).append(Happening(**row))
        elif kind == "initial":
            history.initial[row["object"]] = row["state"]
        else:
            history.final[row["object"]] = row["state"]
    return history
