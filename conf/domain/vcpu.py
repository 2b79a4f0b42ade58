"""A guest's processors and input/output threads, and how the host runs them."""

from enum import StrEnum

from conf.element import Element, Empty, attr, child, children, content, text
from conf.faults import lacking, malformed
from conf.values import INT, INT32, NATURAL, POSITIVE, UINT, ULONG, YES_NO, words
from schema.errors import RefusedDocument, XmlError


class Placement(StrEnum):
    """Who chooses host processors or memory nodes."""

    STATIC = "static"
    AUTO = "auto"


class Vcpu(Element, tag="vcpu"):
    """The number of processors: at most `count`, `current` of them plugged in (None: all)."""

    placement: Placement | None = attr("placement", Placement, default=None)
    cpuset: str | None = attr("cpuset", str, default=None)
    current: int | None = attr("current", UINT, default=None)
    count: int = content(UINT, default=1, keep_empty=True, bad=malformed("maximum vcpus count must be an integer"))


class SingleVcpu(Element, tag="vcpu"):
    """The state of one processor."""

    id: int = attr("id", UINT)
    enabled: bool = attr("enabled", YES_NO)
    hotpluggable: bool | None = attr("hotpluggable", YES_NO, default=None)
    order: int | None = attr("order", UINT, default=None)


class Vcpus(Element, tag="vcpus", empty=Empty.OMIT):
    """The state of each processor."""

    vcpus: list[SingleVcpu] = children(SingleVcpu, default=[])


class IoThread(Element, tag="iothread"):
    """An input/output thread."""

    id: int = attr("id", POSITIVE)
    thread_pool_min: int | None = attr("thread_pool_min", NATURAL, default=None)
    thread_pool_max: int | None = attr("thread_pool_max", NATURAL, default=None)


class IoThreadIds(Element, tag="iothreadids", empty=Empty.OMIT):
    """The numbers of the input/output threads."""

    iothreads: list[IoThread] = children(IoThread, default=[])


class DefaultIoThread(Element, tag="defaultiothread"):
    """The thread pool of QEMU's main loop."""

    thread_pool_min: int | None = attr("thread_pool_min", NATURAL, default=None)
    thread_pool_max: int | None = attr("thread_pool_max", NATURAL, default=None)


class VcpuPin(Element, tag="vcpupin"):
    """The host processors on which one virtual processor may run."""

    vcpu: int = attr("vcpu", UINT)
    cpuset: str = attr("cpuset", str, missing=lacking(RefusedDocument, "missing cpuset for vcpupin"))


class EmulatorPin(Element, tag="emulatorpin"):
    """The host processors on which the emulator's other threads may run."""

    cpuset: str = attr("cpuset", str, missing=lacking(RefusedDocument, "missing cpuset for emulatorpin"))


class IoThreadPin(Element, tag="iothreadpin"):
    """The host processors on which an input/output thread may run."""

    iothread: int = attr("iothread", POSITIVE)
    cpuset: str = attr("cpuset", str, missing=lacking(RefusedDocument, "missing cpuset for iothreadpin"))


SCHEDULERS = words("batch", "idle", "fifo", "rr")


class VcpuSched(Element, tag="vcpusched"):
    """The scheduling of some virtual processors."""

    vcpus: str = attr("vcpus", str, missing=lacking(XmlError, "Missing attribute 'vcpus' in element 'vcpusched'"))
    scheduler: str = attr("scheduler", SCHEDULERS)
    priority: int | None = attr("priority", INT32, default=None)


class IoThreadSched(Element, tag="iothreadsched"):
    """The scheduling of some input/output threads."""

    iothreads: str = attr(
        "iothreads", str, missing=lacking(XmlError, "Missing attribute 'iothreads' in element 'iothreadsched'")
    )
    scheduler: str = attr("scheduler", SCHEDULERS)
    priority: int | None = attr("priority", INT32, default=None)


