"""What the kernel's folders tell of the host, from small made-up ones."""

from __future__ import annotations

from pathlib import Path

from actors.runtime.host_facts.caches import pretty, read_caches, read_memory_bandwidth
from actors.runtime.host_facts.numa import read_topology
from actors.runtime.host_facts.resctrl import read_resctrl
from actors.runtime.host_facts.tree import HostTree


def make_tree(base: Path, files: dict[str, str]) -> HostTree:
    """A host of which only these files are there."""
    for name, text in files.items():
        path = base / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="ascii")
    return HostTree(base / "system", base / "resctrl")


def cache(cpu: int, index: int, level: int, cpus: str) -> dict[str, str]:
    """A cache as one processor sees it."""
    place = f"system/cpu/cpu{cpu}/cache/index{index}"
    return {
        f"{place}/level": f"{level}\n",
        f"{place}/id": "0\n",
        f"{place}/type": "Unified\n",
        f"{place}/size": "1536K\n",
        f"{place}/shared_cpu_list": f"{cpus}\n",
    }


def test_a_host_without_cells_is_one_cell(tmp_path: Path) -> None:
    tree = make_tree(
        tmp_path,
        {
            "system/cpu/online": "0-1\n",
            "system/cpu/cpu0/topology/core_id": "0\n",
            "system/cpu/cpu1/topology/core_id": "1\n",
            "system/cpu/cpu1/topology/physical_package_id": "-1\n",
        },
    )
    (cell,) = read_topology(tree).cells.cells
    assert cell.memory_kib
    assert cell.cpus is not None
    assert [(cpu.id, cpu.socket_id, cpu.core_id, cpu.siblings) for cpu in cell.cpus.cpus] == [
        (0, 0, 0, "0"),
        (1, 0, 1, "1"),
    ]


def test_cells_have_their_memory_pages_and_distances(tmp_path: Path) -> None:
    tree = make_tree(
        tmp_path,
        {
            "system/node/node0/cpulist": "0\n",
            "system/node/node0/meminfo": "Node 0 MemTotal:       1048576 kB\n",
            "system/node/node0/distance": "10 21\n",
            "system/node/node0/hugepages/hugepages-2048kB/nr_hugepages": "256\n",
            "system/node/node2/cpulist": "\n",
            "system/node/node2/meminfo": "Node 2 MemTotal:       2048 kB\n",
            "system/node/node2/distance": "21 10\n",
        },
    )
    first, second = read_topology(tree).cells.cells
    assert (first.id, first.memory_kib, second.id, second.memory_kib) == (0, 1048576, 2, 2048)
    assert first.distances is not None
    assert [(one.id, one.value) for one in first.distances.siblings] == [(0, 10), (2, 21)]
    assert (first.pages[-1].size_kib, first.pages[-1].count) == (2048, 256)
    # what huge pages take is not counted as ordinary pages
    assert first.pages[0].size_kib * first.pages[0].count == 1048576 - 2048 * 256
    assert second.cpus is not None
    assert second.cpus.num == 0


def test_caches_of_the_last_levels_are_told_once(tmp_path: Path) -> None:
    files = {"system/cpu/online": "0-1\n"}
    for cpu in (0, 1):
        files |= cache(cpu, 2, 2, str(cpu)) | cache(cpu, 3, 3, "0-1")
    found = read_caches(make_tree(tmp_path, files), read_resctrl(HostTree(tmp_path, tmp_path / "none")))
    assert found is not None
    assert [(bank.level, bank.size, bank.unit, bank.cpus) for bank in found.banks] == [(3, 1536, "KiB", "0-1")]
    assert found.banks[0].controls == []
    assert found.monitor is None


def test_shares_of_a_cache_are_told_in_the_smaller_unit(tmp_path: Path) -> None:
    files = {
        "system/cpu/online": "0\n",
        **cache(0, 3, 3, "0"),
        "system/cpu/cpu0/cache/index3/size": "16M\n",
        "resctrl/info/L3/num_closids": "4\n",
        "resctrl/info/L3/cbm_mask": "f\n",
        "resctrl/info/L3/min_cbm_bits": "2\n",
        "resctrl/info/L3_MON/num_rmids": "8\n",
        "resctrl/info/L3_MON/mon_features": "mbm_total_bytes\nodd\n",
        "resctrl/info/MB/bandwidth_gran": "10\n",
        "resctrl/info/MB/min_bandwidth": "20\n",
        "resctrl/info/MB/num_closids": "3\n",
    }
    tree = make_tree(tmp_path, files)
    resctrl = read_resctrl(tree)
    caches = read_caches(tree, resctrl)
    assert caches is not None
    (control,) = caches.banks[0].controls
    assert (control.granularity, control.min, control.unit, control.max_allocs) == (4, 8, "MiB", 4)
    assert caches.monitor is None
    bandwidth = read_memory_bandwidth(caches, resctrl)
    assert bandwidth is not None
    assert bandwidth.nodes[0].control is not None
    assert bandwidth.nodes[0].control.min == 20
    assert bandwidth.monitor is not None
    assert [one.name for one in bandwidth.monitor.features] == ["mbm_total_bytes"]


def test_a_host_that_tells_nothing_has_nothing(tmp_path: Path) -> None:
    tree = make_tree(tmp_path, {"system/cpu/online": "0\n", "resctrl/info/L3/num_closids": "many\n"})
    resctrl = read_resctrl(tree)
    assert read_caches(tree, resctrl) is None
    assert read_memory_bandwidth(None, resctrl) is None


def test_amounts_are_told_in_the_largest_unit_that_fits() -> None:
    assert pretty(0) == (0, "B")
    assert pretty(1025) == (1025, "B")
    assert pretty(3 << 20) == (3, "MiB")
