"""The host's NUMA cells: memory, processors, distances, and the caches and paths of its memory."""

from __future__ import annotations

import os
import re
from typing import Final

from actors.runtime.host_facts.tree import HostTree
from conf.capabilities.topology import Cell, CellCpu, CellCpus, CellPages, Cells, Topology
from conf.cpu.cpu import Bandwidth, CacheLine, CacheSize, Distance, Distances, Interconnects, Latency, NumaCache
from util.cpuset import write_cpuset

_ASSOCIATIVITIES: Final = {0: "direct", 1: "full"}
_POLICIES: Final = {0: "writeback", 1: "writethrough"}
_TOTAL: Final = re.compile(r"MemTotal:\s+(\d+) kB").search


class CellMemory:
    """How much memory there is, and in which pages."""

    def __init__(self, tree: HostTree) -> None:
        self.tree = tree

    def memory_kib(self, cell: int) -> int:
        """The memory of a cell."""
        match = _TOTAL(self.tree.text(self.tree.system / "node" / f"node{cell}" / "meminfo") or "")
        if match is not None:
            return int(match[1])
        return os.sysconf("SC_PHYS_PAGES") * self.page_kib()

    def page_kib(self) -> int:
        """The size of ordinary pages."""
        return os.sysconf("SC_PAGE_SIZE") // 1024

    def pages(self, cell: int) -> list[tuple[int, int]]:
        """Sizes in KiB, each with how many pages there are of it."""
        folder = self.tree.system / "node" / f"node{cell}" / "hugepages"
        huge = []
        for path in folder.glob("hugepages-*kB"):
            size = int(path.name.removeprefix("hugepages-").removesuffix("kB"))
            huge.append((size, self.tree.number(path / "nr_hugepages") or 0))
        in_huge_kib = sum(size * count for size, count in huge)
        ordinary = max(0, self.memory_kib(cell) - in_huge_kib) // self.page_kib()
        return [(self.page_kib(), ordinary), *sorted(huge)]

    def distances(self, cell: int) -> list[int]:
        """How far it is to each cell; nothing where it is not told."""
        told = self.tree.text(self.tree.system / "node" / f"node{cell}" / "distance") or ""
        return [int(word) for word in told.split() if word.isdecimal()]


def read_topology(tree: HostTree, memory: CellMemory | None = None) -> Topology:
    """The cells of the host; one that has everything where the kernel knows none."""
    memory = memory or CellMemory(tree)
    numbers = [number for number, _ in tree.numbered(tree.system / "node", "node")]
    if not numbers:
        return Topology(cells=Cells.of([_whole_host(tree, memory)]))
    cells = [_cell(tree, memory, number, numbers) for number in numbers]
    return Topology(cells=Cells.of(cells), interconnects=_interconnects(tree, numbers))


def _whole_host(tree: HostTree, memory: CellMemory) -> Cell:
    cpus = [_cpu(tree, number) for number in tree.online()]
    return Cell(id=0, memory_kib=memory.memory_kib(0), pages=_pages(memory, 0), cpus=CellCpus.of(cpus))


def _cell(tree: HostTree, memory: CellMemory, number: int, cells: list[int]) -> Cell:
    folder = tree.system / "node" / f"node{number}"
    cpus = tree.cpuset(folder / "cpulist") or frozenset()
    siblings = [
        Distance(id=cell, value=value) for cell, value in zip(cells, memory.distances(number), strict=False) if value
    ]
    return Cell(
        id=number,
        memory_kib=memory.memory_kib(number),
        pages=_pages(memory, number),
        distances=Distances(siblings=siblings) if siblings else None,
        caches=_memory_caches(tree, number),
        cpus=CellCpus.of([_cpu(tree, cpu) for cpu in sorted(cpus)]),
    )


def _pages(memory: CellMemory, cell: int) -> list[CellPages]:
    return [CellPages(size_kib=size, count=count) for size, count in memory.pages(cell)]


def _cpu(tree: HostTree, number: int) -> CellCpu:
    folder = tree.system / "cpu" / f"cpu{number}" / "topology"
    siblings = tree.cpuset(folder / "thread_siblings_list")
    return CellCpu(
        id=number,
        # some architectures say -1: there are none to tell apart
        socket_id=max(0, tree.number(folder / "physical_package_id") or 0),
        die_id=max(0, tree.number(folder / "die_id") or 0),
        core_id=max(0, tree.number(folder / "core_id") or 0),
        siblings=write_cpuset(siblings if siblings is not None else [number]),
    )


def _memory_caches(tree: HostTree, cell: int) -> list[NumaCache]:
    """Memory of this cell that caches slower memory."""
    caches = []
    for level, folder in tree.numbered(tree.system / "node" / f"node{cell}" / "memory_side_cache", "index"):
        caches.append(
            NumaCache(
                level=level,
                associativity=_ASSOCIATIVITIES.get(tree.number(folder / "indexing") or 0, "none"),
                policy=_POLICIES.get(tree.number(folder / "write_policy") or 0, "none"),
                size=CacheSize(value=(tree.number(folder / "size") or 0) // 1024, unit="KiB"),
                line=CacheLine(value=tree.number(folder / "line_size") or 0, unit="B"),
            )
        )
    return caches


def _interconnects(tree: HostTree, cells: list[int]) -> Interconnects | None:
    """How fast processors of a cell reach the memory of another, where the firmware tells."""
    latencies, bandwidths = [], []
    for target in cells:
        # class 1 counts processors alone, class 0 whatever reaches memory
        folder = tree.system / "node" / f"node{target}" / "access1" / "initiators"
        for initiator, _ in tree.numbered(folder, "node"):
            for way in ("read", "write"):
                latency = tree.number(folder / f"{way}_latency")
                if latency:
                    latencies.append(Latency(initiator=initiator, target=target, type=way, value=latency))
                bandwidth = tree.number(folder / f"{way}_bandwidth")
                if bandwidth:  # in MiB
                    bandwidths.append(
                        Bandwidth(initiator=initiator, target=target, type=way, value=bandwidth * 1024, unit="KiB")
                    )
    if not latencies and not bandwidths:
        return None
    latencies.sort(key=lambda one: (one.initiator, one.target))
    bandwidths.sort(key=lambda one: (one.initiator, one.target))
    return Interconnects(paths=[*latencies, *bandwidths])
