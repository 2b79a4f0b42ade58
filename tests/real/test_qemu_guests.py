"""The QEMU driver over QEMU itself: devices that a guest really sees, its consoles, its memory in a file."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest

from actors.qemu.driver import QemuActor
from broker.stream import open_ticket
from schema.enums.domain_state import DomainShutoffReason, DomainState
from schema.errors import HostSystemError, OperationFailed, VirtError
from schema.objects import DomainRef
from settings.qemu import QemuSettings
from tests.contract.house import House, open_house
from tests.process.ending import end_processes_below
from tests.real.guest import READY, guest_folder, needs_qemu, qemu_pid

pytestmark = [pytest.mark.real, pytest.mark.slow, pytest.mark.timeout(180)]

SCOPE = "qemu:///system" if os.geteuid() == 0 else "qemu:///session"
BOOT_S = 90.0


@pytest.fixture
def root() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="vt", dir="/tmp"))
    yield folder
    end_processes_below(folder)
    shutil.rmtree(folder, ignore_errors=True)


class Subject:
    """A guest of a test; `devices` is the inside of its `<devices>`."""

    def __init__(self, root: Path, devices: str, *, machine: str = "pc", boots: bool = True, top: str = "") -> None:
        self.uuid: UUID = uuid4()
        self.name = f"real-{self.uuid.hex[:8]}"
        self.ref = DomainRef(self.name, self.uuid.bytes, -1)
        self.log = root / f"{self.name}.console"
        kernel = ""
        if boots:
            folder = guest_folder()
            kernel = (
                f"<kernel>{folder}/vmlinuz</kernel><initrd>{folder}/initrd.img</initrd>"
                "<cmdline>console=ttyS0 quiet panic=-1</cmdline>"
            )
        self.xml = (
            f"<domain type='qemu'><name>{self.name}</name><uuid>{self.uuid}</uuid><memory unit='MiB'>128</memory>"
            f"<vcpu>1</vcpu><os><type arch='x86_64' machine='{machine}'>hvm</type>{kernel}</os>"
            f"<features><acpi/></features>{top}<devices>"
            f"<serial type='pty'><log file='{self.log}' append='on'/><target port='0'/></serial>"
            f"<console type='pty'><target type='serial' port='0'/></console>{devices}</devices></domain>"
        )

    @contextlib.asynccontextmanager
    async def running(self, house: House, flags: int = 0) -> AsyncIterator[None]:
        """Defines and starts it; it is ended afterwards."""
        await house.call("domain_define_xml_flags", xml=self.xml, flags=0)
        await house.outcome(house.post("domain_create_with_flags", dom=self.ref, flags=flags, deadline_s=60))
        try:
            yield
        finally:
            if house.runtime.objects.need_domain(self.uuid.bytes).summary["id"] != -1:
                await house.call("domain_destroy_flags", dom=self.ref, flags=0)

    async def ready(self) -> str:
        """The line in which the guest says that it is up, and what it sees."""
        end = time.monotonic() + BOOT_S
        while True:
            text = self.log.read_text(errors="replace") if self.log.exists() else ""
            for line in text.splitlines():
                if READY in line and "disk" in line:
                    return line
            assert time.monotonic() < end, f"not ready within {BOOT_S} s: {text[-500:]}"
            await asyncio.sleep(0.1)

    async def state(self, house: House) -> tuple[int, int]:
        told = await house.call("domain_get_state", dom=self.ref, flags=0)
        return told.state, told.reason

    async def xml_desc(self, house: House, flags: int = 0) -> str:
        return str((await house.call("domain_get_xml_desc", dom=self.ref, flags=flags)).xml)


async def until(what: str, holds: Any, limit_s: float = 20.0) -> None:
    end = time.monotonic() + limit_s
    while not holds():
        assert time.monotonic() < end, f"not within {limit_s} s: {what}"
        await asyncio.sleep(0.05)


async def run(*words: str) -> None:
    """Runs a program to its end."""
    await asyncio.to_thread(subprocess.run, words, check=True, timeout=30)


@contextlib.asynccontextmanager
async def driver(root: Path, *, epoch: int = 1, settings: QemuSettings | None = None) -> AsyncIterator[House]:
    needs_qemu()
    async with open_house(QemuActor(), SCOPE, root, epoch=epoch) as house:
        if settings is not None:
            house.runtime.config = dataclasses.replace(house.runtime.config, qemu=settings)
        yield house


@pytest.mark.parametrize("machine", ["pc", "q35"])
async def test_a_guest_sees_its_disks_and_cards_and_obeys_the_power_button(machine: str, root: Path) -> None:
    disk, raw = root / "disk.qcow2", root / "disk.raw"
    await run("qemu-img", "create", "-q", "-f", "qcow2", str(disk), "64M")
    await run("qemu-img", "create", "-q", "-f", "raw", str(raw), "32M")
    guest = Subject(
        root,
        f"<disk type='file' device='disk'><driver name='qemu' type='qcow2' cache='none'/><source file='{disk}'/>"
        "<target dev='vda' bus='virtio'/></disk>"
        f"<disk type='file' device='disk'><driver name='qemu' type='raw'/><source file='{raw}'/>"
        "<target dev='vdb' bus='virtio'/></disk>"
        "<disk type='file' device='cdrom'><target dev='sdb' bus='sata'/><readonly/></disk>"
        "<interface type='user'><model type='virtio'/></interface>"
        "<interface type='user'><model type='e1000'/></interface>"
        "<graphics type='vnc' autoport='yes'/><video><model type='vga'/></video><input type='tablet' bus='usb'/>"
        "<channel type='unix'><target type='virtio' name='org.qemu.guest_agent.0'/></channel>"
        "<rng model='virtio'><backend model='random'>/dev/urandom</backend></rng><memballoon model='virtio'/>",
        machine=machine,
    )
    async with driver(root) as house, guest.running(house):
        xml = await guest.xml_desc(house)
        assert "port='59" in xml and "<alias name='virtio-disk0'/>" in xml and "/dev/pts/" in xml
        assert "index='" in xml and "<alias name='net1'/>" in xml
        inactive = await guest.xml_desc(house, 2)
        assert "<alias" not in inactive and "port='-1'" in inactive and "tty=" not in inactive
        said = await guest.ready()
        assert "vda" in said and "vdb" in said and "eth0" in said, said
        stats = await house.call("domain_block_stats", dom=guest.ref, path="vda")
        assert stats.rd_req > 0
        info = await house.call("domain_get_block_info", dom=guest.ref, path="vda", flags=0)
        assert info.capacity == 64 << 20
        await house.call("domain_shutdown_flags", dom=guest.ref, flags=0)
        await until("it powers off", lambda: qemu_pid(guest.uuid) is None, 60)
        await until("it is told", lambda: house.broker.lifecycle()[-1] == (5, 0))
        assert house.broker.lifecycle()[-2:] == [(6, 1), (5, 0)]
        assert await guest.state(house) == (DomainState.SHUTOFF, DomainShutoffReason.SHUTDOWN)


async def test_a_console_carries_both_ways_and_has_one_user(root: Path) -> None:
    guest = Subject(root, "<memballoon model='none'/>")
    async with driver(root) as house, guest.running(house):
        await guest.ready()
        call = house.post("domain_open_console", dom=guest.ref, dev_name=None, flags=0)
        await house.outcome(call)
        stream = await open_ticket(house.broker.outcomes[call.id][-1][3])
        await stream.write(b"echo $((6*7))-answer\n")
        heard = b""
        async with asyncio.timeout(30):
            while b"42-answer" not in heard:
                heard += await stream.read()
        with pytest.raises(OperationFailed, match="Active console session"):
            await house.call("domain_open_console", dom=guest.ref, dev_name="serial0", flags=0)
        forced = house.post("domain_open_console", dom=guest.ref, dev_name="serial0", flags=1)
        await house.outcome(forced)
        second = await open_ticket(house.broker.outcomes[forced.id][-1][3])
        await second.write(b"echo $((7*7))-again\n")
        heard = b""
        async with asyncio.timeout(30):
            while b"49-again" not in heard:
                heard += await second.read()
        await second.finish()
        stream.close()
        second.close()


async def test_ports_on_a_file_and_on_a_socket(root: Path) -> None:
    sock, file = root / "serial.sock", root / "serial.out"
    guest = Subject(
        root,
        f"<serial type='unix'><source mode='bind' path='{sock}'/><target port='1'/></serial>"
        f"<serial type='file'><source path='{file}'/><target port='2'/></serial>",
        boots=False,
    )
    async with driver(root) as house, guest.running(house):
        assert sock.is_socket() and file.exists()
        call = house.post("domain_open_console", dom=guest.ref, dev_name="serial1", flags=0)
        await house.outcome(call)
        stream = await open_ticket(house.broker.outcomes[call.id][-1][3])
        await stream.finish()
        stream.close()
        with pytest.raises(VirtError):
            await house.call("domain_open_console", dom=guest.ref, dev_name="serial2", flags=0)
    assert not sock.exists() or sock.is_socket()


async def test_a_screen_can_be_looked_at(root: Path) -> None:
    guest = Subject(root, "<video><model type='vga'/></video>", boots=False)
    async with driver(root) as house, guest.running(house):
        call = house.post("domain_screenshot", dom=guest.ref, screen=0, flags=0)
        assert (await house.outcome(call)).mime == "image/png"
        stream = await open_ticket(house.broker.outcomes[call.id][-1][3])
        picture = b""
        async with asyncio.timeout(20):
            while data := await stream.read():
                picture += data
        stream.close()
        assert picture.startswith(b"\x89PNG\r\n") and len(picture) > 1000


@pytest.mark.skipif(os.geteuid() != 0, reason="making a bridge needs root")
async def test_a_card_on_a_bridge_has_a_tap_that_goes_with_the_guest(root: Path) -> None:
    bridge = f"vt{uuid4().hex[:8]}"
    await run("ip", "link", "add", bridge, "type", "bridge")
    try:
        await run("ip", "link", "set", bridge, "up")
        guest = Subject(
            root,
            f"<interface type='bridge'><mac address='52:54:00:12:34:56'/><source bridge='{bridge}'/>"
            "<model type='virtio'/></interface>",
            boots=False,
        )
        async with driver(root) as house, guest.running(house):
            taps = [one.name for one in Path(f"/sys/class/net/{bridge}/brif").iterdir()]
            assert len(taps) == 1 and taps[0].startswith("vnet")
            assert f"<target dev='{taps[0]}'/>" in await guest.xml_desc(house)
            assert Path(f"/sys/class/net/{taps[0]}/address").read_text().strip() == "fe:54:00:12:34:56"
            stats = await house.call("domain_interface_stats", dom=guest.ref, device=taps[0])
            assert stats.rx_bytes >= 0
            await house.call("domain_destroy_flags", dom=guest.ref, flags=0)
            await until("the tap is gone", lambda: not Path(f"/sys/class/net/{taps[0]}").exists())
            assert "<target dev=" not in await guest.xml_desc(house, 2)
    finally:
        await run("ip", "link", "del", bridge)


async def test_a_guest_is_saved_and_goes_on_where_it_was(root: Path) -> None:
    guest = Subject(root, "<memballoon model='virtio'/>")
    image = root / "saved"
    async with driver(root) as house, guest.running(house):
        await guest.ready()
        await house.outcome(
            house.post("domain_save_flags", dom=guest.ref, to=str(image), dxml=None, flags=0, deadline_s=None)
        )
        assert await guest.state(house) == (DomainState.SHUTOFF, DomainShutoffReason.SAVED)
        assert qemu_pid(guest.uuid) is None and image.stat().st_size > 1 << 20
        booted = guest.log.read_text(errors="replace").count(READY)
        where: dict[str, Any] = {"from": str(image)}
        await house.outcome(house.post("domain_restore_flags", **where, dxml=None, flags=0, deadline_s=None))
        assert await guest.state(house) == (DomainState.RUNNING, 3)
        await house.outcome(house.post("domain_managed_save", dom=guest.ref, flags=0, deadline_s=None))
        assert (await house.call("domain_has_managed_save_image", dom=guest.ref, flags=0)).result == 1
        await house.outcome(house.post("domain_create_with_flags", dom=guest.ref, flags=0, deadline_s=60))
        assert (await house.call("domain_has_managed_save_image", dom=guest.ref, flags=0)).result == 0
        call = house.post("domain_open_console", dom=guest.ref, dev_name=None, flags=0)
        await house.outcome(call)
        stream = await open_ticket(house.broker.outcomes[call.id][-1][3])
        await stream.write(b"echo $((6*7))-answer\n")
        heard = b""
        async with asyncio.timeout(30):
            while b"42-answer" not in heard:
                heard += await stream.read()
        stream.close()
        assert guest.log.read_text(errors="replace").count(READY) == booted, "it did not boot again"
        events = house.broker.lifecycle()
        assert events[-8:] == [(3, 0), (5, 4), (2, 2), (4, 0), (3, 0), (5, 4), (2, 2), (4, 0)]


async def test_a_guest_that_cannot_start_says_why_and_leaves_nothing(root: Path) -> None:
    guest = Subject(
        root,
        f"<disk type='file' device='disk'><driver name='qemu' type='qcow2'/><source file='{root}/absent'/>"
        "<target dev='vda' bus='virtio'/></disk>",
        boots=False,
    )
    async with driver(root) as house:
        await house.call("domain_define_xml_flags", xml=guest.xml, flags=0)
        with pytest.raises(HostSystemError, match="No such file"):
            await house.outcome(house.post("domain_create_with_flags", dom=guest.ref, flags=0, deadline_s=60))
        assert qemu_pid(guest.uuid) is None
        assert not list((root / "run" / "qemu").glob("domain-*"))
        assert await guest.state(house) == (DomainState.SHUTOFF, DomainShutoffReason.FAILED)


async def test_the_guest_outlives_a_killed_driver_with_its_limits_untouched(root: Path) -> None:
    guest = Subject(root, "", boots=False)
    async with driver(root) as house:
        await house.call("domain_define_xml_flags", xml=guest.xml, flags=0)
        await house.outcome(house.post("domain_create_with_flags", dom=guest.ref, flags=0, deadline_s=60))
        pid = qemu_pid(guest.uuid)
        assert pid is not None
    try:
        assert qemu_pid(guest.uuid) == pid
        limits = Path(f"/proc/{pid}/limits").read_text()
        core = next(line for line in limits.splitlines() if line.startswith("Max address space"))
        assert "unlimited" in core
        assert os.getsid(pid) == pid
        async with driver(root, epoch=2) as house:
            assert (await guest.state(house))[0] == DomainState.RUNNING
            await house.call("domain_suspend", dom=guest.ref)
            await house.call("domain_destroy_flags", dom=guest.ref, flags=0)
    finally:
        left = qemu_pid(guest.uuid)
        if left is not None:
            os.kill(left, signal.SIGKILL)
    assert qemu_pid(guest.uuid) is None


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can start a process as another user")
async def test_guests_run_as_another_user_when_that_is_set(root: Path) -> None:
    guest = Subject(root, "<graphics type='vnc' autoport='yes'/><video><model type='vga'/></video>", boots=False)
    root.chmod(0o711)
    (root / "run").mkdir()
    (root / "run").chmod(0o711)
    async with driver(root, settings=QemuSettings(user="nobody")) as house, guest.running(house):
        pid = qemu_pid(guest.uuid)
        assert pid is not None
        assert Path(f"/proc/{pid}").stat().st_uid == pwd.getpwnam("nobody").pw_uid
        await house.call("domain_suspend", dom=guest.ref)
        assert (await guest.state(house))[0] == DomainState.PAUSED
    async with driver(root, epoch=2, settings=QemuSettings(user="no-such-user")) as house:
        with pytest.raises(VirtError, match="no-such-user"):
            await house.call("domain_create_with_flags", dom=guest.ref, flags=0)


async def test_a_chain_of_images_is_told_layer_by_layer(root: Path) -> None:
    base, middle, top = (root / name for name in ("base.raw", "middle.qcow2", "top.qcow2"))
    await run("qemu-img", "create", "-q", "-f", "raw", str(base), "16M")
    await run("qemu-img", "create", "-q", "-f", "qcow2", "-F", "raw", "-b", "base.raw", str(middle))
    await run("qemu-img", "create", "-q", "-f", "qcow2", "-F", "qcow2", "-b", str(middle), str(top))
    guest = Subject(
        root,
        f"<disk type='file' device='disk'><driver name='qemu' type='qcow2'/><source file='{top}'/>"
        "<target dev='vda' bus='virtio'/></disk>"
        "<disk type='file' device='cdrom'><source file='/nowhere.iso' startupPolicy='optional'/>"
        "<target dev='sda' bus='sata'/><readonly/></disk>",
        boots=False,
    )
    async with driver(root) as house, guest.running(house):
        xml = await guest.xml_desc(house)
        assert xml.count("<backingStore type='file'") == 2 and "<backingStore/>" in xml
        assert f"<source file='{middle}'/>" in xml and f"<source file='{base}'/>" in xml
        assert "nowhere.iso" not in xml
        nodes = await house.call("qemu_domain_monitor_command", dom=guest.ref, cmd="info block", flags=1)
        assert str(top) in nodes.result
        assert "backingStore" not in await guest.xml_desc(house, 2)
