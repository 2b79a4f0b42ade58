"""Open files that real clients pass: to QEMU's guests with libvirt-python, to the test driver's with virsh."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from urllib.parse import quote

import pytest

from tests.process.gateway_house import GatewayHouse, gateway_house, wait_for
from tests.real.guest import RealGuest, needs_qemu, qemu_pid
from tests.real.test_libvirt_clients import SCRIPTS, SYSTEM_PYTHON
from tests.real.virsh_session import need_virsh

pytestmark = [pytest.mark.real, pytest.mark.process, pytest.mark.timeout(300)]

SIZE = 3 << 20
DEVICES = """<graphics type='vnc' port='-1' autoport='yes'/><video><model type='vga'/></video>
<disk type='file' device='disk'><driver name='qemu' type='raw'/><source file='{disk}' fdgroup='lent'/>
<target dev='vda' bus='virtio'/></disk></devices>"""


@pytest.fixture(scope="module")
def house() -> Iterator[GatewayHouse]:
    needs_qemu()
    need_virsh()
    with gateway_house("[test]\nkeep = true\n", "test", "qemu", "remote") as made:
        for name in ("test:///default", "qemu:///system"):
            uri = made.uri(name)
            wait_for("the driver serves", partial(lambda at: made.virsh("list", uri=at).returncode == 0, uri))
        yield made


@pytest.fixture
def folder(house: GatewayHouse) -> Iterator[Path]:
    made = Path(tempfile.mkdtemp(prefix="vt", dir="/tmp"))
    yield made
    house.show_logs("qemu")
    shutil.rmtree(made)


def through_another(house: GatewayHouse, name: str) -> str:
    """A URI that comes to this gateway, from there to the driver of other hosts, and from it to this gateway again."""
    return f"{house.uri(name)}&name={quote(house.uri(name), safe='')}"


@pytest.mark.parametrize("way", ["straight", "through another"])
def test_displays_disks_and_the_monitor_take_files(house: GatewayHouse, folder: Path, way: str) -> None:
    uri = house.uri("qemu:///system") if way == "straight" else through_another(house, "qemu:///system")
    guest = RealGuest(f"f{os.getpid()}", boots=False)
    disk, path = folder / "disk.raw", folder / "guest.xml"
    disk.write_bytes(b"")
    os.truncate(disk, SIZE)
    path.write_text(guest.xml().replace("</devices>", DEVICES.format(disk=disk)))
    try:
        done = subprocess.run(
            [SYSTEM_PYTHON, str(SCRIPTS / "files.py"), uri, str(path), str(disk)],
            capture_output=True, text=True, timeout=120, check=False, stdin=subprocess.DEVNULL,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        found = json.loads(done.stdout)
        assert "file descriptor group 'lent' was not associated with the domain" in found["not lent"]
        assert found["size"] == SIZE
        assert found["given"] == found["handed over"] == "RFB 003.008\n"
        assert "No graphics backend with index 1" in found["no display"]
        assert found["added"] == 77
        assert 77 in found["sets"]
    finally:
        pid = qemu_pid(guest.uuid)
        if pid is not None:
            os.kill(pid, 9)


@pytest.mark.parametrize("way", ["straight", "through another"])
def test_virsh_passes_files_to_the_test_driver(house: GatewayHouse, folder: Path, way: str) -> None:
    uri = house.uri() if way == "straight" else through_another(house, "test:///default")
    path = folder / "guest.xml"
    path.write_text("<domain type='test'><name>filed</name><memory>65536</memory><os><type>hvm</type></os></domain>")
    with path.open("rb") as lent:
        fd = lent.fileno()

        def virsh(*words: str) -> subprocess.CompletedProcess[str]:
            return subprocess.run(
                ["virsh", "-c", uri, *words, "--pass-fds", str(fd)],
                capture_output=True, text=True, timeout=60, check=False, pass_fds=[fd], stdin=subprocess.DEVNULL,
            )  # fmt: skip

        done = virsh("create", str(path))
        assert done.returncode == 0, done.stderr
        done = virsh("dom-fd-associate", "filed", "group")
        assert "not supported by the connection driver: virDomainFDAssociate" in done.stderr
        assert house.virsh("destroy", "filed").returncode == 0
        assert house.virsh("destroy", "test").returncode == 0
        done = virsh("start", "test")
        assert done.returncode == 0, done.stderr
        assert house.virsh("domstate", "test").stdout.strip() == "running"
