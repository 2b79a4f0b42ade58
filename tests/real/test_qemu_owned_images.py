"""What becomes of images of a guest that runs as another user: new ones, copies, saved memory, and on another host."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from schema.errors import ResourceBusy
from settings.qemu import QemuSettings
from tests.contract.house import FakeBroker, House
from tests.real import test_qemu_owners as owners
from tests.real.migration_steps import Traveller, begin, confirm, finish, perform, prepare, runs, start, two_hosts
from tests.real.test_qemu_block import Still, disk_xml, holds, make_chain
from tests.real.test_qemu_guests import run, until
from tests.real.test_qemu_owners import FIRST, disk, image, incarnation, owner

pytestmark = [
    pytest.mark.real,
    pytest.mark.slow,
    pytest.mark.timeout(180),
    pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away"),
]
SETTINGS = QemuSettings(user="+64055", group="+64055")


@pytest.fixture
def root() -> Iterator[Path]:
    yield from owners.new_root()


async def test_images_come_and_go_with_their_owners(root: Path) -> None:
    top, mid, base = await make_chain(root)
    for path in (top, mid, base):
        os.chown(path, FIRST.uid, FIRST.gid)
    guest = Still(root, disk_xml(top))
    async with incarnation(root, FakeBroker(), 1, SETTINGS) as house:
        async with guest.paused(house):
            assert all(owner(path) == owners.GUESTS for path in (top, mid, base))
            # a new image
            place = f"<disk name='vda'><source file='{root}/new.qcow2'/></disk>"
            xml = f"<domainsnapshot><disks>{place}</disks></domainsnapshot>"
            await house.call("domain_snapshot_create_xml", dom=guest.ref, xml_desc=xml, flags=16 | 4)
            assert owner(root / "new.qcow2") == owners.GUESTS
            # one that was there, and in which a copy is made; it is let go again when the copy is given up
            copy = root / "copy.qcow2"
            await run("qemu-img", "create", "-q", "-f", "qcow2", str(copy), "8M")
            os.chown(copy, FIRST.uid, FIRST.gid)
            for flag, known in ((0, FIRST), (2, owners.GUESTS)):
                await copy_to(house, guest, copy)
                assert owner(copy) == owners.GUESTS
                await until("the copy is complete", lambda: ready(house), 60)
                house.broker.records.clear()
                await house.call("domain_block_job_abort", dom=guest.ref, path="vda", flags=flag)
                await guest.no_job(house)
                await until("its owner is as it should be", lambda known=known: owner(copy) == known)
            # an image below is written
            await house.call("domain_block_pull", dom=guest.ref, path="vda", bandwidth=0, flags=0)
            await guest.no_job(house)
        assert owner(copy) == FIRST and owner(top) == FIRST and owner(base) == owners.GUESTS
        assert not house.host.owners.takings
    await holds(copy, "ABC ")


async def copy_to(house: House, guest: Still, path: Path) -> None:
    xml = f"<disk type='file'><driver type='qcow2'/><source file='{path}'/></disk>"
    await house.call("domain_block_copy", dom=guest.ref, path="vda", destxml=xml, params=[], flags=2)


def ready(house: House) -> bool:
    return any(one["kind"] == "domain_event_block_job_2" and one["data"]["status"] == 3 for one in house.broker.records)


async def test_saved_memory_and_variables_of_firmware_are_reached(root: Path) -> None:
    code = Path("/usr/share/OVMF/OVMF_CODE_4M.fd")
    if not code.exists():
        pytest.skip("no firmware")
    own = image(root / "own.raw")
    guest = Still(root, disk(own))
    guest.xml = guest.xml.replace("<os>", "<os firmware='efi'>").replace("machine='pc'", "machine='q35'")
    async with incarnation(root, FakeBroker(), 1, SETTINGS) as house, guest.paused(house, persistent=True):
        (variables,) = (house.host.state_folder / "nvram").iterdir()
        assert owner(variables) == owners.GUESTS
        await house.call("domain_managed_save", dom=guest.ref, flags=0)
        assert owner(own) == FIRST and owner(variables).uid == 0
        await house.outcome(house.post("domain_create_with_flags", dom=guest.ref, flags=0, deadline_s=60))
        assert owner(own) == owners.GUESTS
        saved = root / "saved"
        await house.call("domain_save_flags", dom=guest.ref, to=str(saved), dxml=None, flags=0)
        assert owner(own) == FIRST
        await house.outcome(
            house.post("domain_restore_flags", **{"from": str(saved)}, dxml=None, flags=0, deadline_s=60)
        )
        assert owner(own) == owners.GUESTS


async def test_leases_go_with_a_guest_that_moves(root: Path) -> None:
    path = image(root / "own.raw")
    guest, uri, flags = Traveller(more=disk(path)), f"unix://{root}/m.sock", 1 | 512
    settings = dataclasses.replace(SETTINGS, lease_folder=str(root / "leases"))
    root.chmod(0o777)  # the guests' own processes listen there
    async with two_hosts(root) as (source, destination):
        for house in (source, destination):
            house.runtime.config = dataclasses.replace(house.runtime.config, qemu=settings)
        await start(source, guest, transient=True)
        begun = await begin(source, guest, flags)
        prepared = await prepare(destination, guest, begun, flags, uri)
        cookie = await perform(source, guest, prepared.cookie_out, flags, prepared.uri_out or uri)
        other = Traveller(more=disk(path))

        await finish(destination, guest, cookie, flags)
        assert await runs(destination, guest)
        with pytest.raises(ResourceBusy, match="is locked"):
            await start(source, other, transient=True)
        with pytest.raises(ResourceBusy, match="is locked"):
            await confirm(source, guest, flags, cancelled=True)
        assert not await runs(source, guest)
        await confirm(source, guest, flags)
        assert owner(path) == owners.GUESTS
        await destination.call("domain_destroy_flags", dom=guest.ref, flags=0)
        assert owner(path) == FIRST
