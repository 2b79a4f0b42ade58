"""The promises for calls, each shown on the pure router."""

from __future__ import annotations

import pytest

from broker.calls import FULL, GONE, SENT
from broker.policy import CallerKind
from broker.registry import State
from broker.wire import CALL_ID_LENGTH, Flag, Kind, call_id, pack_header
from schema.errors import (
    Busy,
    CallPending,
    Cancelled,
    DeadlinePassed,
    DomainStateError,
    DriverDegraded,
    DriverGone,
    DriverStopped,
    InvalidMessage,
    NoConnection,
    OperationDenied,
    UnknownProcedure,
)
from tests.unit.broker.house import CHANGE, READ, House


@pytest.fixture
def house() -> House:
    return House()


def test_a_call_has_exactly_one_outcome(house: House) -> None:
    house.start()
    client = house.client()
    house.call(client)
    (sent,) = house.outbox.sent
    house.answer(sent, {"x": 1})
    house.answer(sent, {"x": 2})
    house.later(100)
    assert house.outcome_of(client).result == {"x": 1}
    assert house.outcome_of(client).source == b"test"
    assert house.routing.late == 1 and not client.calls


def test_an_error_of_the_actor_is_passed_on(house: House) -> None:
    house.start()
    client = house.client()
    house.call(client)
    house.answer(house.outbox.sent[0], error=DomainStateError("'web1' is not running"))
    assert isinstance(house.error_of(client), DomainStateError)
    assert house.desk().failed == 1


def test_the_caller_is_the_brokers_word_whatever_a_client_claims(house: House) -> None:
    house.start()
    client = house.client(5)
    house.call(client, claim={"uid": 0, "read_only": False})
    house.call(client, number=2)
    for sent in house.outbox.sent:
        assert sent.prologue is not None
        assert sent.prologue.caller == client.identity
        assert (sent.prologue.scope, sent.prologue.key, sent.prologue.trace) == ("s", b"k", "t")
        assert sent.body.endswith(b"\x80")


def test_the_idempotency_key_is_passed_on(house: House) -> None:
    house.start()
    house.call(house.client())
    prologue = house.outbox.sent[0].prologue
    assert prologue is not None and prologue.idempotency_key == "once"


def test_the_gateways_claim_for_its_clients_is_kept(house: House) -> None:
    house.start()
    gateway = house.client(kind=CallerKind.GATEWAY)
    claim = {"uid": 77, "read_only": False, "via": "libvirt"}
    house.call(gateway, claim=claim)
    prologue = house.outbox.sent[0].prologue
    assert prologue is not None and prologue.caller == claim


def test_a_gateways_read_only_client_is_refused_as_one(house: House) -> None:
    house.start()
    gateway = house.client(kind=CallerKind.GATEWAY)
    house.call(gateway, claim={"uid": 77, "read_only": True})
    house.call(gateway, claim={"uid": 77}, number=2)
    assert isinstance(house.error_of(gateway), OperationDenied)
    assert isinstance(house.error_of(gateway, 2), OperationDenied)


def test_a_read_only_client_can_change_nothing(house: House) -> None:
    house.start()
    client = house.client(read_only=True)
    house.call(client, CHANGE)
    house.call(client, "warden_actor_stop", to="warden", number=2)
    house.call(client, READ, number=3)
    assert isinstance(house.error_of(client), OperationDenied)
    assert isinstance(house.error_of(client, 2), OperationDenied)
    assert [s.header.correlation for s in house.outbox.sent] == [3]


def test_what_an_actor_sees_as_source_is_no_capability(house: House) -> None:
    house.start()
    client = house.client()
    house.call(client)
    assert house.outbox.sent[0].source == client.public != client.routing_id
    assert len(call_id(client.public, 1)) == CALL_ID_LENGTH


