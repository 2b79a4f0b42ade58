"""What is proved complete, what is passed over, and what costs a replay."""

from __future__ import annotations

import pytest

from broker.wire import Cursor, Position, Published
from client.continuity import RECORD_HEADER_LENGTH, Continuity, Verdict

LENGTH = 92
STEP = LENGTH + RECORD_HEADER_LENGTH


def event(offset: int, seq: int, generation: int = 1) -> Position:
    return Position(generation, offset, 1, seq, Published.EVENT)


def alive(offset: int, seq: int, generation: int = 1) -> Position:
    return Position(generation, offset, 1, seq, Published.ALIVE)


def test_of_all_sources_a_record_follows_where_the_last_one_ended() -> None:
    progress = Continuity(Cursor(1, 1000), None)
    assert progress.judge("test", event(1000 + STEP, 7), LENGTH) is Verdict.DELIVER
    assert progress.judge("qemu", event(1000 + 2 * STEP, 3), LENGTH) is Verdict.DELIVER
    assert progress.cursor == Cursor(1, 1000 + 2 * STEP)
    assert progress.judge("test", event(1000 + 4 * STEP, 8), LENGTH) is Verdict.GAP
    assert progress.cursor == Cursor(1, 1000 + 2 * STEP)


def test_of_one_source_numbers_follow_each_other() -> None:
    progress = Continuity(Cursor(1, 1000), "test")
    assert progress.judge("test", event(5000, 7), LENGTH) is Verdict.GAP  # nothing is known of the number yet
    progress.seen(Cursor(1, 5000), 7)
    assert progress.judge("qemu", event(6000, 1), LENGTH) is Verdict.SKIP
    assert progress.judge("test", event(7000, 8), LENGTH) is Verdict.DELIVER
    assert progress.judge("test", event(8000, 10), LENGTH) is Verdict.GAP


@pytest.mark.parametrize("source", ["test", None])
def test_what_was_seen_already_is_passed_over(source: str | None) -> None:
    progress = Continuity(Cursor(1, 1000), source)
    progress.seen(Cursor(1, 5000), 7)
    assert progress.judge("test", event(5000, 7), LENGTH) is Verdict.SKIP
    assert progress.judge("test", event(4900, 6), LENGTH) is Verdict.SKIP
    assert progress.cursor == Cursor(1, 5000)


@pytest.mark.parametrize("source", ["test", None])
@pytest.mark.parametrize("position", [event(STEP, 8, 2), alive(0, 7, 2), event(5000 + STEP, 8, 2)])
def test_another_generation_is_a_gap(source: str | None, position: Position) -> None:
    progress = Continuity(Cursor(1, 5000), source)
    progress.seen(Cursor(1, 5000), 7)
    assert progress.judge("test", position, LENGTH) is Verdict.GAP


def test_a_sign_of_life_beyond_the_cursor_is_a_gap_for_all_sources() -> None:
    progress = Continuity(Cursor(1, 1000), None)
    assert progress.judge("test", alive(1000, 7), 0) is Verdict.SKIP
    assert progress.judge("test", alive(1000 + STEP, 8), 0) is Verdict.GAP


def test_a_sign_of_life_promises_a_number_to_one_source() -> None:
    progress = Continuity(Cursor(1, 1000), "test")
    progress.seen(Cursor(1, 1000), 7)
    assert progress.judge("test", alive(1000, 7), 0) is Verdict.SKIP
    assert progress.judge("test", alive(9000, 8), 0) is Verdict.GAP
    assert progress.cursor == Cursor(1, 1000)


def test_a_silent_source_moves_on_with_the_journal() -> None:
    progress = Continuity(Cursor(1, 1000), "test")
    progress.seen(Cursor(1, 1000), 7)
    assert progress.judge("test", alive(9000, 7), 0) is Verdict.SKIP
    assert progress.cursor == Cursor(1, 9000)


def test_a_replay_reaches_the_head_even_when_it_held_nothing_for_us() -> None:
    progress = Continuity(Cursor(1, 1000), None)
    progress.replayed(Cursor(1, 9000))
    assert progress.cursor == Cursor(1, 9000)
    assert progress.judge("test", event(9000 + STEP, 8), LENGTH) is Verdict.DELIVER
    progress.replayed(Cursor(1, 2000))
    assert progress.cursor == Cursor(1, 9000 + STEP)
    progress.replayed(Cursor(2, 0))
    assert progress.cursor == Cursor(2, 0)


def test_a_promise_is_kept_by_the_replay_that_follows_it() -> None:
    progress = Continuity(Cursor(1, 1000), "test")
    assert progress.judge("test", alive(9000, 5), 0) is Verdict.GAP
    progress.replayed(Cursor(1, 9000))  # number 5 lies before the cursor that the stream began with
    assert progress.judge("test", alive(9000, 5), 0) is Verdict.SKIP
    assert progress.judge("test", event(9000 + STEP, 6), LENGTH) is Verdict.DELIVER


def test_a_change_of_state_is_no_event() -> None:
    progress = Continuity(Cursor(1, 1000), None)
    assert progress.judge("test", Position(2, 99, 1, 9, Published.STATE), 5) is Verdict.SKIP


def test_after_a_restart_nothing_is_assumed() -> None:
    progress = Continuity(Cursor(1, 1000), "test")
    progress.seen(Cursor(1, 5000), 7)
    progress.restart(Cursor(2, 300))
    assert progress.cursor == Cursor(2, 300)
    assert progress.judge("test", event(300 + STEP, 8, 2), LENGTH) is Verdict.GAP
