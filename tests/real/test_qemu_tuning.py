"""Shares of the host that real guests have: threads that run where they were told, limits, dumps, jobs."""

from __future__ import annotations

import asyncio
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from actors.qemu.driver import QemuActor
from actors.qemu.ending import panicked
from actors.qemu.tuning.access import group_of
from actors.qemu.tuning.hierarchy import host_hierarchy
from actors.qemu.tuning.pinning import host_processors
from schema.enums.domain import DomainCoreDumpFlags as DumpFlags
from schema.enums.domain_state import DomainShutoffReason, DomainState
from schema.errors import (
    ConfigUnsupported,
    DomainStateError,
    HostSystemError,
    InvalidArguments,
    OperationUnsupported,
    VirtError,
)
from schema.objects import TypedParam
from tests.contract.house import House, open_house
from tests.real.guest import needs_qemu
from tests.real.migration_steps import Traveller, ask, post
from tests.real.test_qemu_agent import until

pytestmark = [
    pytest.mark.real,
    pytest.mark.slow,
    pytest.mark.timeout(180),
    pytest.mark.skipif(os.geteuid() != 0, reason="shares of the host are root's to give"),
]

SCOPE = "qemu:///system"
LIVE, CONFIG, BOTH = 1, 2, 3


@pytest.fixture
def root() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="vt", dir="/tmp"))
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


class Tuned(Traveller):
    """Two processors and an input/output thread."""

    def __init__(self, top: str = "", more: str = "") -> None:
        super().__init__(more=more)
        self.xml = self.xml.replace("<vcpu>1</vcpu>", f"<vcpu>2</vcpu><iothreads>1</iothreads>{top}")


async def start(house: House, guest: Tuned) -> Any:
    await house.call("domain_define_xml_flags", xml=guest.xml, flags=0)
    await ask(house, "domain_create_with_flags", dom=guest.ref)
    return house.host.guests[guest.uuid.bytes]


async def xml(house: House, guest: Tuned, flags: int = 0) -> str:
    return str((await ask(house, "domain_get_xml_desc", dom=guest.ref, flags=flags)).xml)


def values(params: Any) -> dict[str, Any]:
    return {one.field: one.value for one in params}


async def test_threads_run_where_they_are_told(root: Path) -> None:
    needs_qemu()
    guest = Tuned("<cputune><vcpupin vcpu='1' cpuset='0'/></cputune>")
    first = min(host_processors())
    bits = bytes([1 << first])
    async with open_house(QemuActor(), SCOPE, root) as house:
        one = await start(house, guest)
        threads = one.need_run().vcpu_threads
        assert os.sched_getaffinity(threads[1]) == {0}
        assert os.sched_getaffinity(threads[0]) == host_processors()
        await ask(house, "domain_pin_vcpu_flags", dom=guest.ref, vcpu=0, cpumap=bits, flags=BOTH)
        assert os.sched_getaffinity(threads[0]) == {first}
        assert f"<vcpupin vcpu='0' cpuset='{first}'/>" in await xml(house, guest)
        assert f"<vcpupin vcpu='0' cpuset='{first}'/>" in await xml(house, guest, 2)
        told = await ask(house, "domain_get_vcpu_pin_info", dom=guest.ref, ncpumaps=2, maplen=1)
        assert told.num == 2 and told.cpumaps == bits + b"\x01"
        with pytest.raises(InvalidArguments, match="vcpu 5 is out of range of live cpu count 2"):
            await ask(house, "domain_pin_vcpu_flags", dom=guest.ref, vcpu=5, cpumap=bits)
        await ask(house, "domain_pin_emulator", dom=guest.ref, cpumap=bits)
        assert os.sched_getaffinity(one.need_run().pid) == {first}
        assert os.sched_getaffinity(threads[1]) == {0}
        assert (await ask(house, "domain_get_emulator_pin_info", dom=guest.ref, maplen=1)).cpumaps == bits
        await ask(house, "domain_pin_iothread", dom=guest.ref, iothreads_id=1, cpumap=bits)
        (info,) = (await ask(house, "domain_get_iothread_info", dom=guest.ref)).info
        assert info.iothread_id == 1 and info.cpumap[0] == bits[0]
        assert house.broker.kinds().count("domain_event_tunable") == 3
        vcpus = await ask(house, "domain_get_vcpus", dom=guest.ref, maxinfo=2, maplen=1)
        assert vcpus.cpumaps == bits + b"\x01"
        await ask(house, "domain_destroy_flags", dom=guest.ref)


