"""Cases about the host: kernel folders of the corpus, unpacked, and what is made of them."""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path
from typing import Any

from actors.runtime.host_facts.caches import read_caches, read_memory_bandwidth
from actors.runtime.host_facts.numa import CellMemory, read_topology
from actors.runtime.host_facts.resctrl import read_resctrl
from actors.runtime.host_facts.sysinfo import (
    sysinfo_from_arm,
    sysinfo_from_dmidecode,
    sysinfo_from_ppc,
    sysinfo_from_s390,
)
from actors.runtime.host_facts.tree import HostTree
from actors.runtime.node import NodeFacts, cpu_stats
from conf.capabilities.documents import HostCapabilities, write_capabilities
from conf.capabilities.host import HostPart, MigrationFeatures, PowerManagement
from conf.cpu.host import HostCpu
from tests.shared import SHARED


class CorpusMemory(CellMemory):
    """The memory that libvirt's tests pretend: libnuma is not asked there."""

    def memory_kib(self, cell: int) -> int:
        """One GiB more for each cell."""
        return (cell + 1) << 20

    def pages(self, cell: int) -> list[tuple[int, int]]:
        """Three sizes."""
        return [(size, (cell + 1 + place) * 2048) for place, size in enumerate((4, 2048, 1 << 20))]

    def distances(self, cell: int) -> list[int]:
        """None are told."""
        return []


def unpack_tree(name: str, target: Path) -> None:
    """Writes a packed copy of kernel folders as folders, files and links."""
    nodes: dict[str, dict[str, str]] = json.loads((SHARED / "corpus" / name).read_text(encoding="utf-8"))
    for path, node in sorted(nodes.items()):
        place = target / path
        place.parent.mkdir(parents=True, exist_ok=True)
        if "link" in node:
            place.symlink_to(node["link"])
        elif "dir" in node:
            place.mkdir(parents=True, exist_ok=True)
        else:
            place.write_bytes(node["text"].encode() if "text" in node else bytes.fromhex(node["hex"]))


def sysfs_to_capabilities(case: dict[str, Any]) -> str:
    """The capabilities of a host that is nothing but a copy of its kernel's folders."""
    with tempfile.TemporaryDirectory(prefix="vts") as folder:
        base = Path(folder)
        for name, packed in case["inputs"].items():
            unpack_tree(packed, base / name)
        tree = HostTree(base / "system", base / "resctrl")
        resctrl = read_resctrl(tree)
        caches = read_caches(tree, resctrl)
        migration = MigrationFeatures(live=case["live_migrate"]) if case["offline_migrate"] else None
        host = HostPart(
            cpu=HostCpu(arch=case["arch"]),
            power_management=PowerManagement(),
            iommu=False,
            migration=migration,
            topology=read_topology(tree, CorpusMemory(tree)),
            caches=caches,
            memory_bandwidth=read_memory_bandwidth(caches, resctrl),
        )
        return write_capabilities(HostCapabilities(host=host))


def node_info(case: dict[str, Any]) -> str:
    """Processors of a host, as libvirt's test prints them."""
    with tempfile.TemporaryDirectory(prefix="vts") as folder:
        base = Path(folder)
        unpack_tree(case["inputs"]["system"], base / "system")
        (base / "cpuinfo").write_bytes((SHARED / "corpus" / case["input"]).read_bytes())
        facts = NodeFacts(base, base / "system", case["arch"], 8 if case["arch"] == "ppc64" else 0)
        found = facts.topology()
        total = found.nodes * found.sockets * found.cores * found.threads
        return (
            f"CPUs: {found.cpus}/{total}, MHz: {facts.mhz()}, Nodes: {found.nodes}, Sockets: {found.sockets}, "
            f"Cores: {found.cores}, Threads: {found.threads}\n"
        )


def cpu_times(case: dict[str, Any]) -> str:
    """How long processors were at what, in ticks, as libvirt's test prints it."""
    with tempfile.TemporaryDirectory(prefix="vts") as folder:
        base = Path(folder)
        (base / "stat").write_bytes((SHARED / "corpus" / case["input"]).read_bytes())
        facts, tick_ns = NodeFacts(base, base / "system"), 1_000_000_000 // os.sysconf("SC_CLK_TCK")
        out = []
        for cpu in (-1, *range(case["ncpus"])):
            out.append("cpu:\n" if cpu < 0 else f"cpu{cpu}:\n")
            out += [f"{one.field}: {int(one.value) // tick_ns}\n" for one in cpu_stats(facts, cpu)]
            out.append("\n")
        return "".join(out)


def sysinfo(case: dict[str, Any]) -> str:
    """What the firmware or the kernel of a host says of its hardware."""
    texts = {name: (SHARED / "corpus" / path).read_text(encoding="utf-8") for name, path in case["inputs"].items()}
    reader = case["reader"]
    if reader == "s390":
        return sysinfo_from_s390(texts["sysinfo"], texts["cpuinfo"]).to_xml()
    if "sysinfo" in texts:
        return sysinfo_from_dmidecode(texts["sysinfo"]).to_xml()
    return {"arm": sysinfo_from_arm, "ppc": sysinfo_from_ppc}[reader](texts["cpuinfo"]).to_xml()
