"""Disks whose changes are gone when the guest ends, also when it ends badly."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
from pathlib import Path

import pytest

from actors.qemu.driver import QemuActor
from schema.errors import DomainStateError, OperationUnsupported
from schema.objects import DomainRef
from tests.contract.house import House, open_house
from tests.real.guest import RealGuest, needs_qemu
from tests.real.houses import SCOPE, do, house, root

__all__ = ["house", "root"]

pytestmark = [pytest.mark.real, pytest.mark.slow, pytest.mark.timeout(180)]

AGAIN = b"d" * 16
LIVE = 1


def disk(path: Path, target: str, bus: str, shares: str = "") -> str:
    return (
        f"<disk type='file' device='disk'><driver name='qemu' type='qcow2'/><source file='{path}'/>"
        f"<target dev='{target}' bus='{bus}'/><transient{shares}/></disk>"
    )


def image(path: Path) -> Path:
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", str(path), "1M"], check=True)
    return path


def define(root: Path, name: str, *disks: str) -> tuple[RealGuest, str]:
    guest = RealGuest(f"{name}-{os.getpid()}", memory_mib=32, boots=False)
    return guest, guest.xml().replace("</devices>", "".join(disks) + "</devices>")


def overlays(root: Path) -> list[str]:
    return sorted(path.name for path in root.glob("*.TRANSIENT-*"))


async def xml_of(house: House, guest: DomainRef) -> str:
    return str((await do(house, "domain_get_xml_desc", dom=guest, flags=0)).xml)


async def test_what_a_guest_writes_goes_with_it(house: House, root: Path) -> None:
    one, two, three = (image(root / f"{name}.qcow2") for name in ("one", "two", "three"))
    before = {path: path.read_bytes() for path in (one, two, three)}
    shares = " shareBacking='yes'"
    guest, xml = define(root, "keeps", disk(one, "vda", "virtio"), disk(two, "vdb", "virtio", shares))
    other, other_xml = define(root, "shares", disk(two, "vda", "virtio", shares))
    ref = (await do(house, "domain_define_xml_flags", xml=xml, flags=0)).dom
    (root / f"one.qcow2.TRANSIENT-{guest.name}").write_bytes(b"")
    with pytest.raises(OperationUnsupported, match=r"Overlay file '.*' for transient disk 'vda' already exists"):
        await do(house, "domain_create_with_flags", dom=ref, flags=0)
    (root / f"one.qcow2.TRANSIENT-{guest.name}").unlink()
    await do(house, "domain_create_with_flags", dom=ref, flags=0)
    shared = (await do(house, "domain_create_xml", xml_desc=other_xml, flags=0)).dom
    await do(house, "domain_attach_device_flags", dom=ref, xml=disk(three, "sda", "usb"), flags=LIVE)
    names = [f"{path}.qcow2.TRANSIENT-{guest.name}" for path in ("one", "two", "three")]
    assert overlays(root) == sorted([*names, f"two.qcow2.TRANSIENT-{other.name}"])
    shown = await xml_of(house, ref)
    # numbered as libvirt does: the images first, then what was put on them
    for path, top, below in zip((one, two, three), (3, 4, 6), (2, 1, 5), strict=True):
        assert f"<source file='{path}.TRANSIENT-{guest.name}' index='{top}'/>" in shown
        assert f"<source file='{path}'/>" in shown and f"<backingStore type='file' index='{below}'>" in shown
    machine = house.host.guest(ref)
    for device in ("virtio-disk0/virtio-backend", "virtio-disk1/virtio-backend"):
        await machine.ask("human-monitor-command", {"command-line": f'qemu-io -d {device} "write -P 1 0 4k"'})
    for procedure, arguments, error in (
        ("domain_save_flags", {"to": str(root / "save"), "dxml": None, "flags": 0}, DomainStateError),
        ("domain_migrate_begin3_params", {"params": [], "flags": 1}, DomainStateError),
        ("domain_block_pull", {"path": "vda", "bandwidth": 0, "flags": 0}, OperationUnsupported),
    ):
        with pytest.raises(error, match="transient disk"):
            await do(house, procedure, dom=ref, **arguments)
    await do(house, "domain_detach_device_flags", dom=ref, xml=disk(three, "sda", "usb"), flags=LIVE)
    assert names[2] not in overlays(root)
    await do(house, "domain_destroy_flags", dom=ref, flags=0)
    os.kill(house.host.guest(shared).need_run().pid, signal.SIGKILL)
    async with asyncio.timeout(60):
        while overlays(root):
            await asyncio.sleep(0.02)
    assert {path: path.read_bytes() for path in (one, two, three)} == before


async def test_who_ends_while_nobody_looks_leaves_nothing(root: Path) -> None:
    needs_qemu()
    guest, xml = define(root, "alone", disk(image(root / "one.qcow2"), "vda", "virtio"))
    async with open_house(QemuActor(), SCOPE, root / "o", orderly=False) as house:
        ref = (await do(house, "domain_define_xml_flags", xml=xml, flags=0)).dom
        await do(house, "domain_create_with_flags", dom=ref, flags=0)
        process = house.host.guest(ref).process
    assert overlays(root)
    os.kill(process.pid, signal.SIGKILL)
    async with open_house(QemuActor(), SCOPE, root / "o") as house:
        async with asyncio.timeout(60):
            while house.host.guest(ref).is_active or overlays(root):
                await asyncio.sleep(0.02)
        await do(house, "domain_create_with_flags", dom=ref, flags=0, source=AGAIN)
        assert overlays(root) == [f"one.qcow2.TRANSIENT-{guest.name}"]
        await do(house, "domain_destroy_flags", dom=ref, flags=0, source=AGAIN)
    assert not overlays(root)