async def test_limits_are_the_kernels(root: Path) -> None:
    needs_qemu()
    hierarchy = host_hierarchy()
    if not hierarchy.has("cpu") or not hierarchy.has("memory"):
        pytest.skip("this host has no control groups for processors and memory")
    try:
        hierarchy.make("cpu", "machine")
    except HostSystemError as exc:
        pytest.skip(f"this host's control groups cannot be written: {exc.message}")
    nodes = "<numatune><memory mode='restrictive' nodeset='0'/></numatune>" if hierarchy.has("cpuset") else ""
    guest = Tuned(f"<cputune><quota>50000</quota></cputune>{nodes}")
    async with open_house(QemuActor(), SCOPE, root) as house:
        one = await start(house, guest)
        group = group_of(house.host, one.need_run()).removeprefix("machine/")
        assert group in hierarchy.groups("machine")
        if nodes:
            assert (hierarchy.folder("cpuset", f"machine/{group}") / "cpuset.mems").read_text().strip() == "0"
        told = values((await ask(house, "domain_get_scheduler_parameters_flags", dom=guest.ref, nparams=9)).params)
        assert told["vcpu_quota"] == 50000 and told["emulator_quota"] == -1 and told["vcpu_period"] == 100000
        assert (await ask(house, "domain_get_scheduler_type", dom=guest.ref)).nparams == len(told)
        low = 200 if hierarchy.is_version2("cpu") else 512
        params = [TypedParam.of_ullong("cpu_shares", low), TypedParam.of_llong("global_quota", 200000)]
        await ask(house, "domain_set_scheduler_parameters_flags", dom=guest.ref, params=params, flags=LIVE)
        told = values((await ask(house, "domain_get_scheduler_parameters_flags", dom=guest.ref, nparams=9)).params)
        assert told["cpu_shares"] == low and told["global_quota"] == 200000
        with pytest.raises(InvalidArguments, match=r"value of 'vcpu_quota' is out of range \[1000, 17592186044415\]"):
            await ask(
                house,
                "domain_set_scheduler_parameters_flags",
                dom=guest.ref,
                params=[TypedParam.of_llong("vcpu_quota", 1)],
            )
        limits = [TypedParam.of_ullong("hard_limit", 900_000), TypedParam.of_ullong("soft_limit", 300_000)]
        await ask(house, "domain_set_memory_parameters", dom=guest.ref, params=limits, flags=BOTH)
        told = values((await ask(house, "domain_get_memory_parameters", dom=guest.ref, nparams=3)).params)
        assert told["hard_limit"] == 900_000 and told["soft_limit"] == 300_000
        assert told["swap_hard_limit"] == (1 << 53) - 1
        assert "<hard_limit unit='KiB'>900000</hard_limit>" in await xml(house, guest, 2)
        pid = one.need_run().pid
        assert group in Path(f"/proc/{pid}/cgroup").read_text()
        await ask(house, "domain_destroy_flags", dom=guest.ref)
        assert group not in hierarchy.groups("machine")


