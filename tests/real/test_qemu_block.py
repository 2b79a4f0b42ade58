"""Block jobs of the QEMU driver over QEMU itself: what becomes of a disk's images, with their data looked at."""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from lxml import etree

from actors.qemu.images import read_backing
from schema.errors import BlockCopyActive, ConfigUnsupported, DomainStateError, InvalidArguments
from schema.objects import TypedParam
from tests.contract.house import House
from tests.real.test_qemu_guests import Subject, driver, root, run, until

pytestmark = [pytest.mark.real, pytest.mark.timeout(120)]
__all__ = ["root"]


class Still(Subject):
    """A guest that never runs an instruction: its disks change only by our doing."""

    def __init__(self, root: Path, devices: str) -> None:
        super().__init__(root, devices, boots=False)

    @contextlib.asynccontextmanager
    async def paused(self, house: House, *, persistent: bool = False) -> AsyncIterator[None]:
        """Starts it paused; it is ended afterwards."""
        if persistent:
            await house.call("domain_define_xml_flags", xml=self.xml, flags=0)
            await house.outcome(house.post("domain_create_with_flags", dom=self.ref, flags=1, deadline_s=60))
        else:
            await house.outcome(house.post("domain_create_xml", xml_desc=self.xml, flags=1, deadline_s=60))
        try:
            yield
        finally:
            with contextlib.suppress(Exception):
                await house.call("domain_destroy_flags", dom=self.ref, flags=0)

    async def chain(self, house: House, flags: int = 0) -> list[tuple[str, int]]:
        """The images of its first disk with their numbers."""
        root = etree.fromstring(await self.xml_desc(house, flags))
        disk = root.find("./devices/disk")
        assert disk is not None
        source = disk.find("source")
        assert source is not None
        found = [(Path(source.get("file", "")).name, int(source.get("index", "0")))]
        store = disk.find("backingStore")
        while store is not None and store.find("source") is not None:
            below = store.find("source")
            assert below is not None
            found.append((Path(below.get("file", "")).name, int(store.get("index", "0"))))
            store = store.find("backingStore")
        return found

    async def job(self, house: House) -> tuple[int, int, int]:
        """Type of the block job of the first disk, and how far it is."""
        info = await house.call("domain_get_block_job_info", dom=self.ref, path="vda", flags=0)
        return (info.type, info.cur, info.end) if info.found else (0, 0, 0)

    async def no_job(self, house: House) -> None:
        for _ in range(600):
            if (await self.job(house))[0] == 0:
                return
            await asyncio.sleep(0.05)
        raise AssertionError("the block job does not end")


def disk_xml(path: Path, kind: str = "qcow2", target: str = "vda") -> str:
    return (
        f"<disk type='file' device='disk'><driver name='qemu' type='{kind}'/><source file='{path}'/>"
        f"<target dev='{target}' bus='virtio'/></disk>"
    )


async def make_chain(root: Path) -> list[Path]:
    """Three images, the top one first, each with a megabyte of its own letter."""
    base, mid, top = root / "base.qcow2", root / "mid.qcow2", root / "top.qcow2"
    await run("qemu-img", "create", "-q", "-f", "qcow2", str(base), "8M")
    await run("qemu-img", "create", "-q", "-f", "qcow2", "-b", str(base), "-F", "qcow2", str(mid))
    await run("qemu-img", "create", "-q", "-f", "qcow2", "-b", str(mid), "-F", "qcow2", str(top))
    for place, (path, letter) in enumerate(((base, 0x41), (mid, 0x42), (top, 0x43))):
        await run("qemu-io", "-f", "qcow2", "-c", f"write -q -P {letter} {place}M 1M", str(path))
    return [top, mid, base]


