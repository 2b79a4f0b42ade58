"""What an agent is started with."""

from pathlib import Path

import pytest

from client.command.agent import all_paths
from client.command.standing import age
from client.tree import CannotStart, environment, stop_tree, supervisor_pid
from settings.paths import resolve_paths


def test_the_agent_does_not_inherit_the_shell() -> None:
    given = {
        "PATH": "/opt/x:.:relative:/usr/bin",
        "HOME": "/home/a",
        "LC_ALL": "C.UTF-8",
        "XDG_RUNTIME_DIR": "/run/user/1",
        "LD_PRELOAD": "/evil.so",
        "PYTHONPATH": "/elsewhere",
        "MAKEFLAGS": "-j",
    }
    found = environment(None, given)
    assert set(found) == {"PATH", "HOME", "LC_ALL", "XDG_RUNTIME_DIR"}
    folders = found["PATH"].split(":")
    assert folders[:2] == ["/opt/x", "/usr/bin"]
    assert "/usr/sbin" in folders
    assert all(folder.startswith("/") for folder in folders)


def test_the_root_that_was_asked_for_counts_and_no_other(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    assert environment(Path("here"), {"VIRTROUPE_ROOT": "/other"})["VIRTROUPE_ROOT"] == str(tmp_path / "here")
    assert "VIRTROUPE_ROOT" not in environment(None, {"VIRTROUPE_ROOT": "/other"})


def test_an_agent_of_another_user_is_not_taken_for_none(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    paths = resolve_paths(tmp_path)
    assert supervisor_pid(paths) == 0 and not stop_tree(paths)

    def refuse(self: Path, *, follow_symlinks: bool = True) -> None:
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr(Path, "stat", refuse)
    with pytest.raises(CannotStart, match="is another user's: Permission denied"):
        stop_tree(paths)


def test_every_path_is_told() -> None:
    told = all_paths(resolve_paths(Path("/r")))
    assert told["sockets"]["libvirt_socket"] == "/r/run/libvirt/libvirt-sock"
    assert told["logs"]["broker"] == "/r/log/broker.log"
    assert told["files"]["config_file"] == "/r/etc/virtroupe.toml"


@pytest.mark.parametrize(
    ("seconds", "text"), [(None, "-"), (0.4, "0 s"), (59, "59 s"), (61, "1 min"), (7200, "2 h"), (200000, "2 d")]
)
def test_ages_are_told_in_their_largest_unit(seconds: float | None, text: str) -> None:
    assert age(seconds) == text
