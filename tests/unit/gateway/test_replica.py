from __future__ import annotations

import pytest

from gateway.domains import xdr_text
from gateway.replica import Applied, Replica, SourceState
from tests.unit.gateway.records import SCOPE, domain_object, record, uuid_of

FRESH_S = 2.0


def loaded(seq: int = 10, epoch: int = 1) -> Replica:
    replica = Replica("test")
    replica.load(epoch, seq, [domain_object("a"), domain_object("b", id=3, state=1)], now=100.0)
    replica.promise(epoch, seq, 100.0)
    return replica


def current(replica: Replica, now: float = 100.5) -> bool:
    return replica.is_current(now, FRESH_S)


def test_snapshot_makes_it_current() -> None:
    replica = Replica("test")
    assert not current(replica)
    replica = loaded()
    assert current(replica)
    view = replica.view(SCOPE).domains
    assert set(view.by_uuid) == {uuid_of("a"), uuid_of("b")}
    assert view.by_name[xdr_text("a")].uuid == uuid_of("a")
    assert len(view.by_id) == 1


def test_other_names_show_nothing() -> None:
    assert not loaded().view("test:///else").domains.by_uuid


def test_silence_ends_belief() -> None:
    replica = loaded()
    assert current(replica, 102.0)
    assert not current(replica, 102.1)
    replica.promise(1, 10, 103.0)
    assert current(replica, 103.1)


def test_next_record_is_applied_older_ignored_and_a_gap_found() -> None:
    replica = loaded()
    assert replica.apply(record(10, "a"), 100.1) is Applied.OLD
    assert replica.apply(record(12, "a"), 100.1) is Applied.GAP
    assert replica.seq == 10
    assert replica.apply(record(11, "a", id=7, state=1), 100.1) is Applied.NEW
    assert replica.seq == 11
    known = replica.view(SCOPE).domains.by_uuid[uuid_of("a")]
    assert known.summary["id"] == 7


def test_promise_of_more_than_was_applied_ends_belief_until_it_came() -> None:
    replica = loaded()
    replica.promise(1, 11, 100.2)
    assert replica.misses_events
    assert not current(replica)
    replica.apply(record(11, "a"), 100.3)
    assert not replica.misses_events
    assert current(replica)


def test_what_a_reply_told_is_not_untold() -> None:
    replica = loaded()
    replica.told(11)
    assert not current(replica)
    replica.apply(record(11, "a"), 100.3)
    assert current(replica)


@pytest.mark.parametrize("state", ["stopped", "starting", "restarting", "degraded", "disabled", "something new"])
def test_only_a_ready_source_is_believed(state: str) -> None:
    replica = loaded()
    replica.set_state(state)
    assert not current(replica)
    assert replica.is_unknown == (state == "degraded")


def test_after_a_restart_belief_waits_for_the_new_incarnation_to_say_how_far_it_came() -> None:
    replica = loaded()
    replica.set_state("restarting")
    replica.set_state("ready")
    first = record(11, "a", epoch=2)
    replica.apply({**first, "kind": "epoch", "object": None, "summary": None}, 100.1)
    assert not current(replica)  # what changed while it was away may still be under way
    replica.promise(2, 12, 100.2)
    assert not current(replica)
    replica.apply(record(12, "b", gone=True, epoch=2), 100.3)
    assert current(replica)
    assert uuid_of("b") not in replica.view(SCOPE).domains.by_uuid


def test_a_sign_of_life_of_an_older_incarnation_is_ignored() -> None:
    replica = loaded(epoch=3)
    replica.set_state("restarting")
    replica.promise(2, 10, 100.2)
    assert replica.state is SourceState.RESTARTING


def test_gone_guest_is_forgotten_under_all_its_keys() -> None:
    replica = loaded()
    replica.apply(record(11, "b", gone=True), 100.1)
    view = replica.view(SCOPE).domains
    assert uuid_of("b") not in view.by_uuid
    assert xdr_text("b") not in view.by_name
    assert not view.by_id


def test_renamed_guest_is_found_by_its_new_name_only() -> None:
    replica = loaded()
    renamed = record(11, "a")
    renamed["object"] = ["domain", uuid_of("a"), "c"]
    replica.apply(renamed, 100.1)
    view = replica.view(SCOPE).domains
    assert xdr_text("a") not in view.by_name
    assert view.by_name[xdr_text("c")].uuid == uuid_of("a")


def test_name_that_went_to_another_guest_stays_with_it() -> None:
    replica = loaded()
    taken = record(11, "x")
    taken["object"] = ["domain", uuid_of("x"), "a"]
    replica.apply(taken, 100.1)
    replica.apply(record(12, "a", gone=True), 100.1)
    assert replica.view(SCOPE).domains.by_name[xdr_text("a")].uuid == uuid_of("x")


def test_new_snapshot_replaces_everything_and_views_stay() -> None:
    replica = loaded()
    view = replica.view(SCOPE)
    replica.load(2, 20, [domain_object("z")], now=110.0)
    assert replica.view(SCOPE) is view
    assert set(view.domains.by_uuid) == {uuid_of("z")}
    assert replica.seq == 20


def test_source_that_lost_its_state_can_be_believed_again() -> None:
    replica = loaded(seq=50)
    replica.told(60)
    replica.load(9, 1, [], now=110.0)
    assert replica.is_current(110.1, FRESH_S)
