"""The part of capabilities that is about the host, for drivers whose guests run on it."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from pathlib import Path

from actors.runtime.host_facts.caches import read_caches, read_memory_bandwidth
from actors.runtime.host_facts.numa import CellMemory, read_topology
from actors.runtime.host_facts.resctrl import read_resctrl
from actors.runtime.host_facts.tree import HostTree
from actors.runtime.node import NodeFacts
from conf.capabilities.host import HostPart, MigrationFeatures, PowerManagement, SecurityModel
from conf.cpu.cpu import CpuTopology
from conf.cpu.host import CpuPages, HostCpu


def read_host_part(
    arch: str,
    *,
    transports: Sequence[str] = (),
    security_models: Sequence[SecurityModel] = (),
    tree: HostTree | None = None,
) -> HostPart:
    """What this host has; `transports` are the ways by which its guests can move to another.

    Raises HostSystemError where the kernel does not tell of processors.
    """
    tree = tree or HostTree()
    resctrl = read_resctrl(tree)
    caches = read_caches(tree, resctrl)
    pages = [CpuPages(unit="KiB", size_kib=size) for size, _ in CellMemory(tree).pages(0)]
    return HostPart(
        uuid=host_uuid(),
        cpu=HostCpu(arch=arch, topology=_arrangement(tree), pages=pages),
        power_management=PowerManagement(),
        iommu=any(Path("/sys/kernel/iommu_groups").glob("*")),
        migration=MigrationFeatures(live=True, transports=list(transports)),
        topology=read_topology(tree),
        caches=caches,
        memory_bandwidth=read_memory_bandwidth(caches, resctrl),
        security_models=list(security_models),
    )


def host_uuid() -> uuid.UUID | None:
    """The host's own identity: its firmware's, else the operating system's."""
    for path in ("/sys/class/dmi/id/product_uuid", "/etc/machine-id"):
        try:
            return uuid.UUID(Path(path).read_text(encoding="ascii").strip())
        except (OSError, ValueError):
            continue
    return None


def _arrangement(tree: HostTree) -> CpuTopology:
    """As `node_get_info` tells it: the sockets are those of one cell."""
    found = NodeFacts(sys=tree.system).topology()
    return CpuTopology(sockets=found.sockets, dies=1, cores=found.cores, threads=found.threads)
