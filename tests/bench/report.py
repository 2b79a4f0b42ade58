"""What a benchmark finds: figures with units, the goal, and the peer or floor that was measured in the same run."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Measure:
    """One figure. `peer` is the same thing measured on something else in the same run, `against` says on what.

    `goal` is the largest allowed value (or ratio to the peer, when there is one and `of_ratio` is set); with
    `higher_is_better` the smallest.
    """

    name: str
    value: float
    unit: str
    goal: float | None = None
    of_ratio: bool = False
    higher_is_better: bool = False
    peer: float | None = None
    against: str = ""
    note: str = ""

    @property
    def ratio(self) -> float | None:
        """Ours to theirs."""
        return self.value / self.peer if self.peer else None

    @property
    def reached(self) -> bool | None:
        """Whether the goal was reached; None when there is none, or no peer to compare with."""
        judged = self.ratio if self.of_ratio else self.value
        if self.goal is None or judged is None:
            return None
        return judged >= self.goal if self.higher_is_better else judged <= self.goal

    def to_json(self) -> dict[str, Any]:
        """For bench.json."""
        return {**asdict(self), "ratio": self.ratio, "reached": self.reached}


def percentile(values: Sequence[float], share: float) -> float:
    """The value below which `share` (0 to 1) of the values lie."""
    ordered = sorted(values)
    return ordered[min(int(len(ordered) * share), len(ordered) - 1)]


def median(values: Sequence[float]) -> float:
    """The middle value."""
    return statistics.median(values)


class CannotRun(Exception):
    """This benchmark needs something that is not here; the text says what."""
