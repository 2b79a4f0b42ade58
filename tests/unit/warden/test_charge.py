"""What the warden does about one actor."""

from __future__ import annotations

import pytest

from schema.errors import DriverDegraded, DriverStopped
from warden.budget import Budget
from warden.charge import SLOT_WAIT_S, SPARE_PAUSE_S, Charge
from warden.deeds import KILL_WAIT_S, STOP_WAIT_S, Kill, Look, Phase, Start, Stop, Tell
from warden.slots import Held

TIMEOUT_S = 30.0
EXIT = "ended with exit status 1"


def charge(crashes: int = 3, spares: bool = False) -> Charge:
    return Charge("test", Budget(crashes, 30.0, 0.0, 5.0, lambda: 1.0), TIMEOUT_S, spares)


def running(now: float = 0.0, pid: int = 100, epoch: int = 7, crashes: int = 3) -> Charge:
    one = charge(crashes)
    one.ensure(now)
    one.spawned(now, 0, pid)
    one.seen(now, pid, epoch, True)
    one.deeds()
    return one


def orders(one: Charge) -> list[object]:
    return [deed for deed in one.deeds() if not isinstance(deed, Tell)]


def told(one: Charge) -> list[str]:
    return [deed.state for deed in one.deeds() if isinstance(deed, Tell)]


def test_the_first_call_starts_it_and_the_second_changes_nothing() -> None:
    one = charge()
    one.ensure(0.0)
    assert one.deeds() == [Start(0), Tell("starting", "", None)]
    one.ensure(0.1)
    one.spawned(0.2, 0, 100)
    one.ensure(0.3)
    assert orders(one) == []
    assert (one.pid, one.slot, one.state) == (100, 0, "starting")
    one.seen(0.4, 100, 7, True)
    assert one.state == "ready"


def test_a_dead_one_is_started_at_once_in_its_other_slot() -> None:
    one = running()
    one.died(10.0, 100, Held.EXITED, EXIT)
    assert orders(one) == [Start(1)]
    one.spawned(10.1, 1, 101)
    one.died(20.0, 101, Held.EXITED, EXIT)
    assert orders(one) == [Start(0)]
    assert one.crashes == 2


def test_a_death_is_counted_once() -> None:
    one = running()
    one.died(10.0, 100, Held.EXITED, EXIT)
    one.died(10.0, 100, Held.EXITED, EXIT)
    assert orders(one) == [Start(1)]
    assert one.crashes == 1


def test_the_slot_of_a_process_that_is_not_reaped_is_not_used() -> None:
    one = running()
    one.died(10.0, 100, Held.UNKNOWN, EXIT)
    one.deeds()
    one.spawned(10.1, 1, 101)
    one.died(20.0, 101, Held.EXITED, EXIT)
    assert orders(one) == [Start(1)]


def test_it_waits_when_both_slots_are_held_and_goes_on_when_one_is_free() -> None:
    one = running()
    one.slots.note(1, Held.UNKNOWN)
    one.died(10.0, 100, Held.UNKNOWN, EXIT)
    assert orders(one) == [Look()], "what supervisord told before may have been missed"
    assert one.phase is Phase.WAITING
    assert "both slots" in one.why
    one.tick(10.0 + SLOT_WAIT_S)
    assert one.deeds() == [Look()], "the reason is told once"
    one.freed(0, Held.EXITED)
    one.tick(10.1 + SLOT_WAIT_S * 2)
    assert orders(one) == [Start(0)]


