"""The processors' shared caches and paths to memory, and how the kernel can divide them."""

from __future__ import annotations

from typing import Final

from actors.runtime.host_facts.resctrl import Resctrl
from actors.runtime.host_facts.tree import HostTree
from conf.capabilities.shared_resources import (
    BandwidthControl,
    BandwidthNode,
    CacheBank,
    CacheControl,
    Caches,
    MemoryBandwidth,
    Monitor,
    MonitorFeature,
)
from util.cpuset import write_cpuset

_LOWEST_LEVEL: Final = 3
_TYPES: Final = {"Unified": "both", "Instruction": "code", "Data": "data"}
_UNITS: Final = ("B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB")


def read_caches(tree: HostTree, resctrl: Resctrl) -> Caches | None:
    """The caches that several processors share; None where there is nothing to tell."""
    banks: list[CacheBank] = []
    for cpu in tree.online():
        for _, folder in tree.numbered(tree.system / "cpu" / f"cpu{cpu}" / "cache", "index"):
            level = tree.number(folder / "level")
            if level is None or level < _LOWEST_LEVEL:
                continue
            number, cpus = tree.number(folder / "id"), tree.cpuset(folder / "shared_cpu_list")
            kind = _TYPES.get(tree.text(folder / "type") or "")
            if number is None or cpus is None or kind is None:
                continue
            size = tree.size(folder / "size")
            amount, unit = pretty(size)
            bank = CacheBank(id=number, level=level, type=kind, size=amount, unit=unit, cpus=write_cpuset(cpus))
            if bank not in banks:
                banks.append(bank)
    banks.sort(key=lambda bank: (bank.level, bank.type, bank.id))
    for bank in banks:
        bank.controls = _controls(bank, resctrl)
    monitor = _monitor(resctrl, "llc_", of_cache=True)
    return Caches(banks=banks, monitor=monitor) if banks or monitor is not None else None


def read_memory_bandwidth(caches: Caches | None, resctrl: Resctrl) -> MemoryBandwidth | None:
    """The paths to memory, one behind each cache of the last level; None where there is nothing to tell."""
    nodes = []
    shares = resctrl.bandwidth
    if shares is not None and caches is not None:
        for bank in caches.banks:
            if bank.level == resctrl.bandwidth_level:
                control = BandwidthControl(
                    granularity=shares.granularity, min=shares.min or None, max_allocs=shares.max_allocs
                )
                nodes.append(BandwidthNode(id=bank.id, cpus=bank.cpus, control=control))
    monitor = _monitor(resctrl, "mbm_", of_cache=False)
    return MemoryBandwidth(nodes=nodes, monitor=monitor) if nodes or monitor is not None else None


def pretty(amount: int) -> tuple[int, str]:
    """An amount of bytes in the largest unit that it is a multiple of."""
    place = 0
    while amount and amount % 1024 == 0 and place < len(_UNITS) - 1:
        amount //= 1024
        place += 1
    return amount, _UNITS[place]


def _controls(bank: CacheBank, resctrl: Resctrl) -> list[CacheControl]:
    size = bank.size << 10 * _UNITS.index(bank.unit)
    controls = []
    for kind in ("both", "code", "data"):
        for shares in resctrl.caches:
            if (shares.level, shares.type) == (bank.level, kind):
                granularity = size // shares.bits
                least = granularity * shares.min_bits if shares.min_bits > 1 else 0
                # the two numbers are told in the smaller of their units
                unit = min((pretty(one)[1] for one in (granularity, least) if one), key=_UNITS.index, default="B")
                factor = 1 << 10 * _UNITS.index(unit)
                controls.append(
                    CacheControl(
                        granularity=granularity // factor,
                        min=least // factor or None,
                        unit=unit,
                        type=kind,
                        max_allocs=shares.max_allocs,
                    )
                )
    return controls


def _monitor(resctrl: Resctrl, prefix: str, *, of_cache: bool) -> Monitor | None:
    watching = resctrl.watching
    features = [name for name in watching.features if name.startswith(prefix)] if watching else []
    if watching is None or not features:
        return None
    return Monitor(
        level=watching.level if of_cache else None,
        reuse_threshold=watching.reuse_threshold if of_cache else None,
        max_monitors=watching.max_monitors,
        features=[MonitorFeature(name=name) for name in features],
    )
