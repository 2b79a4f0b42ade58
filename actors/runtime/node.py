"""This host, for drivers whose guests run on it: processors and memory, read from /proc and /sys at each question."""

from __future__ import annotations

import os
import platform
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from actors.runtime.calls import Calls
from actors.runtime.derived.flags import check_flags
from actors.runtime.host import Host
from actors.runtime.host_facts.reading import read_sysinfo
from schema.errors import ConfigUnsupported, HostSystemError, InternalError, InvalidArguments
from schema.objects import NodeCpuStat, NodeMemoryStat
from util.cpuset import bits_from_cpuset, parse_cpuset

calls: Calls[Host] = Calls()

_MODEL_LENGTH: Final = 32
_CLOCKS: Final = {"x86": "cpu MHz", "i": "cpu MHz", "ppc": "clock", "s390": "cpu MHz dynamic"}
"""Where /proc/cpuinfo tells a processor's clock, by how the architecture's name begins."""
_CPU_STATS: Final = ("kernel", "user", "idle", "iowait")


def _numbers(folder: Path) -> frozenset[int]:
    """The processors that have an entry in a folder."""
    names = (path.name[3:] for path in folder.glob("cpu[0-9]*"))
    return frozenset(int(name) for name in names if name.isdecimal())


@dataclass(frozen=True, slots=True)
class Topology:
    """Processors that are online, and how all are arranged; where that is uneven, as cores of one socket."""

    cpus: int
    nodes: int
    sockets: int
    cores: int
    threads: int


