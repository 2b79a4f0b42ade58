"""Processors as documents describe them: `<cpu>` of a guest and of a host."""

import re
from enum import StrEnum

from conf.element import Element, Empty, any_of, attr, child, children, content, text
from conf.faults import lacking, malformed, unsupported
from conf.values import NATURAL, ON_OFF, POSITIVE, UINT, ULONG, YES_NO, Codec, parse_uint32, words
from schema.errors import XmlError

_NUMBER = re.compile(r"\s*\+?\d{1,9}\Z", re.ASCII).match


class CpuMode(StrEnum):
    """Where the guest's processor model comes from."""

    CUSTOM = "custom"
    HOST_MODEL = "host-model"
    HOST_PASSTHROUGH = "host-passthrough"
    MAXIMUM = "maximum"


class CpuMatch(StrEnum):
    """How the host's processor must compare."""

    MINIMUM = "minimum"
    EXACT = "exact"
    STRICT = "strict"


class CpuCheck(StrEnum):
    """What is checked when a guest starts."""

    NONE = "none"
    PARTIAL = "partial"
    FULL = "full"


class FeaturePolicy(StrEnum):
    """What a guest asks of a processor feature."""

    FORCE = "force"
    REQUIRE = "require"
    OPTIONAL = "optional"
    DISABLE = "disable"
    FORBID = "forbid"


class CpuModel(Element, tag="model"):
    """The model's name."""

    fallback: str | None = attr(
        "fallback",
        words("allow", "forbid"),
        default=None,
        bad=unsupported("Invalid fallback attribute"),
        blank=True,
    )
    vendor_id: str | None = attr("vendor_id", str, default=None, blank=True)
    name: str | None = content(str, default=None)


class CpuTopology(Element, tag="topology"):
    """Sockets, dies, cores and threads."""

    sockets: int = attr("sockets", POSITIVE)
    dies: int = attr("dies", POSITIVE, default=1)
    cores: int = attr("cores", POSITIVE)
    threads: int = attr("threads", POSITIVE)


class CpuCache(Element, tag="cache"):
    """The cache the guest sees."""

    level: int | None = attr("level", NATURAL, default=None)
    mode: str = attr("mode", words("emulate", "passthrough", "disable"))


class MaxPhysAddr(Element, tag="maxphysaddr"):
    """The width of physical addresses."""

    mode: str = attr("mode", words("emulate", "passthrough"))
    bits: int | None = attr("bits", NATURAL, default=None)


class CpuFeature(Element, tag="feature"):
    """A processor feature."""

    policy: FeaturePolicy | None = attr(
        "policy", FeaturePolicy, default=None, bad=unsupported("Invalid CPU feature policy")
    )
    name: str = attr("name", str, missing=lacking(XmlError, "Invalid CPU feature name"), blank=True)


class Distance(Element, tag="sibling"):
    """The distance to another node."""

    id: int = attr("id", UINT)
    value: int = attr("value", UINT)


class Distances(Element, tag="distances"):
    """The distances to other nodes."""

    siblings: list[Distance] = children(Distance, default=[])


class CacheAmount(Element):
    """A number of bytes with its unit."""

    value: int = attr("value", ULONG)
    unit: str | None = attr("unit", str, default=None, blank=True)


class CacheSize(CacheAmount, tag="size"):
    """A cache's size."""

    value: int = attr(
        "value",
        ULONG,
        blank=True,
        missing=lacking(XmlError, "missing element or attribute './size/@value'"),
        bad=malformed("Invalid value '{}' for element or attribute './size/@value'"),
    )


class CacheLine(CacheAmount, tag="line"):
    """The size of a cache line."""

    value: int = attr(
        "value",
        ULONG,
        blank=True,
        missing=lacking(XmlError, "missing element or attribute './line/@value'"),
        bad=malformed("Invalid value '{}' for element or attribute './line/@value'"),
    )


NODE_CACHE_LEVEL: Codec[int] = Codec(lambda text: parse_uint32(text) if _NUMBER(text) else 0, str)
"""The level of a node's cache; zero stands for what is no number, for a check that knows the node to refuse."""


