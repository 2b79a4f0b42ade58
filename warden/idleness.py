"""Which actors nobody needs at the moment: no call for a while, and no guest that runs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(slots=True)
class Idleness:
    """What was last seen of one actor's work."""

    answered: int = -1
    epoch: int = -1
    since: float = 0.0

    def look(self, now: float, entry: Mapping[str, Any]) -> float:
        """For how long it has had nothing to do, from its line in the broker's status."""
        answered = int(entry["received"])
        works = any(int(entry[name]) for name in ("calls", "waiting", "depth"))
        if works or answered != self.answered or entry["epoch"] != self.epoch:
            self.answered, self.epoch, self.since = answered, int(entry["epoch"]), now
        return now - self.since

    def excuse(self, now: float) -> None:
        """It turned out to be needed: the next look is a whole period away. The question itself was a call."""
        self.answered, self.since = self.answered + 1, now


def has_guests(objects: Iterable[Mapping[str, Any]]) -> bool:
    """Whether any guest of an actor runs: their ends have to be seen when they happen."""
    return any(item["type"] == "domain" and int((item["summary"] or {}).get("id", -1)) != -1 for item in objects)
