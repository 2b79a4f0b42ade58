"""Whether the broker still does its work. It watches everybody else; supervisord notices only that it ends."""

from __future__ import annotations

import os
import signal
from typing import Final

FAILURES_MIN: Final = 2
"""So many questions in a row stay unanswered before silence counts: one may be the fault of a host that stood still."""


class BrokerWatch:
    """Judges one incarnation of the broker after the other, each from its first answer on."""

    def __init__(self, hang_after_s: float) -> None:
        self._hang_after_s = hang_after_s
        self._pid = 0
        self._answered_at = 0.0
        self._failures = 0

    def answered(self, pid: int, now: float) -> None:
        """The process `pid` answered a question."""
        self._pid, self._answered_at, self._failures = pid, now, 0

    def silent(self, pid: int, now: float) -> bool:
        """The process `pid`, 0 when there is none, left a question unanswered: whether it hangs."""
        if not pid or pid != self._pid:
            return False  # it is being started: that is supervisord's to see
        self._failures += 1
        return self._failures >= FAILURES_MIN and now - self._answered_at > self._hang_after_s


def kill(pid: int) -> None:
    """Ends a process, which supervisord will start again."""
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
