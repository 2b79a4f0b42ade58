"""What one warden leaves to the next."""

import os
from pathlib import Path

from tests.unit.warden.test_charge import running
from warden.deeds import Phase
from warden.memo import Remembered, read_memo, tree_of, write_memo


def test_a_memo_is_read_as_it_was_written(tmp_path: Path) -> None:
    path = tmp_path / "memo.json"
    one = running()
    one.budget.crash(5.0, was_ready=True)
    one.crashes = 4
    write_memo(path, "tree", [one])
    assert read_memo(path, "tree") == {"test": Remembered(Phase.UP, "", 0, 4, [5.0])}


def test_the_memo_of_another_tree_says_nothing(tmp_path: Path) -> None:
    path = tmp_path / "memo.json"
    write_memo(path, "tree", [running()])
    assert read_memo(path, "other") is None


def test_a_torn_or_strange_memo_says_nothing(tmp_path: Path) -> None:
    path = tmp_path / "memo.json"
    assert read_memo(path, "tree") is None
    for text in ("", "{", "[]", '{"tree": "tree"}', '{"tree": "tree", "actors": {"test": {"phase": "dancing"}}}'):
        path.write_text(text)
        assert read_memo(path, "tree") is None


def test_a_tree_is_told_from_every_other() -> None:
    assert tree_of(os.getpid()).startswith(f"{os.getpid()} ")
    assert tree_of(os.getpid()) != tree_of(os.getppid())
    assert tree_of(2**22 + 1) == ""
