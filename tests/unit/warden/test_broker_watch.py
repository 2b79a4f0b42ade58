"""When silence of the broker counts."""

from __future__ import annotations

from warden.broker_watch import BrokerWatch


def test_a_broker_that_answered_and_then_does_not_hangs() -> None:
    watch = BrokerWatch(4.0)
    watch.answered(10, 100.0)
    assert not watch.silent(10, 102.5)
    assert not watch.silent(10, 103.9)
    assert watch.silent(10, 104.1)


def test_an_answer_ends_the_silence() -> None:
    watch = BrokerWatch(4.0)
    watch.answered(10, 100.0)
    assert not watch.silent(10, 103.0)
    watch.answered(10, 104.0)
    assert not watch.silent(10, 107.0)
    assert watch.silent(10, 108.5)


def test_one_unanswered_question_after_a_long_time_is_no_silence() -> None:
    watch = BrokerWatch(4.0)
    watch.answered(10, 100.0)
    assert not watch.silent(10, 160.0)
    assert watch.silent(10, 162.5)


def test_a_broker_that_begins_is_left_alone() -> None:
    watch = BrokerWatch(4.0)
    assert not watch.silent(10, 100.0)
    assert not watch.silent(10, 200.0)
    watch.answered(10, 201.0)
    assert not watch.silent(0, 300.0)
    assert not watch.silent(11, 300.0)
    assert not watch.silent(11, 400.0)
