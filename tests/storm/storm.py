"""One storm: load, subscribers and weather side by side, then the history that the checker reads."""

from __future__ import annotations

import asyncio
import random
import time
import uuid
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

import virtroupe
from broker.peer import Peer
from broker.wire import Cursor
from client.event import event_from_record
from settings.paths import Paths
from tests.storm.clients import Guest, StormClient, happening_of, list_states, write_down
from tests.storm.history import Happening, History
from tests.storm.weather import Weather, pid_of_role, rss_kib

SETTLE_S = 60.0


@dataclass(frozen=True, slots=True)
class Plan:
    """What a storm consists of."""

    uri: str
    driver: str
    document: Callable[[str, uuid.UUID, str], str]
    kills: int
    roles: Sequence[str]
    clients: int = 6
    guests_per_client: int = 3
    subscribers: int = 3
    seed: int = 1
    limit_s: float = 600.0
    pause_s: tuple[float, float] = (0.02, 0.4)
    client_pause_s: float = 0.0


@dataclass(slots=True)
class Outcome:
    """What a storm left."""

    history: History
    kills: dict[str, int]
    calls: int
    reads_failed: list[str]
    memory_kib: list[dict[str, int]]
    seconds: float


async def weather_a_storm(root: Path, paths: Paths, plan: Plan, record: Path) -> Outcome:
    """Runs the plan against a running agent and writes its history to `record`."""
    dice = random.Random(plan.seed)
    history = History()
    begin = time.monotonic()
    watcher = await Peer.connect_client(paths, program="storm-watcher", wait_s=60.0)
    async with AsyncExitStack() as stack:
        stack.push_async_callback(watcher.aclose)
        history.initial = await list_states(watcher, plan.driver, plan.uri)
        start = await watcher.head()
        writers = [
            await stack.enter_async_context(
                _subscriber(root, plan, f"s{n}", start, history, random.Random(plan.seed + n))
            )
            for n in range(plan.subscribers)
        ]
        clients = [
            StormClient(
                name=f"c{n}",
                paths=paths,
                destination=plan.driver,
                scope=plan.uri,
                document=plan.document,
                history=history,
                dice=random.Random(plan.seed * 1000 + n),
                guests=[
                    Guest(f"storm-{n}-{g}", uuid.UUID(int=dice.getrandbits(128), version=4))
                    for g in range(plan.guests_per_client)
                ],
                pause_s=plan.client_pause_s,
            )
            for n in range(plan.clients)
        ]
        stop = asyncio.Event()
        weather = Weather(paths, plan.roles, plan.kills, dice, plan.pause_s)
        memory: list[dict[str, int]] = []
        async with asyncio.TaskGroup() as group:
            for client in clients:
                group.create_task(client.run(stop))
            sampler = group.create_task(_sample(paths, ("broker", plan.driver), memory))
            try:
                await weather.run(plan.limit_s)
            finally:
                stop.set()
                sampler.cancel()
        async with asyncio.timeout(SETTLE_S):
            history.final = await list_states(watcher, plan.driver, plan.uri)
            head = await watcher.head()
            await _caught_up(history, writers, head)
        async for cursor, body in watcher.replay(start):
            history.journal.append(happening_of(event_from_record(cursor, body)))
    # what came after the last look belongs to nobody: all clients had stopped
    history.journal = [h for h in history.journal if (h.generation, h.offset) <= tuple(head)]
    for name, seen in history.subscribers.items():
        history.subscribers[name] = [h for h in seen if (h.generation, h.offset) <= tuple(head)]
    history.write(record)
    return Outcome(
        history,
        dict(weather.done),
        sum(client.calls for client in clients),
        [text for client in clients for text in client.reads_failed],
        memory,
        time.monotonic() - begin,
    )


class _subscriber:  # noqa: N801 - used like a function
    """A subscriber as any user would write one, for as long as the block lasts."""

    def __init__(self, root: Path, plan: Plan, name: str, after: Cursor, history: History, dice: random.Random) -> None:
        self._root, self._plan, self._after, self._dice = root, plan, after, dice
        self.seen: list[Happening] = history.subscribers.setdefault(name, [])
        self.task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> _subscriber:
        self.task = asyncio.create_task(self._listen())
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self.task is not None
        self.task.cancel()
        await asyncio.wait({self.task})

    async def _listen(self) -> None:
        async with virtroupe.connect(self._plan.uri, root=self._root) as conn, conn.events(after=self._after) as stream:
            # now and then one is slow: it must find its place in the journal again
            await write_down(stream, self.seen, lambda: 0.5 if self._dice.random() < 0.002 else 0.0)


async def _caught_up(history: History, writers: Sequence[_subscriber], head: Cursor) -> None:
    last = await _last_before(history, head)
    while True:
        for writer in writers:
            if writer.task is not None and writer.task.done():
                writer.task.result()
                raise AssertionError("a subscriber's stream ended")
        if all(w.seen and (w.seen[-1].generation, w.seen[-1].offset) >= last for w in writers):
            return
        await asyncio.sleep(0.1)


async def _last_before(history: History, head: Cursor) -> tuple[int, int]:
    """Streams of one connection see its own scope's driver; the last record that anybody saw is what all must reach."""
    await asyncio.sleep(1.0)
    return max(
        (
            (seen[-1].generation, seen[-1].offset)
            for seen in history.subscribers.values()
            if seen and (seen[-1].generation, seen[-1].offset) <= tuple(head)
        ),
        default=(0, 0),
    )


async def _sample(paths: Paths, roles: Sequence[str], into: list[dict[str, int]]) -> None:
    while True:
        await asyncio.sleep(1.0)
        into.append({role: rss_kib(pid) if (pid := pid_of_role(paths, role)) else 0 for role in roles})
