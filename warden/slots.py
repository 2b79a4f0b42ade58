"""The two places in which supervisord can run an actor.

supervisord cannot start a program whose process it could not reap yet, and one in uninterruptible sleep is never
reaped. So each actor has two slots, and its successor goes to the one that is free.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final

SLOTS: Final = (0, 1)


class Held(StrEnum):
    """What supervisord says about a slot; the values are its words."""

    STOPPED = "STOPPED"
    STARTING = "STARTING"
    RUNNING = "RUNNING"
    BACKOFF = "BACKOFF"
    STOPPING = "STOPPING"
    EXITED = "EXITED"
    FATAL = "FATAL"
    UNKNOWN = "UNKNOWN"


FREE: Final = frozenset({Held.STOPPED, Held.EXITED, Held.FATAL, Held.BACKOFF})


class Slots:
    """Which of an actor's slots are free, and which is next."""

    def __init__(self) -> None:
        self._held = dict.fromkeys(SLOTS, Held.STOPPED)
        self._last = SLOTS[-1]

    def note(self, slot: int, held: Held) -> None:
        """supervisord's word."""
        self._held[slot] = held

    def find_free(self) -> int | None:
        """The slot for the next start: the one that was not used last, if it is free; None when none is."""
        other = SLOTS[0] if self._last == SLOTS[1] else SLOTS[1]
        for slot in (other, self._last):
            if self._held[slot] in FREE:
                return slot
        return None

    def take(self, slot: int) -> None:
        """The slot is used from now on."""
        self._last = slot
        self._held[slot] = Held.STARTING
