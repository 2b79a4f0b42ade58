"""The crash budget."""

import pytest

from warden.budget import Budget


def budget(crashes: int = 3, period_s: float = 30.0, first_s: float = 0.0, most_s: float = 5.0) -> Budget:
    return Budget(crashes, period_s, first_s, most_s, lambda: 1.0)


def test_an_actor_that_served_is_started_again_at_once() -> None:
    spent = budget()
    assert [spent.crash(float(now), was_ready=True) for now in (0, 10, 20)] == [0.0, 0.0, 0.0]


def test_one_crash_more_than_the_budget_is_too_much() -> None:
    spent = budget(crashes=3)
    assert [spent.crash(now, was_ready=True) for now in (0.0, 1.0, 2.0, 3.0)] == [0.0, 0.0, 0.0, None]
    assert spent.count == 4


def test_crashes_of_an_older_period_do_not_count() -> None:
    spent = budget(crashes=2, period_s=10.0)
    assert spent.crash(0.0, was_ready=True) == 0.0
    assert spent.crash(1.0, was_ready=True) == 0.0
    assert spent.crash(10.5, was_ready=True) == 0.0, "the first is forgotten"
    assert spent.crash(10.9, was_ready=True) is None, "the second is not"


def test_vain_starts_wait_longer_each_time_up_to_the_most() -> None:
    spent = budget(crashes=100, most_s=0.2)
    waits = [spent.crash(float(now), was_ready=False) for now in range(8)]
    assert waits == [0.0, 0.02, 0.04, 0.08, 0.16, 0.2, 0.2, 0.2]


def test_the_wait_has_jitter() -> None:
    low = Budget(9, 30.0, 0.0, 5.0, lambda: 0.0)
    low.crash(0.0, was_ready=False)
    assert low.crash(1.0, was_ready=False) == pytest.approx(0.01)


def test_a_process_that_was_ready_ends_the_row_of_vain_starts() -> None:
    spent = budget(crashes=100)
    for now in range(5):
        spent.crash(float(now), was_ready=False)
    assert spent.crash(5.0, was_ready=True) == 0.0
    assert spent.crash(6.0, was_ready=False) == 0.0


def test_a_row_of_vain_starts_spends_the_budget_however_slow_it_is() -> None:
    spent = budget(crashes=3, period_s=1.0)
    assert [spent.crash(now * 100.0, was_ready=False) is None for now in range(4)] == [False, False, False, True]


def test_reset_forgives_everything() -> None:
    spent = budget(crashes=1)
    spent.crash(0.0, was_ready=False)
    assert spent.crash(0.1, was_ready=False) is None
    spent.reset()
    assert spent.count == 0
    assert spent.crash(0.2, was_ready=False) == 0.0


def test_what_a_warden_before_counted_still_counts() -> None:
    spent = Budget(2, 30.0, 0.0, 5.0, lambda: 1.0, [100.0, 101.0])
    assert spent.crash(102.0, was_ready=True) is None