def test_a_crash_loop_waits_longer_and_then_degrades_with_its_reason() -> None:
    one = charge(crashes=2)
    one.ensure(0.0)
    one.spawned(0.0, 0, 1)
    one.deeds()
    one.died(0.1, 1, Held.EXITED, EXIT)
    assert orders(one) == [Start(1)], "the first time at once"
    one.spawned(0.1, 1, 2)
    one.died(0.2, 2, Held.EXITED, EXIT)
    assert orders(one) == []
    assert one.state == "restarting"
    due = one.due_at()
    assert due is not None
    assert due > 0.2
    one.tick(due)
    assert orders(one) == [Start(0)]
    one.spawned(due, 0, 3)
    one.died(due + 0.1, 3, Held.EXITED, EXIT)
    assert one.phase is Phase.DEGRADED
    *_, tell = [deed for deed in one.deeds() if isinstance(deed, Tell)]
    assert tell.state == "degraded"
    assert EXIT in tell.why
    assert "3 crashes" in tell.why
    with pytest.raises(DriverDegraded, match="exit status 1"):
        one.ensure(5.0)


def test_reset_tries_a_degraded_one_again_with_a_full_budget() -> None:
    one = charge(crashes=1)
    one.ensure(0.0)
    for pid in (1, 2):
        one.spawned(0.0, pid - 1, pid)
        one.died(1.0, pid, Held.EXITED, EXIT)
    assert one.phase is Phase.DEGRADED
    one.deeds()
    one.reset(2.0)
    assert len(orders(one)) == 1
    one.spawned(2.0, 0, 3)
    one.died(3.0, 3, Held.EXITED, EXIT)
    assert one.phase is Phase.SPAWNING, "one crash is allowed again"


def test_reset_of_a_healthy_one_leaves_its_process_alone() -> None:
    one = running()
    one.reset(1.0)
    assert orders(one) == []
    assert one.pid == 100


def test_a_stopped_one_is_disabled_until_somebody_starts_it() -> None:
    one = running()
    one.stop(1.0)
    assert orders(one) == [Stop(0)]
    assert one.state == "disabled"
    with pytest.raises(DriverStopped):
        one.ensure(1.0)
    one.died(1.1, 100, Held.STOPPED, EXIT)
    assert one.phase is Phase.DISABLED
    with pytest.raises(DriverStopped):
        one.ensure(2.0)
    one.reset(2.0)
    assert orders(one) == [], "reset is for crashes"
    one.start(3.0)
    assert orders(one) == [Start(1)]
    assert one.crashes == 0


def test_an_operator_at_supervisorctl_is_obeyed_too() -> None:
    one = running()
    one.stopping(1.0, 0, 100)
    assert told(one) == ["disabled"]
    one.died(1.1, 100, Held.STOPPED, EXIT)
    assert one.phase is Phase.DISABLED
    one.spawned(2.0, 0, 101)
    assert one.phase is Phase.UP
    assert one.pid == 101


def test_a_stop_is_recognised_even_when_its_notice_comes_late() -> None:
    one = running()
    one.died(1.1, 100, Held.STOPPED, EXIT)
    assert one.phase is Phase.DISABLED
    assert orders(one) == []


def test_our_own_stop_is_not_taken_for_an_operators() -> None:
    one = running()
    one.restart(1.0)
    assert orders(one) == [Stop(0)]
    one.stopping(1.0, 0, 100)
    assert one.state == "restarting"
    one.died(1.1, 100, Held.STOPPED, EXIT)
    assert orders(one) == [Start(1)]
    assert one.crashes == 0


def test_a_restart_of_what_does_not_run_starts_it() -> None:
    one = charge()
    one.restart(0.0)
    assert orders(one) == [Start(0)]


def test_a_start_during_a_stop_starts_it_after_its_end() -> None:
    one = running()
    one.stop(1.0)
    one.start(1.1)
    assert one.state == "restarting"
    one.died(1.2, 100, Held.STOPPED, EXIT)
    assert orders(one) == [Stop(0), Start(1)]


def test_a_stop_before_the_process_is_there_ends_it_when_it_is() -> None:
    one = charge()
    one.ensure(0.0)
    one.stop(0.0)
    assert orders(one) == [Start(0), Stop(0)]
    one.spawned(0.1, 0, 100)
    assert one.pid == 100
    one.died(0.2, 100, Held.STOPPED, EXIT)
    assert one.phase is Phase.DISABLED


