"""One guest's queue of work, with three lanes.

`change`: one at a time, first come first served, bounded. `query`: several at once, beside a change, bounded.
`override`: cancels who holds the change lane, waits a moment for it to clean up, and goes ahead either way; that is how
a guest whose hypervisor hangs can still be destroyed.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from enum import StrEnum
from types import TracebackType
from typing import Final

from schema.errors import Busy, Cancelled

MailboxKey = tuple[str, bytes | str]
Refresh = Callable[[MailboxKey], Awaitable[None]]

NameOf = Callable[[MailboxKey], str | None]

OVERRIDE_PATIENCE_S: Final = 0.5
BUSY_RETRY_S: Final = 0.5


class Lane(StrEnum):
    """How a call goes through its mailbox."""

    CHANGE = "change"
    QUERY = "query"
    OVERRIDE = "override"


Entered = Callable[[MailboxKey, Lane], None]
"""Told when somebody has got a lane; what it raises gives the lane back."""


@dataclass(slots=True, eq=False)
class Holder:
    """Who has the change lane."""

    what: str
    task: asyncio.Task[object] | None
    since: float
    left: asyncio.Event
    overridden_by: str | None = None

    def __str__(self) -> str:
        return f"held by {self.what} for {time.monotonic() - self.since:.1f} s"


class Mailbox:
    """The lanes of one object. Made and dropped by `Mailboxes`."""

    def __init__(self, key: MailboxKey, changes_max: int, queries_max: int, name_of: NameOf) -> None:
        self.key = key
        self._name_of = name_of
        self.is_stale = False
        self.holder: Holder | None = None
        self._changes_max = changes_max
        self._queries_max = queries_max
        self._queries = 0
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._overriding: deque[asyncio.Future[None]] = deque()
        self._override_runs = False
        self._refreshing: asyncio.Future[None] | None = None

    @property
    def is_idle(self) -> bool:
        """Whether nobody is in it or waits for it."""
        return not (
            self.holder
            or self._queries
            or self._waiting
            or self._overriding
            or self._override_runs
            or self._refreshing
            or self.is_stale
        )

    @property
    def depth(self) -> int:
        """Calls that wait for a lane."""
        return len(self._waiting) + len(self._overriding)

    async def take_change(self, what: str) -> Holder:
        """Waits for the change lane. Raises Busy when too many wait already."""
        if self.holder is not None or self._waiting or self._override_runs:
            if len(self._waiting) >= self._changes_max:
                raise Busy(BUSY_RETRY_S, self.describe("too many changes wait for the state change lock"))
            await self._wait_in(self._waiting)
        return self._hold(what)

    async def take_override(self, what: str) -> Holder:
        """Takes the change lane from whoever has it. Raises Busy when too many want to."""
        if self._override_runs:
            if len(self._overriding) >= self._changes_max:
                raise Busy(BUSY_RETRY_S, self.describe("too many overriding calls wait"))
            await self._wait_in(self._overriding)
        self._override_runs = True
        holder = self.holder
        if holder is not None and holder.task is not None:
            holder.overridden_by = what
            holder.task.cancel()
            try:
                await asyncio.wait_for(holder.left.wait(), OVERRIDE_PATIENCE_S)
            except TimeoutError:
                pass  # its hypervisor does not answer: it stays behind, and may not hand on the lane any more
            except asyncio.CancelledError:
                self._override_runs = False
                self._hand_on()
                raise
        return self._hold(what)

    def take_query(self) -> None:
        """Counts a query in. Raises Busy when too many run."""
        if self._queries >= self._queries_max:
            raise Busy(BUSY_RETRY_S, self.describe("too many queries run"))
        self._queries += 1

    def leave_query(self) -> None:
        """Counts a query out."""
        self._queries -= 1

    def leave(self, holder: Holder, *, is_override: bool) -> None:
        """Gives the lane to the next who waits for it."""
        holder.left.set()
        if is_override:
            self._override_runs = False
        if self.holder is holder:
            self.holder = None
        self._hand_on()

    def describe(self, what: str = "cannot acquire state change lock") -> str:
        """`what`, of which object, and who holds it for how long."""
        kind, key = self.key
        name = self._name_of(self.key) or (key if isinstance(key, str) else format_key(key))
        held = f" ({self.holder})" if self.holder is not None else ""
        return f"{what} of {kind} '{name}'{held}"

    async def freshen(self, refresh: Refresh | None) -> None:
        """Has the object read anew after a handler failed in an unexpected way. Raises what that raises."""
        if refresh is None:
            self.is_stale = False
            return
        if self._refreshing is not None:
            await asyncio.shield(self._refreshing)
            return
        self._refreshing = asyncio.ensure_future(_as_coroutine(refresh(self.key)))
        try:
            await asyncio.shield(self._refreshing)
            self.is_stale = False
        finally:
            self._refreshing = None

    def _hold(self, what: str) -> Holder:
        self.holder = Holder(what, asyncio.current_task(), time.monotonic(), asyncio.Event())
        return self.holder

    async def _wait_in(self, line: deque[asyncio.Future[None]]) -> None:
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        line.append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self._hand_on()  # the turn came and nobody takes it
            elif turn in line:
                line.remove(turn)
            raise

    def _hand_on(self) -> None:
        if self._override_runs:
            return
        if self._overriding:
            self._wake(self._overriding)
        elif self.holder is None:
            self._wake(self._waiting)

    @staticmethod
    def _wake(line: deque[asyncio.Future[None]]) -> None:
        while line:
            turn = line.popleft()
            if not turn.done():
                turn.set_result(None)
                return


async def _as_coroutine(work: Awaitable[None]) -> None:
    await work


def format_key(key: bytes) -> str:
    """A key as a person knows it: a uuid with dashes, anything else in hex."""
    text = key.hex()
    if len(key) != 16:
        return text
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


class Mailboxes:
    """All mailboxes of an actor; one exists while somebody is in it."""

    def __init__(
        self,
        changes_max: int,
        queries_max: int,
        refresh: Refresh | None = None,
        entered: Entered | None = None,
        name_of: NameOf = lambda key: None,
    ) -> None:
        self._name_of = name_of
        self.refresh = refresh
        self.entered = entered
        self._changes_max = changes_max
        self._queries_max = queries_max
        self._boxes: dict[MailboxKey, Mailbox] = {}

    def __len__(self) -> int:
        return len(self._boxes)

    @property
    def depth(self) -> int:
        """Calls that wait for a lane of any object."""
        return sum(box.depth for box in self._boxes.values())

    def find(self, key: MailboxKey) -> Mailbox | None:
        """The mailbox of a key, if somebody is in it."""
        return self._boxes.get(key)

    def open(self, key: MailboxKey) -> Mailbox:
        """The mailbox of a key, made if there is none."""
        box = self._boxes.get(key)
        if box is None:
            box = self._boxes[key] = Mailbox(key, self._changes_max, self._queries_max, self._name_of)
        return box

    def close(self, box: Mailbox) -> None:
        """Forgets a mailbox that nobody is in."""
        if box.is_idle and self._boxes.get(box.key) is box:
            del self._boxes[box.key]

    def mark_stale(self, key: MailboxKey) -> None:
        """The object has to be read anew before its next call."""
        self.open(key).is_stale = True


class Lanes:
    """The way into one object's mailbox: `async with lanes.change(): ...`."""

    def __init__(self, boxes: Mailboxes, key: MailboxKey, what: Callable[[], str]) -> None:
        self._boxes = boxes
        self._key = key
        self._what = what

    def change(self, what: str | None = None) -> Passage:
        """The lane of changes. Raises Busy on entry when too many wait."""
        return Passage(self._boxes, self._key, Lane.CHANGE, what or self._what())

    def query(self, what: str | None = None) -> Passage:
        """The lane of reads that ask the hypervisor. Raises Busy on entry when too many run."""
        return Passage(self._boxes, self._key, Lane.QUERY, what or self._what())

    def override(self, what: str | None = None) -> Passage:
        """Goes ahead of all changes and cancels the one that runs."""
        return Passage(self._boxes, self._key, Lane.OVERRIDE, what or self._what())


