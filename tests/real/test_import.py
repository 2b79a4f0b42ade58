"""Guests that a real libvirtd defined are taken over, with all that it kept of them."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import uuid
from pathlib import Path
from typing import Any

import pytest

from actors.qemu.driver import QemuActor
from schema.enums.domain_state import DomainState
from schema.objects import DomainRef
from tests.bench.libvirtd import Libvirtd
from tests.contract.house import House, open_house
from tests.real.houses import SCOPE, house, libvirtd, root

__all__ = ["house", "libvirtd", "root"]

pytestmark = [pytest.mark.real, pytest.mark.slow, pytest.mark.timeout(180)]

Told = dict[str, Any]
DRY_RUN, RUNNING = 1, 2
AGAIN = b"d" * 16
"""Who calls the second driver: it remembers what the first one answered."""


def host_of(daemon: Libvirtd) -> Path:
    """A root below which the daemon's folders lie as they do on a host."""
    root = daemon.base / "root"
    for name, place in (("etc", "etc/libvirt"), ("lib", "var/lib/libvirt"), ("run", "run/libvirt")):
        (root / place).parent.mkdir(parents=True, exist_ok=True)
        (root / place).symlink_to(daemon.base / name)
    return root


def virsh(daemon: Libvirtd, *words: str) -> str:
    done = subprocess.run(
        ["virsh", "-q", "-c", daemon.uri("qemu:///system"), *words],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def define(daemon: Libvirtd, name: str) -> None:
    """A guest with a disk of its own, whose firmware finds nothing to boot."""
    disk, document = daemon.base / f"{name}.qcow2", daemon.base / f"{name}.xml"
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", str(disk), "1M"], check=True)
    document.write_text(
        f"<domain type='qemu'><name>{name}</name><memory unit='MiB'>32</memory><vcpu>1</vcpu>"
        "<os><type arch='x86_64' machine='pc'>hvm</type></os><devices>"
        f"<disk type='file' device='disk'><driver name='qemu' type='qcow2'/><source file='{disk}'/>"
        "<target dev='vda' bus='virtio'/></disk><graphics type='vnc' port='-1' passwd='secret'/></devices></domain>",
        encoding="utf-8",
    )
    virsh(daemon, "define", str(document))


async def do(house: House, procedure: str, **arguments: object) -> Any:
    """Awaits a call, on a busy host too."""
    call = house.post(procedure, **arguments, deadline_s=None)
    async with asyncio.timeout(60):
        return await house.outcome(call)


async def take(house: House, root: Path, *names: str, flags: int = 0) -> dict[str, Told]:
    """What the import tells, by name."""
    told = (await do(house, "qemu_import_domains", root=str(root), names=list(names), flags=flags)).guests
    return {one["name"]: one for one in told if one["kind"] == "domain"}


def ref_of(told: Told) -> DomainRef:
    return DomainRef(told["name"], uuid.UUID(told["uuid"]).bytes)


def files_below(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not path.is_symlink()
    }


async def test_guests_that_are_off_come_with_all_they_have(libvirtd: Libvirtd, house: House) -> None:
    for name in ("one", "two", "broken"):
        define(libvirtd, name)
    virsh(libvirtd, "autostart", "one")
    virsh(libvirtd, "snapshot-create-as", "one", "s1")
    virsh(libvirtd, "snapshot-create-as", "one", "s2")
    virsh(libvirtd, "start", "one")
    virsh(libvirtd, "checkpoint-create-as", "one", "c1")
    virsh(libvirtd, "managedsave", "one")
    root = host_of(libvirtd)
    broken = libvirtd.base / "etc/qemu/broken.xml"
    broken.write_text(broken.read_text().replace("<vcpu ", "<vcpus "))
    before = files_below(libvirtd.base / "etc"), files_below(libvirtd.base / "lib/qemu")

    told = await take(house, root, flags=DRY_RUN)
    assert {name: (one["verdict"], one["done"]) for name, one in told.items()} == {
        "broken": ("refused", False),
        "one": ("import", False),
        "two": ("import", False),
    }
    assert told["broken"]["reason"]
    assert not house.host.guests
    assert {key: told["one"][key] for key in ("autostart", "managed_save", "snapshots", "checkpoints")} == {
        "autostart": True,
        "managed_save": True,
        "snapshots": 2,
        "checkpoints": 1,
    }

    told = await take(house, root)
    assert [one["done"] for one in told.values()] == [False, True, True]
    again = await take(house, root)
    assert [one["verdict"] for one in again.values()] == ["refused", "present", "present"]
    assert before == (files_below(libvirtd.base / "etc"), files_below(libvirtd.base / "lib/qemu"))
    one = ref_of(told["one"])
    theirs = virsh(libvirtd, "dumpxml", "--inactive", "--security-info", "one")
    ours = (await do(house, "domain_get_xml_desc", dom=one, flags=3)).xml
    assert ours.strip() == theirs.strip()
    assert (await do(house, "domain_get_autostart", dom=one)).autostart == 1
    snapshots = await do(house, "domain_snapshot_list_names", dom=one, maxnames=9, flags=0)
    assert sorted(snapshots.names) == ["s1", "s2"]
    current = await do(house, "domain_snapshot_current", dom=one, flags=0)
    assert current.snap.name == "s2"
    assert (
        virsh(libvirtd, "snapshot-dumpxml", "one", "s2", "--security-info").strip()
        == (await do(house, "domain_snapshot_get_xml_desc", snap=current.snap, flags=1)).xml.strip()
    )
    # the saved memory is ours now: it goes on here
    await do(house, "domain_create_with_flags", dom=one, flags=0)
    assert house.host.guest(one).state is DomainState.RUNNING
    await do(house, "domain_destroy_flags", dom=one, flags=0)
    assert before[1] == files_below(libvirtd.base / "lib/qemu")


async def test_a_guest_that_runs_is_taken_over_when_libvirtd_is_stopped(libvirtd: Libvirtd, root: Path) -> None:
    define(libvirtd, "runs")
    virsh(libvirtd, "start", "runs")
    pid = int((libvirtd.base / "run/qemu/runs.pid").read_text())
    theirs = host_of(libvirtd)
    try:
        async with open_house(QemuActor(), SCOPE, root / "o") as house:
            told = await take(house, theirs)
            assert told["runs"]["verdict"] == "refused" and f"process {pid}" in told["runs"]["reason"]
            told = await take(house, theirs, flags=RUNNING)
            assert told["runs"]["verdict"] == "refused" and "holds its monitor" in told["runs"]["reason"]
            assert not house.host.guests

            daemon = libvirtd.pid
            os.kill(daemon, signal.SIGKILL)
            await until_gone(daemon)
            told = await take(house, theirs, flags=RUNNING | DRY_RUN)
            assert (told["runs"]["verdict"], told["runs"]["done"]) == ("adopt", False)
            told = await take(house, theirs, flags=RUNNING)
            assert (told["runs"]["verdict"], told["runs"]["done"]) == ("adopt", True)
            guest = house.host.guest(ref_of(told["runs"]))
            assert guest.need_run().pid == pid and guest.state is DomainState.RUNNING
            await do(house, "domain_suspend", dom=guest.ref)
        # a libvirtd that comes back leaves it alone, and so does it outlive this driver
        libvirtd.socket.unlink(missing_ok=True)
        libvirtd.launch()
        assert virsh(libvirtd, "domstate", "runs").strip() == "shut off"
        async with open_house(QemuActor(), SCOPE, root / "o") as house:
            guest = house.host.guest(ref_of(told["runs"]))
            assert guest.need_run().pid == pid and guest.state is DomainState.PAUSED
            async with asyncio.timeout(60):  # on a busy host it is reached in the background
                while guest.monitor is None or not guest.monitor.is_open:
                    await asyncio.sleep(0.02)
            await do(house, "domain_resume", dom=guest.ref, source=AGAIN)
            stats = await do(house, "domain_block_stats", dom=guest.ref, path="vda", source=AGAIN)
            assert stats.rd_req >= 0
            await do(house, "domain_destroy_flags", dom=guest.ref, flags=0, source=AGAIN)
            assert not guest.is_active and guest.is_persistent
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


async def until_gone(pid: int) -> None:
    async with asyncio.timeout(30):
        while Path(f"/proc/{pid}").exists():
            await asyncio.sleep(0.05)