class EmulatorSched(Element, tag="emulatorsched"):
    """The scheduling of the emulator's other threads."""

    scheduler: str = attr("scheduler", SCHEDULERS)
    priority: int | None = attr("priority", INT32, default=None)


class CacheShare(Element, tag="cache"):
    """A share of a host cache."""

    id: int = attr("id", UINT)
    level: int = attr("level", UINT)
    type: str = attr("type", words("both", "code", "data"))
    size: int = attr(
        "size",
        ULONG,
        blank=True,
        missing=lacking(XmlError, "missing element or attribute './@size'"),
        bad=malformed("Invalid value '{}' for element or attribute './@size'"),
    )
    unit: str | None = attr("unit", str, default=None)


class CacheMonitor(Element, tag="monitor"):
    """Watches the use of a host cache by some virtual processors."""

    level: int | None = attr("level", UINT, default=None)
    vcpus: str = attr("vcpus", str, missing=lacking(XmlError, "Missing monitor attribute 'vcpus'"))


class CacheTune(Element, tag="cachetune"):
    """The host cache of some virtual processors."""

    vcpus: str = attr("vcpus", str, missing=lacking(XmlError, "Missing cachetune attribute 'vcpus'"))
    id: str | None = attr("id", str, default=None, live=True)
    caches: list[CacheShare] = children(CacheShare, default=[])
    monitors: list[CacheMonitor] = children(CacheMonitor, default=[])


class MemoryBandwidth(Element, tag="node"):
    """A share of a host node's memory bandwidth, in percent."""

    id: int = attr("id", UINT)
    bandwidth: int = attr("bandwidth", UINT)


class MemoryTune(Element, tag="memorytune"):
    """The memory bandwidth of some virtual processors."""

    vcpus: str = attr("vcpus", str, missing=lacking(XmlError, "Missing memorytune attribute 'vcpus'"))
    id: str | None = attr("id", str, default=None, live=True)
    nodes: list[MemoryBandwidth] = children(MemoryBandwidth, default=[])
    monitors: list[CacheMonitor] = children(CacheMonitor, default=[])


class CpuTune(Element, tag="cputune", empty=Empty.OMIT):
    """How the host schedules a guest."""

    shares: int | None = text("shares", ULONG, default=None, bad=malformed("can't parse cputune shares value"))
    period: int | None = text("period", ULONG, default=None, bad=malformed("can't parse cputune period value"))
    quota: int | None = text("quota", INT, default=None, bad=malformed("can't parse cputune quota value"))
    global_period: int | None = text(
        "global_period", ULONG, default=None, bad=malformed("can't parse cputune global period value")
    )
    global_quota: int | None = text(
        "global_quota", INT, default=None, bad=malformed("can't parse cputune global quota value")
    )
    emulator_period: int | None = text(
        "emulator_period", ULONG, default=None, bad=malformed("can't parse cputune emulator period value")
    )
    emulator_quota: int | None = text(
        "emulator_quota", INT, default=None, bad=malformed("can't parse cputune emulator quota value")
    )
    iothread_period: int | None = text(
        "iothread_period", ULONG, default=None, bad=malformed("can't parse cputune iothread period value")
    )
    iothread_quota: int | None = text(
        "iothread_quota", INT, default=None, bad=malformed("can't parse cputune iothread quota value")
    )
    vcpupins: list[VcpuPin] = children(VcpuPin, default=[])
    emulatorpin: EmulatorPin | None = child(EmulatorPin, default=None)
    iothreadpins: list[IoThreadPin] = children(IoThreadPin, default=[])
    emulatorsched: EmulatorSched | None = child(EmulatorSched, default=None)
    vcpuscheds: list[VcpuSched] = children(VcpuSched, default=[])
    iothreadscheds: list[IoThreadSched] = children(IoThreadSched, default=[])
    cachetunes: list[CacheTune] = children(CacheTune, default=[])
    memorytunes: list[MemoryTune] = children(MemoryTune, default=[])
