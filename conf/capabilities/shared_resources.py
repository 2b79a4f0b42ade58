"""What processors share and can be given shares of: `<cache>` and `<memory_bandwidth>`."""

from __future__ import annotations

from conf.element import Element, attr, child, children
from conf.values import UINT, ULONG, words


class MonitorFeature(Element, tag="feature"):
    """A figure that can be watched."""

    name: str = attr("name", str)


class Monitor(Element, tag="monitor"):
    """Figures of how much is used."""

    level: int | None = attr("level", UINT, default=None)
    reuse_threshold: int | None = attr("reuseThreshold", UINT, default=None)
    max_monitors: int = attr("maxMonitors", UINT)
    features: list[MonitorFeature] = children(MonitorFeature, default=[])


class CacheControl(Element, tag="control"):
    """How a bank can be divided; amounts count in `unit`."""

    granularity: int = attr("granularity", ULONG)
    min: int | None = attr("min", ULONG, default=None)
    unit: str = attr("unit", str)
    type: str = attr("type", words("both", "code", "data"))
    max_allocs: int = attr("maxAllocs", UINT)


class CacheBank(Element, tag="bank"):
    """A cache and the processors that share it."""

    id: int = attr("id", UINT)
    level: int = attr("level", UINT)
    type: str = attr("type", words("both", "code", "data"))
    size: int = attr("size", ULONG)
    unit: str = attr("unit", str)
    cpus: str = attr("cpus", str)
    controls: list[CacheControl] = children(CacheControl, default=[])


class Caches(Element, tag="cache"):
    """The caches of the last levels."""

    banks: list[CacheBank] = children(CacheBank, default=[])
    monitor: Monitor | None = child(Monitor, default=None)


class BandwidthControl(Element, tag="control"):
    """How a node's bandwidth can be divided, in percent."""

    granularity: int = attr("granularity", UINT)
    min: int | None = attr("min", UINT, default=None)
    max_allocs: int = attr("maxAllocs", UINT)


class BandwidthNode(Element, tag="node"):
    """A path to memory and the processors that share it."""

    id: int = attr("id", UINT)
    cpus: str = attr("cpus", str)
    control: BandwidthControl | None = child(BandwidthControl, default=None)


class MemoryBandwidth(Element, tag="memory_bandwidth"):
    """The paths to memory."""

    nodes: list[BandwidthNode] = children(BandwidthNode, default=[])
    monitor: Monitor | None = child(Monitor, default=None)
