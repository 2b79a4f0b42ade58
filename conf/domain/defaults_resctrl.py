"""Shares of host caches and memory bandwidth, as reading a text settles them."""

from __future__ import annotations

from conf.domain.vcpu import CacheMonitor, CacheShare, CacheTune, CpuTune, MemoryTune
from conf.values import bytes_per_unit
from schema.errors import InvalidArguments, NumericOverflow, XmlError
from util.cpuset import parse_cpuset, write_cpuset

_MONITORED_LEVEL = 3


def normalize(tune: CpuTune, count: int) -> None:
    """Settles the shares of a guest with `count` processors; those of processors that it has not are dropped.

    Raises XmlError, InvalidArguments and NumericOverflow for shares that contradict each other or themselves.
    """
    groups: list[frozenset[int]] = []
    kept: list[CacheTune] = []
    for one in tune.cachetunes:
        vcpus = _vcpus(one, count)
        if not vcpus:
            continue
        _check_group(vcpus, groups)
        if vcpus in groups:
            raise XmlError("Identical vcpus in cachetunes found")
        _normalize_shares(one.caches)
        _check_monitors(one, vcpus, count)
        if one.caches or one.monitors:
            groups.append(vcpus)
            one.vcpus = write_cpuset(vcpus)
            kept.append(one)
    tune.cachetunes = kept
    tune.memorytunes = _memorytunes(tune, groups, count)


def _memorytunes(tune: CpuTune, groups: list[frozenset[int]], count: int) -> list[MemoryTune]:
    kept: list[MemoryTune] = []
    nodes: dict[frozenset[int], set[int]] = {}
    for one in tune.memorytunes:
        vcpus = _vcpus(one, count)
        if not vcpus:
            continue
        _check_group(vcpus, groups)
        for node in one.nodes:
            if node.id in nodes.setdefault(vcpus, set()):
                raise XmlError(f"Memory Bandwidth already defined for node {node.id}")
            if node.bandwidth > 100:
                raise XmlError("Memory Bandwidth value exceeding 100 is invalid.")
            nodes[vcpus].add(node.id)
        _check_monitors(one, vcpus, count)
        if one.nodes or one.monitors:
            groups.append(vcpus)
            one.vcpus = write_cpuset(vcpus)
            kept.append(one)
    return kept


def _vcpus(one: CacheTune | MemoryTune | CacheMonitor, count: int) -> frozenset[int]:
    try:
        return frozenset(number for number in parse_cpuset(one.vcpus) if number < count)
    except ValueError:
        raise XmlError(f"Invalid {one.tag_name} attribute 'vcpus' value '{one.vcpus}'") from None


def _check_group(vcpus: frozenset[int], groups: list[frozenset[int]]) -> None:
    """Cache and bandwidth may be given to the same processors, but not to some of another group."""
    if any(vcpus & other and vcpus != other for other in groups):
        raise XmlError("Overlapping vcpus in resctrls")


def _normalize_shares(shares: list[CacheShare]) -> None:
    seen: dict[tuple[int, int], set[str]] = {}
    for share in shares:
        kinds = seen.setdefault((share.level, share.id), set())
        if share.type in kinds or (kinds and "both" in {*kinds, share.type}):
            clash = share.type if share.type in kinds or share.type != "both" else next(iter(kinds))
            raise XmlError(
                f"Colliding cache allocations for cache level '{share.level}' id '{share.id}', type '{clash}'"
            )
        kinds.add(share.type)
        share.size, share.unit = pretty(_amount(share.size, share.unit))


def _amount(number: int, unit: str | None) -> int:
    factor = bytes_per_unit(unit or "bytes")
    if factor is None:
        raise InvalidArguments(f"unknown suffix '{unit}'")
    if number * factor >= 1 << 64:
        raise NumericOverflow(f"value too large: {number}{unit or ''}")
    return number * factor


def _check_monitors(one: CacheTune | MemoryTune, vcpus: frozenset[int], count: int) -> None:
    known: list[frozenset[int]] = []
    for watch in one.monitors:
        if isinstance(one, CacheTune):
            if watch.level is None:
                error = XmlError("Missing required attribute 'level' in element 'monitor'")
                raise error
            if watch.level != _MONITORED_LEVEL:
                raise XmlError(f"Invalid monitor cache level '{watch.level}'")
        watched = _vcpus(watch, count)
        if not watched:
            raise InvalidArguments("vcpus is empty")
        if watched - vcpus:
            raise InvalidArguments("Monitor vcpus conflicts with allocation")
        if watched in known:
            raise InvalidArguments("Identical vcpus found in same type monitors")
        if watched != vcpus and any(watched & other and other != vcpus for other in known):
            raise InvalidArguments("Overlapping vcpus found in same type monitors")
        known.append(watched)
        watch.vcpus = write_cpuset(watched)


def pretty(amount: int) -> tuple[int, str]:
    """The amount in the largest unit that divides it."""
    for unit, factor in (("EiB", 60), ("PiB", 50), ("TiB", 40), ("GiB", 30), ("MiB", 20), ("KiB", 10)):
        if amount and not amount & ((1 << factor) - 1):
            return amount >> factor, unit
    return amount, "B"
