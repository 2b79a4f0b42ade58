"""The choice of a slot."""

from warden.slots import Held, Slots


def test_the_successor_goes_to_the_other_slot() -> None:
    slots = Slots()
    first = slots.find_free()
    assert first == 0
    slots.take(0)
    slots.note(0, Held.EXITED)
    assert slots.find_free() == 1
    slots.take(1)
    slots.note(1, Held.EXITED)
    assert slots.find_free() == 0


def test_a_slot_whose_process_was_not_reaped_is_passed_over() -> None:
    slots = Slots()
    slots.take(0)
    slots.note(0, Held.RUNNING)
    assert slots.find_free() == 1
    slots.take(1)
    slots.note(1, Held.EXITED)
    assert slots.find_free() == 1, "slot 0 is still held"


def test_nothing_is_free_while_both_are_held() -> None:
    slots = Slots()
    slots.note(0, Held.STOPPING)
    slots.note(1, Held.UNKNOWN)
    assert slots.find_free() is None


def test_a_slot_that_supervisord_gave_up_on_is_free() -> None:
    slots = Slots()
    slots.take(0)
    slots.note(0, Held.RUNNING)
    slots.note(1, Held.FATAL)
    assert slots.find_free() == 1
