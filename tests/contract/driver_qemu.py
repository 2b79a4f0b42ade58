"""The QEMU driver over a fake emulator, so that its promises are tested where QEMU is not installed."""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile
from functools import cache
from pathlib import Path

from actors.qemu.driver import QemuActor
from tests.contract.driver import ContractDriver
from tests.fakes.qmp import install_emulator


@cache
def fake_emulator() -> Path:
    """The path of a fake emulator, which is removed when the tests end."""
    folder = Path(tempfile.mkdtemp(prefix="vt", dir="/tmp"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return install_emulator(folder)


def define_xml(name: str, uuid: str) -> str:
    """A small guest."""
    return (
        f"<domain type='qemu'><name>{name}</name><uuid>{uuid}</uuid><memory unit='MiB'>128</memory>"
        "<vcpu>1</vcpu><os><type arch='x86_64' machine='pc'>hvm</type></os><features><acpi/></features>"
        f"<devices><emulator>{fake_emulator()}</emulator><serial type='pty'><target port='0'/></serial>"
        "<memballoon model='virtio'/></devices></domain>"
    )


DRIVER = ContractDriver(
    actor=QemuActor, scope="qemu:///system" if os.geteuid() == 0 else "qemu:///session", define_xml=define_xml
)
