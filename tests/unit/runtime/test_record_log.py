from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from actors.runtime.record_log import RecordLog
from schema.errors import HostSystemError


def opened(folder: Path) -> tuple[RecordLog, list[bytes]]:
    log = RecordLog(folder, "x")
    return log, [payload for _, payload in log.load()]


def only_file(folder: Path) -> Path:
    (path,) = folder.glob("x-*.log")
    return path


def test_records_come_back_in_order(tmp_path: Path) -> None:
    log, _ = opened(tmp_path)
    ends = [log.append(bytes([n]) * (n + 1)) for n in range(5)]
    assert [p for _, p in log.read(ends[2])] == [b"\3" * 4, b"\4" * 5]
    log.close()
    assert opened(tmp_path)[1] == [bytes([n]) * (n + 1) for n in range(5)]


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(cut=st.integers(0, 120), junk=st.binary(max_size=20))
def test_whatever_is_torn_at_the_end_costs_only_the_end(
    tmp_path_factory: pytest.TempPathFactory, cut: int, junk: bytes
) -> None:
    folder = tmp_path_factory.mktemp("log")
    log, _ = opened(folder)
    written = [os.urandom(n + 3) for n in range(6)]
    ends = [log.append(payload) for payload in written]
    log.close()
    path = only_file(folder)
    data = path.read_bytes()
    kept = min(cut, len(data))
    path.write_bytes(data[:kept] + junk)
    log, found = opened(folder)
    whole = [payload for payload, end in zip(written, ends, strict=True) if end <= kept]
    assert found[: len(whole)] == whole
    assert len(found) <= len(written)
    log.append(b"after")
    log.close()
    assert opened(folder)[1][-1] == b"after"


def test_reserved_room_is_not_read_as_records(tmp_path: Path) -> None:
    log, _ = opened(tmp_path)
    log.append(b"one")
    log.reserve()
    log.append(b"two")
    log.close()
    assert only_file(tmp_path).stat().st_size > 1000
    assert opened(tmp_path)[1] == [b"one", b"two"]


def test_a_new_segment_takes_the_place_of_the_old_one_when_it_is_complete(tmp_path: Path) -> None:
    log, _ = opened(tmp_path)
    for n in range(10):
        log.append(bytes([n]))
    old = log.start_segment([b"live"])
    log.append(b"next")
    assert len(list(tmp_path.glob("x-*.log"))) == 2
    old.discard()
    log.close()
    assert opened(tmp_path)[1] == [b"live", b"next"]


def test_killed_before_the_old_segment_went(tmp_path: Path) -> None:
    log, _ = opened(tmp_path)
    log.append(b"old")
    log.start_segment([b"live"])
    log.append(b"next")
    log.close()
    assert opened(tmp_path)[1] == [b"live", b"next"]
    assert only_file(tmp_path).name == "x-00000002.log"


def test_an_incomplete_segment_is_dropped_for_its_predecessor(tmp_path: Path) -> None:
    log, _ = opened(tmp_path)
    log.append(b"old")
    log.start_segment([b"live1", b"live2"])
    log.close()
    second = tmp_path / "x-00000002.log"
    second.write_bytes(second.read_bytes()[:-3])
    assert opened(tmp_path)[1] == [b"old"]


def test_what_cannot_be_written_whole_is_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log, _ = opened(tmp_path)
    log.append(b"one")
    original = os.pwrite
    calls = 0

    def short(fd: int, data: bytes, offset: int) -> int:
        nonlocal calls
        calls += 1
        if calls == 1:
            return original(fd, data[:3], offset)
        raise OSError(errno.ENOSPC, "full")

    monkeypatch.setattr(os, "pwrite", short)
    with pytest.raises(HostSystemError, match="No space left") as caught:
        log.append(b"second")
    assert caught.value.int1 == errno.ENOSPC
    monkeypatch.undo()
    log.append(b"three")
    log.close()
    assert opened(tmp_path)[1] == [b"one", b"three"]


def test_a_full_disk_is_noticed_before_a_change(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log, _ = opened(tmp_path)

    def full(fd: int, offset: int, length: int) -> None:
        raise OSError(errno.ENOSPC, "full")

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(HostSystemError, match=r"cannot reserve room in '.*x-00000001.log': No space left"):
        log.reserve()


@pytest.mark.parametrize("is_new", [False, True])
def test_a_log_that_can_only_be_read_is_told_and_written_again_when_it_can(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_new: bool
) -> None:
    if not is_new:
        log = RecordLog(tmp_path, "x")
        list(log.load())
        log.append(b"one")
        log.close()
        with (tmp_path / "x-00000001.log").open("ab") as file:
            file.write(b"torn")
    really, is_held = os.open, True

    def refuse(path: object, flags: int, *more: int) -> int:
        if is_held and flags & (os.O_WRONLY | os.O_RDWR):
            raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(path))
        return really(path, flags, *more)  # type: ignore[call-overload,no-any-return]

    monkeypatch.setattr("actors.runtime.record_log.os.open", refuse)
    log = RecordLog(tmp_path, "x")
    assert [payload for _, payload in log.load()] == ([] if is_new else [b"one"])
    assert log.unwritable is not None
    for write in (lambda: log.append(b"two"), log.reserve, lambda: log.start_segment([])):
        with pytest.raises(HostSystemError, match="Read-only"):
            write()
    log.sync()
    is_held = False
    log.append(b"two")
    assert log.unwritable is None
    log.close()
    again = RecordLog(tmp_path, "x")
    assert [payload for _, payload in again.load()] == ([b"two"] if is_new else [b"one", b"two"])
    again.close()
