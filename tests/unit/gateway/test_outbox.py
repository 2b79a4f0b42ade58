from __future__ import annotations

import asyncio
from typing import Any, cast

from gateway.outbox import AT_ONCE, PAUSE_MAX_S, Outbox


class FakeLoop:
    """A loop whose clock moves only when somebody works or waits."""

    def __init__(self) -> None:
        self.now = 100.0
        self.soon: list[tuple[Any, ...]] = []
        self.later: list[tuple[float, Any]] = []

    def time(self) -> float:
        return self.now

    def call_soon(self, callback: Any, *args: Any) -> None:
        self.soon.append((callback, *args))

    def call_later(self, pause: float, callback: Any) -> None:
        self.later.append((self.now + pause, callback))

    def turn(self) -> None:
        """One pass of the loop."""
        if not self.soon and self.later:
            self.now, callback = self.later.pop(0)
            self.soon.append((callback,))
        ready, self.soon = self.soon, []
        for callback, *args in ready:
            callback(*args)

    def run(self) -> int:
        """Passes until nothing is left."""
        turns = 0
        while self.soon or self.later:
            self.turn()
            turns += 1
        return turns


class FakeReader:
    def __init__(self, loop: FakeLoop, cost_s: float = 0.0) -> None:
        self.loop = loop
        self.cost_s = cost_s
        self.writes: list[bytes] = []

    def write_events(self, messages: bytes) -> None:
        self.loop.now += self.cost_s
        self.writes.append(messages)


def outbox(loop: FakeLoop) -> Outbox:
    return Outbox(cast(asyncio.AbstractEventLoop, loop))


def test_an_event_leaves_at_once_but_behind_what_is_ready() -> None:
    loop = FakeLoop()
    box, reader, order = outbox(loop), FakeReader(loop), []
    box.add(reader, b"a")
    loop.call_soon(lambda: order.append(list(reader.writes)))
    loop.run()
    assert order == [[]]
    assert (reader.writes, loop.now) == ([b"a"], 100.0)


def test_what_is_told_together_is_one_write_in_order() -> None:
    loop = FakeLoop()
    box, one, other = outbox(loop), FakeReader(loop), FakeReader(loop)
    for message in (b"a", b"b", b"c"):
        box.add(one, message)
    box.add(other, b"a")
    loop.run()
    assert (one.writes, other.writes) == ([b"abc"], [b"a"])


def test_many_clients_do_not_keep_calls_waiting() -> None:
    loop = FakeLoop()
    box, readers = outbox(loop), [FakeReader(loop) for _ in range(AT_ONCE * 2 + 1)]
    for reader in readers:
        box.add(reader, b"a")
    assert loop.run() >= 4
    assert all(reader.writes == [b"a"] for reader in readers)


def test_what_comes_while_events_go_out_stays_behind_them() -> None:
    loop = FakeLoop()
    box, readers = outbox(loop), [FakeReader(loop) for _ in range(AT_ONCE * 2)]
    for reader in readers:
        box.add(reader, b"a")
    loop.turn()
    loop.turn()
    for reader in readers:
        box.add(reader, b"b")
    loop.run()
    assert all(b"".join(reader.writes) == b"ab" for reader in readers)


def test_a_flood_is_told_in_a_part_of_the_time() -> None:
    loop = FakeLoop()
    box, reader = outbox(loop), FakeReader(loop, cost_s=0.004)
    box.add(reader, b"a")
    loop.run()
    first = loop.now
    for _ in range(5):
        box.add(reader, b"b")
        loop.run()
    assert reader.writes == [b"a", b"b", b"b", b"b", b"b", b"b"]
    assert 5 * 0.004 * 2.9 <= loop.now - first <= 5 * (0.004 + PAUSE_MAX_S)


def test_the_pause_is_limited() -> None:
    loop = FakeLoop()
    box, reader = outbox(loop), FakeReader(loop, cost_s=1.0)
    box.add(reader, b"a")
    loop.run()
    box.add(reader, b"b")
    before = loop.now
    loop.run()
    assert loop.now - before <= 1.0 + PAUSE_MAX_S + 1e-6


def test_who_is_gone_is_told_nothing() -> None:
    loop = FakeLoop()
    box, reader = outbox(loop), FakeReader(loop)
    box.add(reader, b"a")
    box.forget(reader)
    loop.run()
    assert reader.writes == []
