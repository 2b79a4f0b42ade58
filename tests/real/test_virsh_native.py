"""An unmodified virsh asks a real libvirtd and us for command lines: the words are the same."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from tests.bench.libvirtd import Libvirtd
from tests.bench.report import CannotRun
from tests.process.gateway_house import GatewayHouse, gateway_house
from tests.real.guest import needs_qemu
from tests.real.virsh_session import need_virsh

pytestmark = [pytest.mark.real, pytest.mark.slow, pytest.mark.process]

PARTS: Final = {
    "nothing": ("pc", "", ""),
    "q35": ("q35", "", ""),
    "disks": (
        "pc",
        "",
        "<disk type='file' device='disk'><driver name='qemu' type='qcow2' cache='none' discard='unmap'/>"
        "<source file='/a.qcow2'/><backingStore/><target dev='vda' bus='virtio'/><boot order='1'/></disk>"
        "<disk type='block' device='cdrom'><driver name='qemu' type='raw'/><source dev='/dev/null'/>"
        "<target dev='hda' bus='ide'/><readonly/></disk>"
        "<disk type='network' device='disk'><source protocol='nbd' name='x'><host name='h' port='10809'/></source>"
        "<target dev='sda' bus='scsi'/><iotune><total_bytes_sec>1000000</total_bytes_sec></iotune></disk>",
    ),
    "controllers": (
        "q35",
        "",
        "<controller type='usb' model='qemu-xhci' ports='8'/><controller type='scsi' model='virtio-scsi'/>"
        "<controller type='virtio-serial' ports='4'/>"
        "<input type='tablet' bus='usb'/><input type='keyboard' bus='usb'/>",
    ),
    "displays": (
        "pc",
        "",
        "<graphics type='spice' port='5999' autoport='no'/><video><model type='qxl' heads='1' primary='yes'/></video>"
        "<sound model='ich9'/><channel type='spicevmc'><target type='virtio' name='com.redhat.spice.0'/></channel>",
    ),
    "processors": (
        "pc",
        "<cpu mode='custom' match='exact'><model>qemu64</model><feature policy='disable' name='svm'/>"
        "<topology sockets='1' dies='1' cores='2' threads='1'/></cpu>",
        "",
    ),
    "host model": ("pc", "<cpu mode='host-model'/>", ""),
    "clock": (
        "pc",
        "<features><acpi/><apic/><pae/></features><clock offset='utc'><timer name='rtc' tickpolicy='catchup'/>"
        "<timer name='pit' tickpolicy='delay'/><timer name='hpet' present='no'/></clock><on_crash>preserve</on_crash>",
        "",
    ),
    "tuning": (
        "pc",
        "<iothreads>2</iothreads><memoryBacking><source type='memfd'/><access mode='shared'/></memoryBacking>"
        "<pm><suspend-to-mem enabled='no'/></pm>",
        "<memballoon model='virtio'><stats period='5'/></memballoon>",
    ),
    "small devices": (
        "pc",
        "",
        "<rng model='virtio'><backend model='random'>/dev/urandom</backend></rng>"
        "<watchdog model='i6300esb' action='reset'/><panic model='isa'/><vsock model='virtio'><cid auto='no' "
        "address='7'/></vsock>",
    ),
    "nodes": (
        "pc",
        "<cpu><numa><cell id='0' cpus='0' memory='128' unit='MiB'/><cell id='1' cpus='1' memory='128' unit='MiB'/>"
        "</numa></cpu>",
        "",
    ),
    "firmware": (
        "q35",
        "<features><acpi/></features>",
        "",
        "<loader readonly='yes' type='pflash'>/code.fd</loader><nvram>/vars.fd</nvram>",
    ),
    "kernel": ("pc", "", "", "<kernel>/vmlinuz</kernel><initrd>/initrd</initrd><cmdline>console=ttyS0</cmdline>"),
}


def document(machine: str, top: str, devices: str, os: str = "") -> str:
    return (
        "<domain type='qemu'><name>native</name><uuid>00000000-0000-4000-8000-000000000001</uuid>"
        "<memory unit='MiB'>256</memory><vcpu>2</vcpu>"
        f"<os><type arch='x86_64' machine='{machine}'>hvm</type>{os}</os>{top}"
        f"<devices><emulator>/usr/bin/qemu-system-x86_64</emulator>{devices}</devices></domain>"
    )


@pytest.fixture(scope="module")
def houses() -> Iterator[tuple[GatewayHouse, Libvirtd]]:
    need_virsh()
    needs_qemu()
    base = Path(tempfile.mkdtemp(prefix="vt", dir="/tmp"))
    try:
        with Libvirtd(base) as daemon, gateway_house("", "qemu") as house:
            yield house, daemon
    except CannotRun as exc:
        pytest.skip(str(exc))
    finally:
        shutil.rmtree(base, ignore_errors=True)


def words_of(uri: str, path: Path) -> list[object]:
    """The words that do not depend on where the daemon keeps its files."""
    done = subprocess.run(
        ["virsh", "-q", "-c", uri, "domxml-to-native", "qemu-argv", str(path)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    words: list[object] = []
    for word in shlex.split(done.stdout):
        if re.match(r"[A-Z_]+=", word):
            continue
        plain = re.sub(r'"vhostfd":"-?\d+"', '"vhostfd":"0"', word)
        plain = re.sub(r"(id=charmonitor,)(fd=\d+|path=[^,]*)", r"\1", re.sub(r"/[^\",]*domain--1-", "domain-", plain))
        words.append(json.loads(plain) if plain.startswith("{") else plain)
    return words


@pytest.mark.parametrize("name", list(PARTS))
def test_the_words_are_the_same(houses: tuple[GatewayHouse, Libvirtd], tmp_path: Path, name: str) -> None:
    path = tmp_path / "guest.xml"
    path.write_text(document(*PARTS[name]), encoding="utf-8")
    ours, theirs = (words_of(one.uri("qemu:///system"), path) for one in houses)
    assert ours == theirs
