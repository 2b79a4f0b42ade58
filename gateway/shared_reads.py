"""Clients that ask the same at the same time get one answer, from one call.

Many tools watch the same guests of a host and ask the same of them. A read that arrives while an equal one is under
way does not get that one's answer, which may be older than the question: it waits, with all that come meanwhile, for
one further call that is made when the first is answered. So each answer is newer than each question it answers, and
however many ask, a driver has two of these calls at most. A driver that is slow keeps nobody waiting: after
WAIT_MAX_S the further call is made all the same, and later questions are calls of their own.

Only callers with the same rights share.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from gateway.direct import DirectCall
from gateway.routes import Route
from schema.errors import VirtError

WAIT_MAX_S: Final = 0.01
PAYLOAD_MAX: Final = 1024  # longer questions are seldom equal


class Question(NamedTuple):
    """What makes two reads equal."""

    rights: tuple[object, ...]
    scope: str
    route: Route
    payload: bytes


class _Line:
    """Those who ask one question: a call under way, and the one that follows it."""

    __slots__ = ("_following", "_question", "_reads", "_since", "_timer")

    def __init__(self, reads: SharedReads, question: Question, now: float) -> None:
        self._reads = reads
        self._question = question
        self._since = now
        self._following: DirectCall | None = None
        self._timer: asyncio.TimerHandle | None = None

    def join(self, call: DirectCall, now: float) -> None:
        """One more asks. Raises what keeps its call from being sent."""
        if self._following is not None:
            self._following.askers += call.askers
        elif now - self._since >= WAIT_MAX_S:
            call.start()
        else:
            self._following = call
            self._timer = self._reads.loop.call_later(WAIT_MAX_S, self._wait_no_longer)

    def answered(self) -> None:
        """The call under way has its outcome: the next one is sent."""
        following = self._take_following()
        if following is None:
            self._reads.forget(self._question)
            return
        self._since = self._reads.loop.time()
        following.then = self.answered
        _start(following)

    def _wait_no_longer(self) -> None:
        following = self._take_following()
        if following is not None:
            _start(following)

    def _take_following(self) -> DirectCall | None:
        following, self._following = self._following, None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        return following


class SharedReads:
    """All questions that are under way."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self._lines: dict[Question, _Line] = {}

    def ask(self, question: Question, call: DirectCall) -> None:
        """Makes the call, now or with others. Raises what keeps it from being sent."""
        line = self._lines.get(question)
        now = self.loop.time()
        if line is not None:
            line.join(call, now)
            return
        line = _Line(self, question, now)
        call.then = line.answered
        self._lines[question] = line
        try:
            call.start()
        except BaseException:
            self.forget(question)
            raise

    def forget(self, question: Question) -> None:
        """Nobody asks it any more."""
        del self._lines[question]


def _start(call: DirectCall) -> None:
    """Sends a call whose askers were told already that it will be made."""
    try:
        call.start()
    except VirtError as exc:
        call.set_exception(exc)


def rights_of(claim: Mapping[str, Any]) -> tuple[object, ...]:
    """What two clients have in common that may do the same: everything but the process."""
    return tuple(sorted((name, str(value)) for name, value in claim.items() if name != "pid"))