@pytest.mark.parametrize(
    "body", [b"", b"\0", b"\0\x05abc", b"\xff\xff", b"\0\x01\x90", b"\0\x07\x96\xa1x\xa0\xc0\xc0\xc0"]
)
def test_a_call_that_is_not_understood_is_answered(house: House, body: bytes) -> None:
    house.start()
    client = house.client()
    house.routing.call(client, b"test", pack_header(Kind.CALL, 1), 0, 0, 1, body, house.now)
    assert isinstance(house.error_of(client), InvalidMessage)
    assert not house.outbox.sent and not client.calls


def test_an_unknown_procedure_or_destination_is_answered(house: House) -> None:
    client = house.client()
    house.call(client, "no_such_thing")
    house.call(client, to="nowhere", number=2)
    house.call(client, to="\udcff".encode("utf-8", "surrogateescape").decode("latin-1"), number=3)
    assert isinstance(house.error_of(client), UnknownProcedure)
    assert isinstance(house.error_of(client, 2), NoConnection)
    assert isinstance(house.error_of(client, 3), NoConnection)


def test_what_happens_to_a_change_is_noted_under_its_trace_and_reads_are_not(house: House) -> None:
    client = house.client()
    house.call(client)
    house.call(client, READ, number=2)
    house.start()
    house.die()
    house.start()
    house.answer(house.resent[0])
    house.call(client, number=3)
    house.die()
    house.later(40.0)
    assert [event for event, _ in house.noted] == ["call waits", "call", "call sent again", "call", "call ended"]
    assert {(fields["procedure"], fields["trace"]) for _, fields in house.noted} == {(CHANGE, "t")}
    assert house.noted[-1][1]["outcome"] == "CallPending"


# -- waiting


def test_a_call_waits_for_an_actor_that_does_not_run_and_asks_for_it(house: House) -> None:
    client = house.client()
    house.call(client, ttl_s=30.0)
    assert house.wanted == ["test"] and not house.outbox.told
    house.later(10.0)
    house.start()
    (sent,) = house.outbox.sent
    assert sent.header.flags == 0
    assert 19_000 <= sent.header.ttl_ms <= 20_000
    house.answer(sent, 1)
    assert house.outcome_of(client).result == 1


def test_waiting_calls_keep_their_order(house: House) -> None:
    client = house.client()
    for number in range(1, 11):
        house.call(client, number=number)
    house.start()
    assert [s.header.correlation for s in house.outbox.sent] == list(range(1, 11))


def test_a_waiting_call_that_is_not_begun_before_its_deadline_passes_it(house: House) -> None:
    client = house.client()
    house.call(client, ttl_s=1.0)
    house.later(1.1)
    assert not house.has_outcome(client)
    house.later(0.5)
    error = house.error_of(client)
    assert isinstance(error, DeadlinePassed) and "'test' is stopped" in error.message
    house.start()
    assert not house.outbox.sent


def test_a_call_without_deadline_waits_for_ever(house: House) -> None:
    client = house.client()
    house.call(client, ttl_s=0)
    house.later(4000)
    house.start()
    assert house.outbox.sent[0].header.ttl_ms == 0


# -- verdicts


def test_a_call_in_flight_when_its_actor_dies_goes_to_the_next_epoch_as_a_resend(house: House) -> None:
    first = house.start()
    client = house.client()
    house.call(client)
    house.call(client, number=2)
    house.die()
    assert house.wanted == ["test"]
    house.call(client, number=3)
    second = house.start()
    assert first != second
    assert [(s.routing_id, s.header.correlation, s.header.flags) for s in house.outbox.sent] == [
        (first, 1, 0),
        (first, 2, 0),
        (second, 1, Flag.RESEND),
        (second, 2, Flag.RESEND),
        (second, 3, 0),
    ]
    for sent in house.outbox.sent[2:]:
        house.answer(sent, "done")
    assert [house.outcome_of(client, number).result for number in (1, 2, 3)] == ["done"] * 3


def test_an_answer_of_the_dead_incarnation_is_dropped(house: House) -> None:
    house.start()
    client = house.client()
    house.call(client)
    (sent,) = house.outbox.sent
    house.die()
    house.answer(sent, "too late")
    assert not house.outbox.told and house.routing.late == 1


