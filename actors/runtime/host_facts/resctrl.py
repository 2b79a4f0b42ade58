"""What the kernel can divide among groups of tasks: shares of caches and of memory bandwidth (resctrl)."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from actors.runtime.host_facts.tree import HostTree

_CACHE: Final = re.compile(r"L(\d+)(CODE|DATA|)\Z").match
_TYPES: Final = {"": "both", "CODE": "code", "DATA": "data"}


@dataclass(frozen=True, slots=True)
class CacheShares:
    """How the caches of a level and type can be divided: into so many bits, of which a share has `min_bits`."""

    level: int
    type: str
    bits: int
    min_bits: int
    max_allocs: int


@dataclass(frozen=True, slots=True)
class BandwidthShares:
    """How bandwidth can be divided, in percent."""

    granularity: int
    min: int
    max_allocs: int


@dataclass(frozen=True, slots=True)
class Watching:
    """Figures that the kernel keeps for groups of tasks."""

    features: tuple[str, ...]
    max_monitors: int
    reuse_threshold: int
    level: int = 3


@dataclass(frozen=True, slots=True)
class Resctrl:
    """All of it; empty where the kernel offers nothing."""

    caches: tuple[CacheShares, ...] = ()
    bandwidth: BandwidthShares | None = None
    watching: Watching | None = None

    @property
    def bandwidth_level(self) -> int:
        """The level of the caches through whose paths bandwidth is shared: the last that can be divided."""
        return max((one.level for one in self.caches), default=0)


def read_resctrl(tree: HostTree) -> Resctrl:
    """What the host offers."""
    return Resctrl(tuple(_caches(tree)), _bandwidth(tree), _watching(tree))


def _caches(tree: HostTree) -> list[CacheShares]:
    try:
        names = sorted(path.name for path in (tree.resctrl / "info").iterdir())
    except OSError:
        return []
    found = []
    for name in names:
        match = _CACHE(name)
        folder = tree.resctrl / "info" / name
        closids = tree.number(folder / "num_closids")
        if match is None or closids is None:
            continue
        try:
            mask = int(tree.text(folder / "cbm_mask") or "0", 16)
        except ValueError:
            continue
        min_bits = tree.number(folder / "min_cbm_bits") or 0
        if mask:
            found.append(CacheShares(int(match[1]), _TYPES[match[2]], mask.bit_count(), min_bits, closids))
    return found


def _bandwidth(tree: HostTree) -> BandwidthShares | None:
    folder = tree.resctrl / "info" / "MB"
    granularity, least = tree.number(folder / "bandwidth_gran"), tree.number(folder / "min_bandwidth")
    closids = tree.number(folder / "num_closids")
    if granularity is None or least is None or closids is None:
        return None
    return BandwidthShares(granularity, least, closids)


def _watching(tree: HostTree) -> Watching | None:
    folder = tree.resctrl / "info" / "L3_MON"
    rmids, features = tree.number(folder / "num_rmids"), tree.text(folder / "mon_features")
    if rmids is None or not features:
        return None
    threshold = tree.number(folder / "max_threshold_occupancy") or 0
    return Watching(tuple(features.split()), rmids, threshold)
