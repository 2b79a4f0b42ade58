"""What two hosts tell each other of a guest that moves, beside its definition: `<qemu-migration>`."""

from __future__ import annotations

from uuid import UUID

from conf.cpu.cpu import GuestCpu
from conf.domain.domain import Domain
from conf.element import Element, Empty, attr, child, children, text
from conf.values import INT, UINT, ULONG, UUID_TEXT, YES_NO


class CookieFeature(Element, tag="feature"):
    """Something that the other side must understand."""

    name: str = attr("name", str)


class GraphicsCert(Element, tag="cert"):
    """What a viewer expects of the new host's certificate."""

    info: str = attr("info", str)
    value: str = attr("value", str)


class CookieGraphics(Element, tag="graphics"):
    """Where viewers go on."""

    type: str = attr("type", str)
    port: int = attr("port", INT)
    listen: str | None = attr("listen", str, default=None)
    tls_port: int = attr("tlsPort", INT)
    cert: GraphicsCert | None = child(GraphicsCert, default=None)


class LockState(Element, tag="lockstate"):
    """What the keeper of disk locks must know."""

    driver: str = attr("driver", str)
    leases: str | None = text("leases", str, default=None)


class InterfacePort(Element, tag="interface"):
    """State of a virtual switch's port."""

    index: int = attr("index", UINT)
    vport_type: str = attr("vporttype", str)
    data: str | None = text("portdata", str, default=None)


class CookieNetwork(Element, tag="network", empty=Empty.OPEN):
    """The ports of interfaces, by their number."""

    interfaces: list[InterfacePort] = children(InterfacePort, default=[])


class NbdDisk(Element, tag="disk"):
    """A disk that is copied, and its size in bytes."""

    target: str = attr("target", str)
    capacity: int = attr("capacity", ULONG)


class CookieNbd(Element, tag="nbd"):
    """Where disks are copied to."""

    port: int | None = attr("port", UINT, default=None)
    disks: list[NbdDisk] = children(NbdDisk, default=[])


class Statistics(Element, tag="statistics", empty=Empty.OPEN):
    """How the move went so far; times in ms, amounts in bytes."""

    started: int | None = text("started", ULONG, default=None)
    stopped: int | None = text("stopped", ULONG, default=None)
    sent: int | None = text("sent", ULONG, default=None)
    delta: int | None = text("delta", INT, default=None)
    time_elapsed: int | None = text("time_elapsed", ULONG, default=None)
    time_remaining: int | None = text("time_remaining", ULONG, default=None)
    downtime: int | None = text("downtime", ULONG, default=None)
    setup_time: int | None = text("setup_time", ULONG, default=None)
    memory_total: int | None = text("memory_total", ULONG, default=None)
    memory_processed: int | None = text("memory_processed", ULONG, default=None)
    memory_remaining: int | None = text("memory_remaining", ULONG, default=None)
    memory_bps: int | None = text("memory_bps", ULONG, default=None)
    memory_constant: int | None = text("memory_constant", ULONG, default=None)
    memory_normal: int | None = text("memory_normal", ULONG, default=None)
    memory_normal_bytes: int | None = text("memory_normal_bytes", ULONG, default=None)
    memory_dirty_rate: int | None = text("memory_dirty_rate", ULONG, default=None)
    memory_iteration: int | None = text("memory_iteration", ULONG, default=None)
    memory_postcopy_requests: int | None = text("memory_postcopy_requests", ULONG, default=None)
    memory_page_size: int | None = text("memory_page_size", ULONG, default=None)
    disk_total: int | None = text("disk_total", ULONG, default=None)
    disk_processed: int | None = text("disk_processed", ULONG, default=None)
    disk_remaining: int | None = text("disk_remaining", ULONG, default=None)
    disk_bps: int | None = text("disk_bps", ULONG, default=None)
    compression_cache: int | None = text("compression_cache", ULONG, default=None)
    compression_bytes: int | None = text("compression_bytes", ULONG, default=None)
    compression_pages: int | None = text("compression_pages", ULONG, default=None)
    compression_cache_misses: int | None = text("compression_cache_misses", ULONG, default=None)
    compression_overflow: int | None = text("compression_overflow", ULONG, default=None)
    auto_converge_throttle: int | None = text("auto_converge_throttle", INT, default=None)


class CookieCapability(Element, tag="cap"):
    """A capability of QEMU's migration, and whether it is switched on without being asked for."""

    name: str = attr("name", str)
    auto: bool = attr("auto", YES_NO)


class CookieCapabilities(Element, tag="capabilities", empty=Empty.OPEN):
    """What this side's QEMU can do."""

    capabilities: list[CookieCapability] = children(CookieCapability, default=[])


class DirtyBitmap(Element, tag="bitmap"):
    """A bitmap of changed blocks, and what it is called on the way."""

    name: str = attr("name", str)
    alias: str = attr("alias", str)


class BitmapDisk(Element, tag="disk"):
    """The bitmaps of a disk that move along."""

    target: str = attr("target", str)
    bitmaps: list[DirtyBitmap] = children(DirtyBitmap, default=[])


class MigrationCookie(Element, tag="qemu-migration", empty=Empty.OPEN):
    """A guest and the host that speaks of it; the parts are there as the step of the move needs them."""

    name: str = text("name", str)
    uuid: UUID = text("uuid", UUID_TEXT)
    hostname: str = text("hostname", str)
    host_uuid: UUID = text("hostuuid", UUID_TEXT)
    features: list[CookieFeature] = children(CookieFeature, default=[])
    graphics: CookieGraphics | None = child(CookieGraphics, default=None)
    lock_state: LockState | None = child(LockState, default=None)
    persistent: Domain | None = child(Domain, default=None)
    network: CookieNetwork | None = child(CookieNetwork, default=None)
    nbd: CookieNbd | None = child(CookieNbd, default=None)
    statistics: Statistics | None = child(Statistics, default=None)
    cpu: GuestCpu | None = child(GuestCpu, default=None)
    capabilities: CookieCapabilities | None = child(CookieCapabilities, default=None)
    dirty_bitmaps: list[BitmapDisk] = children(BitmapDisk, default=[], within="blockDirtyBitmaps")