def test_a_change_whose_actor_does_not_come_back_in_time_is_pending_with_its_id(house: House) -> None:
    house.start()
    client = house.client()
    house.call(client, ttl_s=2.0)
    house.die()
    house.later(2.5)
    error = house.error_of(client)
    assert isinstance(error, CallPending)
    assert error.call == call_id(client.public, 1).hex()
    assert house.desk().pending == 1


def test_a_read_whose_actor_does_not_come_back_in_time_fails(house: House) -> None:
    house.start()
    client = house.client()
    house.call(client, READ, ttl_s=2.0)
    house.die()
    house.later(2.5)
    assert isinstance(house.error_of(client), DriverGone)


def test_a_call_survives_the_death_of_several_incarnations_but_not_of_all(house: House) -> None:
    client = house.client()
    house.start()
    house.call(client, ttl_s=0)
    for _ in range(16):
        house.die()
        house.start()
    assert not house.has_outcome(client) and len(house.resent) == 16
    house.die()
    assert isinstance(house.error_of(client), CallPending)


def test_the_broker_keeps_the_deadline_a_little_after_the_actor(house: House) -> None:
    house.start()
    client = house.client()
    house.call(client, ttl_s=1.0)
    house.later(1.2)
    assert not house.has_outcome(client)
    house.later(0.3)
    assert "did not answer 'domain_create' in time" in house.error_of(client).message
    assert house.desk().expired == 1 and not house.desk().in_flight
    house.answer(house.outbox.sent[0], "late")
    assert house.outcome_of(client).error is not None


# -- cancel


def test_cancel_reaches_the_actor_and_the_call_still_has_one_outcome(house: House) -> None:
    house.start()
    client = house.client()
    house.call(client)
    house.cancel(client)
    call, cancel = house.outbox.sent
    assert (cancel.header.kind, cancel.header.correlation, cancel.source) == (Kind.CANCEL, 1, client.public)
    assert not house.has_outcome(client)
    house.answer(call, error=Cancelled("by the caller"))
    assert isinstance(house.error_of(client), Cancelled)


def test_cancel_of_a_waiting_call_ends_it_at_once(house: House) -> None:
    client = house.client()
    house.call(client)
    house.cancel(client)
    assert isinstance(house.error_of(client), Cancelled)
    house.start()
    assert not house.outbox.sent and house.desk().depth == 0


def test_cancel_while_the_actor_is_dead_follows_the_resend(house: House) -> None:
    house.start()
    client = house.client()
    house.call(client)
    house.die()
    house.cancel(client)
    house.start()
    assert [s.header.kind for s in house.outbox.sent] == [Kind.CALL, Kind.CALL, Kind.CANCEL]


def test_cancel_of_somebody_elses_call_does_nothing(house: House) -> None:
    house.start()
    house.call(house.client(1))
    house.cancel(house.client(2))
    assert len(house.outbox.sent) == 1


# -- back-pressure


def test_a_client_with_too_many_calls_is_told_busy_with_a_retry_time(house: House) -> None:
    house.start()
    client = house.client(limit=3)
    for number in range(1, 5):
        house.call(client, number=number)
    error = house.error_of(client, 4)
    assert isinstance(error, Busy) and error.retry_after_s and len(house.outbox.sent) == 3


def test_a_full_actor_answers_busy_with_a_retry_time() -> None:
    house = House(limit=2)
    house.start()
    for number in range(1, 4):
        house.call(house.client(number))
    assert isinstance(house.outbox.told[0].error, Busy)
    assert house.outbox.told[0].error.retry_after_s


def test_a_full_waiting_queue_answers_busy_with_a_retry_time() -> None:
    house = House(waiting_limit=2)
    for number in range(1, 4):
        house.call(house.client(number))
    assert isinstance(house.outbox.told[0].error, Busy) and house.desk().busy == 1


