"""How often an actor may crash: intensity per period, and the wait before the next start.

An actor that was ready is started again at once. One that dies of its start waits a little longer each time, with
jitter, so that many of them do not come back in step. Pure: the clock and the dice come from outside.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final

SECOND_WAIT_S: Final = 0.02


class Budget:
    """The crash budget of one actor."""

    def __init__(
        self,
        crashes: int,
        period_s: float,
        first_s: float,
        most_s: float,
        dice: Callable[[], float],
        spent: Iterable[float] = (),
    ) -> None:
        self._crashes = crashes
        self._period_s = period_s
        self._first_s = first_s
        self._most_s = most_s
        self._dice = dice
        self._times = list(spent)
        self._vain = 0

    @property
    def times(self) -> list[float]:
        """When the crashes of the current period were."""
        return list(self._times)

    @property
    def count(self) -> int:
        """How many crashes the current period has."""
        return len(self._times)

    def crash(self, now: float, *, was_ready: bool) -> float | None:
        """One more crash: the seconds to wait before the next start, or None when the budget is spent.

        A row of processes that never got ready spends it too, however long the waits between them made it.
        """
        self._times = [time for time in self._times if now - time < self._period_s]
        self._times.append(now)
        self._vain = 0 if was_ready else self._vain + 1
        if len(self._times) > self._crashes or self._vain > self._crashes:
            return None
        if self._vain <= 1:
            return self._first_s
        wait = min(self._most_s, max(self._first_s, SECOND_WAIT_S) * 2.0 ** min(self._vain - 2, 60))
        return wait * (0.5 + self._dice() / 2)

    def reset(self) -> None:
        """Everything is forgiven."""
        self._times.clear()
        self._vain = 0
