"""The journal: what it keeps, what it repairs, and what it admits to have lost."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from broker.journal import BEGINNING, Entry, Journal, Lost, Part, read_part, remove_segments
from broker.segments import SegmentError
from broker.wire import Cursor, pack_value, unpack_value
from settings.config import JournalSettings


def record(seq: int, source: str = "test", epoch: int = 1, size: int = 20) -> bytes:
    return pack_value({"source": source, "epoch": epoch, "seq": seq, "kind": "changed", "pad": b"x" * size})


def entry(seq: int, source: str = "test", epoch: int = 1, size: int = 20) -> Entry:
    return Entry(source, epoch, seq, record(seq, source, epoch, size))


class Desk:
    """Opens journals in one folder, as brokers that follow each other would."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.wall = 1_000_000.0
        self.settings = JournalSettings(segment_bytes=1000, retain_bytes=5000, retain_s=100.0)
        self._open: list[Journal] = []

    def open(self, boot_id: str = "boot 1") -> Journal:
        journal = Journal(self.folder, self.settings, boot_id=boot_id, wall=lambda: self.wall)
        self._open.append(journal)
        return journal

    def kill(self, journal: Journal) -> None:
        """What is written stays, nothing else happens."""
        os.close(journal._fd)
        journal._fd = -1

    def last_file(self) -> Path:
        return sorted(self.folder.glob("*.segment"))[-1]

    def end(self) -> None:
        for journal in self._open:
            for fd in (*journal._closing, journal._fd):
                if fd >= 0:
                    os.close(fd)


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    desk = Desk(tmp_path / "journal")
    yield desk
    desk.end()


def read(
    journal: Journal, after: Cursor = BEGINNING, sources: frozenset[str] | None = None, limit: int = 7
) -> list[int]:
    """All sequence numbers after a cursor, part by part."""
    found: list[int] = []
    place = journal.place(after, journal.head)
    assert not isinstance(place, Lost), place
    while True:
        part = read_part(journal.segments, place, journal.head, sources, limit)
        assert isinstance(part, Part)
        assert len(part.records) <= limit
        found += [unpack_value(data)["seq"] for _, data in part.records]
        place = part.next.offset
        if part.is_end:
            assert part.next == journal.head
            return found


def test_records_are_read_in_the_order_in_which_they_were_written(desk: Desk) -> None:
    journal = desk.open()
    for first in range(1, 100, 3):
        journal.append([entry(first), entry(first + 1), entry(first + 2)])
    assert read(journal) == list(range(1, 100))
    assert len(journal.segments) > 3
    assert journal.last("test") == (1, 99) and journal.last("qemu") == (0, 0)


def test_offsets_of_neighbours_differ_by_the_record_and_eight(desk: Desk) -> None:
    journal = desk.open()
    entries = [entry(seq, size=seq) for seq in range(1, 60)]
    offsets = [offset for one in entries for offset in journal.append([one])]
    before = 0
    for one, offset in zip(entries, offsets, strict=True):
        assert offset - len(one.record) - 8 == before
        before = offset
    assert journal.head == Cursor(journal.generation, offsets[-1])


def test_a_replay_begins_right_after_its_cursor(desk: Desk) -> None:
    journal = desk.open()
    offsets = [journal.append([entry(seq)])[0] for seq in range(1, 80)]
    for index in (0, 1, 30, 77):
        assert read(journal, Cursor(journal.generation, offsets[index])) == list(range(index + 2, 80))
    assert read(journal, journal.head) == []


def test_a_replay_gives_each_record_with_the_cursor_after_it(desk: Desk) -> None:
    journal = desk.open()
    offsets = [journal.append([entry(seq)])[0] for seq in range(1, 40)]
    part = read_part(journal.segments, 0, journal.head, None, 1000)
    assert isinstance(part, Part)
    assert [cursor for cursor, _ in part.records] == [Cursor(journal.generation, offset) for offset in offsets]


def test_a_replay_can_be_of_some_sources_only(desk: Desk) -> None:
    journal = desk.open()
    for seq in range(1, 41):
        journal.append([entry(seq), entry(seq + 100, "qemu")])
    assert read(journal, sources=frozenset({"qemu"})) == list(range(101, 141))
    assert read(journal, sources=frozenset({"lxc"})) == []


def test_a_record_longer_than_a_piece_is_read_whole(desk: Desk) -> None:
    journal = desk.open()
    journal.append([entry(1), entry(2, size=2_000_000), entry(3)])
    assert read(journal) == [1, 2, 3]


def test_a_cursor_in_the_middle_of_a_record_is_noticed(desk: Desk) -> None:
    journal = desk.open()
    journal.append([entry(seq) for seq in range(1, 10)])
    for offset in (1, 5, 9, 13):
        with pytest.raises(SegmentError):
            read_part(journal.segments, offset, journal.head, None, 100)


