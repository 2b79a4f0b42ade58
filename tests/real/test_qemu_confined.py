"""What a guest's process may have of its host: limits, rights, and a /dev with its own devices alone."""

from __future__ import annotations

import os
import resource
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from actors.qemu.confining.bpf import has_devices
from actors.qemu.confining.devices import has_private_devices
from actors.qemu.tuning.access import group_of
from actors.qemu.tuning.hierarchy import host_hierarchy
from schema.errors import ConfigUnsupported, InternalError
from settings.qemu import QemuSettings
from tests.contract.house import FakeBroker
from tests.real import test_qemu_owners as owners
from tests.real.guest import qemu_pid
from tests.real.test_qemu_guests import Subject, until
from tests.real.test_qemu_owners import disk, image, incarnation

pytestmark = [
    pytest.mark.real,
    pytest.mark.slow,
    pytest.mark.timeout(180),
    pytest.mark.skipif(os.geteuid() != 0, reason="only root confines"),
]
SCSI = owners.SCSI


@pytest.fixture
def root() -> Iterator[Path]:
    yield from owners.new_root()


@pytest.fixture
def nodes(root: Path) -> Iterator[list[Path]]:
    """Two devices of the host, under names of the test's own."""
    made = [Path(f"/dev/{root.name}-{name}") for name in ("port", "disk")]
    os.mknod(made[0], stat.S_IFCHR | 0o600, os.makedev(1, 3))
    os.mknod(made[1], stat.S_IFBLK | 0o600, os.makedev(7, 0))
    yield made
    for one in made:
        one.unlink()


@pytest.fixture
def log_node(root: Path) -> Iterator[Path]:
    """A device that no guest needs, under a name of the test's own: the kernel's log."""
    made = Path(f"/dev/{root.name}-log")
    os.mknod(made, stat.S_IFCHR | 0o600, os.makedev(1, 11))
    yield made
    made.unlink()


def listed(pid: int) -> set[str]:
    return {one.name for one in Path(f"/proc/{pid}/root/dev").iterdir()}


async def test_a_guest_sees_no_devices_but_its_own(root: Path, nodes: list[Path]) -> None:
    port, other = nodes
    own = image(root / "own.raw")
    rng = "<rng model='virtio'><backend model='random'>/dev/random</backend></rng>"
    channels = "<controller type='virtio-serial' index='0'/>"
    plugged = f"<channel type='dev'><source path='{port}'/><target type='virtio' name='org.vt.x'/></channel>"
    guest = Subject(root, disk(own) + SCSI + rng + channels, boots=False)
    settings = QemuSettings(user="+64055", namespaces=("mount",))
    broker = FakeBroker()
    async with incarnation(root, broker, 1, settings) as house, guest.running(house):
        pid = qemu_pid(guest.uuid)
        assert pid is not None and has_private_devices(pid)
        names = listed(pid)
        assert {"null", "random", "urandom", "pts", "shm", "ptmx"} <= names
        assert port.name not in names and other.name not in names and "mem" not in names and "tty1" not in names
        status = Path(f"/proc/{pid}/status").read_text()
        assert "\nCapBnd:\t0000000000000000" in status and "\nCapPrm:\t0000000000000000" in status
        await house.call("domain_attach_device_flags", dom=guest.ref, xml=plugged, flags=1)
        inside = Path(f"/proc/{pid}/root{port}").stat()
        assert inside.st_rdev == port.stat().st_rdev and inside.st_uid == 64055
        assert port.stat().st_uid == 0  # the host's own is left alone
        await house.call(
            "domain_attach_device_flags", dom=guest.ref, xml=rng.replace("/dev/random", "/dev/zero"), flags=1
        )
        assert port.name in listed(pid)
    assert port.exists() and other.exists()


async def test_a_group_lists_the_devices_that_a_guest_may_open(root: Path, log_node: Path) -> None:
    guest = Subject(root, "<controller type='virtio-serial' index='0'/>", boots=False)
    channel = f"<channel type='dev'><source path='{log_node}'/><target type='virtio' name='org.vt.x'/></channel>"
    line, other = "c 1:11 rw", {"qom-type": "rng-random", "id": "r", "filename": str(log_node)}
    async with incarnation(root, FakeBroker(), 1, QemuSettings(cgroup_devices=True)) as house:
        async with guest.running(house):
            machine = house.host.guests[guest.uuid.bytes]
            group = host_hierarchy().folder("devices", group_of(house.host, machine.need_run()))

            if host_hierarchy().is_version2("devices"):
                assert has_devices(group)  # what the program lists, tests/hostvm tries on a kernel
                return

            def listed_there() -> list[str]:
                return (group / "devices.list").read_text(encoding="ascii").splitlines()

            assert {"c 1:3 rw", "c 1:9 rw", "c 136:* rw"} <= set(listed_there()) and "a *:* rwm" not in listed_there()
            with pytest.raises(InternalError, match="Operation not permitted"):
                await machine.ask("object-add", other)
            await house.call("domain_attach_device_flags", dom=guest.ref, xml=channel, flags=1)
            assert line in listed_there()
            await house.call("domain_detach_device_flags", dom=guest.ref, xml=channel, flags=1)
            await until("it may not be opened any more", lambda: line not in listed_there())
        assert not group.exists()


async def test_a_process_has_the_limits_of_the_settings(root: Path) -> None:
    guest = Subject(root, "", boots=False)
    settings = QemuSettings(max_files=4096, max_processes=500, max_core=1 << 20)
    async with incarnation(root, FakeBroker(), 1, settings) as house, guest.running(house):
        pid = qemu_pid(guest.uuid)
        assert pid is not None
        kinds = (resource.RLIMIT_NOFILE, resource.RLIMIT_NPROC, resource.RLIMIT_CORE)
        assert [resource.prlimit(pid, kind)[1] for kind in kinds] == [4096, 500, 1 << 20]


async def test_cores_of_its_own_are_given_or_refused(root: Path) -> None:
    guest = Subject(root, "", boots=False)
    async with incarnation(root, FakeBroker(), 1, QemuSettings(sched_core="full")) as house:
        try:
            async with guest.running(house):
                from actors.qemu.confining.kernel import core_group

                pid = qemu_pid(guest.uuid)
                assert pid is not None and core_group(pid)
        except ConfigUnsupported as exc:
            assert "core scheduling is not supported" in exc.message
            assert qemu_pid(guest.uuid) is None
