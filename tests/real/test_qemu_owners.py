"""Guests that run as another user have their files while they run; an image has one guest that writes it."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import os
import shutil
import signal
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from actors.qemu.block.chain import Image
from actors.qemu.claims import claim_images
from actors.qemu.driver import QemuActor
from actors.qemu.owning import xattrs
from actors.qemu.owning.identity import Owner
from actors.qemu.owning.xattrs import Memory
from conf.domain.storage_source import FileSource
from schema.errors import ResourceBusy
from settings.qemu import QemuSettings
from tests.contract.house import FakeBroker, House, open_house
from tests.real.guest import needs_qemu, qemu_pid
from tests.real.test_qemu_guests import SCOPE, Subject, until

pytestmark = [
    pytest.mark.real,
    pytest.mark.slow,
    pytest.mark.timeout(180),
    pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away"),
]

SCSI = "<controller type='scsi' index='0' model='virtio-scsi'/>"
GUESTS, FIRST = Owner(64055, 64055), Owner(1234, 1235)


@pytest.fixture
def root() -> Iterator[Path]:
    yield from new_root()


def new_root() -> Iterator[Path]:
    """A folder that every user may pass through."""
    folder = Path(tempfile.mkdtemp(prefix="vt", dir="/tmp"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@contextlib.asynccontextmanager
async def incarnation(
    root: Path, broker: FakeBroker, epoch: int, settings: QemuSettings, *, dies: bool = False
) -> AsyncIterator[House]:
    needs_qemu()
    async with open_house(QemuActor(), SCOPE, root, broker=broker, epoch=epoch, orderly=not dies) as house:
        house.runtime.config = dataclasses.replace(house.runtime.config, qemu=settings)
        yield house


def owner(path: Path) -> Owner:
    return Owner(path.stat().st_uid, path.stat().st_gid)


def image(path: Path) -> Path:
    path.write_bytes(b"\0" * 1024 * 1024)
    path.chmod(0o600)
    os.chown(path, FIRST.uid, FIRST.gid)
    return path


def disk(path: Path, name: str = "vda", more: str = "") -> str:
    bus = "scsi" if name.startswith("sd") else "virtio"
    return (
        f"<disk type='file' device='disk'><driver name='qemu' type='raw'/><source file='{path}'/>"
        f"<target dev='{name}' bus='{bus}'/>{more}</disk>"
    )


async def test_files_are_the_guests_while_it_runs(root: Path) -> None:
    own, shared = image(root / "own.raw"), image(root / "shared.raw")
    left = image(root / "left.raw")
    kept = (
        f"<disk type='file'><driver name='qemu' type='raw'/><source file='{left}'>"
        "<seclabel model='dac' relabel='no'/></source><target dev='sda' bus='sata'/></disk>"
    )
    left.chmod(0o666)
    guest = Subject(root, disk(own) + disk(shared, "vdb", "<shareable/>") + kept, boots=False)
    settings = QemuSettings(user="+64055", group="+64055")
    async with incarnation(root, FakeBroker(), 1, settings) as house:
        async with guest.running(house):
            pid = qemu_pid(guest.uuid)
            status = Path(f"/proc/{pid}/status").read_text()
            assert "\nUid:\t64055\t64055" in status and "\nGid:\t64055\t64055" in status
            assert "\nCapEff:\t0000000000000000" in status
            assert [owner(one) for one in (own, shared, left)] == [GUESTS, GUESTS, FIRST]
            assert xattrs.read_memory(str(own)) == Memory(FIRST, 1)
            text = await guest.xml_desc(house)
            assert "<imagelabel>+64055:+64055</imagelabel>" in text
        assert [owner(one) for one in (own, shared, left)] == [FIRST, GUESTS, FIRST]
        assert xattrs.read_memory(str(own)) is None
        assert not house.host.owners.takings
        inactive = await guest.xml_desc(house)
        assert "imagelabel" not in inactive


async def test_files_go_back_when_nobody_saw_the_guest_end(root: Path) -> None:
    own, plugged = image(root / "own.raw"), image(root / "plugged.raw")
    guest = Subject(root, disk(own) + SCSI, boots=False)
    settings, broker = QemuSettings(user="+64055"), FakeBroker()
    async with incarnation(root, broker, 1, settings, dies=True) as house:
        await house.call("domain_define_xml_flags", xml=guest.xml, flags=0)
        await house.outcome(house.post("domain_create_with_flags", dom=guest.ref, flags=0, deadline_s=60))
        await house.call("domain_attach_device_flags", dom=guest.ref, xml=disk(plugged, "sda"), flags=1)
        assert owner(own) == owner(plugged) == Owner(64055, plugged.stat().st_gid)
    pid = qemu_pid(guest.uuid)
    assert pid is not None
    async with incarnation(root, broker, 2, settings, dies=True) as house:
        assert owner(own).uid == owner(plugged).uid == 64055
        await house.call("domain_detach_device_flags", dom=guest.ref, xml=disk(plugged, "sda"), flags=1)
        await until("a disk that was taken out goes back", lambda: owner(plugged) == FIRST)
        assert owner(own).uid == 64055
    os.kill(pid, signal.SIGKILL)
    async with incarnation(root, broker, 3, settings) as house:
        await until("files go back", lambda: owner(own) == FIRST and not house.host.owners.takings)


async def test_an_image_has_one_guest_that_writes_it(root: Path) -> None:
    path, leases = image(root / "own.raw"), root / "leases"
    settings = QemuSettings(lease_folder=str(leases))
    one, two = (Subject(root, disk(path), boots=False) for _ in range(2))
    three = Subject(root, "", boots=False)
    here, there = FakeBroker(), FakeBroker()
    other = root / "other"
    async with incarnation(root, here, 1, settings, dies=True) as house:
        await house.call("domain_define_xml_flags", xml=one.xml, flags=0)
        await house.outcome(house.post("domain_create_with_flags", dom=one.ref, flags=0, deadline_s=60))
    pid = qemu_pid(one.uuid)
    assert pid is not None
    try:
        async with incarnation(other, there, 1, settings) as house:
            await house.call("domain_define_xml_flags", xml=two.xml, flags=0)
            with pytest.raises(ResourceBusy, match=r"Lockspace resource '.*own\.raw' is locked"):
                await house.outcome(house.post("domain_create_with_flags", dom=two.ref, flags=0, deadline_s=60))
            async with three.running(house):
                with pytest.raises(ResourceBusy, match="is locked"):
                    await house.call("domain_attach_device_flags", dom=three.ref, xml=disk(path, "vdb"), flags=1)
                async with incarnation(root, here, 2, settings) as first:
                    await first.call("domain_destroy_flags", dom=one.ref, flags=0)
                await house.call("domain_attach_device_flags", dom=three.ref, xml=disk(path, "vdb"), flags=1)
                with pytest.raises(ResourceBusy, match="is locked"):
                    await house.outcome(house.post("domain_create_with_flags", dom=two.ref, flags=0, deadline_s=60))
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


async def test_a_lease_that_came_to_nothing_is_given_back_by_the_next_driver(root: Path) -> None:
    own, wanted = image(root / "own.raw"), image(root / "wanted.raw")
    guest, other = Subject(root, disk(own), boots=False), Subject(root, disk(wanted), boots=False)
    settings, broker = QemuSettings(), FakeBroker()
    async with incarnation(root, broker, 1, settings, dies=True) as house:
        await house.call("domain_define_xml_flags", xml=guest.xml, flags=0)
        await house.outcome(house.post("domain_create_with_flags", dom=guest.ref, flags=0, deadline_s=60))
        # it died when the guest had the lease of a copy that was never begun
        known = house.host.guests[guest.uuid.bytes]
        copies = [Image(FileSource(file=str(wanted)), "raw", 9)]
        await claim_images(house.host, known, known.live.devices.disks[0], copies)
    async with incarnation(root, broker, 2, settings) as house:
        await house.call("domain_define_xml_flags", xml=other.xml, flags=0)
        for _ in range(300):
            try:
                await house.outcome(house.post("domain_create_with_flags", dom=other.ref, flags=0, deadline_s=60))
            except ResourceBusy:
                await asyncio.sleep(0.1)
            else:
                break
        await house.call("domain_destroy_flags", dom=other.ref, flags=0)
        # and what the guest runs with, it still has
        with pytest.raises(ResourceBusy):
            await house.outcome(
                house.post("domain_create_xml", xml_desc=Subject(root, disk(own), boots=False).xml, flags=0)
            )
        await house.call("domain_destroy_flags", dom=guest.ref, flags=0)
