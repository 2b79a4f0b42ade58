"""The logs of one role, read as one."""

from __future__ import annotations

from pathlib import Path

import pytest

from client.command.logs import follow, last_lines, stamp_of
from settings.paths import Paths, resolve_paths


@pytest.fixture
def paths(tmp_path: Path) -> Paths:
    found = resolve_paths(tmp_path)
    found.log.mkdir()
    return found


def line(second: int, text: str) -> str:
    return f"2026-01-02T03:04:{second:02d}.000Z info    test: {text}\n"


def test_the_slots_of_an_actor_are_merged_by_time(paths: Paths) -> None:
    (paths.log / "test.0.log").write_text(line(1, "a") + line(4, "d"))
    (paths.log / "test.1.log").write_text(line(2, "b") + line(3, "c"))
    assert [text[-1] for text in last_lines(paths, "test", 10)] == ["a", "b", "c", "d"]
    assert [text[-1] for text in last_lines(paths, "test", 2)] == ["c", "d"]


def test_a_traceback_stays_below_the_line_it_follows(paths: Paths) -> None:
    (paths.log / "test.0.log").write_text(line(1, "fails") + "Traceback:\n  File x\n" + line(5, "z"))
    (paths.log / "test.1.log").write_text(line(2, "other"))
    assert [text.split()[-1] for text in last_lines(paths, "test", 9)] == ["fails", "Traceback:", "x", "other", "z"]


def test_what_was_rotated_away_is_read_too(paths: Paths) -> None:
    (paths.log / "broker.log.1").write_text(line(1, "old"))
    (paths.log / "broker.log").write_text(line(2, "new"))
    assert [text.split()[-1] for text in last_lines(paths, "broker", 9)] == ["old", "new"]


def test_lines_of_both_forms_have_a_stamp_that_sorts() -> None:
    text, json = stamp_of(line(7, "x")), stamp_of('{"ts": 1767323047.5, "level": "info"}')
    assert text == "2026-01-02T03:04:07.000Z"
    assert json == "2026-01-02T03:04:07.500Z"
    assert stamp_of("Traceback") is None


def test_following_shows_what_comes_also_after_a_rotation(paths: Paths, monkeypatch: pytest.MonkeyPatch) -> None:
    log = paths.log / "test.0.log"
    log.write_text(line(1, "before"))
    turns = iter(
        [
            lambda: log.write_text(log.read_text() + line(2, "first") + "half"),
            lambda: (log.rename(paths.log / "test.0.log.1"), log.write_text(line(3, "second"))),
            lambda: None,
        ]
    )
    monkeypatch.setattr("client.command.logs.time.sleep", lambda _: next(turns)())
    seen = []
    with pytest.raises(RuntimeError):  # StopIteration of the turns, inside a generator
        for text in follow(paths, "test"):
            seen.append(text.split()[-1])  # noqa: PERF401 - what was seen before the end counts
    assert seen == ["first", "second"]