@pytest.mark.parametrize("is_last", [False, True])
def test_history_behind_a_damaged_record_is_lost_and_the_rest_is_told(desk: Desk, is_last: bool) -> None:
    journal = desk.open()
    for seq in range(1, 60):
        journal.append([entry(seq)])
    segments = journal.segments
    hurt = segments[-1 if is_last else 1]
    length = 8 + len(record(40))
    with hurt.path.open("r+b") as file:
        file.seek(hurt.head_length + 2 * length + 20)
        file.write(b"\xff" * 8)
    before = read_part(segments, 0, journal.head, None, 100)
    assert isinstance(before, Part) and not before.is_end
    assert [unpack_value(data)["seq"] for _, data in before.records] == list(range(1, len(before.records) + 1))
    assert before.next.offset > hurt.start
    behind = read_part(segments, before.next.offset, journal.head, None, 100)
    assert isinstance(behind, Lost)
    assert behind.first.offset == (journal.head.offset if is_last else segments[2].start)
    if not is_last:
        after = read_part(segments, behind.first.offset, journal.head, None, 100)
        assert isinstance(after, Part) and after.is_end and unpack_value(after.records[-1][1])["seq"] == 59
    with pytest.raises(SegmentError):
        read_part(segments, hurt.start + 3, journal.head, None, 100)


def test_a_broker_that_was_killed_goes_on_in_the_same_generation(desk: Desk) -> None:
    journal = desk.open()
    journal.append([entry(seq) for seq in range(1, 50)])
    head = journal.head
    desk.kill(journal)
    again = desk.open()
    assert again.head == head and again.lost_tail == ""
    assert again.last("test") == (1, 49)
    again.append([entry(50)])
    assert read(again, head) == [50]


def test_a_torn_record_is_cut_off_and_nothing_was_lost(desk: Desk) -> None:
    journal = desk.open()
    journal.append([entry(1), entry(2)])
    head = journal.head
    desk.kill(journal)
    whole = desk.last_file().read_bytes()
    for torn in (b"\0\0", b"\0\0\0\x20\1\2\3\4", record(3)[:4] + bytes(4) + record(3)[:9]):
        torn = (200).to_bytes(4, "big") + torn if len(torn) > 8 else torn
        desk.last_file().write_bytes(whole + torn)
        again = desk.open()
        assert again.head == head and again.lost_tail == ""
        assert read(again) == [1, 2]
        again.append([entry(3)])
        assert read(again) == [1, 2, 3]
        desk.kill(again)


def test_after_an_orderly_stop_a_reboot_loses_nothing(desk: Desk) -> None:
    journal = desk.open()
    journal.append([entry(1)])
    head = journal.head
    journal.close()
    assert desk.open("boot 2").head == head


def test_a_journal_that_was_cut_after_an_orderly_stop_begins_a_new_generation(desk: Desk) -> None:
    journal = desk.open()
    journal.append([entry(1), entry(2)])
    head = journal.head
    journal.close()
    os.truncate(desk.last_file(), desk.last_file().stat().st_size - 5)
    again = desk.open()
    assert again.generation > head.generation and "not as it was left" in again.lost_tail
    assert isinstance(again.place(head, again.head), Lost)
    assert read(again) == [1]


def test_a_host_crash_begins_a_new_generation(desk: Desk) -> None:
    journal = desk.open()
    offsets = [journal.append([entry(seq)])[0] for seq in range(1, 10)]
    old = journal.generation
    desk.kill(journal)
    lost = len(record(9)) + 8
    desk.last_file().write_bytes(desk.last_file().read_bytes()[:-lost])
    again = desk.open("boot 2")
    assert again.generation > old and again.lost_tail
    assert again.last("test") == (1, 8)
    again.append([entry(9, epoch=2)])
    # a subscriber that had seen only what is left goes on, one that had seen more is told
    assert read(again, Cursor(old, offsets[3])) == [5, 6, 7, 8, 9]
    assert read(again, Cursor(old, offsets[7])) == [9]
    assert isinstance(again.place(Cursor(old, offsets[8]), again.head), Lost)


def test_a_damaged_record_begins_a_new_generation_even_without_a_reboot(desk: Desk) -> None:
    journal = desk.open()
    offsets = [journal.append([entry(seq)])[0] for seq in range(1, 5)]
    old = journal.generation
    desk.kill(journal)
    data = bytearray(desk.last_file().read_bytes())
    data[-len(record(4)) - 8 - 5] ^= 0xFF
    desk.last_file().write_bytes(data)
    again = desk.open()
    assert again.generation > old and "damaged" in again.lost_tail
    assert read(again) == [1, 2]
    assert read(again, Cursor(old, offsets[1])) == []
    assert isinstance(again.place(Cursor(old, offsets[2]), again.head), Lost)
    desk.kill(again)
    third = desk.open()
    assert third.generation == again.generation
    third.append([entry(3, epoch=2)])
    assert read(third) == [1, 2, 3]


def test_a_tail_of_zeros_is_not_taken_for_records(desk: Desk) -> None:
    journal = desk.open()
    journal.append([entry(1)])
    desk.kill(journal)
    desk.last_file().write_bytes(desk.last_file().read_bytes() + bytes(4096))
    assert read(desk.open("boot 2")) == [1]