def test_what_cannot_be_started_counts_as_a_crash() -> None:
    one = charge(crashes=1)
    one.ensure(0.0)
    one.not_spawned(0.1, 0, "no such file")
    assert orders(one)[-1] == Start(1)
    one.not_spawned(0.2, 1, "no such file")
    assert one.phase is Phase.DEGRADED
    assert "no such file" in one.why


def test_a_hung_one_is_killed_by_its_epoch_and_replaced() -> None:
    one = running(epoch=7)
    one.hung(5.0, 7, "no progress")
    assert orders(one) == [Kill(100)]
    assert one.state == "restarting"
    one.died(5.01, 100, Held.EXITED, EXIT)
    assert orders(one) == [Start(1)]
    assert one.crashes == 1


def test_a_hang_of_an_older_epoch_kills_nobody() -> None:
    one = running(epoch=7)
    one.hung(5.0, 6, "no progress")
    one.gone(5.0, 99, 6)
    assert orders(one) == []


def test_a_hang_of_an_epoch_not_seen_yet_kills_the_process_that_the_broker_names() -> None:
    one = charge()
    one.ensure(0.0)
    one.spawned(0.0, 0, 100)
    one.hung(5.0, 7, "no progress")
    assert orders(one) == [Start(0)]
    one.gone(5.0, 99, 7)
    assert orders(one) == [], "another process had that epoch"
    one.gone(5.0, 100, 7)
    assert orders(one) == [Kill(100)]


def test_one_that_cannot_die_is_left_behind_in_its_slot() -> None:
    one = running()
    one.hung(5.0, 7, "no progress")
    one.deeds()
    one.tick(5.0 + KILL_WAIT_S / 2)
    assert orders(one) == []
    one.tick(5.1 + KILL_WAIT_S)
    assert orders(one) == [Start(1)]
    one.spawned(6.0, 1, 101)
    one.died(7.0, 100, Held.EXITED, EXIT)
    assert one.pid == 101, "the late end of the old process is not the new one's"
    one.died(8.0, 101, Held.EXITED, EXIT)
    assert orders(one) == [Start(1)], "slot 0 is held until supervisord says otherwise"


def test_one_that_does_not_stop_is_left_behind_too() -> None:
    one = running()
    one.stop(1.0)
    one.deeds()
    one.tick(1.1 + STOP_WAIT_S)
    assert one.phase is Phase.DISABLED


def test_one_that_never_gets_ready_is_killed() -> None:
    one = charge()
    one.ensure(0.0)
    one.spawned(0.0, 0, 100)
    one.deeds()
    assert one.due_at() == TIMEOUT_S
    one.tick(TIMEOUT_S)
    assert orders(one) == []
    one.tick(TIMEOUT_S + 0.1)
    assert orders(one) == [Kill(100)]
    one.died(TIMEOUT_S + 0.2, 100, Held.EXITED, EXIT)
    assert "did not get ready" in one.why


def test_one_that_lost_the_broker_has_the_start_timeout_to_come_back() -> None:
    one = running()
    one.seen(100.0, 0, 0, False)
    one.tick(101.0)
    assert orders(one) == []
    one.seen(110.0, 100, 7, True)
    one.tick(200.0)
    assert orders(one) == []
    assert one.is_ready


def test_too_much_memory_stops_it_in_order_and_counts_as_a_crash() -> None:
    one = running()
    one.outgrew(10.0, "it held 2 MiB of memory, 1 are allowed")
    assert orders(one) == [Stop(0)]
    one.died(10.5, 100, Held.STOPPED, EXIT)
    assert orders(one) == [Start(1)]
    assert one.crashes == 1
    assert "memory" in one.why


def test_an_idle_one_is_stopped_and_the_next_call_starts_it() -> None:
    one = running()
    one.idle(10.0)
    assert orders(one) == [Stop(0)]
    assert one.state == "stopped"
    one.died(10.1, 100, Held.STOPPED, EXIT)
    assert one.phase is Phase.STOPPED
    one.ensure(11.0)
    assert orders(one) == [Start(1)]


