from __future__ import annotations

import errno
from pathlib import Path
from typing import Any

import msgspec
import pytest

from actors.runtime import publisher as module
from actors.runtime.ledger import Ledger, LedgerEvent
from actors.runtime.objects import CHANGED, Entry, Objects
from actors.runtime.publisher import WINDOW, Publisher
from actors.runtime.record_log import RecordLog
from schema.errors import HostSystemError, InvalidMessage
from tests.unit.runtime.house import DEVNULL, FakeBroker, summary
from util.structured_log import StructuredLog

LOG = StructuredLog("toy", fd=DEVNULL)


class Desk:
    """A publisher, its ledger and a broker that acknowledges nothing by itself."""

    def __init__(self, folder: Path, *, epoch: int = 1, last: tuple[int, int] = (0, 0)) -> None:
        self.broker = FakeBroker()
        self.ledger = Ledger(folder)
        self.ledger.load(last[1])
        self.publisher = Publisher("toy", self.ledger, LOG)
        self.publisher.begin(self.broker, epoch, last)
        self.objects = Objects()
        self.objects.attach(self.publisher)

    def put(self, count: int = 1, name: str = "a") -> None:
        for _ in range(count):
            self.objects.put("domain", name.encode(), name, summary())

    def acknowledge(self) -> None:
        """The broker has everything that it was sent; says so until nothing more comes."""
        before = -1
        while self.broker.seqs and self.broker.seqs[-1] != before:
            before = self.broker.seqs[-1]
            self.publisher.acknowledged(before, resend=False)


