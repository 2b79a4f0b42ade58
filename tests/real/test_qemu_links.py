"""Interfaces on links of the host, in a network of the test's own: made with the guest, gone with it."""

from __future__ import annotations

import contextlib
import ctypes
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from actors.qemu.linking.macvtap import listed
from actors.qemu.linking.netlink import find_macvtap, has_link, make_macvtap
from conf.domain.interface import DirectMode
from schema.errors import ConfigUnsupported, HostSystemError, InternalError
from settings.qemu import QemuSettings
from tests.contract.house import FakeBroker
from tests.real.guest import needs_qemu, qemu_pid
from tests.real.test_qemu_guests import Subject, until
from tests.real.test_qemu_owners import incarnation

pytestmark = [
    pytest.mark.real,
    pytest.mark.slow,
    pytest.mark.timeout(180),
    pytest.mark.skipif(os.geteuid() != 0, reason="only root makes links"),
]
CLONE_NEWNET = 0x40000000
MAC, OTHER = "52:54:00:11:22:33", "52:54:00:11:22:44"


@pytest.fixture
def root() -> Iterator[Path]:
    """A folder, and a network in which there is nothing but a pair of links: `v0` and `v1`."""
    needs_qemu()
    library = ctypes.CDLL(None, use_errno=True)
    before = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    folder = Path(tempfile.mkdtemp(prefix="vt", dir="/tmp"))
    if library.unshare(CLONE_NEWNET):
        pytest.skip("this host makes no networks")
    try:
        ip("link", "add", "v0", "type", "veth", "peer", "name", "v1")
        for name in ("lo", "v0", "v1"):
            ip("link", "set", name, "up")
        try:
            make_macvtap("probe", "v0", DirectMode.BRIDGE, mac=None, mtu=None)
        except OSError as exc:
            pytest.skip(f"this host makes no macvtap devices: {exc}")
        ip("link", "del", "probe")
        yield folder
    finally:
        assert library.setns(before, CLONE_NEWNET) == 0
        os.close(before)
        shutil.rmtree(folder, ignore_errors=True)


def ip(*words: str) -> str:
    return subprocess.run(["ip", *words], check=True, capture_output=True, text=True, timeout=30).stdout


def direct(mac: str, more: str = "", mode: str = "bridge") -> str:
    return (
        f"<interface type='direct'><mac address='{mac}'/><source dev='v0' mode='{mode}'/>{more}"
        "<model type='virtio'/></interface>"
    )


async def test_interfaces_on_a_link_come_and_go_with_their_guest(root: Path) -> None:
    queues = "<driver name='qemu' queues='2'/>"
    ip("tuntap", "add", "dev", "mine", "mode", "tap", "vnet_hdr")
    script = root / "script"
    script.write_text(f'#!/bin/sh\necho "$1" >> {root}/said\n')
    script.chmod(0o755)
    unmanaged = (
        "<interface type='ethernet'><target dev='mine' managed='no'/><model type='virtio'/>"
        f"<script path='{script}'/><downscript path='{script}'/></interface>"
    )
    guest = Subject(root, direct(MAC, queues) + unmanaged, boots=False)
    async with incarnation(root, FakeBroker(), 1, QemuSettings()) as house:
        async with guest.running(house):
            assert "<target dev='macvtap0'/>" in await guest.xml_desc(house)
            text = ip("-d", "link", "show", "macvtap0")
            assert "macvtap0@v0" in text and MAC in text and "mode bridge" in text and "UP" in text
            assert (root / "said").read_text() == "mine\n"
            folder = house.host.guests[guest.uuid.bytes].folder
            await house.call("domain_attach_device_flags", dom=guest.ref, xml=direct(OTHER, mode="vepa"), flags=1)
            assert "mode vepa" in ip("-d", "link", "show", "macvtap1") and listed(folder) == ["macvtap0", "macvtap1"]
            # the link below is used in another way already, and nothing is left of one that is refused
            with pytest.raises(HostSystemError, match="error creating macvtap interface macvtap2@v0"):
                wanted = direct("52:54:00:11:22:55", mode="passthrough")
                await house.call("domain_attach_device_flags", dom=guest.ref, xml=wanted, flags=1)
            assert not has_link("macvtap2") and listed(folder) == ["macvtap0", "macvtap1"]
            with pytest.raises(HostSystemError, match="No such device"):
                missing = direct(OTHER, mode="vepa").replace("v0", "none").replace(OTHER, "52:54:00:11:22:66")
                await house.call("domain_attach_device_flags", dom=guest.ref, xml=missing, flags=1)
        assert not has_link("macvtap0") and not has_link("macvtap1") and has_link("mine")
        assert (root / "said").read_text() == "mine\nmine\n"