def test_a_call_while_it_is_stopped_for_idleness_starts_it_after_its_end() -> None:
    one = running()
    one.idle(10.0)
    one.deeds()
    one.ensure(10.05)
    one.died(10.1, 100, Held.STOPPED, EXIT)
    assert orders(one) == [Start(1)]


def spared(crashes: int = 3) -> Charge:
    """Process 100 serves from slot 0, its spare 200 waits in slot 1."""
    one = charge(crashes, spares=True)
    one.ensure(0.0)
    one.spawned(0.0, 0, 100)
    one.seen(0.1, 100, 7, True)
    one.spawned(0.2, 1, 200)
    one.deeds()
    return one


def test_a_ready_one_gets_a_spare_in_its_other_slot() -> None:
    one = charge(spares=True)
    one.ensure(0.0)
    one.spawned(0.0, 0, 100)
    assert orders(one) == [Start(0)]
    one.seen(0.1, 100, 7, True)
    assert orders(one) == [Start(1)]
    one.seen(0.2, 100, 7, True)
    assert orders(one) == [], "one is enough"
    one.spawned(0.3, 1, 200)
    assert one.pids == [100, 200]


def test_the_spare_takes_over_and_gets_a_spare_when_it_is_ready() -> None:
    one = spared()
    one.died(5.0, 100, Held.EXITED, EXIT)
    assert (one.phase, one.pid, one.slot, one.spare_pid) == (Phase.UP, 200, 1, 0)
    assert orders(one) == []
    assert one.crashes == 1
    one.seen(5.1, 200, 8, True)
    assert orders(one) == [Start(0)]


def test_a_successor_that_serves_before_its_predecessors_end_is_known_was_ready_all_the_same() -> None:
    one = spared()
    one.ready(5.0, 200, 8)
    assert not one.was_ready or one.pid == 100
    one.died(5.1, 100, Held.EXITED, EXIT)
    assert (one.pid, one.epoch, one.is_ready, one.was_ready) == (200, 8, True, True)
    assert orders(one) == [Start(0)], "its own spare"


def test_a_spare_that_is_still_being_started_is_the_successor_too() -> None:
    one = charge(spares=True)
    one.ensure(0.0)
    one.spawned(0.0, 0, 100)
    one.seen(0.1, 100, 7, True)
    one.deeds()
    one.died(0.2, 100, Held.EXITED, EXIT)
    assert orders(one) == []
    assert (one.phase, one.slot) == (Phase.SPAWNING, 1)
    one.spawned(0.3, 1, 200)
    assert one.pid == 200


def test_the_spare_goes_first_when_the_actor_is_to_end() -> None:
    for act in ("stop", "idle", "restart"):
        one = spared()
        getattr(one, act)(5.0)
        assert orders(one) == [Stop(1), Stop(0)], act


def test_a_restart_runs_the_program_as_it_is_now() -> None:
    one = spared()
    one.restart(5.0)
    one.deeds()
    one.freed(1, Held.STOPPED)
    one.died(5.1, 100, Held.STOPPED, EXIT)
    assert orders(one) == [Start(1)]


def test_an_operator_who_stops_the_process_stops_the_spare_with_it() -> None:
    one = spared()
    one.stopping(5.0, 0, 100)
    assert orders(one) == [Stop(1)]
    assert one.state == "disabled"


def test_a_spare_that_ended_is_replaced_after_a_pause() -> None:
    one = spared()
    one.died(5.0, 200, Held.EXITED, EXIT)
    assert one.crashes == 0
    one.seen(5.1, 100, 7, True)
    assert orders(one) == []
    one.seen(5.1 + SPARE_PAUSE_S, 100, 7, True)
    assert orders(one) == [Start(1)]