def test_an_actor_that_does_not_read_makes_its_callers_busy(house: House) -> None:
    house.start()
    client = house.client()
    house.outbox.actor_room = FULL
    house.call(client)
    assert isinstance(house.error_of(client), Busy) and not client.calls


def test_bodies_that_are_held_are_bounded(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("broker.routing.HELD_BYTES_MAX", 100_000)
    client = house.client()
    big = b"\xc5\xf0\x00" + bytes(0xF000)
    house.call(client, arguments=big)
    house.call(client, arguments=big, number=2)
    assert isinstance(house.error_of(client, 2), Busy)
    house.start()
    house.answer(house.outbox.sent[0])
    assert house.desk().held_bytes == 0


def test_a_caller_that_does_not_read_gets_its_outcome_later(house: House) -> None:
    house.start()
    client = house.client(limit=1)
    house.call(client)
    house.outbox.caller_room = FULL
    house.answer(house.outbox.sent[0], "result")
    house.later(1.0)
    assert not house.outbox.told and len(client.calls) == 1 and not house.desk().in_flight
    house.outbox.caller_room = SENT
    house.later(0.2)
    assert house.outcome_of(client).result == "result" and not client.calls


def test_a_call_to_an_actor_whose_socket_is_gone_waits(house: House) -> None:
    house.start()
    client = house.client()
    house.outbox.actor_room = GONE
    house.call(client)
    assert not house.outbox.told
    house.die()
    house.outbox.actor_room = SENT
    house.start()
    assert [s.header.flags for s in house.outbox.sent] == [0]


# -- callers that come and go


def test_a_client_that_goes_away_cancels_nothing_that_is_under_way(house: House) -> None:
    house.start()
    client = house.client()
    house.call(client)
    house.routing.leave(client)
    assert len(house.outbox.sent) == 1 and len(house.desk().in_flight) == 1
    house.answer(house.outbox.sent[0], 1)
    assert not house.outbox.told and not client.calls


def test_calls_of_a_client_that_is_gone_are_not_begun(house: House) -> None:
    client = house.client()
    house.call(client)
    house.routing.leave(client)
    house.start()
    assert not house.outbox.sent and house.desk().held_bytes == 0


def test_a_call_that_is_sent_again_while_it_runs_is_not_run_twice(house: House) -> None:
    house.start()
    client = house.client()
    house.call(client)
    house.call(client, flags=Flag.RESEND)
    assert len(house.outbox.sent) == 1
    house.answer(house.outbox.sent[0], 1)
    assert house.outcome_of(client).result == 1


def test_after_a_broker_restart_a_resent_call_keeps_its_flag(house: House) -> None:
    house.start()
    house.call(house.client(), flags=Flag.RESEND)
    assert house.outbox.sent[0].header.flags == Flag.RESEND


# -- states


def test_calls_to_a_degraded_actor_fail_at_once_and_say_why(house: House) -> None:
    client = house.client()
    house.call(client)
    house.tell(State.DEGRADED, "it crashed 11 times in 30 s")
    house.call(client, number=2)
    for number in (1, 2):
        error = house.error_of(client, number)
        assert isinstance(error, DriverDegraded) and "11 times" in error.message


def test_a_change_in_flight_at_an_actor_that_becomes_degraded_is_pending(house: House) -> None:
    house.start()
    client = house.client()
    house.call(client, CHANGE)
    house.call(client, READ, number=2)
    house.die()
    house.tell(State.DEGRADED, "crashes")
    assert isinstance(house.error_of(client), CallPending)
    assert isinstance(house.error_of(client, 2), DriverDegraded)


def test_calls_to_a_disabled_actor_are_told_that_it_was_stopped(house: House) -> None:
    house.start()
    client = house.client()
    house.call(client)
    house.tell(State.DISABLED)
    house.call(client, number=2)
    assert isinstance(house.error_of(client, 2), DriverStopped)
    house.answer(house.outbox.sent[0], "finished while it stopped")
    assert house.outcome_of(client).error is None


def test_an_actor_that_is_reset_serves_again(house: House) -> None:
    house.tell(State.DEGRADED, "crashes")
    house.tell(State.STOPPED)
    client = house.client()
    house.call(client)
    house.start()
    assert len(house.outbox.sent) == 1


def test_standby_reads_of_a_degraded_actor_go_to_the_gateway(house: House) -> None:
    house.start("gateway", procedures=(READ,))
    house.tell(State.DEGRADED, "crashes")
    client = house.client()
    house.call(client, READ)
    house.call(client, "domain_get_info", number=2)
    house.call(client, CHANGE, number=3)
    (sent,) = house.outbox.sent
    assert sent.routing_id.startswith(b"gateway#") and sent.header.correlation == 1
    assert isinstance(house.error_of(client, 2), DriverDegraded)
    assert isinstance(house.error_of(client, 3), DriverDegraded)


def test_platform_calls_go_to_their_own_destination_only(house: House) -> None:
    house.start()
    house.start("warden")
    client = house.client()
    house.call(client, "warden_actor_stop", to="test")
    house.call(client, CHANGE, to="warden", number=2)
    house.call(client, "broker_status", to="broker", number=3)
    house.call(client, "warden_actor_list", to="warden", number=4)
    assert isinstance(house.error_of(client), UnknownProcedure)
    assert isinstance(house.error_of(client, 2), UnknownProcedure)
    assert [prologue.procedure for _, _, prologue in house.own] == ["broker_status"]
    assert [s.header.correlation for s in house.outbox.sent] == [4]


def test_nothing_is_left_behind_by_many_calls(house: House) -> None:
    house.start()
    clients = [house.client(number, limit=1000) for number in range(5)]
    for number in range(1, 200):
        for client in clients:
            house.call(client, number=number)
        if number % 50 == 0:
            house.die()
            house.start()
        for sent in house.outbox.sent:
            house.answer(sent, number)
        house.outbox.sent.clear()
    assert all(not client.calls for client in clients)
    assert house.desk().depth == 0 and house.desk().held_bytes == 0
    house.later(100)
    assert not any(told.error for told in house.outbox.told)
    assert len(house.outbox.told) == 5 * 199


# -- urgent calls


def test_urgent_calls_go_ahead_of_those_that_wait(house: House) -> None:
    client = house.client()
    for number, flags in ((1, 0), (2, 0), (3, Flag.URGENT), (4, 0), (5, Flag.URGENT)):
        house.call(client, number=number, flags=int(flags))
    assert house.desk().depth == 5
    house.cancel(client, 3)
    assert isinstance(house.error_of(client, 3), Cancelled)
    house.start()
    assert [sent.header.correlation for sent in house.outbox.sent] == [5, 1, 2, 4]
    assert len(house.desk().waiting) == 0


def test_what_an_incarnation_took_with_it_still_comes_first(house: House) -> None:
    house.start()
    client = house.client()
    house.call(client, number=1)
    house.die()
    house.call(client, number=2, flags=int(Flag.URGENT))
    house.start()
    assert [sent.header.correlation for sent in house.outbox.sent] == [1, 1, 2]


def test_a_full_queue_has_places_for_urgent_calls() -> None:
    house = House(limit=32, waiting_limit=16)
    client = house.client()
    for number in range(1, 18):
        house.call(client, number=number)
    assert isinstance(house.error_of(client, 17), Busy)
    house.call(client, number=18, flags=int(Flag.URGENT))
    house.call(client, number=19, flags=int(Flag.URGENT))
    assert isinstance(house.error_of(client, 19), Busy)
    house.start()
    assert house.outbox.sent[0].header.correlation == 18
    for number in range(20, 36):
        house.call(client, number=number)
    assert isinstance(house.error_of(client, 35), Busy)
    house.call(client, number=36, flags=int(Flag.URGENT))
    assert house.outbox.sent[-1].header.correlation == 36
