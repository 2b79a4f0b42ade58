"""The recorded answers of a real libvirtd while devices come and go, against ours: virsh sees no difference."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

from tests.process.agent import Agent
from tests.real.guest import needs_qemu
from tests.real.virsh_session import need_virsh
from tests.shared import need_shared

pytestmark = [pytest.mark.real, pytest.mark.slow, pytest.mark.process, pytest.mark.timeout(300)]

DIFFERENT: Final = {"dumpxml vd-hot"}
"""The running guest's document tells what this host's libvirtd added: its partition, its labels, and the features of
the processor that QEMU turned on."""


def test_virsh_sees_what_libvirt_shows_of_hotplug(tmp_path: Path) -> None:
    need_virsh()
    needs_qemu()
    report = tmp_path / "report.json"
    with Agent() as agent:
        subprocess.run(
            [
                *(sys.executable, str(need_shared("virsh-diff/run.py")), "check"),
                *("--socket", str(agent.paths.libvirt_socket), "--set", "public"),
                *("--filter", "q02_hotplug", "--json", str(report)),
            ],
            capture_output=True,
            timeout=240,
            check=False,
            stdin=subprocess.DEVNULL,
        )
    (scored,) = json.loads(report.read_text(encoding="utf-8"))["scenarios"]
    assert scored["total"] > 90
    assert {fault["cmd"] for fault in scored["fail"]} <= DIFFERENT
