"""Epochs on disk, and beside it where nothing can be written."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from broker import epochs
from broker.epochs import load_epochs, load_or_make_key, save_epochs
from broker.registry import Incarnation


def test_the_newest_epoch_counts_wherever_it_was_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    state, spare = tmp_path / "state", tmp_path / "epochs.json"
    state.mkdir()
    save_epochs(state, spare, {"test": Incarnation(3, 30)})
    assert not spare.exists()
    really = os.open

    def refuse(path: object, flags: int, *more: int) -> int:
        if flags & os.O_CREAT and str(path).startswith(str(state)):
            raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(path))
        return really(path, flags, *more)  # type: ignore[call-overload,no-any-return]

    with monkeypatch.context() as patch:
        patch.setattr(epochs.os, "open", refuse)
        save_epochs(state, spare, {"test": Incarnation(4, 40), "qemu": Incarnation(1, 50)})
        assert len(load_or_make_key(state)) == 32
    assert load_epochs(state) == {"test": Incarnation(3, 30)}
    assert load_epochs(state, spare) == {"test": Incarnation(4, 40), "qemu": Incarnation(1, 50)}
    save_epochs(state, spare, {"test": Incarnation(5, 60)})
    assert load_epochs(state, spare) == {"test": Incarnation(5, 60)}
    assert not spare.exists()


def test_another_fault_is_told(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        save_epochs(tmp_path / "nowhere", tmp_path / "epochs.json", {})
