"""Control groups of actors on a real kernel: the limits hold for the driver, and for no guest."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from actors.runtime.control_group import PREFIX, NoGroup, outside, places
from tests.process.gateway_house import gateway_house, wait_for
from tests.real.guest import RealGuest, needs_qemu, qemu_pid

pytestmark = [pytest.mark.process, pytest.mark.timeout(300)]

ROOT = Path(__file__).parents[2]
CONFIG = "[actors.test]\ncgroup = true\n[actors.qemu]\ncgroup = true\nprocesses = 300\n"
PROGRAM = """
import subprocess, sys
from pathlib import Path
from actors.runtime.control_group import enter, leave, places, release
enter("toy", Path(sys.argv[1]), {"memory": 128 << 20, "pids": 40}, places())
hog = "held = []\\nwhile True: held.append(bytearray(8 << 20))"
print(subprocess.run([sys.executable, "-c", hog], stderr=subprocess.DEVNULL).returncode)
print(open("/proc/self/cgroup").read().count("virtroupe-"))
child = subprocess.Popen(["sleep", "60"])
release(child.pid)
print(open(f"/proc/{child.pid}/cgroup").read().count("virtroupe-"))
child.kill()
child.wait()
leave()
print(open("/proc/self/cgroup").read().count("virtroupe-"))
"""


def needs_groups(house: Path) -> None:
    """Skips where no group can be made: containers often have them read-only."""
    try:
        found = places()
        if not {"memory", "pids"} <= found.keys():
            pytest.skip(f"control groups here are for {', '.join(found)} only")
        for place in found.values():
            trial = outside(place.folder) / f"{PREFIX}trial-{os.getpid()}"
            trial.mkdir()
            trial.rmdir()
    except (NoGroup, OSError) as exc:
        pytest.skip(f"no control groups can be made here: {exc}")


def groups_of(pid: int) -> list[str]:
    lines = Path(f"/proc/{pid}/cgroup").read_text().splitlines()
    return [line.rpartition("/")[2] for line in lines if PREFIX in line]


def test_the_kernel_keeps_the_limits_and_what_is_let_out_is_free(tmp_path: Path) -> None:
    needs_groups(tmp_path)
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(tmp_path)],
        cwd=ROOT, capture_output=True, text=True, timeout=120, check=False, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    killed, inside, let_out, left = map(int, done.stdout.split())
    assert killed == -signal.SIGKILL
    assert inside > 0
    assert (let_out, left) == (0, 0)


@pytest.mark.real
def test_drivers_are_in_their_groups_and_guests_are_not(tmp_path: Path) -> None:
    needs_groups(tmp_path)
    needs_qemu()
    with gateway_house(CONFIG, "test", "qemu") as house:
        guest, document = RealGuest("grouped", boots=False), tmp_path / "guest.xml"
        document.write_text(guest.xml())
        uri = house.uri("qemu:///system")
        wait_for("the driver serves", lambda: house.virsh("list", uri=uri, timeout=90).returncode == 0, 60)
        done = house.virsh("create", str(document), uri=uri, timeout=90)
        assert done.returncode == 0, done.stderr
        pid = qemu_pid(guest.uuid)
        assert pid is not None
        try:
            assert groups_of(pid) == []
            drivers = {name: house._started[name].pid for name in ("test", "qemu")}
            for name, driver in drivers.items():
                wait_for(f"'{name}' is in its group", partial(is_in_group, driver, name), 60)
            where = [
                outside(place.folder) / group for place in places().values() for group in groups_of(drivers["qemu"])
            ]
            folders = [folder for folder in where if folder.is_dir()]
            assert folders
            assert {(one / "pids.max").read_text().strip() for one in folders if (one / "pids.max").exists()} == {"300"}
        finally:
            os.kill(pid, signal.SIGKILL)
        house.end("qemu")
        wait_for("its groups are gone", gone(folders), 60)


def is_in_group(pid: int, name: str) -> bool:
    return any(group.endswith(f"-{name}") for group in groups_of(pid))


def gone(folders: list[Path]) -> Callable[[], bool]:
    return lambda: not any(folder.exists() for folder in folders)
