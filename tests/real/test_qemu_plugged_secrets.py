"""Disks that need more than a file, plugged into a running guest: secrets, volumes of pools, files that were lent."""

from __future__ import annotations

import asyncio
import os
import shutil
import uuid
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from actors.qemu.driver import QemuActor
from actors.runtime.configured_ports import configured_ports
from schema.errors import NoSuchSecret
from schema.objects import DomainRef
from tests.contract.house import House, open_house
from tests.real.guest import RealGuest, needs_qemu
from tests.real.houses import SCOPE, root
from tests.real.test_qemu_ports import SECRET, make_luks

__all__ = ["root"]

pytestmark = [pytest.mark.real, pytest.mark.slow, pytest.mark.timeout(180)]

SIZE = 1 << 20


@pytest.fixture
async def house(root: Path) -> AsyncIterator[House]:
    needs_qemu()
    async with open_house(QemuActor(), SCOPE, root / "o") as house:
        (root / "pool").mkdir()
        (root / "pool" / "disc").write_bytes(bytes(SIZE))
        secrets, pools = {str(SECRET): str(root / "key")}, {"images": str(root / "pool")}
        house.host.needed = configured_ports(secrets, pools, {}, house.runtime.in_thread)
        yield house


async def do(house: House, procedure: str, **arguments: object) -> Any:
    """Awaits a call, on a busy host too."""
    call = house.post(procedure, **arguments, deadline_s=None)
    async with asyncio.timeout(60):
        return await house.outcome(call)


def luks_disk(path: Path, target: str, secret: uuid.UUID = SECRET) -> str:
    return (
        f"<disk type='file' device='disk'><driver name='qemu' type='raw'/><source file='{path}'>"
        f"<encryption format='luks'><secret type='passphrase' uuid='{secret}'/></encryption></source>"
        f"<target dev='{target}' bus='usb'/></disk>"
    )


async def size_of(house: House, guest: DomainRef, disk: str) -> int:
    return int((await do(house, "domain_get_block_info", dom=guest, path=disk, flags=0)).capacity)


async def test_what_a_start_can_have_a_running_guest_gets_too(house: House, root: Path) -> None:
    image = root / "secret.luks"
    make_luks(root, image)
    small = RealGuest(f"plugged-{os.getpid()}", memory_mib=32, boots=False)
    drive = (
        "<disk type='file' device='cdrom'><target dev='hdc' bus='ide'/><readonly/></disk>"
        f"<disk type='file' device='disk'><driver name='qemu' type='raw'/><source file='{root}/plain'/>"
        "<target dev='vda' bus='virtio'/></disk></devices>"
    )
    (root / "plain").write_bytes(bytes(SIZE))
    guest = (await do(house, "domain_create_xml", xml_desc=small.xml().replace("</devices>", drive), flags=0)).dom
    try:
        # an encrypted disk comes, goes (its bus needs no word of the guest) with its secret, and comes again
        for _ in range(2):
            await do(house, "domain_attach_device_flags", dom=guest, xml=luks_disk(image, "sda"), flags=1)
            assert await size_of(house, guest, "sda") == SIZE
            objects = await house.host.guest(guest).ask("qom-list", {"path": "/objects"})
            assert [one["name"] for one in objects if "encryption" in one["name"]]
            await do(house, "domain_detach_device_flags", dom=guest, xml=luks_disk(image, "sda"), flags=1)
            objects = await house.host.guest(guest).ask("qom-list", {"path": "/objects"})
            assert not [one["name"] for one in objects if "encryption" in one["name"]]
        with pytest.raises(NoSuchSecret):
            unknown = luks_disk(image, "sda", uuid.UUID(int=9))
            await do(house, "domain_attach_device_flags", dom=guest, xml=unknown, flags=1)
        # a file that a client lent, with one descriptor for reading and one for writing
        (root / "lent").write_bytes(bytes(2 * SIZE))
        lent = [os.open(root / "lent", mode | os.O_CLOEXEC) for mode in (os.O_RDONLY, os.O_RDWR)]
        house.host.guest(guest).fd_groups.put("mine", lent)
        disk = (
            f"<disk type='file' device='disk'><driver name='qemu' type='raw'/><source file='{root}/lent' "
            "fdgroup='mine'/><target dev='vdc' bus='virtio'/></disk>"
        )
        await do(house, "domain_attach_device_flags", dom=guest, xml=disk, flags=1)
        assert await size_of(house, guest, "vdc") == 2 * SIZE
        (fds,) = await house.host.guest(guest).ask("query-fdsets")
        assert len(fds["fds"]) == 2
        # a volume of a pool as the medium of a drive
        medium = (
            "<disk type='volume' device='cdrom'><driver name='qemu' type='raw'/>"
            "<source pool='images' volume='disc'/><target dev='hdc' bus='ide'/><readonly/></disk>"
        )
        await do(house, "domain_update_device_flags", dom=guest, xml=medium, flags=1)
        assert await size_of(house, guest, "hdc") == SIZE
        # a copy of a disk that is encrypted while the disk itself is not
        shutil.copyfile(image, root / "copy.luks")
        await do(
            house,
            "domain_block_copy",
            dom=guest,
            path="vda",
            destxml=f"<disk type='file'><driver type='raw'/><source file='{root}/copy.luks'><encryption format='luks'>"
            f"<secret type='passphrase' uuid='{SECRET}'/></encryption></source></disk>",
            params=[],
            flags=2,
        )
        async with asyncio.timeout(60):
            while True:
                job = await do(house, "domain_get_block_job_info", dom=guest, path="vda", flags=0)
                if job.found and job.cur == job.end:
                    break
                await asyncio.sleep(0.05)
        await do(house, "domain_block_job_abort", dom=guest, path="vda", flags=2)
        xml = (await do(house, "domain_get_xml_desc", dom=guest, flags=0)).xml
        assert f"<source file='{root}/copy.luks'" in xml and str(SECRET) in xml
    finally:
        await do(house, "domain_destroy_flags", dom=guest, flags=0)
