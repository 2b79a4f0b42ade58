"""The event stream against a journal in memory: nothing missing, nothing twice, nothing out of order."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from broker.wire import Cursor
from client import events
from client.event import Event, KnownObject, Resync
from client.events import EventStream, cursor_from
from client.snapshot import Snapshot
from schema.errors import Busy, DeadlinePassed, InvalidArguments, NotRegistered
from tests.fakes.link import QUEUE, FakeJournal, FakeLink, records_of

UUID_BYTES = bytes(range(16))
KNOWN = KnownObject("test", "domain", UUID_BYTES, "web1", 7, {"state": 1})


@pytest.fixture(autouse=True)
def _soon_quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "QUIET_S", 0.01)


async def a_snapshot() -> Snapshot:
    return Snapshot([KNOWN], ["qemu"])


def stream_of(
    link: FakeLink,
    *,
    after: Cursor | None = None,
    sources: Collection[str] | None = ("test",),
    snapshot: Callable[[], Awaitable[Snapshot]] = a_snapshot,
    scope: str | None = None,
    kinds: Collection[str] | None = None,
    objects: Collection[str | bytes] | None = None,
) -> EventStream:
    return EventStream(
        link,
        link.listen,
        snapshot,
        after=after,
        sources=sources,
        scope=scope,
        kinds=kinds,
        objects=objects,
    )


async def take(stream: EventStream, count: int) -> list[Event | Resync]:
    async with asyncio.timeout(5):
        return [await anext(stream) for _ in range(count)]


async def nothing_comes(stream: EventStream) -> bool:
    try:
        async with asyncio.timeout(0.1):
            await anext(stream)
    except TimeoutError:
        return True
    return False


def told(items: list[Event | Resync]) -> list[tuple[str, int]]:
    return [(item.source, item.seq) for item in items if isinstance(item, Event)]


async def test_without_a_cursor_it_begins_now() -> None:
    link = FakeLink()
    link.journal.append("test")
    async with stream_of(link) as stream:
        later = [link.journal.append("test") for _ in range(3)]
        assert told(await take(stream, 3)) == records_of(later)
        assert await nothing_comes(stream)


async def test_with_a_cursor_it_replays_and_then_goes_on_live() -> None:
    link = FakeLink()
    first = link.journal.append("test")
    before = [link.journal.append("test") for _ in range(7)]
    async with stream_of(link, after=first.cursor) as stream:
        assert told(await take(stream, 7)) == records_of(before)
        live = [link.journal.append("test") for _ in range(3)]
        assert told(await take(stream, 3)) == records_of(live)
        assert stream.cursor == live[-1].cursor
        assert link.journal.replays == 1


async def test_an_event_tells_where_to_go_on() -> None:
    link = FakeLink()
    kept = [link.journal.append("test") for _ in range(6)]
    async with stream_of(link, after=Cursor(1, 0)) as stream:
        second = (await take(stream, 2))[1]
    async with stream_of(link, after=second.cursor) as again:
        assert told(await take(again, 4)) == records_of(kept[2:])


@pytest.mark.parametrize("sources", [("test",), ("test", "qemu"), None])
async def test_a_dropped_message_is_fetched_from_the_journal(sources: tuple[str, ...] | None) -> None:
    link = FakeLink()
    async with stream_of(link, sources=sources) as stream:
        one = link.journal.append("test")
        assert told(await take(stream, 1)) == records_of([one])
        link.journal.dropping = 2
        kept = [link.journal.append("test") for _ in range(4)]
        assert told(await take(stream, 4)) == records_of(kept)
        assert link.journal.replays >= 1


async def test_a_dropped_tail_is_noticed_by_the_next_sign_of_life() -> None:
    link = FakeLink()
    async with stream_of(link) as stream:
        link.journal.append("test")
        await take(stream, 1)
        link.journal.dropping = 1
        lost = link.journal.append("test")
        link.journal.alive("test")
        assert told(await take(stream, 1)) == records_of([lost])


async def test_a_dropped_tail_is_noticed_even_when_nobody_speaks() -> None:
    link = FakeLink()
    async with stream_of(link) as stream:
        link.journal.dropping = 1
        lost = link.journal.append("test")
        assert told(await take(stream, 1)) == records_of([lost])


async def test_a_message_of_another_source_hides_no_hole() -> None:
    link = FakeLink()
    async with stream_of(link, sources=("test", "qemu")) as stream:
        link.journal.dropping = 1
        kept = [link.journal.append("test"), link.journal.append("qemu"), link.journal.append("test")]
        assert told(await take(stream, 3)) == records_of(kept)


async def test_a_slow_consumer_loses_nothing_and_nothing_piles_up() -> None:
    link = FakeLink()
    async with stream_of(link) as stream:
        kept = [link.journal.append("test") for _ in range(10 * QUEUE)]
        subscription = link.journal.listeners[0]
        assert len(subscription.queue) == QUEUE
        assert subscription.dropped == 9 * QUEUE
        assert told(await take(stream, len(kept))) == records_of(kept)
        assert await nothing_comes(stream)


async def test_history_that_is_gone_yields_a_resync_and_then_what_follows() -> None:
    link = FakeLink()
    kept = [link.journal.append("test") for _ in range(5)]
    link.journal.forget(3)
    async with stream_of(link, after=kept[0].cursor) as stream:
        resync = (await take(stream, 1))[0]
        assert isinstance(resync, Resync)
        assert resync.cursor == kept[-1].cursor
        assert resync.lost == (kept[0].cursor, kept[-1].cursor)
        assert resync.domains == [KNOWN]
        assert resync.unknown == ["qemu"]
        later = link.journal.append("test")
        assert told(await take(stream, 1)) == records_of([later])


async def test_what_happens_during_the_snapshot_is_told_after_the_resync() -> None:
    link = FakeLink()
    old = link.journal.append("test")
    link.journal.append("test")
    link.journal.forget(2)
    meanwhile = []

    async def slow_snapshot() -> Snapshot:
        meanwhile.append(link.journal.append("test"))
        return Snapshot([KNOWN])

    async with stream_of(link, after=Cursor(1, old.cursor.offset - 1), snapshot=slow_snapshot) as stream:
        resync, event = await take(stream, 2)
        assert isinstance(resync, Resync)
        assert told([event]) == records_of(meanwhile)


@pytest.mark.parametrize("sources", [("test",), None])
async def test_a_new_generation_whose_tail_was_lost_yields_a_resync(sources: tuple[str, ...] | None) -> None:
    link = FakeLink()
    async with stream_of(link, sources=sources) as stream:
        link.journal.append("test")
        await take(stream, 1)
        link.journal.append("test")
        link.journal.lose_tail(1)
        after = link.journal.append("test")
        published, resync = await take(stream, 2)
        assert told([published]) == [("test", 2)]  # it had been published before the crash
        assert isinstance(resync, Resync)
        assert resync.cursor == after.cursor
        assert resync.lost[0].generation == 1
        later = link.journal.append("test")
        assert told(await take(stream, 1)) == records_of([later])


async def test_a_failed_snapshot_is_tried_again_by_the_next_step() -> None:
    link = FakeLink()
    kept = [link.journal.append("test") for _ in range(3)]
    link.journal.forget(2)
    tries = []

    async def unreliable() -> Snapshot:
        tries.append(1)
        if len(tries) == 1:
            raise ConnectionError("gone")
        return Snapshot([KNOWN])

    async with stream_of(link, after=Cursor(1, 1), snapshot=unreliable) as stream:
        with pytest.raises(ConnectionError):
            await anext(stream)
        resync = (await take(stream, 1))[0]
        assert isinstance(resync, Resync)
        assert resync.cursor == kept[-1].cursor


@pytest.mark.parametrize("sources", [("test",), None])
async def test_a_stream_waits_for_an_agent_that_is_down(
    sources: tuple[str, ...] | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(events, "AGAIN_S", 0.001)
    link = FakeLink()
    async with stream_of(link, sources=sources) as stream:
        link.troubles = [DeadlinePassed("no broker"), Busy(0.1), DeadlinePassed("no broker"), Busy(0.1)]
        link.journal.dropping = 1
        kept = link.journal.append("test")
        assert told(await take(stream, 1)) == records_of([kept])
        assert link.troubles == []


async def test_a_stream_whose_connection_is_closed_ends_in_an_error_not_in_a_cancellation(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(events, "QUIET_S", 5.0)
    link = FakeLink()
    async with stream_of(link) as stream:
        waiting = asyncio.ensure_future(anext(stream))
        await asyncio.sleep(0.01)
        await link.aclose()
        with pytest.raises(NotRegistered):
            await waiting


async def test_a_stream_that_begins_without_an_agent_says_so() -> None:
    link = FakeLink()
    link.troubles = [DeadlinePassed("no broker")]
    with pytest.raises(DeadlinePassed):
        async with stream_of(link):
            pass
    assert link.journal.listeners == []


async def test_a_cancelled_step_loses_nothing_live() -> None:
    link = FakeLink()
    async with stream_of(link) as stream:
        for _ in range(3):
            waiting = asyncio.ensure_future(anext(stream))
            await asyncio.sleep(0.002)
            waiting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiting
        kept = [link.journal.append("test") for _ in range(3)]
        assert told(await take(stream, 3)) == records_of(kept)


@pytest.mark.parametrize("turns", range(1, 12))
async def test_a_step_cancelled_anywhere_in_a_replay_loses_nothing(turns: int) -> None:
    link = FakeLink()
    kept = [link.journal.append("test") for _ in range(9)]
    async with stream_of(link, after=Cursor(1, 0)) as stream:
        got = []
        while len(got) < len(kept):
            waiting = asyncio.ensure_future(anext(stream))
            for _ in range(turns):
                await asyncio.sleep(0)
            if not waiting.done() and len(got) % 2 == 0:
                waiting.cancel()
            try:
                got.append(await waiting)
            except asyncio.CancelledError:
                got += await take(stream, 1)
        assert told(got) == records_of(kept)


async def test_two_tasks_may_not_wait_at_once() -> None:
    link = FakeLink()
    async with stream_of(link) as stream:
        waiting = asyncio.ensure_future(anext(stream))
        await asyncio.sleep(0)
        with pytest.raises(RuntimeError, match="Another task"):
            await anext(stream)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting


async def test_a_closed_stream_ends_and_listens_no_more() -> None:
    link = FakeLink()
    stream = stream_of(link)
    async with stream:
        assert len(link.journal.listeners) == 1
    assert link.journal.listeners == []
    assert [item async for item in stream] == []


async def test_filters_pass_over_what_is_not_asked_for_and_the_cursor_moves_on() -> None:
    link = FakeLink()
    about = ["domain", UUID_BYTES, "web1"]
    async with stream_of(link, scope="test:///default", kinds={"domain_event_lifecycle"}, objects={"web1"}) as stream:
        for scope, kind, what in (
            ("test:///other.xml", "domain_event_lifecycle", about),
            ("test:///default", "changed", about),
            ("test:///default", "domain_event_lifecycle", ["domain", b"y" * 16, "web2"]),
            ("test:///default", "domain_event_lifecycle", None),
        ):
            link.journal.append("test", kind, scope=scope, about=what)
        wanted = link.journal.append("test", "domain_event_lifecycle", scope="test:///default", about=about)
        event = (await take(stream, 1))[0]
        assert isinstance(event, Event)
        assert event.seq == wanted.seq
        assert event.object is not None and event.object.uuid is not None and event.object.name == "web1"
        last = link.journal.append("test", "changed", scope="test:///default")
        assert await nothing_comes(stream)
        assert stream.cursor == last.cursor


async def test_an_object_is_found_by_its_uuid_as_well() -> None:
    link = FakeLink()
    async with stream_of(link, objects={UUID_BYTES}) as stream:
        link.journal.append("test", about=["domain", b"z" * 16, "web1"])
        wanted = link.journal.append("test", about=["domain", UUID_BYTES, "renamed"])
        assert told(await take(stream, 1)) == records_of([wanted])


async def test_a_silent_source_does_not_hold_the_cursor_where_the_journal_forgets() -> None:
    link = FakeLink()
    async with stream_of(link, sources=("qemu",)) as stream:
        link.journal.append("qemu")
        await take(stream, 1)
        for _ in range(5):
            link.journal.append("test")
        link.journal.alive("qemu")
        assert await nothing_comes(stream)
        assert stream.cursor == link.journal.head
        link.journal.forget(6)
        later = link.journal.append("qemu")
        assert told(await take(stream, 1)) == records_of([later])


def test_a_cursor_is_taken_as_text_too() -> None:
    assert cursor_from("3:17") == cursor_from("3:17\n") == Cursor(3, 17)
    assert cursor_from(Cursor(3, 17)) == Cursor(3, 17)
    assert cursor_from(None) is None
    with pytest.raises(InvalidArguments, match="'yesterday' is not a cursor"):
        cursor_from("yesterday")


STEPS = st.one_of(
    st.tuples(st.just("append"), st.sampled_from(["test", "qemu", "cpu"])),
    st.tuples(st.just("drop"), st.integers(1, 5)),
    st.tuples(st.just("alive"), st.sampled_from(["test", "qemu"])),
    st.tuples(st.just("read"), st.integers(1, 4)),
    st.tuples(st.just("interrupt"), st.integers(0, 8)),
    st.tuples(st.just("reconnect"), st.just(0)),
)


@settings(max_examples=150, deadline=None)
@given(steps=st.lists(STEPS, max_size=50), sources=st.sampled_from([("test",), ("test", "qemu"), None]))
def test_whatever_is_dropped_interrupted_or_reopened_the_history_is_the_journal(
    steps: list[tuple[str, int | str]], sources: tuple[str, ...] | None
) -> None:
    async def play() -> None:
        link = FakeLink()
        link.journal.append("test")
        got: list[tuple[str, int]] = []

        def expected() -> list[tuple[str, int]]:
            return records_of(kept for kept in link.journal.kept[1:] if sources is None or kept.source in sources)

        stream = stream_of(link, sources=sources)
        await stream.start()
        for step, value in steps:
            match step, value:
                case "append", str(source):
                    link.journal.append(source)
                case "drop", int(count):
                    link.journal.dropping = count
                case "alive", str(source):
                    link.journal.alive(source)
                case "read", int(count):
                    for _ in range(min(count, len(expected()) - len(got))):
                        got += told(await take(stream, 1))
                case "interrupt", int(turns):
                    await _interrupted(stream, turns, got)
                case "reconnect", _:
                    cursor = stream.cursor
                    await stream.aclose()
                    stream = stream_of(link, sources=sources, after=cursor)
                    await stream.start()
        while len(got) < len(expected()):
            got += told(await take(stream, 1))
        assert got == expected()
        await stream.aclose()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(events, "QUIET_S", 0.001)
        asyncio.run(play())


async def _interrupted(stream: EventStream, turns: int, got: list[tuple[str, int]]) -> None:
    waiting = asyncio.ensure_future(anext(stream))
    for _ in range(turns):
        await asyncio.sleep(0)
    waiting.cancel()
    try:
        got += told([await waiting])
    except asyncio.CancelledError:
        pass


def test_the_fake_journal_drops_and_forgets_as_told() -> None:
    journal = FakeJournal()
    journal.append("test")
    journal.append("test")
    journal.forget(1)
    assert journal.begin == journal.kept[0].cursor.offset - len(journal.kept[0].record) - 8
