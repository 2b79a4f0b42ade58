"""The caches of a guest's NUMA nodes and the paths between nodes, as reading a text settles them."""

from __future__ import annotations

from conf.cpu.cpu import Bandwidth, Latency, Numa, NumaCell
from conf.values import bytes_per_unit
from schema.errors import InvalidArguments, NumericOverflow, XmlError

_LEVELS = range(1, 4)
_LIMIT_BYTES = 1 << 63


def kib(number: int, unit: str | None) -> int:
    """An amount in KiB, rounded up; KiB is meant where no unit is given.

    Raises InvalidArguments for an unknown unit, NumericOverflow for what is too much.
    """
    factor = bytes_per_unit(unit or "KiB")
    if factor is None:
        raise InvalidArguments(f"unknown suffix '{unit}'")
    if number * factor >= _LIMIT_BYTES:
        raise NumericOverflow(f"value too large: {number}{unit or ''}")
    return -(-number * factor // 1024)


def normalize_cell(cell: NumaCell) -> None:
    """Settles the memory of a node and its caches. Raises XmlError for caches that cannot be, and like `kib`."""
    cell.memory, cell.unit = kib(cell.memory, cell.unit), "KiB"
    levels: set[int] = set()
    for cache in cell.caches:
        if cache.level is None:
            raise XmlError(f"Missing 'level' attribute in cache element for NUMA node {cell.id}")
        if not cache.level:
            raise XmlError(f"Invalid 'level' attribute in cache element for NUMA node {cell.id}")
        if cache.level in levels:
            raise XmlError(f"Cache level '{cache.level}' already defined")
        if cache.level not in _LEVELS:
            raise XmlError("Ain't nobody heard of that much cache level")
        levels.add(cache.level)
        # libvirt looks for the units where they are not
        kib(cache.size.value, None)
        cache.size.unit, cache.line.unit = "KiB", "B"


def normalize_paths(numa: Numa) -> None:
    """Settles the amounts of the paths between nodes. Raises like `kib`."""
    paths = numa.interconnects
    if paths is None:
        return
    for one in paths.paths:
        if isinstance(one, Bandwidth):
            one.value, one.unit = kib(one.value, one.unit), "KiB"
        one.cache = one.cache or None


def paths_of(numa: Numa) -> list[Latency | Bandwidth]:
    """The paths between the nodes."""
    return [] if numa.interconnects is None else numa.interconnects.paths


def check_caches(numa: Numa) -> None:
    """Refuses caches that do not say what they are. Raises XmlError."""
    for cell in numa.cells:
        for cache in cell.caches:
            if cache.associativity is None:
                raise XmlError(f"Missing 'associativity' attribute in cache element for NUMA node {cell.id}")


def check_paths(numa: Numa) -> None:
    """Refuses paths to nodes or caches that are not there, and paths given twice. Raises XmlError."""
    known: list[Latency | Bandwidth] = []
    for path in paths_of(numa):
        if path.initiator >= len(numa.cells):
            raise XmlError("'initiator' refers to a non-existent NUMA node")
        if path.target >= len(numa.cells):
            raise XmlError("'target' refers to a non-existent NUMA node")
        if not numa.cells[path.initiator].cpus:
            raise XmlError("NUMA nodes without CPUs can't be initiator")
        if path.cache and path.cache not in (cache.level for cache in numa.cells[path.target].caches):
            raise XmlError("'cache' refers to a non-existent NUMA node cache")
        for other in known:
            ends = (path.initiator, path.target)
            if (
                type(other) is type(path)
                and (other.initiator, other.target) == ends
                and (other.cache, other.type) == (path.cache, path.type)
            ):
                raise XmlError("Duplicate info for NUMA latencies")
            if path.initiator != path.target and (other.target, other.initiator) == ends:
                raise XmlError("Link already defined")
        known.append(path)
