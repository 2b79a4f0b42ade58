"""Hand-over of events: in order, once each, acknowledged when they are in the journal and not before."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from broker.intake import Intake
from broker.journal import Entry
from broker.registry import Actor
from broker.wire import Cursor, Position, Published, pack_value, unpack_position
from tests.unit.broker.house import NONCE
from util.structured_log import StructuredLog


class Paper:
    """A journal in memory that may be full."""

    def __init__(self) -> None:
        self.entries: list[Entry] = []
        self.offset = 0
        self.is_full = False
        self.writes = 0
        self.lasts: dict[str, tuple[int, int]] = {}
        self.generation = 9

    @property
    def head(self) -> Cursor:
        return Cursor(9, self.offset)

    def last(self, source: str) -> tuple[int, int]:
        return self.lasts.get(source, (0, 0))

    def append(self, entries: list[Entry]) -> list[int]:
        if self.is_full:
            raise OSError(28, "No space left on device")
        self.writes += 1
        offsets = []
        for entry in entries:
            self.entries.append(entry)
            self.offset += len(entry.record) + 8
            self.lasts[entry.source] = (entry.epoch, entry.seq)
            offsets.append(self.offset)
        return offsets

    def sync(self) -> Callable[[], None]:
        return lambda: None


class Desk:
    """An intake with everything around it recorded."""

    def __init__(self, always: bool = False) -> None:
        self.paper = Paper()
        self.acknowledged: list[tuple[str, int, bool]] = []
        self.published: list[tuple[bytes, Position, bytes]] = []
        self.jobs: list[tuple[Callable[[], None], Callable[[object], None]]] = []
        self.actor = self.make("test", 1)
        journal: Any = self.paper
        self.intake = Intake(
            journal,
            self,
            StructuredLog("test", level="error", fd=self._sink()),
            always_sync=always,
            sync_interval_s=0.05,
            submit=lambda job, done: self.jobs.append((job, done)),
            connected=lambda: [self.actor],
        )

    @staticmethod
    def _sink() -> int:
        import os

        return os.open("/dev/null", os.O_WRONLY)

    @staticmethod
    def make(name: str, epoch: int) -> Actor:
        return Actor(name, epoch=epoch, routing_id=f"{name}#{epoch}.{NONCE}".encode(), is_ready=True)

    def acknowledge(self, actor: Actor, seq: int, resend: bool) -> None:
        self.acknowledged.append((actor.name, seq, resend))

    def publish(self, source: bytes, position: bytes, body: bytes) -> None:
        self.published.append((source, unpack_position(position), body))

    def event(
        self, seq: int, *, actor: Actor | None = None, epoch: int | None = None, source: str | None = None
    ) -> bytes:
        actor = actor or self.actor
        record = pack_value(
            {"source": source or actor.name, "epoch": epoch or actor.epoch, "seq": seq, "kind": "changed"}
        )
        self.intake.event(actor, seq, record)
        return record

    def run_jobs(self, result: object = None) -> None:
        jobs, self.jobs = self.jobs, []
        for job, done in jobs:
            job()
            done(result)

    @property
    def seqs(self) -> list[int]:
        return [entry.seq for entry in self.paper.entries]


@pytest.fixture
def desk() -> Desk:
    return Desk()


def test_events_of_one_pass_are_one_write_and_one_acknowledgement(desk: Desk) -> None:
    records = [desk.event(seq) for seq in (1, 2, 3)]
    assert not desk.acknowledged and not desk.published
    desk.intake.flush(1.0)
    assert desk.paper.writes == 1 and desk.acknowledged == [("test", 3, False)]
    assert [body for _, _, body in desk.published] == records
    assert [p.seq for _, p, _ in desk.published] == [1, 2, 3]
    assert desk.published[-1][1].offset == desk.paper.offset == desk.intake.published.offset


def test_an_event_that_was_handed_over_before_is_acknowledged_and_dropped(desk: Desk) -> None:
    for seq in (1, 2, 3):
        desk.event(seq)
    desk.event(2)
    desk.intake.flush(1.0)
    desk.event(1)
    desk.event(3)
    desk.intake.flush(1.0)
    assert desk.seqs == [1, 2, 3]
    assert desk.acknowledged[-1] == ("test", 3, False)
    assert desk.intake.duplicates == 3 and len(desk.published) == 3


def test_a_gap_is_asked_for_and_filled(desk: Desk) -> None:
    for seq in (1, 2, 5, 6, 7):
        desk.event(seq)
    desk.intake.flush(1.0)
    assert desk.seqs == [1, 2]
    assert desk.acknowledged == [("test", 2, False), ("test", 2, True)]
    for seq in range(3, 8):
        desk.event(seq)
    desk.intake.flush(1.0)
    assert desk.seqs == list(range(1, 8)) and desk.intake.gaps == 0


def test_a_gap_that_its_actor_cannot_fill_is_passed_over_and_counted(desk: Desk) -> None:
    for seq in (1, 2, 7):
        desk.event(seq)
    for seq in (5, 6, 7, 8):  # asked for 3, it has nothing before 5
        desk.event(seq)
    desk.intake.flush(1.0)
    assert desk.seqs == [1, 2, 5, 6, 7, 8] and desk.intake.gaps == 1


def test_a_new_incarnation_may_begin_further_on(desk: Desk) -> None:
    desk.event(1)
    desk.intake.flush(1.0)
    desk.actor = desk.make("test", 2)
    desk.event(10)
    desk.event(11)
    desk.intake.flush(1.0)
    assert desk.seqs == [1, 10, 11] and desk.acknowledged[-1] == ("test", 11, False)


def test_an_actor_cannot_speak_for_another_or_for_an_older_self(desk: Desk) -> None:
    desk.event(1, source="qemu")
    desk.event(1, epoch=7)
    desk.intake.event(desk.actor, 1, b"not a record")
    desk.intake.event(desk.actor, 1, pack_value({"source": "test", "epoch": 1, "seq": 2}))
    desk.intake.flush(1.0)
    assert not desk.paper.entries and desk.intake.refused == 4 and not desk.acknowledged


def test_sources_are_independent(desk: Desk) -> None:
    other = desk.make("qemu", 4)
    desk.event(1)
    desk.event(1, actor=other)
    desk.event(2, actor=other)
    desk.intake.flush(1.0)
    assert desk.acknowledged == [("test", 1, False), ("qemu", 2, False)]


def test_when_the_disk_is_full_nothing_is_acknowledged_or_published_and_later_it_is_asked_for(desk: Desk) -> None:
    desk.event(1)
    desk.intake.flush(1.0)
    desk.paper.is_full = True
    desk.event(2)
    desk.intake.flush(1.1)
    desk.event(3)
    desk.intake.flush(1.2)
    assert desk.seqs == [1] and desk.acknowledged == [("test", 1, False)] and len(desk.published) == 1
    assert "No space" in desk.intake.failure
    desk.intake.tick(1.3)
    desk.intake.tick(1.8)
    assert desk.intake.failure
    desk.paper.is_full = False
    desk.intake.tick(2.4)
    assert not desk.intake.failure and desk.acknowledged[-1] == ("test", 1, True)
    for seq in (2, 3):
        desk.event(seq)
    desk.intake.flush(2.5)
    assert desk.seqs == [1, 2, 3] and desk.acknowledged[-1] == ("test", 3, False)


def test_what_is_written_is_synced_within_the_interval(desk: Desk) -> None:
    desk.event(1)
    desk.intake.flush(10.0)
    assert desk.intake.due_at <= 10.05
    desk.intake.tick(10.01)
    assert not desk.jobs
    desk.intake.tick(10.03)
    assert len(desk.jobs) == 1
    desk.event(2)
    desk.intake.flush(10.04)
    desk.intake.tick(10.09)
    assert len(desk.jobs) == 1  # one at a time
    desk.run_jobs()
    desk.intake.tick(10.1)
    assert len(desk.jobs) == 1 and desk.intake.syncs == 1


def test_in_mode_always_nothing_is_acknowledged_or_published_before_the_sync() -> None:
    desk = Desk(always=True)
    desk.event(1)
    desk.intake.flush(1.0)
    desk.event(2)
    desk.event(1)  # a duplicate of what is not synced yet
    desk.intake.flush(1.0)
    assert desk.seqs == [1, 2] and not desk.published
    assert all(seq == 0 for _, seq, _ in desk.acknowledged)
    assert desk.intake.published.offset == 0
    desk.run_jobs()
    assert desk.acknowledged[-1] == ("test", 1, False) and len(desk.published) == 1
    desk.run_jobs()
    assert desk.acknowledged[-1] == ("test", 2, False) and len(desk.published) == 2
    assert desk.intake.published == desk.paper.head


def test_in_mode_always_a_sync_that_fails_is_tried_again() -> None:
    desk = Desk(always=True)
    desk.event(1)
    desk.intake.flush(1.0)
    desk.run_jobs(OSError(5, "Input/output error"))
    assert not desk.published and not desk.jobs
    desk.intake.tick(1.2)
    desk.run_jobs()
    assert desk.acknowledged == [("test", 1, False)] and desk.intake.failures == 1


def test_a_sign_of_life_tells_how_far_a_source_is_published(desk: Desk) -> None:
    desk.event(1)
    desk.intake.flush(1.0)
    desk.intake.alive(desk.actor)
    source, position, body = desk.published[-1]
    assert (source, position.what, position.epoch, position.seq, body) == (b"test", Published.ALIVE, 1, 1, b"")
    assert position.offset == desk.intake.published.offset


def test_in_mode_always_a_sign_of_life_does_not_run_ahead() -> None:
    desk = Desk(always=True)
    desk.event(1)
    desk.intake.flush(1.0)
    desk.intake.alive(desk.actor)
    assert (desk.published[-1][1].seq, desk.published[-1][1].offset) == (0, 0)
