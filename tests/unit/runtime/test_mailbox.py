from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from actors.runtime.mailbox import Lane, Mailboxes, MailboxKey, Passage
from schema.errors import Busy, Cancelled

KEY: MailboxKey = ("domain", b"u" * 16)


class Desk:
    """Mailboxes and what happened in them, in order."""

    def __init__(self, **limits: int) -> None:
        self.boxes = Mailboxes(limits.get("changes", 8), limits.get("queries", 8))
        self.trace: list[str] = []

    def go(
        self, what: str, lane: Lane = Lane.CHANGE, work: Callable[[], Awaitable[object]] | None = None
    ) -> asyncio.Task[None]:
        async def run() -> None:
            async with Passage(self.boxes, KEY, lane, what):
                self.trace.append(what)
                if work is not None:
                    await work()

        return asyncio.create_task(run())


async def settle() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


async def test_changes_go_one_by_one_in_their_order() -> None:
    desk, gate = Desk(), asyncio.Event()
    tasks = [desk.go("a", work=gate.wait), desk.go("b"), desk.go("c")]
    await settle()
    assert desk.trace == ["a"]
    gate.set()
    await asyncio.gather(*tasks)
    assert desk.trace == ["a", "b", "c"]
    assert len(desk.boxes) == 0


async def test_a_waiter_that_gives_up_does_not_stop_the_others() -> None:
    desk, gate = Desk(), asyncio.Event()
    first, second, third = desk.go("a", work=gate.wait), desk.go("b"), desk.go("c")
    await settle()
    second.cancel()
    await settle()
    gate.set()
    await asyncio.gather(first, third)
    assert desk.trace == ["a", "c"]
    assert second.cancelled()


async def test_a_waiter_cancelled_as_its_turn_comes_hands_it_on() -> None:
    desk, gate = Desk(), asyncio.Event()
    first, second, third = desk.go("a", work=gate.wait), desk.go("b"), desk.go("c")
    await settle()
    gate.set()
    await first
    second.cancel()
    await asyncio.gather(third)
    assert desk.trace == ["a", "c"] or desk.trace == ["a", "b", "c"]
    assert len(desk.boxes) == 0


async def test_an_override_waits_only_so_long_for_a_holder_that_does_not_leave(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("actors.runtime.mailbox.OVERRIDE_PATIENCE_S", 0.02)
    desk, gate = Desk(), asyncio.Event()

    async def stubborn() -> None:
        while not gate.is_set():
            try:
                await gate.wait()
            except asyncio.CancelledError:
                desk.trace.append("ignored")

    stuck = desk.go("stuck", work=stubborn)
    waiting = desk.go("waiting")
    await settle()
    await desk.go("destroy", Lane.OVERRIDE)
    await waiting
    assert desk.trace == ["stuck", "ignored", "destroy", "waiting"]
    gate.set()
    await stuck
    assert len(desk.boxes) == 0


async def test_overrides_go_one_by_one_and_before_changes() -> None:
    desk, gate = Desk(), asyncio.Event()
    first = desk.go("destroy1", Lane.OVERRIDE, gate.wait)
    await settle()
    change, second = desk.go("change"), desk.go("destroy2", Lane.OVERRIDE)
    await settle()
    gate.set()
    await asyncio.gather(first, change, second)
    assert desk.trace == ["destroy1", "destroy2", "change"]


async def test_the_holder_learns_who_cancelled_it() -> None:
    desk = Desk()
    task = desk.go("suspend", work=asyncio.Event().wait)
    await settle()
    await desk.go("destroy", Lane.OVERRIDE)
    with pytest.raises(Cancelled, match="suspend was cancelled by destroy"):
        await task


async def test_a_lane_that_is_held_already_is_passed() -> None:
    desk = Desk()

    async def again() -> None:
        async with Passage(desk.boxes, KEY, Lane.CHANGE, "inner"):
            desk.trace.append("inner")

    await asyncio.wait_for(desk.go("outer", work=again), 5)
    assert desk.trace == ["outer", "inner"]
    assert len(desk.boxes) == 0


async def test_queries_are_bounded_and_beside() -> None:
    desk, gate = Desk(queries=2), asyncio.Event()
    tasks = [desk.go("change", work=gate.wait), *(desk.go("q", Lane.QUERY, gate.wait) for _ in range(2))]
    await settle()
    with pytest.raises(Busy):
        await desk.go("q", Lane.QUERY)
    gate.set()
    await asyncio.gather(*tasks)
    await desk.go("q", Lane.QUERY)


async def test_a_refresh_that_fails_is_tried_again() -> None:
    desk = Desk()
    tries = 0

    async def refresh(key: MailboxKey) -> None:
        nonlocal tries
        tries += 1
        if tries == 1:
            raise ZeroDivisionError

    desk.boxes.refresh = refresh
    desk.boxes.mark_stale(KEY)
    with pytest.raises(ZeroDivisionError):
        await desk.go("a")
    await desk.go("b")
    await desk.go("c")
    assert (tries, desk.trace) == (2, ["b", "c"])
    assert len(desk.boxes) == 0


async def test_who_is_refused_entry_gives_the_lane_back() -> None:
    desk = Desk()

    def entered(key: MailboxKey, lane: Lane) -> None:
        if not desk.trace:
            desk.trace.append("refused")
            raise ZeroDivisionError

    desk.boxes.entered = entered
    with pytest.raises(ZeroDivisionError):
        await desk.go("a")
    await asyncio.wait_for(desk.go("b"), 5)
    assert desk.trace == ["refused", "b"]