def test_numbers_grow_by_one_and_versions_per_object(tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    desk.put(2)
    desk.put(name="b")
    assert desk.broker.seqs == [1, 2, 3, 4]
    assert [record["version"] for record in desk.broker.records] == [0, 1, 2, 1]
    assert [record["origin"] for record in desk.broker.records] == ["host", "guest", "guest", "guest"]


def test_events_of_one_change_share_its_version(tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    desk.objects.put("domain", b"a", "a", summary(), events=[("changed", {}), ("changed", {"what": "xml"})])
    assert [record["version"] for record in desk.broker.records] == [0, 1, 1]


def test_an_event_that_does_not_fit_the_schema_changes_nothing(tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    with pytest.raises(InvalidMessage, match="domain_event_lifecycle"):
        desk.objects.put("domain", b"a", "a", summary(), events=[*CHANGED, ("domain_event_lifecycle", {"event": 0})])
    assert desk.broker.kinds() == ["epoch"]
    assert desk.objects.find("domain", b"a") is None


def test_at_most_a_window_is_on_its_way_and_the_rest_waits_on_disk(tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    desk.put(3 * WINDOW)
    assert desk.broker.seqs[-1] == WINDOW
    assert len(desk.publisher._in_flight) == WINDOW
    desk.acknowledge()
    assert desk.broker.seqs == list(range(1, 3 * WINDOW + 2))
    assert desk.publisher.unacknowledged == 0


def test_while_the_broker_is_away_changes_go_on_and_all_is_sent_after(tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    desk.put()
    desk.publisher.acknowledged(2, resend=False)
    desk.publisher.lost()
    desk.put(10)
    assert desk.broker.seqs == [1, 2]
    desk.publisher.resume(2)
    assert desk.broker.seqs == list(range(1, 13))


def test_what_was_sent_and_not_acknowledged_is_sent_again(tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    desk.put(5)
    desk.publisher.lost()
    desk.publisher.resume(3)
    assert desk.broker.seqs == [1, 2, 3, 4, 5, 6, 4, 5, 6]
    desk.publisher.acknowledged(4, resend=True)
    assert desk.broker.seqs[-2:] == [5, 6]


def test_a_journal_that_lost_its_tail_gets_it_again(tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    desk.put(5)
    desk.acknowledge()
    desk.publisher.lost()
    desk.publisher.resume(3)
    assert desk.broker.seqs[-3:] == [4, 5, 6]
    assert desk.broker.records[-1] == desk.broker.records[5]


def test_a_journal_that_lost_more_than_is_kept_is_not_blocked(tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    desk.put(2 * 256)
    desk.acknowledge()
    old = desk.ledger.compact([])
    old.discard()
    desk.publisher._unread = desk.ledger.end
    desk.publisher.resume(3)
    desk.put()
    assert desk.broker.seqs[-1] == 2 * 256 + 2


def test_a_number_is_never_used_twice_even_without_a_ledger(tmp_path: Path) -> None:
    desk = Desk(tmp_path / "new", epoch=5, last=(4, 700))
    assert desk.broker.seqs == [701]
    assert desk.broker.records[0]["data"]["previous"] == [4, 700]


def test_a_ledger_ahead_of_a_journal_that_cannot_have_it_goes_on_from_the_ledger(tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    desk.put(5)
    desk.acknowledge()
    desk.ledger.compact([]).discard()
    desk.ledger.close()
    after = Desk(tmp_path, epoch=2, last=(1, 2))
    assert after.broker.seqs == [7]
    assert after.broker.records[0]["data"]["previous"] == [1, 6]


def test_compaction_keeps_objects_and_what_was_not_heard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    desk = Desk(tmp_path)
    monkeypatch.setattr("actors.runtime.ledger.COMPACT_BYTES", 10_000)
    desk.put(1000)
    desk.put(name="b")
    desk.objects.drop("domain", b"b")
    desk.acknowledge()
    desk.put(2)
    before = desk.ledger.end
    desk.publisher.tick()
    assert desk.ledger.end < before
    desk.put()
    desk.ledger.close()
    after = Desk(tmp_path, epoch=2, last=(1, desk.publisher.seq - 3))
    kinds = [(r["kind"], r["version"]) for r in after.broker.records]
    assert kinds == [("epoch", 0), ("changed", 1001), ("changed", 1002), ("changed", 1003)]
    assert after.ledger.entries["domain", "toy:///", b"a"].version == 1003
    assert after.ledger.tombs["domain", "toy:///", b"b"] == 2
    assert len(list(tmp_path.glob("ledger-*.log"))) == 1


def test_a_disk_that_is_full_refuses_changes_and_loses_no_event(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk = Desk(tmp_path)
    desk.put()

    def full(self: RecordLog, payload: bytes) -> int:
        raise HostSystemError(errno.ENOSPC, "cannot write")

    original = RecordLog.append
    monkeypatch.setattr(RecordLog, "append", full)
    desk.put(3)  # what already happened
    assert desk.broker.seqs == [1, 2, 3, 4, 5]
    with pytest.raises(HostSystemError):
        desk.publisher.check_writable()
    desk.publisher.tick()
    monkeypatch.setattr(RecordLog, "append", original)
    desk.publisher.check_writable()
    desk.put()
    assert desk.broker.seqs == [1, 2, 3, 4, 5, 6]
    desk.ledger.close()
    after = Desk(tmp_path, epoch=2, last=(1, 2))
    assert [r["version"] for r in after.broker.records] == [0, 2, 3, 4, 5]


def test_a_disk_that_is_full_while_the_broker_is_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    desk = Desk(tmp_path)
    desk.publisher.lost()
    desk.put()

    def full(self: RecordLog, payload: bytes) -> int:
        raise HostSystemError(errno.ENOSPC, "cannot write")

    with monkeypatch.context() as patch:
        patch.setattr(RecordLog, "append", full)
        desk.put(3)
        desk.publisher.resume(1)
        assert desk.broker.seqs == [1, 2, 3, 4, 5]
    desk.publisher.tick()
    desk.put()
    assert desk.broker.seqs == [1, 2, 3, 4, 5, 6]


def test_memory_is_bounded_whatever_the_broker_does(tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    desk.publisher.lost()
    desk.put(5000)
    publisher: Any = desk.publisher
    assert len(publisher._in_flight) <= WINDOW
    assert not publisher._unwritten
    assert len(desk.ledger.calls) == 0
    assert module.WINDOW_BYTES > 0


def test_the_ledger_survives_a_torn_tail(tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    desk.put(3)
    desk.ledger.close()
    (path,) = tmp_path.glob("ledger-*.log")
    data = path.read_bytes()
    path.write_bytes(data[:-5])
    after = Desk(tmp_path, epoch=2, last=(1, 1))
    assert [r["version"] for r in after.broker.records] == [0, 1, 2]


TWO = [("changed", {"what": "one"}), ("changed", {"what": "two"})]


@pytest.mark.parametrize("lost", [1, 40, 200, 10_000])
def test_a_killed_process_leaves_all_events_of_a_change_or_none(tmp_path: Path, lost: int) -> None:
    desk = Desk(tmp_path)
    desk.put()
    before = desk.ledger.end
    desk.objects.put("domain", b"a", "a", summary(), events=TWO)
    desk.ledger.close()
    (path,) = tmp_path.glob("ledger-*.log")
    with path.open("r+b") as file:
        file.truncate(max(before, desk.ledger.end - lost))
    after = Desk(tmp_path, epoch=2, last=(1, 2))
    assert after.broker.kinds() == ["epoch"]
    assert after.ledger.entries["domain", "toy:///", b"a"].version == 1


def test_of_a_change_whose_first_event_was_heard_the_others_follow_once(tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    desk.objects.put("domain", b"a", "a", summary(), events=TWO)
    desk.put()
    desk.ledger.close()
    after = Desk(tmp_path, epoch=2, last=(1, 2))
    assert [r["data"].get("what") for r in after.broker.records] == [None, "two", None]
    assert after.broker.seqs == [3, 4, 5]


def test_the_window_may_end_amid_a_change(tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    desk.put(WINDOW - 2)
    desk.objects.put("domain", b"a", "a", summary(), events=[*TWO, *TWO])
    desk.put()
    assert desk.broker.seqs[-1] == WINDOW
    desk.acknowledge()
    assert desk.broker.seqs == list(range(1, WINDOW + 5))


def test_an_event_in_the_ledger_is_what_was_sent(tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    entry = Entry("domain", "toy:///", b"a", "a", dict(summary()), 1, b"digest")
    desk.publisher.record(CHANGED, entry)
    event = [event for _, event in desk.ledger.events_behind(0)][-1]
    assert event == LedgerEvent(2, event.record, b"a", b"digest")
    assert msgspec.msgpack.decode(event.record) == desk.broker.records[-1]


def test_a_long_absence_of_the_broker_is_made_up_for_in_bounded_memory(tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    desk.publisher.lost()
    desk.put(5 * WINDOW)
    desk.ledger.close()
    after = Desk(tmp_path, epoch=2, last=(1, 1))
    assert len(after.broker.seqs) == WINDOW
    after.acknowledge()
    assert after.broker.seqs == list(range(2, 5 * WINDOW + 3))
    assert [r["version"] for r in after.broker.records] == [0, *range(1, 5 * WINDOW + 1)]
