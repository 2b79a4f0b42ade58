"""How much memory a guest has and where the host takes it from."""

from enum import StrEnum

from conf.element import Element, Empty, attr, child, children, flag, scaled_content, size, value
from conf.faults import lacking, malformed, unsupported
from conf.values import ON_OFF, UINT, ULONG, words
from schema.errors import XmlError


class MemorySize(Element, tag="memory"):
    """All memory a guest has at start, in KiB."""

    dump_core: bool | None = attr("dumpCore", ON_OFF, default=None)
    kib: int = scaled_content(default=0)


class MaxMemory(Element, tag="maxMemory"):
    """How far memory can grow by plugging modules in."""

    slots: int | None = attr(
        "slots", UINT, default=None, blank=True, bad=malformed("Failed to parse memory slot count")
    )
    kib: int = scaled_content(default=0)


class MemTune(Element, tag="memtune", empty=Empty.OMIT):
    """Limits on the host memory of a guest."""

    hard_limit_kib: int | None = size("hard_limit", default=None, at="./memtune/hard_limit[1]")
    soft_limit_kib: int | None = size("soft_limit", default=None, at="./memtune/soft_limit[1]")
    min_guarantee_kib: int | None = size("min_guarantee", default=None, at="./memtune/min_guarantee[1]")
    swap_hard_limit_kib: int | None = size("swap_hard_limit", default=None, at="./memtune/swap_hard_limit[1]")


class HugePage(Element, tag="page"):
    """Huge pages of one size for some of the guest's NUMA nodes."""

    size: int = attr(
        "size",
        ULONG,
        blank=True,
        missing=lacking(XmlError, "missing element or attribute './@size'"),
        bad=malformed("Invalid value '{}' for element or attribute './@size'"),
    )
    unit: str | None = attr("unit", str, default=None)
    nodeset: str | None = attr("nodeset", str, default=None)


class HugePages(Element, tag="hugepages"):
    """The huge pages of a guest; none named: the host's default size."""

    pages: list[HugePage] = children(HugePage, default=[])


class MemorySourceType(StrEnum):
    """What backs guest memory."""

    FILE = "file"
    ANONYMOUS = "anonymous"
    MEMFD = "memfd"


class MemoryAccess(StrEnum):
    """Who sees guest memory."""

    SHARED = "shared"
    PRIVATE = "private"


class MemoryAllocation(Element, tag="allocation"):
    """When memory is taken, and by how many threads."""

    mode: str | None = attr(
        "mode",
        words("immediate", "ondemand"),
        default=None,
        bad=unsupported("unknown memoryBacking/allocation/mode '{}'"),
        blank=True,
    )
    threads: int | None = attr(
        "threads", UINT, default=None, blank=True, bad=malformed("Failed to parse memory allocation threads")
    )


class MemoryBacking(Element, tag="memoryBacking", empty=Empty.OMIT):
    """How the host provides guest memory."""

    hugepages: HugePages | None = child(HugePages, default=None)
    nosharepages: bool = flag("nosharepages", default=False)
    locked: bool = flag("locked", default=False)
    source: MemorySourceType | None = value(
        "source",
        "type",
        MemorySourceType,
        default=None,
        bad=unsupported("unknown memoryBacking/source/type '{}'"),
        blank=True,
    )
    access: MemoryAccess | None = value(
        "access",
        "mode",
        MemoryAccess,
        default=None,
        bad=unsupported("unknown memoryBacking/access/mode '{}'"),
        blank=True,
    )
    allocation: MemoryAllocation | None = child(MemoryAllocation, default=None)
    discard: bool = flag("discard", default=False)