async def test_ports_of_a_bridge_are_apart_and_limited(root: Path) -> None:
    ip("link", "add", "br0", "type", "bridge")
    ip("link", "add", "br1", "type", "bridge")

    def port(mac: str, rate: int, more: str = "", bridge: str = "br0") -> str:
        return (
            f"<interface type='bridge'><mac address='{mac}'/><source bridge='{bridge}'/>{more}"
            f"<model type='virtio'/><mtu size='1500'/><bandwidth><inbound average='{rate}'/></bandwidth></interface>"
        )

    def rates(name: str) -> str:
        words = ["tc", "class", "show", "dev", name]
        return subprocess.run(words, check=True, capture_output=True, text=True, timeout=30).stdout

    def isolated(name: str) -> bool:
        words = ["bridge", "-d", "link", "show", "dev", name]
        return "isolated on" in subprocess.run(words, check=True, capture_output=True, text=True, timeout=30).stdout

    guest = Subject(root, port(MAC, 1000, "<port isolated='yes'/>"), boots=False)
    async with incarnation(root, FakeBroker(), 1, QemuSettings()) as house, guest.running(house):
        assert isolated("vnet0") and "rate 8Mbit" in rates("vnet0")
        await house.call("domain_attach_device_flags", dom=guest.ref, xml=port(OTHER, 2000), flags=1)
        assert not isolated("vnet1") and "rate 16Mbit" in rates("vnet1")
        changed = port(OTHER, 500)
        await house.call("domain_update_device_flags", dom=guest.ref, xml=changed, flags=1)
        assert "rate 4Mbit" in rates("vnet1")
        moved = port(MAC, 1000, "<port isolated='yes'/>", bridge="br1")
        await house.call("domain_update_device_flags", dom=guest.ref, xml=moved, flags=1)
        assert isolated("vnet0") and "br1" in ip("link", "show", "vnet0")
        switched = port("52:54:00:11:22:55", 1000, "<virtualport type='openvswitch'/>")
        with pytest.raises(ConfigUnsupported, match="virtualport of type 'openvswitch'"):
            await house.call("domain_attach_device_flags", dom=guest.ref, xml=switched, flags=1)


async def test_a_start_whose_script_fails_leaves_nothing(root: Path) -> None:
    script = root / "script"
    script.write_text("#!/bin/sh\necho no >&2\nexit 3\n")
    script.chmod(0o755)
    failing = f"<interface type='ethernet'><script path='{script}'/><model type='virtio'/></interface>"
    guest = Subject(root, direct(MAC) + failing, boots=False)
    async with incarnation(root, FakeBroker(), 1, QemuSettings()) as house:
        with pytest.raises(InternalError, match="unexpected exit status 3: no"):
            async with guest.running(house):
                pass
        assert not has_link("macvtap0") and not has_link("vnet0")


async def test_links_of_guests_that_ended_unseen_go(root: Path) -> None:
    guest, broker = Subject(root, direct(MAC, mode="passthrough"), boots=False), FakeBroker()
    below = ip("link", "show", "v0")
    async with incarnation(root, broker, 1, QemuSettings(), dies=True) as house:
        await house.call("domain_define_xml_flags", xml=guest.xml, flags=0)
        await house.outcome(house.post("domain_create_with_flags", dom=guest.ref, flags=0, deadline_s=60))
        assert MAC in ip("link", "show", "v0")
        # a driver that died before its guest came to be had noted the name, and perhaps made the link
        left = house.host.run_folder / "domain-99-left"
        left.mkdir()
        (left / "links").write_text("macvtap7\nmacvtap8")
        make_macvtap("macvtap7", "v1", DirectMode.BRIDGE, mac=None, mtu=None)
    pid = qemu_pid(guest.uuid)
    assert pid is not None and find_macvtap("macvtap0") is not None
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
    async with incarnation(root, broker, 2, QemuSettings()):
        await until("links go", lambda: not has_link("macvtap0") and not has_link("macvtap7"))
    assert ip("link", "show", "v0").split("link/")[1] == below.split("link/")[1]
