"""Numbers of the wire as values, those of a newer peer included."""

from __future__ import annotations

import pytest

from client.facts import REASONS, Version, state_from_numbers
from client.lifecycle import DETAILS, lifecycle_of, word_of
from schema.enums.domain_event import DomainEventStartedDetailType, DomainEventType
from schema.enums.domain_state import DomainPausedReason, DomainState


def test_every_state_has_its_reasons_and_every_event_its_details() -> None:
    assert set(REASONS) == set(DomainState)
    assert set(DETAILS) == set(DomainEventType)


def test_state_and_reason_are_enums() -> None:
    told = state_from_numbers(3, 5)
    assert (told.state, told.reason) == (DomainState.PAUSED, DomainPausedReason.IOERROR)
    assert not told.unknown


@pytest.mark.parametrize(("state", "reason", "known"), [(99, 1, DomainState.NOSTATE), (3, 99, DomainState.PAUSED)])
def test_a_number_of_a_newer_peer_stays_a_number(state: int, reason: int, known: DomainState) -> None:
    told = state_from_numbers(state, reason, unknown=True, age_s=2.0)
    assert (told.state, told.reason, told.unknown, told.age_s) == (known, reason, True, 2.0)


def test_a_lifecycle_event_is_told_in_words_where_it_is_known() -> None:
    assert lifecycle_of(2, 0) == (DomainEventType.STARTED, DomainEventStartedDetailType.BOOTED)
    assert lifecycle_of(2, 99) == (DomainEventType.STARTED, 99)
    assert lifecycle_of(99, 1) == (99, 1)
    assert [word_of(part) for part in (*lifecycle_of(3, 5), 99)] == ["suspended", "from snapshot", "99"]


def test_a_version_is_three_numbers() -> None:
    assert str(Version.from_number(9_000_000)) == "9.0.0"
    assert Version.from_number(7_002_005) > Version(7, 2, 4)