async def test_groups_of_guests_that_ended_unseen_are_swept(root: Path) -> None:
    needs_qemu()
    hierarchy = host_hierarchy()
    if not hierarchy.has("cpu"):
        pytest.skip("this host has no control groups for processors")
    guest = Tuned("<cputune><shares>500</shares></cputune>")
    async with open_house(QemuActor(), SCOPE, root, orderly=False) as house:
        try:
            one = await start(house, guest)
        except HostSystemError as exc:
            pytest.skip(f"this host's control groups cannot be written: {exc.message}")
        pid, group = one.need_run().pid, group_of(house.host, one.need_run()).removeprefix("machine/")
        assert group in hierarchy.groups("machine")
    os.kill(pid, 9)
    await until("its process ends with all its threads", lambda: is_zombie(pid) and len(threads(pid)) <= 1)
    async with open_house(QemuActor(), SCOPE, root, epoch=2):
        assert group not in hierarchy.groups("machine")


def threads(pid: int) -> list[str]:
    try:
        return [one.name for one in Path(f"/proc/{pid}/task").iterdir()]
    except OSError:
        return []


def is_zombie(pid: int) -> bool:
    try:
        return "\nState:\tZ" in Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return True


async def test_a_guest_that_is_off_has_what_was_written_down(root: Path) -> None:
    needs_qemu()
    guest = Tuned(more="<interface type='user'><mac address='52:54:00:11:22:33'/></interface>")
    async with open_house(QemuActor(), SCOPE, root) as house:
        await house.call("domain_define_xml_flags", xml=guest.xml, flags=0)
        told = values((await ask(house, "domain_get_scheduler_parameters_flags", dom=guest.ref, nparams=9)).params)
        assert set(told.values()) == {0}
        await ask(
            house, "domain_set_numa_parameters", dom=guest.ref, params=[TypedParam.of_string("numa_nodeset", "0")]
        )
        assert "<memory mode='strict' nodeset='0'/>" in await xml(house, guest)
        await ask(house, "domain_set_blkio_parameters", dom=guest.ref, params=[TypedParam.of_uint("weight", 500)])
        assert (
            values((await ask(house, "domain_get_blkio_parameters", dom=guest.ref, nparams=6)).params)["weight"] == 500
        )
        with pytest.raises(InvalidArguments, match="lower than or equal to swap_hard_limit"):
            swap = [TypedParam.of_ullong("swap_hard_limit", 1000)]
            await ask(house, "domain_set_memory_parameters", dom=guest.ref, params=swap)
        with pytest.raises(ConfigUnsupported, match="interfaces of type 'user'"):
            params = [TypedParam.of_uint("inbound.average", 100)]
            await ask(
                house, "domain_set_interface_parameters", dom=guest.ref, device="52:54:00:11:22:33", params=params
            )
        await ask(house, "domain_set_perf_events", dom=guest.ref, params=[TypedParam.of_boolean("page_faults", True)])
        assert values((await ask(house, "domain_get_perf_events", dom=guest.ref)).params)["page_faults"] == 1
        await ask(house, "domain_set_lifecycle_action", dom=guest.ref, type=2, action=5)
        assert "<on_crash>coredump-restart</on_crash>" in await xml(house, guest)
        with pytest.raises(ConfigUnsupported, match="doesn't support the 'preserve' action"):
            await ask(house, "domain_set_lifecycle_action", dom=guest.ref, type=1, action=3)
        for procedure in ("domain_pin_emulator", "domain_core_dump", "domain_abort_job"):
            args: dict[str, Any] = {"cpumap": b"\1"} if procedure == "domain_pin_emulator" else {}
            args |= {"to": str(root / "core")} if procedure == "domain_core_dump" else {}
            with pytest.raises(DomainStateError, match="domain is not running"):
                await ask(house, procedure, dom=guest.ref, **({"flags": LIVE} if args.get("cpumap") else {}), **args)


