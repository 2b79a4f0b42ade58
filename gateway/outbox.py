"""Events on their way to the clients: all that a client is told at one time goes in one write, and calls come first.

An event for a hundred clients is a hundred writes, and wakes a hundred readers. While nothing else is to be told it
leaves at once; in a flood, what comes while the last events went out is collected for a moment, so that telling takes
no more than a third of the time, however many clients there are, and none of them is told later than PAUSE_MAX_S after
it could have been.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final, Protocol

AT_ONCE: Final = 64
"""So many clients are written to before calls have their turn."""
PAUSE_PER_COST: Final = 2.0
PAUSE_MAX_S: Final = 0.02
_PAUSE_MIN_S: Final = 0.0005


class Reader(Protocol):
    """A client with a socket."""

    def write_events(self, messages: bytes) -> None:
        """Sends whole messages."""


class Outbox:
    """What clients are to be told and were not yet."""

    __slots__ = ("_call_later", "_call_soon", "_clock", "_cost", "_going", "_is_due", "_not_before", "_waiting")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._clock: Callable[[], float] = loop.time
        self._call_soon = loop.call_soon
        self._call_later = loop.call_later
        self._waiting: dict[Reader, list[bytes]] = {}
        self._going: list[tuple[Reader, list[bytes]]] = []
        self._is_due = False
        self._not_before = 0.0
        self._cost = 0.0

    def add(self, reader: Reader, message: bytes) -> None:
        """Tells a client of an event, behind all that it was told before."""
        waiting = self._waiting.get(reader)
        if waiting is None:
            self._waiting[reader] = [message]
        else:
            waiting.append(message)
        if not self._is_due:
            self._is_due = True
            self._wait()

    def forget(self, reader: Reader) -> None:
        """The client is gone."""
        self._waiting.pop(reader, None)

    def _wait(self) -> None:
        pause = self._not_before - self._clock()
        if pause > _PAUSE_MIN_S:
            self._call_later(pause, self._begin)
        else:
            self._call_soon(self._call_soon, self._begin)  # whoever waits for this event's change is answered first

    def _begin(self) -> None:
        self._going = list(self._waiting.items())
        self._going.reverse()
        self._waiting = {}
        self._cost = 0.0
        self._go_on()

    def _go_on(self) -> None:
        begin = self._clock()
        going = self._going
        for _ in range(min(AT_ONCE, len(going))):
            reader, messages = going.pop()
            reader.write_events(messages[0] if len(messages) == 1 else b"".join(messages))
        end = self._clock()
        self._cost += end - begin
        if going:
            self._call_soon(self._go_on)
            return
        self._not_before = end + min(self._cost * PAUSE_PER_COST, PAUSE_MAX_S)
        self._is_due = bool(self._waiting)
        if self._is_due:
            self._wait()