def test_a_wiped_journal_does_not_reuse_a_generation(desk: Desk) -> None:
    journal = desk.open()
    journal.append([entry(1)])
    old = journal.head
    desk.kill(journal)
    for path in desk.folder.iterdir():
        path.unlink()
    desk.wall += 1
    again = desk.open()
    assert isinstance(again.place(old, again.head), Lost)


def test_a_file_that_is_no_segment_is_put_aside(desk: Desk) -> None:
    journal = desk.open()
    journal.append([entry(1)])
    desk.kill(journal)
    (desk.folder / "00000000000000009999.ff.segment").write_bytes(b"VTJ1 but not really")
    again = desk.open()
    assert read(again) == [1]
    assert (desk.folder / "00000000000000009999.ff.lost").exists()


def test_a_segment_goes_when_the_journal_is_too_large_and_the_segment_too_old(desk: Desk) -> None:
    journal = desk.open()
    for seq in range(1, 200):
        journal.append([entry(seq)])
        desk.wall += 0.1
    assert journal.size > 10_000
    assert journal.retire() == []  # large, but nothing is old
    desk.wall += 200
    gone = journal.retire()
    assert gone and journal.size >= 5000
    remove_segments(gone)
    assert isinstance(journal.place(Cursor(journal.generation, 0), journal.head), Lost)
    left = read(journal)
    assert left == list(range(left[0], 200)) and left[0] > 1
    desk.kill(journal)
    again = desk.open()
    assert read(again) == left and again.first == journal.first
    assert again.last("test") == (1, 199)


def test_what_was_last_said_is_known_even_when_its_segment_is_gone(desk: Desk) -> None:
    journal = desk.open()
    journal.append([entry(77, "qemu", epoch=5)])
    for seq in range(1, 300):
        journal.append([entry(seq)])
    desk.wall += 1000
    remove_segments(journal.retire())
    desk.kill(journal)
    assert desk.open().last("qemu") == (5, 77)


def test_a_write_that_fails_leaves_nothing_behind(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    journal = desk.open()
    journal.append([entry(1)])
    head = journal.head
    real = os.write

    def half(fd: int, data: bytes) -> int:
        return real(fd, data[: len(data) // 2])

    monkeypatch.setattr("broker.journal.os.write", half)
    with pytest.raises(OSError, match="No space"):
        journal.append([entry(2)])
    monkeypatch.setattr("broker.journal.os.write", real)
    assert journal.head == head and journal.last("test") == (1, 1)
    journal.append([entry(2)])
    assert read(journal) == [1, 2]
    desk.kill(journal)
    assert read(desk.open()) == [1, 2]


def test_sync_covers_full_segments_too(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    journal = desk.open()
    for seq in range(1, 60):
        journal.append([entry(seq)])
    synced: list[int] = []
    monkeypatch.setattr("broker.journal.os.fdatasync", synced.append)
    journal.sync()()
    assert len(synced) == len(journal.segments)
    assert journal._closing == []


def test_a_segment_that_vanishes_under_a_reader_is_lost_history(desk: Desk) -> None:
    journal = desk.open()
    for seq in range(1, 60):
        journal.append([entry(seq)])
    segments = journal.segments
    segments[0].path.unlink()
    found = read_part(segments, 0, journal.head, None, 100)
    assert isinstance(found, Lost) and found.first.offset == segments[1].start


# --- a folder that takes nothing


@pytest.fixture
def unwritable(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[bool]]:
    """Root may write anywhere, so the kernel's answer is made here; clearing the list lifts it."""
    really, held = os.open, [True]

    def refuse(path: object, flags: int, *more: int) -> int:
        if held and flags & (os.O_WRONLY | os.O_RDWR):
            raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(path))
        return really(path, flags, *more)  # type: ignore[call-overload,no-any-return]

    monkeypatch.setattr("broker.journal.os.open", refuse)
    yield held


@pytest.mark.parametrize("is_empty", [False, True])
def test_it_is_read_where_nothing_can_be_written_and_goes_on_when_it_can(
    desk: Desk, unwritable: list[bool], is_empty: bool
) -> None:
    kept = list(unwritable)
    unwritable.clear()
    generation = 0
    if not is_empty:
        first = desk.open()
        first.append([entry(1), entry(2)])
        generation = first.generation
        first.close()
    unwritable += kept
    journal = desk.open()
    assert journal.unwritable is not None
    assert journal.last("test") == ((0, 0) if is_empty else (1, 2))
    if not is_empty:
        part = read_part(journal.segments, 0, journal.head, None, 10)
        assert isinstance(part, Part)
        assert [unpack_value(record)["seq"] for _, record in part.records] == [1, 2]
        assert journal.generation == generation
    with pytest.raises(OSError, match="Read-only"):
        journal.append([entry(3)])
    assert journal.retire() == []
    unwritable.clear()
    journal.append([entry(3)])
    assert journal.unwritable is None
    assert journal.last("test") == (1, 3)
    journal.close()
    assert desk.open().last("test") == (1, 3)
