"""Guests that are saved and come back, and files that are no saved guests."""

from pathlib import Path

import pytest

from schema.errors import ArgumentUnsupported, DomainStateError, HostSystemError, InternalError, VirtError
from tests.unit.test_driver.house import House, open_house

STARTED, STOPPED = 2, 5
SAVED, RESTORED = 4, 2


async def save(house: House, path: Path) -> None:
    dom = await house.domain("test")
    await house.call("domain_save", dom=dom, to=str(path))


async def test_saved_guest_comes_back_under_a_new_id(tmp_path: Path) -> None:
    async with open_house(tmp_path / "root") as house:
        house.told()
        await save(house, tmp_path / "image")
        assert await house.state(await house.domain("test")) == (5, 5)
        await house.call("domain_restore", **{"from": str(tmp_path / "image")})
        dom = await house.domain("test")
        assert dom.id == 2
        assert await house.state(dom) == (1, 3)
        assert house.told() == [(STOPPED, SAVED), (STARTED, RESTORED)]
        with pytest.raises(DomainStateError, match="domain 'test' is already active"):
            await house.call("domain_restore", **{"from": str(tmp_path / "image")})


async def test_image_begins_as_libvirts_do(tmp_path: Path) -> None:
    async with open_house(tmp_path / "root") as house:
        await save(house, tmp_path / "image")
    data = (tmp_path / "image").read_bytes()
    assert data[:15] == b"TestGuestMagic\0"
    assert int.from_bytes(data[15:19], "little") == len(data) - 19
    assert data[19:].startswith(b"<domain type='test' id='1'>")


async def test_transient_guest_is_gone_when_saved_and_transient_when_restored(tmp_path: Path) -> None:
    async with open_house(tmp_path / "root") as house:
        await house.call("domain_undefine", dom=await house.domain("test"))
        await save(house, tmp_path / "image")
        assert await house.names() == []
        await house.call("domain_restore", **{"from": str(tmp_path / "image")})
        dom = await house.domain("test")
        assert (await house.call("domain_is_persistent", dom=dom)).persistent == 0


async def test_guest_runs_on_when_its_image_cannot_be_written(tmp_path: Path) -> None:
    async with open_house(tmp_path / "root") as house:
        with pytest.raises(HostSystemError) as caught:
            await save(house, tmp_path / "no" / "such" / "folder")
        assert caught.value.message == (
            f"saving domain 'test' to '{tmp_path}/no/such/folder': open failed: No such file or directory"
        )
        assert await house.state(await house.domain("test")) == (1, 0)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "cannot read domain image '{path}': No such file or directory"),
        (b"x", "incomplete save header in '{path}': Success"),
        (b"TestGuestMagic\0", "failed to read metadata length in '{path}': Success"),
        (b"TestGuestMagic\0\5\0\0\0<a", "incomplete metadata in '{path}': Success"),
        (b"X" * 40, "internal error: mismatched header magic"),
        (b"TestGuestMagic\0\0\0\0\0<a/>", "internal error: length of metadata out of range"),
        (b"TestGuestMagic\0\0\0\0\xf0<a/>", "internal error: length of metadata out of range"),
        (b"TestGuestMagic\0\4\0\0\0<a/>", "XML error: expecting root element of 'domain', not 'a'"),
    ],
)
async def test_file_that_is_no_image_is_refused(tmp_path: Path, content: bytes | None, message: str) -> None:
    path = tmp_path / "image"
    if content is not None:
        path.write_bytes(content)
    async with open_house(tmp_path / "root") as house:
        with pytest.raises(VirtError) as caught:
            await house.call("domain_restore", **{"from": str(path)})
        assert caught.value.message == message.format(path=path)


async def test_definition_in_an_image_can_be_read_and_replaced(tmp_path: Path) -> None:
    path = str(tmp_path / "image")
    async with open_house(tmp_path / "root") as house:
        await save(house, tmp_path / "image")
        xml = (await house.call("domain_save_image_get_xml_desc", file=path, flags=0)).xml
        assert xml.startswith("<domain type='test'>\n  <name>test</name>")
        await house.call("domain_save_image_define_xml", file=path, dxml=xml.replace(">8388608<", ">9000000<"), flags=0)
        await house.call("domain_restore", **{"from": path})
        assert (await house.call("domain_get_info", dom=await house.domain("test"))).maxMem == 9000000


async def test_managed_save_image_is_used_up_by_the_next_start(tmp_path: Path) -> None:
    async with open_house(tmp_path / "root") as house:
        dom = await house.domain("test")
        house.told()
        await house.call("domain_managed_save", dom=dom, flags=0)
        assert (await house.call("domain_has_managed_save_image", dom=dom, flags=0)).result == 1
        with pytest.raises(DomainStateError, match="Refusing to undefine while domain managed save image exists"):
            await house.call("domain_undefine", dom=dom)
        await house.call("domain_create", dom=dom)
        assert (await house.call("domain_has_managed_save_image", dom=dom, flags=0)).result == 0
        assert house.told() == [(STOPPED, SAVED), (STARTED, 0)]


async def test_managed_save_of_a_transient_guest_is_refused(tmp_path: Path) -> None:
    async with open_house(tmp_path / "root") as house:
        dom = await house.domain("test")
        await house.call("domain_undefine", dom=dom)
        with pytest.raises(DomainStateError, match="cannot do managed save for transient domain"):
            await house.call("domain_managed_save", dom=dom, flags=0)


async def test_other_definition_at_save_is_not_supported(tmp_path: Path) -> None:
    async with open_house(tmp_path / "root") as house:
        dom = await house.domain("test")
        with pytest.raises(ArgumentUnsupported, match="xml modification unsupported"):
            await house.call("domain_save_flags", dom=dom, to=str(tmp_path / "x"), dxml="<domain/>", flags=0)


async def test_crash_dump_ends_the_guest_and_writes_the_magic_word(tmp_path: Path) -> None:
    async with open_house(tmp_path / "root") as house:
        dom = await house.domain("test")
        house.told()
        await house.call("domain_core_dump", dom=dom, to=str(tmp_path / "core"), flags=0)
        assert (tmp_path / "core").read_bytes() == b"TestGuestMagic\0"
        assert house.told() == []
        await house.call("domain_core_dump", dom=dom, to=str(tmp_path / "core"), flags=1)
        assert house.told() == [(STOPPED, 2)]
        assert await house.state(dom) == (5, 3)


async def test_image_without_magic_stays_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "image"
    path.write_bytes(b"precious" * 9)
    async with open_house(tmp_path / "root") as house:
        with pytest.raises(InternalError):
            await house.call("domain_save_image_define_xml", file=str(path), dxml="<domain/>", flags=0)
    assert path.read_bytes() == b"precious" * 9
