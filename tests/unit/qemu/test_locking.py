"""Leases: one guest that writes, or many that share; whoever holds the descriptor has it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from actors.qemu.locking.leases import Resource, holder_of, leases_by_holder, resource_of_file, sweep, take
from actors.qemu.locking.wanted import wanted_of_guest
from schema.errors import ConfigUnsupported, HostSystemError, ResourceBusy
from tests.unit.qemu.test_owning import domain


def test_one_guest_writes(tmp_path: Path) -> None:
    mine = resource_of_file(tmp_path / "leases", "/images/a", shared=False)
    first = take(mine, "one")
    assert holder_of(mine) == "one"
    for shared in (False, True):
        with pytest.raises(ResourceBusy, match="Lockspace resource '/images/a' is locked"):
            take(resource_of_file(tmp_path / "leases", "/images/a", shared=shared), "two")
    assert holder_of(mine) == "one"
    # QEMU's copy of the descriptor holds it as well
    copy = os.dup(first)
    os.close(first)
    with pytest.raises(ResourceBusy):
        take(mine, "two")
    os.close(copy)
    os.close(take(mine, "two"))


def test_many_share(tmp_path: Path) -> None:
    shared = resource_of_file(tmp_path, "/images/a", shared=True)
    fds = [take(shared, "one"), take(shared, "two")]
    with pytest.raises(ResourceBusy):
        take(resource_of_file(tmp_path, "/images/a", shared=False), "three")
    for fd in fds:
        os.close(fd)
    os.close(take(resource_of_file(tmp_path, "/images/a", shared=False), "three"))


def test_two_names_of_one_image_are_one_lease(tmp_path: Path) -> None:
    (tmp_path / "image").touch()
    (tmp_path / "link").symlink_to(tmp_path / "image")
    one = resource_of_file(tmp_path, str(tmp_path / "image"), shared=False)
    two = resource_of_file(tmp_path, str(tmp_path / "link"), shared=False)
    assert one.handle == two.handle and one.file == two.file


def test_files_of_leases_that_nobody_has_are_swept(tmp_path: Path) -> None:
    kept, free = (resource_of_file(tmp_path, path, shared=False) for path in ("/a", "/b"))
    held = take(kept, "one")
    os.close(take(free, "two"))
    assert leases_by_holder(tmp_path) == {"one": {kept.handle}, "two": {free.handle}}
    sweep(tmp_path)
    assert kept.file.exists() and not free.file.exists()
    os.close(held)
    sweep(tmp_path / "not there")


def test_a_folder_that_cannot_be_used_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(HostSystemError, match="cannot open the lease"):
        take(resource_of_file(tmp_path / "file", "/a", shared=False), "one")


def test_what_a_guest_needs(tmp_path: Path) -> None:
    devices = (
        "<disk type='file' device='disk'><source file='/top'/><backingStore type='file'><format type='raw'/>"
        "<source file='/base'/><backingStore/></backingStore><target dev='vda' bus='virtio'/></disk>"
        "<disk type='block' device='disk'><source dev='/dev/sdx'/><target dev='vdb' bus='virtio'/><shareable/></disk>"
        "<disk type='file' device='disk'><source file='/ro'/><target dev='vdc' bus='virtio'/><readonly/></disk>"
        f"<lease><lockspace>x</lockspace><key>mine</key><target path='{tmp_path}/space'/></lease>"
    )
    found = sorted(wanted_of_guest(domain(devices), tmp_path).values(), key=lambda one: one.name)
    assert [(one.name, one.shared) for one in found] == [("/dev/sdx", True), ("/top", False), ("mine", False)]
    assert found[-1].file == tmp_path / "space" / "mine"
    fd = take(found[-1], "one")
    with pytest.raises(ResourceBusy, match="'mine' is locked"):
        take(found[-1], "two")
    os.close(fd)


def test_leases_of_the_definition(tmp_path: Path) -> None:
    path = tmp_path / "space"
    path.write_bytes(b"kept")

    def wanted(key: str, target: str, offset: str) -> Resource:
        text = f"<lease><lockspace>x</lockspace><key>{key}</key><target path='{target}' offset='{offset}'/></lease>"
        (one,) = wanted_of_guest(domain(text), tmp_path).values()
        return one

    fds = [take(wanted("a", str(path), offset), "one") for offset in ("0", "512")]
    with pytest.raises(ResourceBusy):
        take(wanted("a", str(path), "512"), "two")
    assert path.read_bytes() == b"kept"
    for fd in fds:
        os.close(fd)
    with pytest.raises(ConfigUnsupported, match="Offset must be zero"):
        wanted("a", str(tmp_path / "folder"), "4096")
    with pytest.raises(ConfigUnsupported, match="cannot be the key"):
        wanted("../a", str(tmp_path / "folder"), "0")