async def test_dumps(root: Path) -> None:
    needs_qemu()
    guest = Tuned()
    core = root / "core"
    async with open_house(QemuActor(), SCOPE, root) as house:
        await start(house, guest)
        memory_only = int(DumpFlags.MEMORY_ONLY)
        await ask(house, "domain_core_dump", dom=guest.ref, to=str(core), flags=memory_only | DumpFlags.LIVE)
        assert core.read_bytes()[:4] == b"\x7fELF"
        await ask(house, "domain_core_dump_with_format", dom=guest.ref, to=str(core), dumpformat=1, flags=memory_only)
        assert core.read_bytes()[:7] == b"makedum" or core.read_bytes()[:5] == b"KDUMP"
        assert house.broker.lifecycle()[-2:] == [(3, 0), (4, 0)]
        with pytest.raises(DomainStateError, match="only supported with memory-only dump"):
            await ask(house, "domain_core_dump_with_format", dom=guest.ref, to=str(core), dumpformat=1)
        with pytest.raises((OperationUnsupported, VirtError)):
            await ask(
                house, "domain_core_dump_with_format", dom=guest.ref, to=str(core), dumpformat=4, flags=memory_only
            )
        with pytest.raises(HostSystemError, match="Failed to create file '/nosuch/core': No such file or directory"):
            await ask(house, "domain_core_dump", dom=guest.ref, to="/nosuch/core")
        assert (await house.call("domain_get_state", dom=guest.ref, flags=0)).state == DomainState.RUNNING
        await ask(house, "domain_core_dump", dom=guest.ref, to=str(core), flags=int(DumpFlags.RESET))
        told = await ask(house, "domain_get_job_stats", dom=guest.ref, flags=1)
        assert told.type == 3 and values(told.params)["operation"] == 8 and values(told.params)["data_total"] > 0
        assert (await ask(house, "domain_get_job_stats", dom=guest.ref, flags=1)).type == 0
        with pytest.raises(DomainStateError, match="no job is active on the domain"):
            await ask(house, "domain_abort_job", dom=guest.ref)
        await ask(house, "domain_core_dump", dom=guest.ref, to=str(core), flags=int(DumpFlags.CRASH))
        told = await house.call("domain_get_state", dom=guest.ref, flags=0)
        assert (told.state, told.reason) == (DomainState.SHUTOFF, DomainShutoffReason.CRASHED)


