"""Snapshots of the QEMU driver over QEMU itself: taken, reverted to and deleted, with what lies in the images."""

from __future__ import annotations

import asyncio
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest

from schema.errors import ConfigUnsupported, DomainStateError, InternalError, OperationFailed, VirtError
from schema.objects import DomainSnapshotRef
from tests.contract.house import House
from tests.real.test_qemu_block import Still, disk_xml, holds
from tests.real.test_qemu_guests import driver, root, run

pytestmark = [pytest.mark.real, pytest.mark.timeout(120)]
__all__ = ["root"]

REDEFINE, CURRENT, NO_METADATA, HALT, DISK_ONLY, REUSE, QUIESCE = 1, 2, 4, 8, 16, 32, 64
LIVE = 256


async def one_disk(root: Path, name: str = "a.qcow2") -> Path:
    path = root / name
    await run("qemu-img", "create", "-q", "-f", "qcow2", str(path), "8M")
    await run("qemu-io", "-f", "qcow2", "-c", "write -q -P 65 0 1M", str(path))
    return path


def snap_xml(name: str, inside: str = "") -> str:
    return f"<domainsnapshot><name>{name}</name>{inside}</domainsnapshot>"


class Kept:
    """Calls about the snapshots of one guest."""

    def __init__(self, house: House, guest: Still) -> None:
        self.house, self.guest = house, guest

    async def take(self, name: str, flags: int = 0, inside: str = "") -> None:
        call = self.house.post(
            "domain_snapshot_create_xml",
            dom=self.guest.ref,
            xml_desc=snap_xml(name, inside),
            flags=flags,
            deadline_s=60,
        )
        async with asyncio.timeout(60):
            await self.house.outcome(call)

    def ref(self, name: str) -> DomainSnapshotRef:
        return DomainSnapshotRef(name, self.guest.ref)

    async def revert(self, name: str, flags: int = 0) -> None:
        await self.house.outcome(
            self.house.post("domain_revert_to_snapshot", snap=self.ref(name), flags=flags, deadline_s=60)
        )

    async def delete(self, name: str, flags: int = 0) -> None:
        await self.house.call("domain_snapshot_delete", snap=self.ref(name), flags=flags)

    async def names(self, flags: int = 0) -> list[str]:
        told = await self.house.call("domain_list_all_snapshots", dom=self.guest.ref, need_results=1, flags=flags)
        return [one.name for one in told.snapshots]

    async def xml(self, name: str) -> str:
        return str((await self.house.call("domain_snapshot_get_xml_desc", snap=self.ref(name), flags=0)).xml)


def inside_of(path: Path) -> str:
    done = subprocess.run(["qemu-img", "snapshot", "-U", "-l", str(path)], capture_output=True, text=True, check=True)
    return done.stdout


async def listed(path: Path) -> str:
    return await asyncio.to_thread(inside_of, path)


async def test_internal_of_a_guest_that_is_off(root: Path) -> None:
    disk = await one_disk(root)
    guest = Still(root, disk_xml(disk) + "<disk type='file' device='cdrom'><target dev='sda' bus='sata'/></disk>")
    async with driver(root) as house:
        await house.call("domain_define_xml_flags", xml=guest.xml, flags=0)
        kept = Kept(house, guest)
        await kept.take("s0")
        await kept.take("s1")
        assert await kept.names() == ["s0", "s1"]
        with pytest.raises(OperationFailed, match="domain moment s1 already exists"):
            await kept.take("s1")
        with pytest.raises(VirtError, match="invalid snapshot name 'a/b': name can't contain '/'"):
            await kept.take("a/b")
        with pytest.raises(ConfigUnsupported, match="disk 'vda' must use snapshot mode 'internal'"):
            await kept.take("s2", inside="<disks><disk name='vda' snapshot='no'/></disks>")
        xml = await kept.xml("s1")
        assert "<name>s0</name>" in xml and "<disk name='sda' snapshot='no'/>" in xml and "<domain type=" in xml
        assert "s0" in await listed(disk) and "s1" in await listed(disk)
        await run("qemu-io", "-f", "qcow2", "-c", "write -q -P 66 0 1M", str(disk))
        await kept.revert("s0")
        await holds(disk, "A")
        assert (await house.call("domain_snapshot_current", dom=guest.ref, flags=0)).snap.name == "s0"
        with pytest.raises(DomainStateError, match="cannot delete inactive domain with 2 snapshots"):
            await house.call("domain_undefine_flags", dom=guest.ref, flags=0)
        await kept.delete("s0")
        assert "s0" not in await listed(disk) and await kept.names() == ["s1"]
        assert house.broker.lifecycle() == [(0, 0), (0, 3)]
    async with driver(root, epoch=2) as house:
        kept = Kept(house, guest)
        assert await kept.names() == ["s1"] and "<parent>" not in await kept.xml("s1")
        await kept.delete("s1", 2)
        assert "s1" in await listed(disk) and await kept.names() == []
        await house.call("domain_undefine_flags", dom=guest.ref, flags=0)


async def test_internal_of_a_running_guest_brings_its_memory_back(root: Path) -> None:
    disk = await one_disk(root)
    guest = Still(root, disk_xml(disk))
    async with driver(root) as house, guest.paused(house, persistent=True):
        await house.call("domain_resume", dom=guest.ref)
        kept = Kept(house, guest)
        told = len(house.broker.lifecycle())
        await kept.take("live1")
        assert house.broker.lifecycle()[told:] == [(3, 0), (4, 0)]
        assert "<state>running</state>" in await kept.xml("live1")
        assert "<inactiveDomain" in await kept.xml("live1")
        told = len(house.broker.lifecycle())
        await kept.revert("live1")
        assert house.broker.lifecycle()[told:] == [(5, 6), (2, 3), (4, 2), (0, 3)], house.broker.lifecycle()[told:]
        told = len(house.broker.lifecycle())
        await kept.revert("live1", 2)
        assert house.broker.lifecycle()[told:] == [(5, 6), (2, 3), (3, 5), (0, 3)]
        assert (await guest.state(house))[0] == 3
        await house.call("domain_resume", dom=guest.ref)
        told = len(house.broker.lifecycle())
        await kept.take("live2", HALT)
        assert house.broker.lifecycle()[told:] == [(3, 0), (5, 6)]
        assert await guest.state(house) == (5, 7)
        await kept.revert("live1")
        await kept.delete("live2")
        assert "live2" not in await listed(disk)


