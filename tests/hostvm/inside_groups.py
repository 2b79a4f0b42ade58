"""Runs in the machine, as root: groups, scopes and lists of devices on a kernel with control groups of version 2.

Prints `ok NAME` or `FAILED NAME: WHY` for each check. What stands for a guest is a process with two threads.
"""

from __future__ import annotations

import subprocess
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from tempfile import mkdtemp
from typing import Final

from actors.qemu.confining.bpf import has_devices
from actors.qemu.confining.kernel import core_group, make_core_group, share_core_group
from actors.qemu.confining.limits import separate_process
from actors.qemu.scopes.groups import find_scope, group_of_process, group_that_runs
from actors.qemu.scopes.placing import are_wanted, place_guest
from actors.qemu.tuning.groups import GuestGroups, Threads, group_name
from actors.qemu.tuning.hierarchy import host_hierarchy
from actors.qemu.tuning.scheduling import limit
from conf.domain.documents import parse_domain
from conf.domain.domain import Domain
from conf.domain.resources import BlkioDevice
from schema.errors import ConfigUnsupported, VirtError
from settings.qemu import QemuSettings

ROOT: Final = Path("/sys/fs/cgroup")
_PROGRAM: Final = """
import sys, threading, time
one = threading.Thread(target=time.sleep, args=(600,), daemon=True)
one.start()
print(one.native_id, flush=True)
for line in sys.stdin:
    try:
        with open(line.strip(), "rb"):
            print("opened", flush=True)
    except OSError as exc:
        print(exc.strerror, flush=True)
"""


