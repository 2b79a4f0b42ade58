"""The capabilities document of the fake host."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from conf.capabilities import documents, topology
from conf.capabilities.documents import HostCapabilities
from conf.capabilities.guest import GuestArch, GuestDomain, GuestFeatures, GuestPart
from conf.capabilities.host import HostPart, PowerManagement, SecurityModel
from conf.capabilities.topology import CellCpu, CellCpus, CellPages, Cells, Topology
from conf.cpu.host import CpuPages, HostCpu, HostModes

CPUS_PER_CELL: Final = 8
_PAGE_SIZES_KIB: Final = (4, 8, 2048, 1048576)
_HUGE_PAGES_KIB: Final = (2048, 1048576)
_OS_TYPES: Final = ("hvm", "xen")


@dataclass(frozen=True, slots=True)
class Cell:
    """A NUMA cell of the fake host: its memory, and the size of the pages that it is divided into."""

    memory_kib: int
    page_kib: int


DEFAULT_CELLS: Final = (Cell(2097152, 4), Cell(4194304, 8))
"""The cells of `test:///default`; a host described by a file has none."""


def write_capabilities(cells: tuple[Cell, ...]) -> str:
    """The document, as clients get it."""
    host = HostPart(
        cpu=HostCpu(
            arch="i686",
            modes=HostModes(pae=True, nonpae=True),
            pages=[CpuPages(unit="KiB", size_kib=size) for size in _PAGE_SIZES_KIB],
        ),
        power_management=PowerManagement(),
        iommu=False,
        topology=Topology(cells=Cells.of([_cell(number, cell) for number, cell in enumerate(cells)])),
        security_models=[SecurityModel(model="testSecurity", doi="")],
    )
    return documents.write_capabilities(HostCapabilities(host=host, guests=[_guest(one) for one in _OS_TYPES]))


def _cell(number: int, cell: Cell) -> topology.Cell:
    pages = [(cell.page_kib, cell.memory_kib // cell.page_kib), *((size, 0) for size in _HUGE_PAGES_KIB)]
    return topology.Cell(
        id=number,
        memory_kib=cell.memory_kib,
        pages=[CellPages(size_kib=size, count=count) for size, count in pages],
        cpus=CellCpus.of([_cpu(number, core) for core in range(CPUS_PER_CELL)]),
    )


def _cpu(cell: int, core: int) -> CellCpu:
    number = cell * CPUS_PER_CELL + core
    return CellCpu(id=number, socket_id=cell, die_id=0, core_id=core, siblings=str(number))


def _guest(os_type: str) -> GuestPart:
    return GuestPart(
        os_type=os_type,
        arch=GuestArch(name="i686", wordsize=32, emulator="/usr/bin/test-hv", domains=[GuestDomain(type="test")]),
        features=GuestFeatures(pae=True, nonpae=True),
    )
