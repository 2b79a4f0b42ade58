"""What `up` tells to type next."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from client.command.agent import next_words, own_command
from client.command.context import Options
from settings.paths import resolve_paths


def test_the_command_is_named_as_it_is_reached_from_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "prefix", str(tmp_path / "venv"))
    monkeypatch.chdir(tmp_path)
    assert own_command() == "venv/bin/virtroupe"
    monkeypatch.chdir("/")
    assert own_command() == f"{tmp_path}/venv/bin/virtroupe"


def test_in_libvirts_place_virsh_needs_no_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = resolve_paths(tmp_path / "root")
    folder = tmp_path / "libvirt"
    monkeypatch.setattr("settings.paths.libvirt_folder", lambda: folder)
    emulator = tmp_path / "bin" / "qemu-system-x86_64"
    emulator.parent.mkdir()
    emulator.touch(0o755)
    paths.config.mkdir(parents=True)
    paths.libvirt_socket.parent.mkdir(parents=True)
    paths.libvirt_socket.touch()
    folder.mkdir()
    told = next_words(Options(root=paths.config.parent), paths)
    assert f"socket={paths.libvirt_socket}" in told
    paths.config_file.write_text(f"[gateway]\ndrop_in = true\n[qemu]\nemulator_folders = ['{emulator.parent}']\n")
    assert "in libvirt's place" not in next_words(Options(root=paths.config.parent), paths), "another serves there"
    (folder / paths.libvirt_socket.name).symlink_to(paths.libvirt_socket)
    assert "  virsh list --all      # in libvirt's place" in next_words(Options(root=paths.config.parent), paths)