class Guest:
    """A process of ours with a group as a guest's."""

    def __init__(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", _PROGRAM], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self.thread = int(self._line())
        self.house = Path(mkdtemp())
        if are_wanted():
            self.group = place_guest(_domain(), self.house, 7, self.process.pid, [])
        else:
            self.group = group_name("", self.house, 7, "web")
        threads = Threads(self.process.pid, {0: self.thread}, {})
        self.groups = GuestGroups(host_hierarchy(), self.group, threads)

    @property
    def folder(self) -> Path:
        """Where its group is."""
        return ROOT / self.group

    @property
    def weighed(self) -> Path:
        """Where its weights are."""
        return ROOT / (find_scope(self.group) or self.group)

    def open(self, path: str) -> str:
        """What becomes of a try to open a file."""
        assert self.process.stdin is not None
        self.process.stdin.write(f"{path}\n")
        self.process.stdin.flush()
        return self._line()

    def _line(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def end(self) -> None:
        """It dies, and its groups are taken away."""
        self.process.kill()
        self.process.wait(60)
        host_hierarchy().remove(self.group)


def _domain() -> Domain:
    return parse_domain(
        "<domain type='qemu'><name>web</name><uuid>6f1d4f0e-1c4f-4a6e-9d0c-5f5d1b6f2b10</uuid>"
        "<memory>32768</memory><os><type arch='x86_64' machine='pc'>hvm</type></os></domain>"
    )


def read(path: Path) -> str:
    """A file of the kernel's."""
    return path.read_text(encoding="ascii").strip()


def until(what: str, holds: Callable[[], bool]) -> None:
    """Waits until something holds."""
    end = time.monotonic() + 60
    while not holds():
        assert time.monotonic() < end, what
        time.sleep(0.1)


def placed(guest: Guest) -> None:
    """Its unit is libvirt's, and the register of machines knows it."""
    if not are_wanted():
        return
    unit = "machine-qemu\\x2d7\\x2dweb.scope"
    assert group_of_process(guest.process.pid) == f"machine.slice/{unit}/libvirt"
    assert group_that_runs(guest.process.pid) == guest.group
    listed = subprocess.run(["machinectl", "list"], capture_output=True, text=True, check=True, timeout=60).stdout
    assert "qemu-7-web" in listed and "vm" in listed, listed


def weights(guest: Guest) -> None:
    """A weight counts among guests, so it is the scope's."""
    assert guest.groups.set_shares(300) == 300
    assert read(guest.weighed / "cpu.weight") == "300"
    if are_wanted():
        unit = guest.weighed.name
        shown = subprocess.run(
            ["systemctl", "show", "-p", "CPUWeight", "--", unit], capture_output=True, text=True, check=True, timeout=60
        ).stdout
        assert shown.strip() == "CPUWeight=300", shown


def bandwidths(guest: Guest) -> None:
    """Threads have groups of their own."""
    limit(guest.groups, "vcpu", 50000, 25000)
    limit(guest.groups, "emulator", 0, 40000)
    assert read(guest.folder / "vcpu0/cgroup.type") == "threaded"
    assert read(guest.folder / "vcpu0/cpu.max") == "25000 50000"
    assert read(guest.folder / "vcpu0/cgroup.threads") == str(guest.thread)
    assert read(guest.folder / "emulator/cpu.max") == "40000 100000"
    limit(guest.groups, "global", 0, 80000)
    assert read(guest.folder / "cpu.max") == "80000 100000"
    assert guest.groups.bandwidth("vcpu0") == (50000, 25000)
    if are_wanted():
        assert group_that_runs(guest.process.pid) == guest.group


def memory(guest: Guest) -> None:
    """The kernel has swap alone, callers have both together."""
    guest.groups.set_memory(0, 262144)
    guest.groups.set_memory(1, 131072)
    guest.groups.set_memory(2, 524288)
    assert read(guest.folder / "memory.max") == str(262144 * 1024)
    assert read(guest.folder / "memory.high") == str(131072 * 1024)
    assert read(guest.folder / "memory.swap.max") == str(262144 * 1024)
    told = guest.groups.memory()
    assert (told.hard_limit_kib, told.soft_limit_kib, told.swap_hard_limit_kib) == (262144, 131072, 524288)
    guest.groups.set_memory(0, None)
    assert read(guest.folder / "memory.max") == "max"


def disks(guest: Guest) -> None:
    """A second disk is limited, and shared out by its scheduler."""
    disk = BlkioDevice(path="/dev/vdb")
    guest.groups.set_device(disk, "read_bytes_sec", 1 << 20)
    guest.groups.set_device(disk, "write_iops_sec", 50)
    said = read(guest.folder / "io.max").split()
    assert "rbps=1048576" in said and "wiops=50" in said and "wbps=max" in said, said
    guest.groups.set_device(disk, "read_bytes_sec", 0)
    assert "rbps=max" in read(guest.folder / "io.max")
    subprocess.run(["modprobe", "bfq"], check=True, timeout=60)
    Path("/sys/block/vdb/queue/scheduler").write_text("bfq")
    guest.groups.set_weight(250)
    guest.groups.set_device(disk, "weight", 400)
    assert guest.groups.weight() == 250
    assert "default 250" in read(guest.weighed / "io.weight")
    assert " 400" in read(guest.weighed / "io.bfq.weight")


def nodes(guest: Guest) -> None:
    """Memory comes from one node of two, then from the other."""
    guest.groups.set_nodes("1")
    assert read(guest.folder / "cpuset.mems") == "1"
    assert "\nMems_allowed_list:\t1\n" in Path(f"/proc/{guest.process.pid}/status").read_text()
    guest.groups.set_nodes("0-1")


def devices(guest: Guest) -> None:
    """A program lists them; another takes its place."""
    assert guest.open("/dev/null") == guest.open("/dev/kmsg") == "opened"
    rules = ["c 1:3 rw", "c 136:* rw"]
    guest.groups.restrict_devices(rules)
    assert has_devices(guest.folder)
    assert guest.open("/dev/null") == "opened"
    assert guest.open("/dev/kmsg") == guest.open("/dev/zero") == "Operation not permitted"
    guest.groups.restrict_devices([*rules, "c 1:5 rw"])
    assert guest.open("/dev/zero") == guest.open("/dev/null") == "opened"
    assert guest.open("/dev/kmsg") == "Operation not permitted"
    guest.groups.restrict_devices(rules)
    assert guest.open("/dev/zero") == "Operation not permitted"


def cores(guest: Guest) -> None:
    """A whole process, and single threads, share no core with others; a kernel that cannot keep them apart says so."""
    if "CONFIG_SCHED_CORE=y" not in next(Path("/boot").glob("config-*")).read_text():
        try:
            separate_process(guest.process.pid, QemuSettings(sched_core="full"))
        except ConfigUnsupported as exc:
            assert "core scheduling is not supported by this host's kernel" in exc.message
            return
        raise AssertionError("the kernel has no core scheduling, and it was not refused")
    make_core_group(guest.process.pid, whole=True)
    both = [core_group(guest.process.pid), core_group(guest.thread)]
    assert both[0] and both[0] == both[1], both
    make_core_group(guest.thread, whole=False)
    assert core_group(guest.thread) not in (0, both[0])
    share_core_group(guest.thread, [guest.process.pid])
    assert core_group(guest.thread) == core_group(guest.process.pid) != both[0]


def goes(guest: Guest) -> None:
    """Nothing is left of its groups."""
    guest.end()
    until("its group is gone", lambda: not guest.weighed.exists())
    if are_wanted():
        listed = subprocess.run(["machinectl", "list"], capture_output=True, text=True, check=True, timeout=60).stdout
        assert "qemu-7-web" not in listed


def main() -> int:
    """Tries all of it, and goes on after what fails."""
    guest, failed = Guest(), 0
    for check in (placed, weights, bandwidths, memory, disks, nodes, devices, cores, goes):
        try:
            check(guest)
            print(f"ok {check.__name__}", flush=True)
        except (OSError, AssertionError, ValueError, VirtError, subprocess.SubprocessError):
            failed += 1
            print(f"FAILED {check.__name__}: {traceback.format_exc()}", flush=True)
    return failed


if __name__ == "__main__":
    sys.exit(main())
