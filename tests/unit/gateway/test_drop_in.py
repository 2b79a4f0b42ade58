from __future__ import annotations

import os
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.drop_in import DropIn
from settings.paths import resolve_paths
from util.structured_log import StructuredLog

NAMES = ("libvirt-sock", "libvirt-sock-ro", "libvirt-admin-sock")


@pytest.fixture
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="vt", dir="/tmp") as name:
        yield Path(name)


@pytest.fixture
def drop_in(folder: Path) -> Iterator[DropIn]:
    read, write = os.pipe()
    yield DropIn(folder / "libvirt", resolve_paths(folder / "root"), StructuredLog("gateway", fd=write))
    os.close(read)
    os.close(write)


def links(folder: Path) -> dict[str, Path]:
    return {path.name: path.readlink() for path in (folder / "libvirt").iterdir() if path.is_symlink()}


def test_links_lead_to_our_sockets_and_go_at_the_end(drop_in: DropIn, folder: Path) -> None:
    assert drop_in.make()
    assert drop_in.make()
    run = folder / "root" / "run" / "libvirt"
    sockets = {name: run / name for name in NAMES}
    assert links(folder) == {**sockets, "qemu": folder / "root" / "run" / "qemu"}
    drop_in.remove()
    assert links(folder) == {}


def test_what_a_dead_daemon_left_is_replaced(drop_in: DropIn, folder: Path) -> None:
    (folder / "libvirt").mkdir()
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(folder / "libvirt" / "libvirt-sock"))
    assert drop_in.make()
    assert set(links(folder)) == {*NAMES, "qemu"}


def test_another_drivers_folder_stays(drop_in: DropIn, folder: Path) -> None:
    (folder / "libvirt" / "qemu").mkdir(parents=True)
    assert drop_in.make()
    assert set(links(folder)) == set(NAMES)


def test_a_daemon_that_serves_is_left_alone(drop_in: DropIn, folder: Path) -> None:
    (folder / "libvirt").mkdir()
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(folder / "libvirt" / "libvirt-sock-ro"))
        sock.listen(1)
        assert not drop_in.make()
    assert links(folder) == {}


def test_links_of_others_stay(drop_in: DropIn, folder: Path) -> None:
    (folder / "libvirt").mkdir()
    (folder / "libvirt" / "libvirt-sock").symlink_to("/nowhere")
    drop_in.remove()
    assert links(folder) == {"libvirt-sock": Path("/nowhere")}
