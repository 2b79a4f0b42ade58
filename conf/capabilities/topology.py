"""The host's NUMA cells: `<topology>`."""

from __future__ import annotations

from typing import Self

from conf.cpu.cpu import Distances, Interconnects, NumaCache
from conf.element import Element, attr, child, children, content, size
from conf.values import UINT, ULONG


class CellPages(Element, tag="pages"):
    """How many pages of a size a cell has."""

    unit: str = attr("unit", str, default="KiB")
    size_kib: int = attr("size", ULONG)
    count: int = content(ULONG, default=0)


class CellCpu(Element, tag="cpu"):
    """A processor of a cell; a host that does not tell how processors are arranged gives the number alone."""

    id: int = attr("id", UINT)
    socket_id: int | None = attr("socket_id", UINT, default=None)
    die_id: int | None = attr("die_id", UINT, default=None)
    core_id: int | None = attr("core_id", UINT, default=None)
    siblings: str | None = attr("siblings", str, default=None)


class CellCpus(Element, tag="cpus"):
    """The processors of a cell."""

    num: int = attr("num", UINT)
    cpus: list[CellCpu] = children(CellCpu, default=[])

    @classmethod
    def of(cls, cpus: list[CellCpu]) -> Self:
        """These processors, counted."""
        return cls(num=len(cpus), cpus=cpus)


class Cell(Element, tag="cell"):
    """Memory and the processors near it."""

    id: int = attr("id", UINT)
    memory_kib: int | None = size("memory", default=None)
    pages: list[CellPages] = children(CellPages, default=[])
    distances: Distances | None = child(Distances, default=None)
    caches: list[NumaCache] = children(NumaCache, default=[])
    cpus: CellCpus | None = child(CellCpus, default=None)


class Cells(Element, tag="cells"):
    """All cells."""

    num: int = attr("num", UINT)
    cells: list[Cell] = children(Cell, default=[])

    @classmethod
    def of(cls, cells: list[Cell]) -> Self:
        """These cells, counted."""
        return cls(num=len(cells), cells=cells)


class Topology(Element, tag="topology"):
    """The cells and the paths between them."""

    cells: Cells = child(Cells)
    interconnects: Interconnects | None = child(Interconnects, default=None)
