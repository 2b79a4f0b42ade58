"""States of actors, epochs and fencing."""

from __future__ import annotations

import pytest

from broker.registry import Actor, Incarnation, Registry, State
from schema.errors import Fenced, InvalidMessage

NONCE = "0f" * 16


@pytest.fixture
def registry() -> Registry:
    return Registry(("test", "qemu"), {"qemu": Incarnation(7, 4321)})


def need(registry: Registry, name: str = "test") -> Actor:
    actor = registry.find(name)
    assert actor is not None
    return actor


def started(registry: Registry, name: str = "test", pid: int = 100, now: float = 50.0) -> Actor:
    actor = need(registry, name)
    registry.grant(actor, Incarnation(actor.epoch + 1, pid), NONCE, now)
    return actor


def test_epochs_go_on_where_the_last_broker_left_them(registry: Registry) -> None:
    actor = started(registry, "qemu")
    assert actor.epoch == 8
    assert actor.routing_id == f"qemu#8.{NONCE}".encode()


def test_an_actor_goes_from_stopped_over_starting_to_ready(registry: Registry) -> None:
    actor = need(registry)
    seen = [(actor.state, actor.serves)]
    started(registry)
    seen.append((actor.state, actor.serves))
    registry.register(actor, ["actor_ping"], "1", True)
    seen.append((actor.state, actor.serves))
    assert seen == [(State.STOPPED, False), (State.STARTING, False), (State.READY, True)]


def test_an_end_without_a_word_is_a_crash_and_one_with_it_is_not(registry: Registry) -> None:
    actor = started(registry)
    registry.register(actor, [], "1", True)
    assert registry.gone(actor, "killed") is False
    assert (actor.state, actor.why, actor.deaths) == (State.RESTARTING, "killed", 1)
    started(registry)
    actor.said_bye = True
    assert registry.gone(actor, "whatever") is True
    assert (actor.state, actor.why, actor.deaths) == (State.STOPPED, "", 1)


@pytest.mark.parametrize("verdict", [State.DEGRADED, State.DISABLED])
def test_a_verdict_of_the_warden_outweighs_a_process_that_still_runs(registry: Registry, verdict: State) -> None:
    actor = started(registry)
    registry.register(actor, [], "1", True)
    registry.tell(actor, verdict, "because", None)
    assert actor.state is verdict and not actor.serves
    registry.gone(actor, "killed")
    assert (actor.state, actor.why) == (verdict, "because")
    registry.tell(actor, State.STOPPED, "", None)
    assert actor.state is State.STOPPED


def test_the_wardens_ready_counts_only_when_the_actor_said_so_itself(registry: Registry) -> None:
    actor = need(registry)
    registry.tell(actor, State.READY, "", None)
    assert actor.state is State.STARTING and not actor.serves


def test_the_newest_incarnation_resumes_after_a_broker_restart() -> None:
    registry = Registry(("qemu",), {"qemu": Incarnation(7, 4321)})
    actor = need(registry, "qemu")
    routing_id = f"qemu#7.{NONCE}".encode()
    registry.check_resume(actor, routing_id, 7, 4321)
    registry.resume(actor, routing_id, 1.0)
    assert (actor.epoch, actor.routing_id) == (7, routing_id)


@pytest.mark.parametrize(("epoch", "pid"), [(6, 4321), (8, 4321), (7, 4322)])
def test_an_older_epoch_or_another_process_may_not_resume(registry: Registry, epoch: int, pid: int) -> None:
    with pytest.raises(Fenced):
        registry.check_resume(need(registry, "qemu"), f"qemu#{epoch}.{NONCE}".encode(), epoch, pid)


@pytest.mark.parametrize(
    "routing_id",
    [b"", b"qemu#7.", b"test#7." + NONCE.encode(), b"qemu#7." + b"0" * 31, b"c" + b"0" * 16, b"qemu#7." + b"\0" * 32],
)
def test_a_routing_id_of_another_form_is_refused(registry: Registry, routing_id: bytes) -> None:
    with pytest.raises(InvalidMessage):
        registry.check_resume(need(registry, "qemu"), routing_id, 7, 4321)


def test_an_incarnation_that_was_fenced_for_hanging_may_not_resume(registry: Registry) -> None:
    actor = started(registry, "qemu", pid=9)
    routing_id, epoch = actor.routing_id, actor.epoch
    assert routing_id is not None
    registry.gone(actor, "it hangs")
    registry.burn(actor)
    with pytest.raises(Fenced):
        registry.check_resume(actor, routing_id, epoch, 9)
    assert started(registry, "qemu").epoch == epoch + 2


def test_an_actor_without_a_heartbeat_hangs(registry: Registry) -> None:
    actor = started(registry, now=50.0)
    registry.register(actor, [], "1", True)
    assert registry.hanging(54.0, 4.0, 30.0) == []
    ((found, why),) = registry.hanging(54.1, 4.0, 30.0)
    assert found is actor and "no heartbeat" in why


def test_an_actor_whose_loop_makes_no_progress_hangs_though_it_beats(registry: Registry) -> None:
    actor = started(registry, now=50.0)
    registry.register(actor, [], "1", True)
    registry.beat(actor, 53.0, 3.5, 0, 0, 0)
    assert registry.hanging(53.4, 4.0, 30.0) == []
    ((_, why),) = registry.hanging(53.6, 4.0, 30.0)
    assert "no progress" in why


def test_an_actor_that_still_starts_may_be_busy_for_longer(registry: Registry) -> None:
    actor = started(registry, now=50.0)
    registry.beat(actor, 60.0, 10.0, 0, 0, 0)
    assert registry.hanging(60.0, 4.0, 30.0) == []
    assert registry.hanging(80.5, 4.0, 30.0) != []


def test_a_broker_that_stood_still_accuses_nobody(registry: Registry) -> None:
    actor = started(registry, now=50.0)
    registry.register(actor, [], "1", True)
    registry.forgive(90.0)
    assert registry.hanging(90.5, 4.0, 30.0) == []


def test_only_connected_actors_can_hang(registry: Registry) -> None:
    actor = started(registry, now=50.0)
    registry.gone(actor, "killed")
    assert registry.hanging(500.0, 4.0, 30.0) == []