async def test_external_grows_the_chain_and_is_deleted_into_it(root: Path) -> None:
    disk = await one_disk(root)
    other = await one_disk(root, "b.qcow2")
    guest = Still(root, disk_xml(disk) + disk_xml(other, target="vdb"))
    only_vda = "<disks><disk name='vdb' snapshot='no'/></disks>"
    async with driver(root) as house, guest.paused(house, persistent=True):
        await house.call("domain_resume", dom=guest.ref)
        kept = Kept(house, guest)
        await kept.take("d1", DISK_ONLY, only_vda)
        assert await guest.chain(house) == [("a.d1", 3), ("a.qcow2", 2)]
        assert await guest.chain(house, 2) == [("a.d1", 0), ("a.qcow2", 0)]
        with pytest.raises(ConfigUnsupported, match="already exists and is not a block device"):
            await kept.take("d1", DISK_ONLY | NO_METADATA, only_vda)
        await kept.take("d2", DISK_ONLY, only_vda)
        with pytest.raises(VirtError, match="missing existing file for disk vda"):
            await kept.take("d3", DISK_ONLY | REUSE, only_vda)
        with pytest.raises(ConfigUnsupported, match="revert to external snapshot not supported yet"):
            await kept.revert("d1")
        memory = root / "m1.mem"
        await kept.take("m1", 0, f"<memory snapshot='external' file='{memory}'/>")
        assert memory.stat().st_size > 0 and (await guest.state(house))[0] == 1
        await kept.take("m2", LIVE, f"<memory snapshot='external' file='{root}/m2.mem'/>{only_vda}")
        assert [name for name, _ in await guest.chain(house)] == ["a.m2", "a.m1", "a.d2", "a.d1", "a.qcow2"]
        assert await kept.names(1 << 9) == ["d1", "d2", "m1", "m2"]
        assert await kept.names(1 << 7) == ["d1", "d2"]
        await kept.delete("d1")
        assert [name for name, _ in await guest.chain(house)] == ["a.m2", "a.m1", "a.d2", "a.qcow2"]
        assert not (root / "a.d1").exists()
        await kept.delete("m2")
        assert [name for name, _ in await guest.chain(house)] == ["a.m1", "a.d2", "a.qcow2"]
        assert await guest.chain(house, 2) == [("a.m1", 0)]
        assert not (root / "m2.mem").exists() and await kept.names() == ["d2", "m1"]
        assert (await house.call("domain_snapshot_current", dom=guest.ref, flags=0)).snap.name == "m1"
        await house.call("domain_destroy_flags", dom=guest.ref, flags=0)
        await kept.delete("d2")
        await kept.delete("m1")
        assert await guest.chain(house, 2) == [("a.qcow2", 0)]
        assert not (root / "a.m1").exists() and not (root / "a.d2").exists()
    await holds(disk, "A")


async def test_external_of_a_guest_that_is_off(root: Path) -> None:
    disk = await one_disk(root)
    guest = Still(root, disk_xml(disk))
    async with driver(root) as house:
        await house.call("domain_define_xml_flags", xml=guest.xml, flags=0)
        kept = Kept(house, guest)
        await kept.take("o1", DISK_ONLY)
        assert await guest.chain(house, 2) == [("a.o1", 0)]
        assert "<state>shutoff</state>" in await kept.xml("o1")
        await run("qemu-io", "-f", "qcow2", "-c", "write -q -P 66 1M 1M", str(root / "a.o1"))
        await kept.delete("o1")
        assert await guest.chain(house, 2) == [("a.qcow2", 0)]
    await holds(disk, "AB")


async def test_redefined_snapshots_are_checked(root: Path) -> None:
    disk = await one_disk(root)
    guest = Still(root, disk_xml(disk))
    async with driver(root) as house:
        await house.call("domain_define_xml_flags", xml=guest.xml, flags=0)
        kept = Kept(house, guest)
        state = "<state>shutoff</state><creationTime>1700000000</creationTime>"
        with pytest.raises(InternalError, match="missing domain in snapshot"):
            await kept.take("re1", REDEFINE, state)
        with pytest.raises(VirtError, match="parent nosuch for moment re2 not found"):
            await kept.take("re2", REDEFINE, f"<parent><name>nosuch</name></parent>{state}")
        await kept.take("s0")
        xml = await kept.xml("s0")
        await kept.delete("s0", 2)
        again = REDEFINE | CURRENT
        told: Any = await house.call("domain_snapshot_create_xml", dom=guest.ref, xml_desc=xml, flags=again)
        assert told.snap.name == "s0" and await kept.names() == ["s0"]
        assert await kept.xml("s0") == xml
        other = re.sub(r"<vcpu placement='static'>\d+</vcpu>", "<vcpu placement='static'>7</vcpu>", xml)
        assert other != xml
        with pytest.raises(ConfigUnsupported, match="vCPU count 7 does not match source 1"):
            await house.call("domain_snapshot_create_xml", dom=guest.ref, xml_desc=other, flags=REDEFINE)
        assert await kept.xml("s0") == xml