async def test_a_dump_whose_driver_dies_leaves_a_guest_that_runs(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    needs_qemu()
    guest, core, stuck = Tuned(), root / "core", asyncio.Event()

    async def hang(*args: Any) -> None:
        stuck.set()
        await asyncio.Event().wait()

    async with open_house(QemuActor(), SCOPE, root, orderly=False) as house:
        await start(house, guest)
        with monkeypatch.context() as patch:
            patch.setattr("actors.qemu.tuning.dumps.follow_migration", hang)
            post(house, "domain_core_dump", dom=guest.ref, to=str(core))
            await asyncio.wait_for(stuck.wait(), 30)
        assert (await house.call("domain_get_state", dom=guest.ref, flags=0)).state == DomainState.PAUSED
    async with open_house(QemuActor(), SCOPE, root, epoch=2) as house:
        assert (await house.call("domain_get_state", dom=guest.ref, flags=0)).state == DomainState.RUNNING
        assert not core.exists()
        await ask(house, "domain_core_dump", dom=guest.ref, to=str(core))  # nothing stands in the way of another
        assert core.stat().st_size > 0
        await ask(house, "domain_destroy_flags", dom=guest.ref)


async def test_a_pipe_that_nobody_reads_takes_no_dump(root: Path) -> None:
    needs_qemu()
    guest = Tuned()
    os.mkfifo(root / "pipe")
    async with open_house(QemuActor(), SCOPE, root) as house:
        await start(house, guest)
        with pytest.raises(HostSystemError, match="Failed to create file"):
            await ask(house, "domain_core_dump", dom=guest.ref, to=str(root / "pipe"))
        await ask(house, "domain_destroy_flags", dom=guest.ref)


async def test_a_guest_that_crashes_leaves_its_memory_behind(root: Path) -> None:
    needs_qemu()
    guest = Tuned()
    guest.xml = guest.xml.replace("<devices>", "<on_crash>coredump-destroy</on_crash><devices>")
    async with open_house(QemuActor(), SCOPE, root) as house:
        one = await start(house, guest)
        await panicked(house.host, one)
        told = await house.call("domain_get_state", dom=guest.ref, flags=0)
        assert (told.state, told.reason) == (DomainState.SHUTOFF, DomainShutoffReason.CRASHED)
        (core,) = (house.host.state_folder / "dump").iterdir()
        assert core.name.startswith(guest.name) and core.read_bytes()[:4] == b"\x7fELF"


async def test_memory_is_looked_at_and_measured(root: Path) -> None:
    needs_qemu()
    guest = Tuned()
    async with open_house(QemuActor(), SCOPE, root) as house:
        await start(house, guest)
        # the last bytes below 1 MiB are the firmware's: a jump, and the date it was made
        async with asyncio.timeout(30):
            while True:
                piece = await ask(house, "domain_memory_peek", dom=guest.ref, offset=0xFFFF0, size=16, flags=2)
                assert len(piece.buffer) == 16
                if piece.buffer[0] == 0xEA and b"/" in piece.buffer:
                    break
                await asyncio.sleep(0.05)  # it is being copied there
        with pytest.raises(InvalidArguments):
            await ask(house, "domain_memory_peek", dom=guest.ref, offset=0, size=16, flags=0)
        with pytest.raises(ConfigUnsupported, match="seconds=99 is invalid"):
            await ask(house, "domain_start_dirty_rate_calc", dom=guest.ref, seconds=99)
        await ask(house, "domain_start_dirty_rate_calc", dom=guest.ref, seconds=1)
        end = 0
        while True:
            told = await ask(house, "connect_get_all_domain_stats", doms=[guest.ref], stats=512)
            (record,) = told.retStats
            found = values(record.params)
            if found.get("dirtyrate.calc_status") == 2:
                break
            end += 1
            assert end < 600
            await asyncio.sleep(0.1)
        assert found["dirtyrate.calc_period"] == 1 and found["dirtyrate.megabytes_per_second"] >= 0
        await ask(house, "domain_destroy_flags", dom=guest.ref)


async def test_the_hosts_own_memory(root: Path) -> None:
    needs_qemu()
    async with open_house(QemuActor(), SCOPE, root) as house:
        (free,) = (await ask(house, "node_get_free_pages", pages=[4], startCell=-1, cellCount=1)).counts
        assert free > 0
        with pytest.raises(VirtError, match="page size 5 is not available"):
            await ask(house, "node_get_free_pages", pages=[5], startCell=-1, cellCount=1)
        with pytest.raises(OperationUnsupported, match="system pages pool can't be modified"):
            await ask(house, "node_alloc_pages", pageSizes=[4], pageCounts=[1], startCell=-1, cellCount=1)
        told = await ask(house, "node_get_memory_parameters", nparams=0)
        full = await ask(house, "node_get_memory_parameters", nparams=told.nparams)
        assert len(full.params) == told.nparams
        with pytest.raises(OperationUnsupported, match="SEV"):
            await ask(house, "node_get_sev_info", nparams=0)


async def test_events_are_counted_where_the_kernel_can(root: Path) -> None:
    needs_qemu()
    guest = Tuned()
    async with open_house(QemuActor(), SCOPE, root) as house:
        one = await start(house, guest)
        params = [TypedParam.of_boolean("context_switches", True)]
        try:
            await ask(house, "domain_set_perf_events", dom=guest.ref, params=params)
        except HostSystemError as exc:
            assert "unable to open host cpu perf event for context_switches" in exc.message
        else:
            assert one.perf is not None
            for _ in range(200):
                if one.perf.read("context_switches"):
                    break
                await asyncio.sleep(0.05)
            assert one.perf.read("context_switches")
            told = values((await ask(house, "domain_get_perf_events", dom=guest.ref)).params)
            assert told["context_switches"] == 1 and told["cpu_cycles"] == 0
        await ask(house, "domain_destroy_flags", dom=guest.ref)
        assert one.perf is None
