"""The beginning of a saved guest's file: libvirt's layout, both orders of bytes, and everything that is none."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

from actors.qemu.saved.cookie import SaveCookie, parse_cookie
from actors.qemu.saved.header import ALIGNMENT, MAGIC, PARTIAL, SIZE, pack_image, unpack_head, unpack_image
from actors.qemu.saved.image import read_header, write_header
from conf.cpu.cpu import CpuMode, CpuModel, GuestCpu
from schema.errors import HostSystemError, OperationFailed

XML = "<domain/>\n"
COOKIE = "<cookie>\n</cookie>\n"


def file_of(
    *,
    magic: bytes = b"LibvirtQemudSave",
    version: int = 2,
    order: str = "<",
    compression: int = 0,
    cookie: bytes = b"",
    length: int | None = None,
) -> bytes:
    """A file as libvirt writes one, put together by hand."""
    xml = XML.encode() + b"\0"
    body = xml + cookie
    room = len(body) + 65536 if length is None else length
    numbers = struct.pack(f"{order}5I", version, room, 1, compression, len(xml) if cookie else 0)
    return magic + numbers + bytes(56) + body + bytes(max(0, min(room, 1 << 17) - len(body))) + b"QEVM"


def read(data: bytes) -> tuple[str, str | None, bool, int]:
    """What is understood of a file."""
    head = unpack_head(data[:SIZE])
    image = unpack_image(head, data[SIZE : head.offset])
    assert image.offset == head.offset
    return image.xml, image.cookie, image.was_running, image.offset


@pytest.mark.parametrize("order", ["<", ">"])
def test_files_of_hosts_of_either_kind_are_read(order: str) -> None:
    data = file_of(order=order, cookie=COOKIE.encode() + b"\0")
    xml, cookie, was_running, offset = read(data)
    assert (xml, cookie, was_running) == (XML, COOKIE, True)
    assert data[offset:] == b"QEVM"


def test_a_file_without_a_cookie_is_read() -> None:
    assert read(file_of())[1] is None


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"LibvirtQemudSave", "failed to read qemu header"),
        (file_of(magic=b"SomethingElse..."), "image magic is incorrect"),
        (file_of(magic=PARTIAL), "save image is incomplete"),
        (file_of(version=3), r"image version is not supported \(3 > 2\)"),
        (file_of(length=0), "invalid header data length: 0"),
        (file_of(length=1 << 31), "invalid header data length"),
        (file_of(compression=77), "Invalid compressed save format 77"),
        (file_of()[:100], "failed to read domain XML"),
        (file_of().replace(b"<domain", b"\xff\xffmain"), "not UTF-8"),
    ],
)
def test_what_is_none_is_refused(data: bytes, said: str) -> None:
    with pytest.raises(OperationFailed, match=said):
        read(data)


def test_what_was_written_is_read_back() -> None:
    data = pack_image(XML, COOKIE, running=False)
    assert len(data) % ALIGNMENT == 0
    assert data.startswith(MAGIC)
    assert read(data) == (XML, COOKIE, False, len(data))
    with pytest.raises(OperationFailed, match="incomplete"):
        read(pack_image(XML, None, running=False, complete=False))


def test_a_changed_definition_leaves_the_stream_where_it_is(tmp_path: Path) -> None:
    path = tmp_path / "image"
    offset = write_header(path, XML, running=True, complete=True, cookie=COOKIE)
    with path.open("ab") as file:
        file.write(b"QEVM")
    image = read_header(path)
    assert write_header(path, "<domain>x</domain>", running=False, complete=True, length=image.length) == offset
    assert read_header(path).xml == "<domain>x</domain>"
    assert path.read_bytes()[offset:] == b"QEVM"
    with pytest.raises(OperationFailed, match="new xml too large to fit in file"):
        write_header(path, "x" * image.length, running=False, complete=True, length=image.length)
    assert read_header(path).xml == "<domain>x</domain>"


def test_a_file_that_is_not_there_is_an_error_of_the_host(tmp_path: Path) -> None:
    with pytest.raises(HostSystemError):
        read_header(tmp_path / "none")
    with pytest.raises(HostSystemError):
        write_header(tmp_path / "none" / "none", XML, running=True, complete=True)


def test_the_cookie_holds_the_processor() -> None:
    cookie = SaveCookie(cpu=GuestCpu(mode=CpuMode.CUSTOM, model=CpuModel(name="qemu64")))
    assert parse_cookie(cookie.to_xml()) == cookie
    assert parse_cookie("<cookie><slirpHelper/></cookie>").slirp_helper
    assert SaveCookie().to_xml() == "<cookie>\n</cookie>\n"