async def holds(path: Path, letters: str) -> None:
    """Whether each megabyte of an image has its letter (a blank: nothing)."""
    for place, letter in enumerate(letters):
        pattern = 0 if letter == " " else ord(letter)
        done = await asyncio.to_thread(
            subprocess.run,
            ["qemu-io", "-U", "-r", "-f", "qcow2", "-c", f"read -P {pattern} {place}M 1M", str(path)],
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
        assert done.returncode == 0 and "Pattern verification failed" not in done.stdout, (place, letter, done.stdout)


def block_events(house: House) -> list[tuple[str, int, int]]:
    return [
        (record["data"]["dst"], record["data"]["type"], record["data"]["status"])
        for record in house.broker.records
        if record["kind"] == "domain_event_block_job_2"
    ]


async def test_pull_takes_images_out_of_the_chain(root: Path) -> None:
    top, _, base = await make_chain(root)
    guest = Still(root, disk_xml(top))
    async with driver(root) as house, guest.paused(house):
        assert await guest.chain(house) == [("top.qcow2", 1), ("mid.qcow2", 2), ("base.qcow2", 3)]
        assert await guest.job(house) == (0, 0, 0)
        with pytest.raises(InvalidArguments, match="disk 'nosuch' not found in domain"):
            await house.call("domain_get_block_job_info", dom=guest.ref, path="nosuch", flags=0)
        with pytest.raises(InvalidArguments, match="disk vda does not have an active block job"):
            await house.call("domain_block_job_abort", dom=guest.ref, path="vda", flags=0)
        await house.call("domain_block_rebase", dom=guest.ref, path="vda", base=str(base), bandwidth=0, flags=0)
        await guest.no_job(house)
        assert await guest.chain(house) == [("top.qcow2", 1), ("base.qcow2", 3)]
        await house.call("domain_block_pull", dom=guest.ref, path="vda", bandwidth=0, flags=0)
        await guest.no_job(house)
        assert await guest.chain(house) == [("top.qcow2", 1)]
        assert await guest_nodes(house, guest) == {"libvirt-1-format", "libvirt-1-storage"}
        assert block_events(house) == [("vda", 1, 0), ("vda", 1, 0)]
        with pytest.raises(InvalidArguments, match="could not find base image in chain for 'vda'"):
            await house.call(
                "domain_block_commit", dom=guest.ref, disk="vda", base=None, top=None, bandwidth=0, flags=0
            )
    await holds(top, "ABC ")


async def test_commit_below_and_of_the_top_image(root: Path) -> None:
    top, mid, base = await make_chain(root)
    guest = Still(root, disk_xml(top))
    async with driver(root) as house, guest.paused(house, persistent=True):
        commit = {"dom": guest.ref, "disk": "vda", "bandwidth": 0}
        await house.call("domain_block_commit", **commit, base=str(base), top="vda[2]", flags=2)
        await guest.no_job(house)
        assert await guest.chain(house) == [("top.qcow2", 1), ("base.qcow2", 3)]
        assert not mid.exists(), "it was to be deleted"
        with pytest.raises(InvalidArguments, match="active layer requires active flag"):
            await house.call("domain_block_commit", **commit, base=None, top=None, flags=0)
        await house.call("domain_block_commit", **commit, base=None, top=None, flags=4)
        await until("it is ready", lambda: ("vda", 4, 3) in block_events(house), 30)
        assert "<mirror type='file' job='active-commit' ready='yes'>" in await guest.xml_desc(house)
        await house.call("domain_block_job_abort", dom=guest.ref, path="vda", flags=2)
        assert await guest.chain(house) == [("base.qcow2", 3)]
        assert await guest.chain(house, 2) == [("base.qcow2", 0)]
        assert block_events(house) == [("vda", 3, 0), ("vda", 4, 3), ("vda", 4, 0)]
    await holds(base, "ABC ")


async def test_copy_is_finished_or_pivoted_to(root: Path) -> None:
    top, _, _ = await make_chain(root)
    guest = Still(root, disk_xml(top))
    first, second = root / "copy1.qcow2", root / "copy2.qcow2"
    second.touch()
    async with driver(root) as house, guest.paused(house):
        copy = {"dom": guest.ref, "path": "vda", "params": []}
        dest = "<disk type='file'><driver type='qcow2'/><source file='{}'/></disk>"
        await house.call("domain_block_copy", **copy, destxml=dest.format(first), flags=0)
        await until("it is ready", lambda: ("vda", 2, 3) in block_events(house), 30)
        assert (await guest.job(house))[1:] == (8 << 20, 8 << 20)
        with pytest.raises(DomainStateError, match="domain has active block job"):
            await house.call("domain_save_flags", dom=guest.ref, to=str(root / "saved"), dxml=None, flags=0)
        with pytest.raises(BlockCopyActive, match="disk 'vda' already in active block job"):
            await house.call("domain_block_pull", dom=guest.ref, path="vda", bandwidth=0, flags=0)
        await house.call("domain_block_job_abort", dom=guest.ref, path="vda", flags=0)
        assert block_events(house)[-1] == ("vda", 2, 2)
        assert len(await guest.chain(house)) == 3
        with pytest.raises(ConfigUnsupported, match="already exists and is not a block device"):
            await house.call("domain_block_copy", **copy, destxml=dest.format(first), flags=0)
        with pytest.raises(InvalidArguments, match="absolute path must be used as block copy target"):
            await house.call("domain_block_copy", **copy, destxml=dest.format("relative"), flags=0)
        await house.call("domain_block_copy", **copy, destxml=dest.format(second), flags=4)
        await until("it is ready", lambda: block_events(house)[-1] == ("vda", 2, 3), 30)
        await house.call("domain_block_job_set_speed", dom=guest.ref, path="vda", bandwidth=10, flags=0)
        await house.call("domain_block_job_abort", dom=guest.ref, path="vda", flags=2)
        assert [name for name, _ in await guest.chain(house)] == ["copy2.qcow2"]
        nodes = await guest_nodes(house, guest)
        assert nodes == {"libvirt-5-format", "libvirt-5-storage"}
    await holds(first, "ABC ")
    await holds(second, "ABC ")


async def guest_nodes(house: House, guest: Still) -> set[str]:
    """The nodes that QEMU has open."""
    told = await house.host.guest(guest.ref).ask("query-named-block-nodes", {"flat": True})
    return {str(one["node-name"]) for one in told if str(one["node-name"]).startswith("libvirt")}


async def test_shallow_copy_keeps_what_is_below(root: Path) -> None:
    top, mid, _ = await make_chain(root)
    guest = Still(root, disk_xml(top))
    copy = root / "copy.qcow2"
    async with driver(root) as house, guest.paused(house):
        dest = f"<disk type='file'><driver type='qcow2'/><source file='{copy}'/></disk>"
        await house.call("domain_block_copy", dom=guest.ref, path="vda", params=[], destxml=dest, flags=1)
        await until("it is ready", lambda: ("vda", 2, 3) in block_events(house), 30)
        await house.call("domain_block_job_abort", dom=guest.ref, path="vda", flags=2)
        assert [name for name, _ in await guest.chain(house)] == ["copy.qcow2", "mid.qcow2", "base.qcow2"]
        assert len(await guest_nodes(house, guest)) == 6
    backing = await asyncio.to_thread(read_backing, str(copy), "qcow2")
    assert backing is not None and backing.name == str(mid)
    await holds(copy, "ABC ")


async def test_a_job_outlives_the_driver(root: Path) -> None:
    top, _, _ = await make_chain(root)
    guest = Still(root, disk_xml(top))
    async with driver(root) as house:
        await house.outcome(house.post("domain_create_xml", xml_desc=guest.xml, flags=1, deadline_s=60))
        await house.call("domain_block_pull", dom=guest.ref, path="vda", bandwidth=1 << 20, flags=64)
        assert (await guest.job(house))[0] == 1
    async with driver(root, epoch=2) as house:
        try:
            assert (await guest.job(house))[0] == 1
            await house.call("domain_block_job_set_speed", dom=guest.ref, path="vda", bandwidth=0, flags=0)
            await guest.no_job(house)
            assert await guest.chain(house) == [("top.qcow2", 1)]
            assert block_events(house) == [("vda", 1, 0)]
        finally:
            await house.call("domain_destroy_flags", dom=guest.ref, flags=0)


async def test_resize_peek_threshold_and_limits(root: Path) -> None:
    raw = root / "disk.raw"
    raw.write_bytes(b"head" + bytes((1 << 20) - 4))
    guest = Still(root, disk_xml(raw, "raw"))
    async with driver(root) as house, guest.paused(house, persistent=True):
        await house.call("domain_block_resize", dom=guest.ref, disk="vda", size=2 << 20, flags=1)
        info = await house.call("domain_get_block_info", dom=guest.ref, path="vda", flags=0)
        assert info.capacity == 2 << 20 == raw.stat().st_size
        with pytest.raises(InvalidArguments, match="disk 'nosuch' was not found in the domain config"):
            await house.call("domain_block_resize", dom=guest.ref, disk="nosuch", size=1, flags=0)
        told = await house.call("domain_block_peek", dom=guest.ref, path="vda", offset=0, size=4, flags=0)
        assert bytes(told.buffer) == b"head"
        await house.call("domain_set_block_threshold", dom=guest.ref, dev="vda", threshold=4096, flags=0)
        params = [TypedParam.of_ullong("total_bytes_sec", 1 << 20), TypedParam.of_string("group_name", "g1")]
        await house.call("domain_set_block_io_tune", dom=guest.ref, disk="vda", params=params, flags=3)
        found = await house.call("domain_get_block_io_tune", dom=guest.ref, disk="vda", nparams=32, flags=1)
        values = {one.field: one.value for one in found.params}
        assert values["total_bytes_sec"] == 1 << 20 and values["group_name"] == "g1"
        assert "<group_name>g1</group_name>" in await guest.xml_desc(house, 2)
        assert house.broker.kinds().count("domain_event_tunable") == 1