@dataclass(frozen=True, slots=True)
class NodeFacts:
    """What the kernel says, below folders that a test may choose."""

    proc: Path = field(default=Path("/proc"))
    sys: Path = field(default=Path("/sys/devices/system"))
    arch: str = field(default_factory=platform.machine)
    threads_per_subcore: int = 0
    """On POWER, where the threads of a core are off for the host and all of them are a guest's; 0: not so."""

    def present_cpus(self) -> frozenset[int]:
        """Processors that there are, online or not. Raises HostSystemError."""
        return parse_cpuset(self._read(self.sys / "cpu" / "present"))

    def online_cpus(self) -> frozenset[int]:
        """Processors that run. Raises HostSystemError."""
        return parse_cpuset(self._read(self.sys / "cpu" / "online"))

    def cells(self) -> list[int]:
        """The host's NUMA cells; one where the kernel knows none."""
        found = sorted(int(path.name[4:]) for path in (self.sys / "node").glob("node[0-9]*"))
        return found or [0]

    def topology(self) -> Topology:
        """How the processors are arranged, with those that are off. Raises HostSystemError."""
        online, offline = self.online_cpus(), 0
        present = self.present_cpus() if (self.sys / "cpu" / "present").exists() else online
        nodes = sockets = cores = threads = counted = 0
        for cell in self._cells_of_cpus(online):
            ids: dict[int, set[int]] = {}
            for cpu in cell & present:
                first = cpu - cpu % self.threads_per_subcore if self.threads_per_subcore else cpu
                if first != cpu and first in cell & online:
                    counted += 1  # the hypervisor lets its guests have them
                    continue
                if cpu not in online:
                    offline += 1
                    continue
                counted += 1
                socket_, core = self._place(cpu)
                ids.setdefault(socket_, set()).add(core)
                threads = max(threads, self._siblings(cpu))
            nodes += 1
            sockets = max(sockets, len(ids))
            cores = max(cores, *(len(found) for found in ids.values()), 0)
        threads *= self.threads_per_subcore or 1
        if not counted or nodes * sockets * cores * threads != counted + offline:
            return Topology(counted, 1, 1, max(1, counted + offline), 1)
        return Topology(counted, nodes, sockets, cores, threads)

    def _cells_of_cpus(self, online: frozenset[int]) -> list[frozenset[int]]:
        """The processors of each cell; of all where the kernel knows no cells."""
        found = []
        for folder in sorted((self.sys / "node").glob("node[0-9]*")):
            path = folder / "cpulist"
            listed = parse_cpuset(self._read(path) or "^0") if path.exists() else frozenset()
            found.append(listed | _numbers(folder))
        return found or [_numbers(self.sys / "cpu") or online]

    def _place(self, cpu: int) -> tuple[int, int]:
        """Socket and core of a processor; some architectures say -1 where there is nothing to tell apart."""
        folder = self.sys / "cpu" / f"cpu{cpu}" / "topology"
        is_mainframe = self.arch.startswith("s390")
        core = cpu if is_mainframe else self._number(folder / "core_id", 0 if folder.exists() else cpu)
        return max(0, self._number(folder / "physical_package_id", 0)), core

    def _siblings(self, cpu: int) -> int:
        """How many threads the core of a processor has."""
        path = self.sys / "cpu" / f"cpu{cpu}" / "topology" / "thread_siblings_list"
        if path.exists():
            return len(parse_cpuset(self._read(path)))
        path = path.with_name("thread_siblings")
        if path.exists():
            return int(self._read(path).replace(",", ""), 16).bit_count()
        return 1

    def mhz(self) -> int:
        """The clock of the first processor; 0 when it is not told."""
        name = next((word for start, word in _CLOCKS.items() if self.arch.startswith(start)), None)
        if name is None:
            return 0
        match = re.search(rf"^{name}\s*:\s*(\d+)", self._read(self.proc / "cpuinfo"), re.MULTILINE)
        return int(match[1]) if match else 0

    def memory_kib(self, cell: int = -1) -> dict[str, int]:
        """The lines of meminfo, of one cell or of the host. Raises HostSystemError."""
        path = self.proc / "meminfo" if cell < 0 else self.sys / "node" / f"node{cell}" / "meminfo"
        return {match[1]: int(match[2]) for match in re.finditer(r"(\w+):\s+(\d+)(?: kB)?$", self._read(path), re.M)}

    def cpu_times(self) -> Iterator[tuple[int, dict[str, int]]]:
        """Nanoseconds that each processor (-1: all) spent in each state. Raises HostSystemError."""
        tick_ns = 1_000_000_000 // os.sysconf("SC_CLK_TCK")
        for match in re.finditer(r"^cpu(\d*) +(.*)$", self._read(self.proc / "stat"), re.MULTILINE):
            user, nice, system, idle, iowait, irq, softirq, *_ = (int(n) * tick_ns for n in match[2].split())
            values = (system + irq + softirq, user + nice, idle, iowait)
            yield int(match[1]) if match[1] else -1, dict(zip(_CPU_STATS, values, strict=True))

    def _number(self, path: Path, default: int) -> int:
        try:
            return int(path.read_text(encoding="ascii"))
        except (OSError, ValueError):
            return default

    def _read(self, path: Path) -> str:
        try:
            return path.read_text(encoding="utf-8", errors="replace").strip()
        except OSError as exc:
            raise HostSystemError(exc.errno or 0, f"cannot read '{path}'") from exc


def node_info(facts: NodeFacts) -> dict[str, Any]:
    """The result of `node_get_info`. Raises HostSystemError."""
    topology = facts.topology()
    return {
        "model": platform.machine().encode().ljust(_MODEL_LENGTH, b"\0")[:_MODEL_LENGTH],
        "memory": facts.memory_kib()["MemTotal"],
        "cpus": topology.cpus,
        "mhz": facts.mhz(),
        "nodes": topology.nodes,
        "sockets": topology.sockets,
        "cores": topology.cores,
        "threads": topology.threads,
    }


