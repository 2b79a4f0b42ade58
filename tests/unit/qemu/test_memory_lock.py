"""How much memory guests may lock, by the rule that applies."""

from __future__ import annotations

import resource
import subprocess

import msgspec
import pytest

from actors.qemu.memory_lock import UNLIMITED, apply_lock_limit, lock_limit_bytes
from actors.qemu.rules import QemuRules
from conf.domain.documents import parse_domain
from conf.flags import ParseFlags
from tests.unit.qemu.emulators import capabilities

GIB = 1 << 30
HOSTDEV = """<hostdev mode='subsystem' type='mdev' model='vfio-pci'><source>
<address uuid='c50ee8e5-6d2d-4a4c-9d6f-000000000001'/></source></hostdev>"""
CAPS = msgspec.structs.replace(capabilities(), flags=capabilities().flags | {"vfio-pci"})


@pytest.mark.parametrize(
    ("top", "devices", "limit"),
    [
        ("", "", 0),
        ("", HOSTDEV, 2 * GIB),
        ("<memoryBacking><locked/></memoryBacking>", HOSTDEV, UNLIMITED),
        ("<memtune><hard_limit unit='GiB'>3</hard_limit></memtune>", HOSTDEV, 3 * GIB),
    ],
)
def test_memory_that_devices_of_the_host_reach_stays_in_place(top: str, devices: str, limit: int) -> None:
    xml = (
        f"<domain type='qemu'><name>a</name><memory unit='GiB'>1</memory>{top}"
        f"<os><type arch='x86_64' machine='pc'>hvm</type></os><devices>{devices}</devices></domain>"
    )
    assert lock_limit_bytes(parse_domain(xml, QemuRules(CAPS), ParseFlags.INACTIVE)) == limit


def test_the_limit_is_that_of_the_guests_process() -> None:
    xml = (
        "<domain type='qemu'><name>a</name><memory unit='MiB'>128</memory>"
        "<os><type arch='x86_64' machine='pc'>hvm</type></os>"
        "<memtune><hard_limit unit='KiB'>4096</hard_limit></memtune></domain>"
    )
    domain = parse_domain(xml, QemuRules(CAPS), ParseFlags.INACTIVE)
    with subprocess.Popen(["sleep", "60"]) as child:
        try:
            apply_lock_limit(child.pid, domain)
            assert resource.prlimit(child.pid, resource.RLIMIT_MEMLOCK) == (4 << 20, 4 << 20)
        finally:
            child.kill()
