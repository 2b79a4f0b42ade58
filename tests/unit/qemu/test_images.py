"""Backing chains as images tell them."""

from __future__ import annotations

import os
import struct
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.qemu.block import heads
from actors.qemu.images import Backing, complete_chains, read_backing
from conf.domain.disk import Disk
from schema.errors import HostSystemError, OperationFailed, OperationTimeout
from tests.unit.qemu.test_command import domain_of


def image(path: Path, backing: str = "", format_name: str | None = None, version: int = 3) -> str:
    """A qcow2 header with nothing behind it."""
    size = 104 if version == 3 else 72
    extension = b""
    if format_name is not None:
        data = format_name.encode()
        extension = struct.pack(">II", 0xE2792ACA, len(data)) + data + b"\0" * (-len(data) % 8)
    extension += struct.pack(">II", 0, 0)
    offset = size + len(extension) if backing else 0
    head = struct.pack(">4sIQI", b"QFI\xfb", version, offset, len(backing))
    head = head.ljust(100, b"\0") + struct.pack(">I", size) if version == 3 else head.ljust(72, b"\0")
    path.write_bytes(head + extension + backing.encode() + b"\0" * 64)
    return str(path)


def test_an_image_alone_and_one_on_another(tmp_path: Path) -> None:
    assert read_backing(image(tmp_path / "a"), "qcow2") is None
    assert read_backing(image(tmp_path / "b", "base", "raw"), "qcow2") == Backing("base", "raw")
    assert read_backing(image(tmp_path / "c", "base"), "qcow2") == Backing("base", None)
    assert read_backing(image(tmp_path / "d", "base", "qcow2", version=2), "qcow2") == Backing("base", "qcow2")


def test_what_is_not_what_it_should_be_is_refused(tmp_path: Path) -> None:
    (tmp_path / "raw").write_bytes(b"\0" * 512)
    with pytest.raises(OperationFailed, match="not a qcow2"):
        read_backing(str(tmp_path / "raw"), "qcow2")
    assert read_backing(str(tmp_path / "raw"), "raw") is None
    for kind in ("raw", "qcow2"):
        with pytest.raises(HostSystemError, match="Cannot access storage file"):
            read_backing(str(tmp_path / "absent"), kind)


@given(st.binary(max_size=300))
def test_any_bytes_behind_the_magic_are_an_image_or_an_error(data: bytes) -> None:
    import tempfile

    with tempfile.NamedTemporaryFile() as file:
        file.write(b"QFI\xfb" + data)
        file.flush()
        try:
            read_backing(file.name, "qcow2")
        except (OperationFailed, HostSystemError):
            pass


def disk_on(path: str) -> Disk:
    domain = domain_of(
        f"<disk type='file' device='disk'><driver name='qemu' type='qcow2'/><source file='{path}'/>"
        "<target dev='vda' bus='virtio'/></disk>"
    )
    complete_chains(domain)
    return domain.devices.disks[0]


def test_a_chain_is_followed_beside_its_image(tmp_path: Path) -> None:
    (tmp_path / "base").write_bytes(b"\0" * 512)
    image(tmp_path / "middle", "base", "raw")
    disk = disk_on(image(tmp_path / "top", str(tmp_path / "middle"), "qcow2"))
    middle = disk.backing_store
    assert middle is not None and middle.format is not None and middle.format.type == "qcow2"
    base = middle.backing_store
    assert base is not None and getattr(base.source, "file", None) == str(tmp_path / "base")
    assert base.backing_store is not None and base.backing_store.source is None, "the chain ends there"


def test_a_backing_image_of_unknown_format_is_not_guessed_at(tmp_path: Path) -> None:
    (tmp_path / "base").write_bytes(b"\0" * 512)
    base = disk_on(image(tmp_path / "top", "base")).backing_store
    assert base is not None and base.format is not None and base.format.type == "raw", "it stands on nothing"
    image(tmp_path / "base", "/etc/passwd", "raw")
    with pytest.raises(OperationFailed, match="was not specified in the image metadata"):
        disk_on(image(tmp_path / "top", "base"))


def test_a_chain_that_bites_its_own_tail_is_refused(tmp_path: Path) -> None:
    with pytest.raises(OperationFailed, match="self-referential"):
        disk_on(image(tmp_path / "top", "top", "qcow2"))


def test_a_backing_image_on_a_server_is_left_to_the_emulator(tmp_path: Path) -> None:
    below = disk_on(image(tmp_path / "top", "nbd://host/export", "raw")).backing_store
    assert below is not None and getattr(below.source, "name", None) == "export"
    assert below.backing_store is not None and below.backing_store.source is None
    below = disk_on(image(tmp_path / "top", "nbd://host/export", "qcow2")).backing_store
    assert below is not None and below.backing_store is None, "only QEMU can say what is below it"


def test_images_of_other_hosts_are_known_by_their_mount_and_read_apart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mounts = tmp_path / "mountinfo"
    mounts.write_text(
        "1 0 8:1 / / rw - ext4 /dev/sda1 rw\n"
        f"2 1 0:40 / {tmp_path}/far rw shared:1 - nfs4 server:/x rw\n"
        f"3 2 8:2 / {tmp_path}/far/near rw - ext4 /dev/sdb1 rw\n",
        encoding="utf-8",
    )
    assert heads.is_foreign(f"{tmp_path}/far/image", mounts) and heads.is_foreign(f"{tmp_path}/far", mounts)
    assert not heads.is_foreign(f"{tmp_path}/far/near/image", mounts), "another mount is above it"
    assert not heads.is_foreign(f"{tmp_path}/farther", mounts) and not heads.is_foreign("/x", tmp_path / "absent")
    (tmp_path / "far").mkdir()
    path = image(tmp_path / "far" / "image", "base", "raw")
    own = Path(path).stat()
    head = heads.read_head(path, mounts)
    assert head.identity == (own.st_dev, own.st_ino) and head.data == Path(path).read_bytes()
    assert heads.read_head(f"{tmp_path}/far", mounts).is_folder
    with pytest.raises(HostSystemError, match="Cannot access storage file"):
        heads.read_head(f"{tmp_path}/far/absent", mounts)
    os.mkfifo(tmp_path / "far" / "silent")
    monkeypatch.setattr(heads, "PATIENCE_S", 0.2)
    with pytest.raises(OperationTimeout, match="its file system does not answer"):
        heads.read_head(f"{tmp_path}/far/silent", mounts)
