"""Control groups of both versions on a folder that stands for the kernel's, and what is told to traffic control."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from actors.qemu.tuning.bandwidth import from_guest, towards_guest
from actors.qemu.tuning.groups import GuestGroups, Threads, block_number, group_name, leftovers
from actors.qemu.tuning.hierarchy import Hierarchy
from actors.qemu.tuning.parameters import asked_for, read_parameters
from actors.qemu.tuning.perf import PerfCounters
from actors.qemu.tuning.scheduling import limit
from conf.domain.resources import BlkioDevice
from conf.network.parts import InboundRate, OutboundRate
from schema.errors import ArgumentUnsupported, DomainStateError, HostSystemError, InvalidArguments
from schema.objects import TypedParam

GROUP = "machine/qemu-x-1-web.virtroupe"
THREADS = Threads(os.getpid(), {0: 11, 1: 12}, {3: 13})


class FakeKernel(Hierarchy):
    """Makes the files that the kernel would make in a new group."""

    FILES = (
        *("cpu.shares", "cpu.cfs_period_us", "cpu.cfs_quota_us", "tasks", "cgroup.procs", "cgroup.threads"),
        *("cpu.weight", "cpu.max", "memory.max", "memory.high", "memory.swap.max", "memory.limit_in_bytes"),
        *("memory.soft_limit_in_bytes", "memory.memsw.limit_in_bytes", "blkio.bfq.weight", "io.max", "cpuset.mems"),
        "blkio.throttle.read_bps_device",
    )

    def make(self, controller: str, group: str) -> Path:
        folder = super().make(controller, group)
        if (folder / "cpu.max").exists():
            return folder
        for name in self.FILES:
            (folder / name).touch()
        unlimited = "max" if self.is_version2(controller) else str((1 << 63) - 4096)
        for name in self.FILES:
            if name.startswith("memory."):
                (folder / name).write_text(unlimited)
        (folder / "cpu.cfs_period_us").write_text("100000")
        (folder / "cpu.cfs_quota_us").write_text("-1")
        (folder / "cpu.max").write_text("max 100000")
        return folder

    def make_threaded(self, controller: str, group: str, child: str) -> Path:
        if self.is_version2(controller):
            place = self.folder(controller, group) / child
            place.mkdir(exist_ok=True)
            (place / "cgroup.type").write_text("domain")
        folder = super().make_threaded(controller, group, child)
        if self.is_version2(controller):
            (folder / "cpu.max").write_text("max 100000")
        return folder


@pytest.fixture
def version1(tmp_path: Path) -> GuestGroups:
    roots = {name: tmp_path / name for name in ("cpu", "memory", "blkio", "cpuset")}
    for root in roots.values():
        root.mkdir()
        (root / "cpuset.cpus").write_text("0-3")
        (root / "cpuset.mems").write_text("0")
    return GuestGroups(FakeKernel(roots, None), GROUP, THREADS)


@pytest.fixture
def version2(tmp_path: Path) -> GuestGroups:
    (tmp_path / "cgroup.controllers").write_text("cpuset cpu io memory")
    return GuestGroups(FakeKernel({}, tmp_path), GROUP, THREADS)


def test_a_guest_without_limits_has_no_group(version1: GuestGroups, version2: GuestGroups) -> None:
    assert version1.shares() == 1024 and version2.shares() == 100
    assert version1.bandwidth() == version2.bandwidth("vcpu0") == (100000, -1)
    assert version1.memory().hard_limit_kib is None
    assert version1.weight() == 100
    assert not version1.hierarchy.groups("machine")


def test_limits_of_version_1(version1: GuestGroups, tmp_path: Path) -> None:
    assert version1.set_shares(512) == 512
    assert (tmp_path / "cpu" / GROUP / "cgroup.procs").read_text() == str(os.getpid())
    with pytest.raises(InvalidArguments, match=r"shares '1' must be in range \[2, 262144\]"):
        version1.set_shares(1)
    limit(version1, "vcpu", 50000, 20000)
    for number, thread in ((0, "11"), (1, "12")):
        folder = tmp_path / "cpu" / GROUP / f"vcpu{number}"
        assert (folder / "cpu.cfs_quota_us").read_text() == "20000"
        assert (folder / "cpu.cfs_period_us").read_text() == "50000"
        assert (folder / "tasks").read_text() == thread
    limit(version1, "iothread", 0, -1)
    assert version1.bandwidth("iothread3") == (100000, -1)
    limit(version1, "global", 0, 30000)
    assert (tmp_path / "cpu" / GROUP / "cpu.cfs_quota_us").read_text() == "30000"
    version1.set_memory(0, 2048)
    assert version1.memory().hard_limit_kib == 2048
    version1.set_memory(0, None)
    assert (tmp_path / "memory" / GROUP / "memory.limit_in_bytes").read_text() == "-1"
    version1.set_weight(300)
    assert version1.weight() == 300
    version1.set_nodes("0")
    assert (tmp_path / "cpuset" / GROUP / "cpuset.mems").read_text() == "0"


def test_limits_of_version_2(version2: GuestGroups, tmp_path: Path) -> None:
    assert version2.set_shares(200) == 200
    assert (tmp_path / "cgroup.subtree_control").read_text() == "+cpu"
    with pytest.raises(InvalidArguments, match=r"\[1, 10000\]"):
        version2.set_shares(20000)
    limit(version2, "vcpu", 0, 20000)
    folder = tmp_path / GROUP / "vcpu1"
    assert (folder / "cgroup.type").read_text() == "threaded"
    assert (folder / "cpu.max").read_text() == "20000 100000"
    assert (folder / "cgroup.threads").read_text() == "12"
    limit(version2, "vcpu", 50000, -1)
    assert version2.bandwidth("vcpu1") == (50000, -1)
    version2.set_memory(0, 1024)
    version2.set_memory(2, 3072)
    assert (tmp_path / GROUP / "memory.swap.max").read_text() == str(2048 * 1024)  # swap alone, without memory
    assert version2.memory().swap_hard_limit_kib == 3072
    version2.set_memory(0, 512)
    assert version2.memory().swap_hard_limit_kib == 3072
    (tmp_path / GROUP / "io.weight").write_text("default 300\n8:16 200\n")
    assert version2.weight() == 300


def test_a_limit_that_one_thread_refuses_is_taken_back(
    version1: GuestGroups, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    limit(version1, "vcpu", 0, 40000)
    plain = GuestGroups.set_bandwidth

    def refuse(self: GuestGroups, child: str, period: int, quota: int) -> None:
        if child == "vcpu1" and quota == 20000:
            raise HostSystemError(22, "no")
        plain(self, child, period, quota)

    monkeypatch.setattr(GuestGroups, "set_bandwidth", refuse)
    with pytest.raises(HostSystemError):
        limit(version1, "vcpu", 0, 20000)
    assert version1.bandwidth("vcpu0")[1] == version1.bandwidth("vcpu1")[1] == 40000


def test_groups_go_with_their_guests(version1: GuestGroups, tmp_path: Path) -> None:
    house = tmp_path / "house"
    one, two = group_name("", house, 1, "web"), group_name("/machine", house, 2, "db/x")
    assert one.startswith("machine/qemu-") and "/" not in two.removeprefix("machine/")
    for group in (one, two, "machine/other"):
        (tmp_path / "cpu" / group / "vcpu0").mkdir(parents=True)
    assert leftovers(version1.hierarchy, house, {one}) == [two]
    assert leftovers(version1.hierarchy, tmp_path / "another house", set()) == []
    version1.hierarchy.remove(two)
    assert version1.hierarchy.groups("machine") == {one.removeprefix("machine/"), "other"}


def test_what_is_not_mounted_is_refused(tmp_path: Path) -> None:
    mounts = tmp_path / "mountinfo"
    mounts.write_text(
        "25 1 0:22 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n"
        "26 1 0:23 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n"
        "27 1 0:24 / /proc rw - proc proc rw\n"
    )
    found = Hierarchy.of_host(mounts)
    assert found.has("cpu") and found.has("cpuacct") and not found.has("nosuch")
    with pytest.raises(DomainStateError, match="cgroup memory controller is not mounted"):
        Hierarchy({}, None).need("memory")
    assert not Hierarchy.of_host(tmp_path / "absent").has("cpu")


def test_devices_are_known_by_number(version1: GuestGroups, tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    with pytest.raises(InvalidArguments, match="must be a block device"):
        block_number(str(file))
    with pytest.raises(HostSystemError, match="is not accessible"):
        block_number(str(tmp_path / "absent"))
    with pytest.raises(InvalidArguments, match="must be a block device"):
        version1.set_device(BlkioDevice(path=str(file)), "read_bytes_sec", 5)


def test_traffic_control() -> None:
    first, second, _ = towards_guest("vnet0", InboundRate(average=100, peak=200, burst=300))
    assert " ".join(first) == "qdisc add dev vnet0 root handle 1: htb default 1"
    assert " ".join(second).endswith("classid 1:1 htb rate 100kbps ceil 200kbps burst 300kb")
    assert "burst 100kb" in " ".join(from_guest("vnet0", OutboundRate(average=100))[1])


def test_parameters_are_checked() -> None:
    known = {"weight": "uint", "device": "string"}
    assert read_parameters([TypedParam.of_uint("weight", 5)], known) == {"weight": 5}
    with pytest.raises(ArgumentUnsupported, match="parameter 'x' not supported"):
        read_parameters([TypedParam.of_uint("x", 5)], known)
    with pytest.raises(InvalidArguments, match="invalid type 'llong' for parameter 'weight', expected 'uint'"):
        read_parameters([TypedParam.of_llong("weight", 5)], known)
    with pytest.raises(InvalidArguments, match="occurs multiple times"):
        read_parameters([TypedParam.of_uint("weight", 5)] * 2, known)
    found = [TypedParam.of_uint("a", 1), TypedParam.of_uint("b", 2)]
    assert asked_for(found, 0) == {"params": [], "nparams": 2}
    assert asked_for(found, 1) == {"params": found[:1], "nparams": 1}


def test_events_that_the_kernel_does_not_offer_are_refused() -> None:
    counters = PerfCounters(os.getpid())
    with pytest.raises(ArgumentUnsupported, match="unable to enable host cpu perf event for cmt"):
        counters.enable("cmt")
    assert counters.read("page_faults") is None
    counters.close()