def memory_stats(facts: NodeFacts, cell: int) -> list[NodeMemoryStat]:
    """The counters of `node_get_memory_stats`. Raises InvalidArguments for a cell that there is not."""
    if cell >= 0 and cell not in facts.cells():
        raise InvalidArguments(f"cellNum in virNodeGetMemoryStats must be less than or equal to {facts.cells()[-1]}")
    kib = facts.memory_kib(cell)
    rows = [("total", "MemTotal"), ("free", "MemFree")]
    if cell < 0:
        rows += [("buffers", "Buffers"), ("cached", "Cached")]
    return [NodeMemoryStat(name, kib[line]) for name, line in rows]


def cpu_stats(facts: NodeFacts, cpu: int) -> list[NodeCpuStat]:
    """The counters of `node_get_cpu_stats`. Raises InvalidArguments for a processor that there is not."""
    for number, times in facts.cpu_times():
        if number == cpu:
            return [NodeCpuStat(name, value) for name, value in times.items()]
    error = InvalidArguments()
    error.message = "Invalid cpuNum in virHostCPUGetStatsLinux"
    raise error


@calls.handles()
def node_get_info(host: Host) -> dict[str, Any]:
    """What the host is. Raises HostSystemError."""
    return node_info(NodeFacts())


@calls.handles()
async def connect_get_sysinfo(host: Host, flags: int) -> str:
    """What the firmware says of the hardware. Raises UnsupportedFlags, ConfigUnsupported where it says nothing."""
    check_flags(host, flags, 0)
    info = await read_sysinfo()
    if info is None:
        raise ConfigUnsupported("Host SMBIOS information is not available")
    return info.to_xml()


@calls.handles()
def node_get_free_memory(host: Host) -> int:
    """Bytes that nothing uses. Raises HostSystemError."""
    return NodeFacts().memory_kib()["MemFree"] * 1024


@calls.handles()
def node_get_cells_free_memory(host: Host, startCell: int, maxcells: int) -> list[int]:  # noqa: N803 - wire names
    """Bytes that nothing uses, by cell. Raises InternalError for a cell that there is not, HostSystemError."""
    facts = NodeFacts()
    cells = facts.cells()
    if not 0 <= startCell <= cells[-1]:
        raise InternalError(f"start cell {startCell} out of range (0-{cells[-1]})")
    chosen = [cell for cell in cells if cell >= startCell][: max(0, maxcells)]
    if not (facts.sys / "node").is_dir():
        return [facts.memory_kib()["MemFree"] * 1024]
    return [facts.memory_kib(cell)["MemFree"] * 1024 for cell in chosen]


@calls.handles()
def node_get_memory_stats(host: Host, nparams: int, cellNum: int, flags: int) -> dict[str, Any]:  # noqa: N803
    """Counters of the host's memory; of none, how many there are. Raises InvalidArguments, UnsupportedFlags."""
    check_flags(host, flags, 0)
    stats = memory_stats(NodeFacts(), cellNum)
    return {"params": stats[:nparams] if nparams > 0 else [], "nparams": len(stats)}


@calls.handles()
def node_get_cpu_stats(host: Host, cpuNum: int, nparams: int, flags: int) -> dict[str, Any]:  # noqa: N803
    """Counters of the host's processors; of none, how many there are. Raises InvalidArguments, UnsupportedFlags."""
    check_flags(host, flags, 0)
    if nparams == 0:
        return {"params": [], "nparams": len(_CPU_STATS)}
    stats = cpu_stats(NodeFacts(), cpuNum)
    return {"params": stats[:nparams], "nparams": len(stats)}


@calls.handles()
def node_get_cpu_map(host: Host, need_map: int, need_online: int, flags: int) -> dict[str, Any]:
    """Which processors run. Raises HostSystemError, UnsupportedFlags."""
    check_flags(host, flags, 0)
    facts = NodeFacts()
    present, online = facts.present_cpus(), facts.online_cpus()
    return {
        "cpumap": bits_from_cpuset(online, (max(present) + 8) // 8) if need_map else b"",
        "online": len(online) if need_online else 0,
        "ret": max(present) + 1,
    }
