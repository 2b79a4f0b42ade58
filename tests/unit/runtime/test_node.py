from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from actors.runtime.node import NodeFacts, Topology, cpu_stats, memory_stats, node_info
from schema.body import pack_result
from schema.errors import InvalidArguments
from schema.table import need_procedure


def host(root: Path, cpus: dict[int, tuple[int, int, int]], cells: dict[int, str] | None = None) -> NodeFacts:
    """A /proc and /sys with processors {number: (cell, socket, core)}."""
    system = root / "sys"
    for cpu, (_, socket, core) in cpus.items():
        folder = system / "cpu" / f"cpu{cpu}" / "topology"
        folder.mkdir(parents=True)
        (folder / "physical_package_id").write_text(f"{socket}\n")
        (folder / "core_id").write_text(f"{core}\n")
        siblings = [str(other) for other, place in cpus.items() if place == cpus[cpu]]
        (folder / "thread_siblings_list").write_text(f"{','.join(siblings)}\n")
    text = ",".join(str(cpu) for cpu in cpus)
    (system / "cpu" / "present").write_text(f"{text}\n")
    (system / "cpu" / "online").write_text(f"{text}\n")
    for cell, cpulist in (cells or {}).items():
        folder = system / "node" / f"node{cell}"
        folder.mkdir(parents=True)
        (folder / "cpulist").write_text(f"{cpulist}\n")
        (folder / "meminfo").write_text(f"Node {cell} MemTotal:  2048 kB\nNode {cell} MemFree:  1024 kB\n")
    proc = root / "proc"
    proc.mkdir()
    (proc / "cpuinfo").write_text("processor : 0\ncpu MHz\t\t: 2400.123\n")
    (proc / "meminfo").write_text(
        "MemTotal: 4096 kB\nMemFree: 1000 kB\nBuffers: 10 kB\nCached: 20 kB\nHugePages_Total: 0\n"
    )
    (proc / "stat").write_text("cpu  10 1 5 100 7 2 3 0 0 0\ncpu0 10 1 5 100 7 2 3 0 0 0\n")
    return NodeFacts(proc, system, "x86_64")


def test_even_topology(tmp_path: Path) -> None:
    cpus = {n: (n // 4, n // 4, n % 4 // 2) for n in range(8)}
    facts = host(tmp_path, cpus, {0: "0-3", 1: "4-7"})
    assert facts.topology() == Topology(8, 2, 1, 2, 2)


def test_uneven_topology_is_told_as_one_socket(tmp_path: Path) -> None:
    facts = host(tmp_path, {0: (0, 0, 0), 1: (0, 0, 0), 2: (0, 0, 1)})
    assert facts.topology() == Topology(3, 1, 1, 3, 1)


def test_processors_that_are_off_count_for_the_arrangement(tmp_path: Path) -> None:
    facts = host(tmp_path, {n: (0, 0, n) for n in range(4)}, {0: "0-3"})
    (facts.sys / "cpu" / "online").write_text("0-2\n")
    assert facts.topology() == Topology(3, 1, 1, 4, 1)


def test_threads_that_are_off_for_the_host_alone_are_counted(tmp_path: Path) -> None:
    facts = replace(host(tmp_path, {n: (0, 0, n) for n in range(8)}), arch="ppc64", threads_per_subcore=4)
    (facts.sys / "cpu" / "online").write_text("0,4\n")
    assert facts.topology() == Topology(8, 1, 1, 2, 4)


def test_the_clock_is_told_differently_everywhere(tmp_path: Path) -> None:
    facts = host(tmp_path, {0: (0, 0, 0)})
    (facts.proc / "cpuinfo").write_text("clock\t\t: 3690.0MHz\ncpu MHz dynamic : 5000\n")
    assert [replace(facts, arch=arch).mhz() for arch in ("ppc64le", "s390x", "aarch64")] == [3690, 5000, 0]


def test_info_fits_the_schema(tmp_path: Path) -> None:
    info = node_info(host(tmp_path, {0: (0, 0, 0)}))
    assert (info["memory"], info["mhz"], info["cpus"]) == (4096, 2400, 1)
    assert pack_result(need_procedure("node_get_info"), info)


def test_memory_of_host_and_of_a_cell(tmp_path: Path) -> None:
    facts = host(tmp_path, {0: (0, 0, 0)}, {0: "0"})
    assert [(s.field, s.value) for s in memory_stats(facts, -1)] == [
        ("total", 4096),
        ("free", 1000),
        ("buffers", 10),
        ("cached", 20),
    ]
    assert [(s.field, s.value) for s in memory_stats(facts, 0)] == [("total", 2048), ("free", 1024)]
    with pytest.raises(InvalidArguments):
        memory_stats(facts, 1)


def test_cpu_times_are_nanoseconds_by_state(tmp_path: Path) -> None:
    facts = host(tmp_path, {0: (0, 0, 0)})
    tick = {s.field: s.value for s in cpu_stats(facts, -1)}["iowait"] // 7
    assert [(s.field, s.value // tick) for s in cpu_stats(facts, 0)] == [
        ("kernel", 10),
        ("user", 11),
        ("idle", 100),
        ("iowait", 7),
    ]
    with pytest.raises(InvalidArguments):
        cpu_stats(facts, 5)


def test_this_host_can_be_read() -> None:
    facts = NodeFacts()
    assert node_info(facts)["cpus"] >= 1
    assert memory_stats(facts, -1)[0].value > 0
