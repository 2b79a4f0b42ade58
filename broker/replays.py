"""Replays of the journal: one part for each request, read beside the loop.

A request is the credit for its answer, so a slow reader never has more than it asked for.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, Final

from broker.calls import Caller
from broker.journal import Journal, Lost, Part, read_part
from broker.segments import SegmentError
from broker.wire import (
    Cursor,
    Kind,
    ReplyPrologue,
    WireError,
    join_body,
    pack_header,
    pack_reply_prologue,
    pack_value,
    unpack_value,
)
from broker.worker import Worker
from schema.errors import Busy, HostSystemError, InvalidMessage, VirtError, to_wire

AT_ONCE_MAX: Final = 8  # replays of one caller that may be under way
ALL_MAX: Final = 1024


class Replays:
    """Answers REPLAY."""

    def __init__(
        self,
        journal: Journal,
        worker: Worker,
        published: Callable[[], Cursor],
        send: Callable[[Caller, bytes, bytes], int],
        *,
        records_max: int,
    ) -> None:
        self._journal = journal
        self._worker = worker
        self._published = published
        self._send = send
        self._records_max = records_max
        self._under_way: dict[Caller, int] = {}
        self.parts = self.records = 0

    def request(self, caller: Caller, correlation: int, body: bytes) -> None:
        """A REPLAY arrived."""
        try:
            after, sources, limit = _read_request(body)
        except WireError as exc:
            self._fail(caller, correlation, InvalidMessage(str(exc)))
            return
        running = self._under_way.get(caller, 0)
        if running >= AT_ONCE_MAX or len(self._under_way) >= ALL_MAX:
            self._fail(caller, correlation, Busy(0.05, "too many replays are under way"))
            return
        head = self._published()
        place = self._journal.place(after, head)
        if isinstance(place, Lost):
            self._lost(caller, correlation, place, head)
            return
        self._under_way[caller] = running + 1
        limit = min(limit, self._records_max) or self._records_max
        self._worker.submit(
            partial(_read_packed, self._journal.segments, place, head, sources, limit),
            partial(self._done, caller, correlation, head),
        )

    def _done(self, caller: Caller, correlation: int, head: Cursor, result: object) -> None:
        running = self._under_way.pop(caller, 1) - 1
        if running:
            self._under_way[caller] = running
        if caller.gone:
            return
        if isinstance(result, Lost):
            self._lost(caller, correlation, result, head)
        elif isinstance(result, tuple):
            body, count = result
            self.parts += 1
            self.records += count
            self._send(caller, pack_header(Kind.REPLAY_PART, correlation), body)
        elif isinstance(result, SegmentError):
            self._fail(caller, correlation, InvalidMessage("the cursor is not the place after a record"))
        else:
            errno = result.errno if isinstance(result, OSError) and result.errno else 5
            self._fail(caller, correlation, HostSystemError(errno, "cannot read the event journal"))

    def _lost(self, caller: Caller, correlation: int, lost: Lost, head: Cursor) -> None:
        answer = {"records": [], "next": list(head), "head": list(head), "end": True, "first": list(lost.first)}
        self._send(caller, pack_header(Kind.REPLAY_PART, correlation), pack_value(answer))

    def _fail(self, caller: Caller, correlation: int, error: VirtError) -> None:
        body = join_body(pack_reply_prologue(ReplyPrologue()), pack_value(to_wire(error)))
        self._send(caller, pack_header(Kind.ERROR, correlation), body)


def _read_request(body: bytes) -> tuple[Cursor, frozenset[str] | None, int]:
    request = unpack_value(body)
    if not isinstance(request, dict):
        raise WireError("a replay request is a map")
    after, sources, limit = request.get("after"), request.get("sources"), request.get("limit", 0)
    if not (isinstance(after, list) and len(after) == 2 and all(isinstance(n, int) and n >= 0 for n in after)):
        raise WireError("'after' is [generation, offset]")
    if sources is not None and not (isinstance(sources, list) and all(isinstance(s, str) for s in sources)):
        raise WireError("'sources' is an array of strings or nil")
    if not isinstance(limit, int) or limit < 0:
        raise WireError("'limit' is a number of records")
    return Cursor(*after), None if sources is None else frozenset(sources), limit


def _read_packed(*arguments: Any) -> tuple[bytes, int] | Lost:
    part = read_part(*arguments)
    if isinstance(part, Lost):
        return part
    return pack_part(part, arguments[2]), len(part.records)


def pack_part(part: Part, head: Cursor) -> bytes:
    """The body of a REPLAY_PART; generations are told once for each run of records."""
    records = [[*cursor, record] for cursor, record in part.records]
    return pack_value({"records": records, "next": list(part.next), "head": list(head), "end": part.is_end})