class Passage:
    """One way through a lane, as an async context manager."""

    __slots__ = ("_boxes", "_cancels", "_holder", "_key", "_lane", "_nested", "_what", "box")

    def __init__(self, boxes: Mailboxes, key: MailboxKey, lane: Lane, what: str) -> None:
        self._boxes = boxes
        self._key = key
        self._lane = lane
        self._what = what
        self._holder: Holder | None = None
        self._nested = False
        self._cancels = 0
        self.box: Mailbox | None = None

    async def __aenter__(self) -> Mailbox:
        box = self.box = self._boxes.open(self._key)
        task = asyncio.current_task()
        if box.holder is not None and box.holder.task is task:
            self._nested = True  # who holds the lane already need not wait for itself
            return box
        self._cancels = task.cancelling() if task is not None else 0
        try:
            if self._lane is Lane.QUERY:
                box.take_query()
            elif self._lane is Lane.OVERRIDE:
                self._holder = await box.take_override(self._what)
            else:
                self._holder = await box.take_change(self._what)
            try:
                if box.is_stale:
                    await box.freshen(self._boxes.refresh)
                if self._boxes.entered is not None:
                    self._boxes.entered(self._key, self._lane)
            except BaseException:
                self._leave(box)
                raise
        except BaseException:
            self._boxes.close(box)
            raise
        return box

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        box = self.box
        if box is None or self._nested:
            return
        self._leave(box)
        self._boxes.close(box)
        holder = self._holder
        if holder is None or holder.overridden_by is None or holder.task is None:
            return
        # the cancellation was ours, so it ends here as an error of the call and not as the end of the task
        if holder.task.uncancel() <= self._cancels and kind is asyncio.CancelledError:
            raise Cancelled(f"{self._what} was cancelled by {holder.overridden_by}") from exc

    def _leave(self, box: Mailbox) -> None:
        if self._lane is Lane.QUERY:
            box.leave_query()
        elif self._holder is not None:
            box.leave(self._holder, is_override=self._lane is Lane.OVERRIDE)
