"""Tells of each published message whether everything before it has been seen.

A subscriber of one source counts that source's sequence numbers. A subscriber of several cannot stop there: while a
message of one source was dropped, a later one of another would move its cursor past the hole. It takes part in all
sources instead and checks that each record begins in the journal where the last one ended.

What cannot be proved to be complete is called a gap. That is never wrong, it only costs a replay.
"""

from __future__ import annotations

from enum import Enum

from broker.wire import Cursor, Position, Published

RECORD_HEADER_LENGTH = 8
"""Bytes that the journal puts before each record; part of the distance between two cursors."""


class Verdict(Enum):
    """What to do with a message."""

    DELIVER = "deliver"
    SKIP = "skip"
    GAP = "gap"


class Continuity:
    """How far a subscriber has seen the journal without a hole."""

    def __init__(self, cursor: Cursor, source: str | None) -> None:
        """`source` is the only one of interest, None when there are several."""
        self.cursor = cursor
        self._source = source
        self._seq: int | None = None
        self._promised: int | None = None

    def judge(self, source: str, position: Position, length: int) -> Verdict:
        """The verdict on a published message with a body of `length` bytes.

        After DELIVER the cursor stands behind the message. After GAP nothing has moved; a replay must follow.
        """
        if position.what == Published.STATE or (self._source is not None and source != self._source):
            return Verdict.SKIP
        if position.generation != self.cursor.generation:
            return Verdict.GAP
        if position.what == Published.ALIVE:
            return self._judge_alive(position)
        if position.what != Published.EVENT or position.offset <= self.cursor.offset:
            return Verdict.SKIP
        if self._source is None:
            follows = position.offset - length - RECORD_HEADER_LENGTH == self.cursor.offset
        else:
            follows = self._seq is not None and position.seq == self._seq + 1
        if not follows:
            return Verdict.GAP
        self.seen(Cursor(position.generation, position.offset), position.seq)
        return Verdict.DELIVER

    def _judge_alive(self, position: Position) -> Verdict:
        if self._source is None:
            return Verdict.GAP if position.offset > self.cursor.offset else Verdict.SKIP
        if self._seq is None or position.seq > self._seq:
            self._promised = max(self._promised or 0, position.seq)
            return Verdict.GAP
        # a source that is silent must not hold the cursor at a place that the journal forgets
        if position.seq == self._seq and position.offset > self.cursor.offset:
            self.cursor = Cursor(position.generation, position.offset)
        return Verdict.SKIP

    def seen(self, cursor: Cursor, seq: int) -> None:
        """A record was delivered, live or from a replay; `seq` is its number at its source."""
        self.cursor = cursor
        if self._source is not None:
            self._seq = seq

    def replayed(self, head: Cursor) -> None:
        """A replay is complete; `head` was the end of the journal before it began."""
        if head.generation != self.cursor.generation or head.offset > self.cursor.offset:
            self.cursor = head
        # whatever an earlier sign of life promised lies before the head, so the replay has passed it
        if self._promised is not None:
            self._seq = max(self._seq or 0, self._promised)
            self._promised = None

    def restart(self, cursor: Cursor) -> None:
        """History before `cursor` is given up."""
        self.cursor = cursor
        self._seq = None
        self._promised = None
