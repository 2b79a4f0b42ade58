"""Control groups of version 2 on a stock kernel, with systemd and without."""

from __future__ import annotations

import pytest

from tests.hostvm.machine import missing, running

pytestmark = [pytest.mark.soak, pytest.mark.timeout(900)]
CHECKS = {"placed", "weights", "bandwidths", "memory", "disks", "nodes", "devices", "cores", "goes"}


@pytest.mark.parametrize("systemd", [True, False], ids=["systemd", "script"])
def test_groups_are_the_kernels(systemd: bool) -> None:
    why = missing()
    if why is not None:
        pytest.skip(why)
    with running(systemd=systemd) as machine:
        done = machine.ssh("cd / && python3 -m tests.hostvm.inside_groups", timeout_s=300, check=False)
    told = done.stdout.splitlines()
    assert done.returncode == 0, done.stdout + done.stderr
    assert {line.removeprefix("ok ") for line in told if line.startswith("ok ")} == CHECKS
