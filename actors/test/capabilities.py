"""The capabilities document of the fake host."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

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
    out = ["<capabilities>\n\n  <host>\n    <cpu>\n      <arch>i686</arch>\n"]
    out.append("      <features>\n        <pae/>\n        <nonpae/>\n      </features>\n")
    out += [f"      <pages unit='KiB' size='{size}'/>\n" for size in _PAGE_SIZES_KIB]
    out.append("    </cpu>\n    <power_management/>\n    <iommu support='no'/>\n")
    out.append(f"    <topology>\n      <cells num='{len(cells)}'>\n")
    for number, cell in enumerate(cells):
        _write_cell(out, number, cell)
    out.append("      </cells>\n    </topology>\n")
    out.append("    <secmodel>\n      <model>testSecurity</model>\n      <doi></doi>\n    </secmodel>\n")
    out.append("  </host>\n\n")
    for os_type in _OS_TYPES:
        _write_guest(out, os_type)
    out.append("</capabilities>\n")
    return "".join(out)


def _write_cell(out: list[str], number: int, cell: Cell) -> None:
    out.append(f"        <cell id='{number}'>\n          <memory unit='KiB'>{cell.memory_kib}</memory>\n")
    out.append(f"          <pages unit='KiB' size='{cell.page_kib}'>{cell.memory_kib // cell.page_kib}</pages>\n")
    out += [f"          <pages unit='KiB' size='{size}'>0</pages>\n" for size in _HUGE_PAGES_KIB]
    out.append(f"          <cpus num='{CPUS_PER_CELL}'>\n")
    for core in range(CPUS_PER_CELL):
        cpu = number * CPUS_PER_CELL + core
        out.append(f"            <cpu id='{cpu}' socket_id='{number}' die_id='0' core_id='{core}' siblings='{cpu}'/>\n")
    out.append("          </cpus>\n        </cell>\n")


def _write_guest(out: list[str], os_type: str) -> None:
    out.append(f"  <guest>\n    <os_type>{os_type}</os_type>\n    <arch name='i686'>\n")
    out.append("      <wordsize>32</wordsize>\n      <emulator>/usr/bin/test-hv</emulator>\n")
    out.append("      <domain type='test'/>\n    </arch>\n")
    out.append("    <features>\n      <pae/>\n      <nonpae/>\n    </features>\n  </guest>\n\n")