class NumaCache(Element, tag="cache"):
    """A cache on the memory side of a node."""

    level: int | None = attr("level", NODE_CACHE_LEVEL, default=None)
    associativity: str | None = attr(
        "associativity",
        words("none", "direct", "full"),
        default=None,
        shown=lambda self, flags: None if self.associativity == "none" else self.associativity,
        bad=malformed("Invalid cache associativity '{}'"),
    )
    policy: str | None = attr(
        "policy",
        words("none", "writeback", "writethrough"),
        default=None,
        shown=lambda self, flags: None if self.policy == "none" else self.policy,
        bad=malformed("Invalid cache policy '{}'"),
    )
    size: CacheSize = child(CacheSize, missing=lacking(XmlError, "missing element or attribute './size/@value'"))
    line: CacheLine = child(CacheLine, missing=lacking(XmlError, "missing element or attribute './line/@value'"))


class NumaCell(Element, tag="cell"):
    """A node of the guest; `memory` counts in `unit`, KiB when written."""

    id: int | None = attr("id", UINT, default=None)
    cpus: str | None = attr("cpus", str, default=None)
    memory: int = attr(
        "memory",
        ULONG,
        blank=True,
        missing=lacking(XmlError, "missing element or attribute './@memory'"),
        bad=malformed("Invalid value '{}' for element or attribute './@memory'"),
    )
    unit: str | None = attr("unit", str, default=None)
    mem_access: str | None = attr("memAccess", words("shared", "private"), default=None)
    discard: bool | None = attr("discard", YES_NO, default=None)
    distances: Distances | None = child(Distances, default=None)
    caches: list[NumaCache] = children(NumaCache, default=[])


class Latency(Element, tag="latency"):
    """The time from one node to another's memory."""

    initiator: int = attr("initiator", UINT)
    target: int = attr("target", UINT)
    cache: int | None = attr("cache", UINT, default=None)
    type: str = attr("type", words("access", "read", "write"))
    value: int = attr("value", ULONG)


class Bandwidth(Element, tag="bandwidth"):
    """The bandwidth from one node to another's memory."""

    initiator: int = attr("initiator", UINT)
    target: int = attr("target", UINT)
    cache: int | None = attr("cache", UINT, default=None)
    type: str = attr("type", words("access", "read", "write"))
    value: int = attr(
        "value",
        ULONG,
        blank=True,
        missing=lacking(XmlError, "missing element or attribute './@value'"),
        bad=malformed("Invalid value '{}' for element or attribute './@value'"),
    )
    unit: str | None = attr("unit", str, default=None)


class Interconnects(Element, tag="interconnects", empty=Empty.OMIT):
    """The paths between nodes."""

    paths: list[Latency | Bandwidth] = any_of(Latency, Bandwidth, default=[])


class Numa(Element, tag="numa", empty=Empty.OMIT):
    """The nodes of a guest."""

    cells: list[NumaCell] = children(NumaCell, default=[])
    interconnects: Interconnects | None = child(Interconnects, default=None)


class GuestCpu(Element, tag="cpu", empty=Empty.OMIT):
    """The processor of a guest."""

    mode: CpuMode | None = attr("mode", CpuMode, default=None, bad=unsupported("Invalid mode attribute '{}'"))
    match: CpuMatch | None = attr("match", CpuMatch, default=None)
    check: CpuCheck | None = attr("check", CpuCheck, default=None)
    migratable: bool | None = attr("migratable", ON_OFF, default=None)
    model: CpuModel | None = child(CpuModel, default=None)
    vendor: str | None = text("vendor", str, default=None)
    topology: CpuTopology | None = child(CpuTopology, default=None)
    cache: CpuCache | None = child(CpuCache, default=None)
    maxphysaddr: MaxPhysAddr | None = child(MaxPhysAddr, default=None)
    features: list[CpuFeature] = children(CpuFeature, default=[])
    numa: Numa | None = child(Numa, default=None)