def test_a_degraded_one_keeps_no_spare() -> None:
    one = spared(crashes=1)
    one.died(5.0, 100, Held.EXITED, EXIT)
    one.seen(5.1, 200, 8, True)
    one.spawned(5.2, 0, 300)
    one.deeds()
    one.died(6.0, 200, Held.EXITED, EXIT)
    assert one.phase is Phase.DEGRADED
    assert orders(one) == [Stop(0)]
    one.spawned(6.0, 0, 300)
    assert one.phase is Phase.DEGRADED, "a late notice brings nothing back"
    one.freed(0, Held.STOPPED)
    one.spawned(9.0, 0, 400)
    assert one.phase is Phase.UP, "an operator does"


def test_a_hung_one_is_succeeded_by_its_spare() -> None:
    one = spared()
    one.hung(5.0, 7, "no progress")
    assert orders(one) == [Kill(100)]
    one.tick(5.1 + KILL_WAIT_S)
    assert one.pid == 200, "also when the old one cannot die"


def test_one_with_too_much_memory_is_succeeded_by_its_spare() -> None:
    one = spared()
    one.outgrew(5.0, "memory")
    assert orders(one) == [Stop(0)]
    one.died(5.1, 100, Held.STOPPED, EXIT)
    assert (one.phase, one.pid) == (Phase.UP, 200)


def test_a_second_process_that_somebody_started_is_the_spare() -> None:
    one = running()
    one.spawned(1.0, 1, 200)
    assert one.pid == 100
    one.died(2.0, 200, Held.EXITED, EXIT)
    assert orders(one) == []
    assert one.pid == 100


def test_a_new_warden_tells_the_process_from_its_spare() -> None:
    one = charge(spares=True)
    one.adopt(0.0, {0: (Held.RUNNING, 300), 1: (Held.RUNNING, 301)}, Phase.UP, 0, "", 301)
    assert (one.pid, one.slot, one.spare_pid, one.spare_slot) == (301, 1, 300, 0)


FREE = (Held.STOPPED, 0)


def test_a_new_warden_adopts_what_runs() -> None:
    one = charge()
    one.adopt(0.0, {0: (Held.EXITED, 0), 1: (Held.RUNNING, 300)}, Phase.UP, 1, "")
    assert orders(one) == []
    assert (one.pid, one.slot, one.phase) == (300, 1, Phase.UP)
    one.died(5.0, 300, Held.EXITED, EXIT)
    assert orders(one) == [Start(0)]


def test_a_new_warden_leaves_what_was_stopped_or_given_up_on() -> None:
    for phase in (Phase.STOPPED, Phase.DISABLED, Phase.DEGRADED):
        one = charge()
        one.adopt(0.0, {0: FREE, 1: FREE}, phase, None, "why")
        assert one.deeds() == [Tell(phase.value, "why", None)]


def test_a_new_warden_starts_what_died_meanwhile() -> None:
    one = charge()
    one.adopt(0.0, {0: (Held.EXITED, 0), 1: FREE}, Phase.UP, 0, "")
    assert len(orders(one)) == 1
    assert one.crashes == 1


def test_a_new_warden_goes_on_with_what_was_being_started() -> None:
    one = charge()
    one.adopt(0.0, {0: FREE, 1: FREE}, Phase.SPAWNING, 0, "")
    assert len(orders(one)) == 1
    assert one.crashes == 0


def test_a_new_warden_knows_what_an_operator_stopped_meanwhile() -> None:
    one = charge()
    one.adopt(0.0, {0: (Held.STOPPED, 0), 1: (Held.EXITED, 0)}, Phase.UP, 0, "")
    assert one.phase is Phase.DISABLED


@pytest.mark.parametrize(
    ("act", "memory"), [("stop", Phase.DISABLED), ("idle", Phase.STOPPED), ("restart", Phase.WAITING)]
)
def test_what_is_being_stopped_is_remembered_by_what_follows(act: str, memory: Phase) -> None:
    one = running()
    getattr(one, act)(1.0)
    assert one.memory is memory
