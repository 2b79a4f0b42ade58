"""Disks: `<disk>`."""

from enum import StrEnum

from lxml import etree

from conf.domain.device import Device
from conf.domain.secrets import Auth, Encryption
from conf.domain.status_parts import DiskPrivate, SecretsPlacement, in_status
from conf.domain.storage_source import SOURCES, SourceType, StorageSource
from conf.element import Element, Empty, Refused, attr, child, flag, one_of, size, text, value
from conf.faults import malformed, unsupported
from conf.values import ON_OFF, UINT, ULONG, YES_NO, words
from schema.enums.error import ErrorCode
from schema.errors import VirtError


class DiskDevice(StrEnum):
    """What the guest sees."""

    DISK = "disk"
    CDROM = "cdrom"
    FLOPPY = "floppy"
    LUN = "lun"


class DiskBus(StrEnum):
    """How the disk is connected."""

    IDE = "ide"
    FDC = "fdc"
    SCSI = "scsi"
    VIRTIO = "virtio"
    XEN = "xen"
    USB = "usb"
    UML = "uml"
    SATA = "sata"
    SD = "sd"
    NONE = "none"


class DiskModel(StrEnum):
    """The virtio flavour."""

    VIRTIO = "virtio"
    VIRTIO_TRANSITIONAL = "virtio-transitional"
    VIRTIO_NON_TRANSITIONAL = "virtio-non-transitional"


class DiskCache(StrEnum):
    """Host caching."""

    DEFAULT = "default"
    NONE = "none"
    WRITETHROUGH = "writethrough"
    WRITEBACK = "writeback"
    DIRECTSYNC = "directsync"
    UNSAFE = "unsafe"


class ErrorPolicy(StrEnum):
    """What an input/output error does to the guest."""

    DEFAULT = "default"
    STOP = "stop"
    REPORT = "report"
    IGNORE = "ignore"
    ENOSPACE = "enospace"


class DiskIo(StrEnum):
    """How the host does input and output."""

    NATIVE = "native"
    THREADS = "threads"
    IO_URING = "io_uring"


class Discard(StrEnum):
    """What happens to discarded blocks."""

    UNMAP = "unmap"
    IGNORE = "ignore"


class DetectZeroes(StrEnum):
    """What happens to written zeroes."""

    OFF = "off"
    ON = "on"
    UNMAP = "unmap"


class Tray(StrEnum):
    """The state of a removable medium's tray."""

    CLOSED = "closed"
    OPEN = "open"


class SnapshotMode(StrEnum):
    """Where snapshots of a disk go."""

    NO = "no"
    INTERNAL = "internal"
    EXTERNAL = "external"
    MANUAL = "manual"


class MetadataCache(Element, tag="metadata_cache", empty=Empty.OMIT):
    """The cache of image metadata."""

    max_size_bytes: int | None = size("max_size", default=None, unit="bytes")


IMAGE_FORMATS = words(
    *("raw", "dir", "bochs", "cloop", "dmg", "iso", "vpc", "vdi", "fat", "vhd", "ploop"),
    *("cow", "qcow", "qcow2", "qed", "vmdk", "aio"),
)
"""The formats of images; old texts for Xen say `aio` for raw ones."""


class DiskDriver(Element, tag="driver", empty=Empty.OMIT):
    """How the hypervisor opens the image."""

    name: str | None = attr("name", str, default=None)
    type: str | None = attr("type", IMAGE_FORMATS, default=None, bad=unsupported("unknown driver format value '{}'"))
    cache: DiskCache | None = attr("cache", DiskCache, default=None)
    error_policy: ErrorPolicy | None = attr("error_policy", ErrorPolicy, default=None)
    rerror_policy: ErrorPolicy | None = attr("rerror_policy", ErrorPolicy, default=None)
    io: DiskIo | None = attr("io", DiskIo, default=None)
    ioeventfd: bool | None = attr("ioeventfd", ON_OFF, default=None)
    event_idx: bool | None = attr("event_idx", ON_OFF, default=None)
    copy_on_read: bool | None = attr("copy_on_read", ON_OFF, default=None)
    discard: Discard | None = attr("discard", Discard, default=None)
    iothread: int | None = attr("iothread", UINT, default=None)
    detect_zeroes: DetectZeroes | None = attr("detect_zeroes", DetectZeroes, default=None)
    queues: int | None = attr("queues", UINT, default=None)
    queue_size: int | None = attr("queue_size", UINT, default=None)
    iommu: bool | None = attr("iommu", ON_OFF, default=None)
    ats: bool | None = attr("ats", ON_OFF, default=None)
    packed: bool | None = attr("packed", ON_OFF, default=None)
    page_per_vq: bool | None = attr("page_per_vq", ON_OFF, default=None)
    metadata_cache: MetadataCache | None = child(MetadataCache, default=None)


class ImageFormat(Element, tag="format"):
    """The format of an image below the top one."""

    type: str = attr("type", IMAGE_FORMATS, bad=unsupported("unknown storage source format '{}'"))
    metadata_cache: MetadataCache | None = child(MetadataCache, default=None)


class BackingStore(Element, tag="backingStore"):
    """The image below; an empty element ends the chain."""

    type: SourceType | None = attr("type", SourceType, default=None, bad=malformed("unknown storage source type '{}'"))
    index: int | None = attr("index", UINT, default=None, live=True)
    format: ImageFormat | None = child(ImageFormat, default=None)
    source: StorageSource | None = one_of(*SOURCES, by_parent="type", default=None)
    backing_store: "BackingStore | None" = child(lambda: BackingStore, default=None)


class Mirror(Element, tag="mirror"):
    """The copy that a block job of a running guest fills."""

    type: SourceType | None = attr("type", SourceType, default=None)
    file: str | None = attr("file", str, default=None)
    file_format: str | None = attr("format", str, default=None)
    job: str | None = attr("job", str, default=None)
    ready: str | None = attr("ready", str, default=None)
    format: ImageFormat | None = child(ImageFormat, default=None)
    source: StorageSource | None = one_of(*SOURCES, by_parent="type", default=None)
    backing_store: BackingStore | None = child(BackingStore, default=None)


class Geometry(Element, tag="geometry"):
    """The cylinders, heads and sectors that the firmware reports."""

    cyls: int | None = attr("cyls", UINT, default=None)
    heads: int | None = attr("heads", UINT, default=None)
    secs: int | None = attr("secs", UINT, default=None)
    trans: str | None = attr("trans", words("none", "auto", "lba"), default=None)


class BlockIo(Element, tag="blockio", empty=Empty.OMIT):
    """The block sizes that the guest sees."""

    logical_block_size: int | None = attr("logical_block_size", UINT, default=None)
    physical_block_size: int | None = attr("physical_block_size", UINT, default=None)


def _missing_target(node: etree._Element | None) -> VirtError:
    source = node.find("source") if node is not None else None
    names = [source.get(name) for name in ("file", "dev", "dir", "name")] if source is not None else []
    return VirtError(next((name for name in names if name), ""), code=ErrorCode.NO_TARGET)


class DiskTarget(Element, tag="target"):
    """The device's name and bus in the guest."""

    dev: str = attr("dev", str, missing=lambda node: _missing_target(node.getparent()))
    bus: DiskBus | None = attr("bus", DiskBus, default=None)
    tray: Tray | None = attr(
        "tray", Tray, default=None, shown=lambda self, flags: None if self.tray is Tray.CLOSED else self.tray
    )
    removable: bool | None = attr("removable", ON_OFF, default=None)
    rotation_rate: int | None = attr("rotation_rate", UINT, default=None)


class Transient(Element, tag="transient"):
    """What the guest writes is thrown away when it stops."""

    share_backing: bool | None = attr("shareBacking", YES_NO, default=None)


def _tuned(field: str) -> Refused:
    return malformed(f"disk iotune field '{field}' must be an integer")


class IoTune(Element, tag="iotune", empty=Empty.OMIT):
    """Limits on a disk's input and output."""

    total_bytes_sec: int | None = text("total_bytes_sec", ULONG, default=None, bad=_tuned("total_bytes_sec"))
    read_bytes_sec: int | None = text("read_bytes_sec", ULONG, default=None, bad=_tuned("read_bytes_sec"))
    write_bytes_sec: int | None = text("write_bytes_sec", ULONG, default=None, bad=_tuned("write_bytes_sec"))
    total_iops_sec: int | None = text("total_iops_sec", ULONG, default=None, bad=_tuned("total_iops_sec"))
    read_iops_sec: int | None = text("read_iops_sec", ULONG, default=None, bad=_tuned("read_iops_sec"))
    write_iops_sec: int | None = text("write_iops_sec", ULONG, default=None, bad=_tuned("write_iops_sec"))
    total_bytes_sec_max: int | None = text(
        "total_bytes_sec_max", ULONG, default=None, bad=_tuned("total_bytes_sec_max")
    )
    read_bytes_sec_max: int | None = text("read_bytes_sec_max", ULONG, default=None, bad=_tuned("read_bytes_sec_max"))
    write_bytes_sec_max: int | None = text(
        "write_bytes_sec_max", ULONG, default=None, bad=_tuned("write_bytes_sec_max")
    )
    total_iops_sec_max: int | None = text("total_iops_sec_max", ULONG, default=None, bad=_tuned("total_iops_sec_max"))
    read_iops_sec_max: int | None = text("read_iops_sec_max", ULONG, default=None, bad=_tuned("read_iops_sec_max"))
    write_iops_sec_max: int | None = text("write_iops_sec_max", ULONG, default=None, bad=_tuned("write_iops_sec_max"))
    size_iops_sec: int | None = text("size_iops_sec", ULONG, default=None, bad=_tuned("size_iops_sec"))
    group_name: str | None = text("group_name", str, default=None)
    total_bytes_sec_max_length: int | None = text(
        "total_bytes_sec_max_length", ULONG, default=None, bad=_tuned("total_bytes_sec_max_length")
    )
    read_bytes_sec_max_length: int | None = text(
        "read_bytes_sec_max_length", ULONG, default=None, bad=_tuned("read_bytes_sec_max_length")
    )
    write_bytes_sec_max_length: int | None = text(
        "write_bytes_sec_max_length", ULONG, default=None, bad=_tuned("write_bytes_sec_max_length")
    )
    total_iops_sec_max_length: int | None = text(
        "total_iops_sec_max_length", ULONG, default=None, bad=_tuned("total_iops_sec_max_length")
    )
    read_iops_sec_max_length: int | None = text(
        "read_iops_sec_max_length", ULONG, default=None, bad=_tuned("read_iops_sec_max_length")
    )
    write_iops_sec_max_length: int | None = text(
        "write_iops_sec_max_length", ULONG, default=None, bad=_tuned("write_iops_sec_max_length")
    )


class _StatusLast(Device, trailing=True, boots=True):
    """What the status says of a disk stands behind its place."""

    private: DiskPrivate | None = child(DiskPrivate, default=None, shown=in_status("private"))
    secrets_placement: SecretsPlacement | None = child(
        SecretsPlacement, default=None, shown=in_status("secrets_placement")
    )


class Disk(_StatusLast, tag="disk", boots=True):
    """A block device of the guest. A cdrom or floppy drive without medium has no source."""

    type: SourceType = attr("type", SourceType, default=SourceType.FILE)
    device: DiskDevice = attr("device", DiskDevice, default=DiskDevice.DISK)
    model: DiskModel | None = attr("model", DiskModel, default=None)
    rawio: bool | None = attr("rawio", YES_NO, default=None)
    sgio: str | None = attr("sgio", words("filtered", "unfiltered"), default=None)
    snapshot: SnapshotMode | None = attr("snapshot", SnapshotMode, default=None)
    driver: DiskDriver | None = child(DiskDriver, default=None)
    auth: Auth | None = child(Auth, default=None)
    source: StorageSource | None = one_of(*SOURCES, by_parent="type", default=None)
    backing_store: BackingStore | None = child(BackingStore, default=None)
    backenddomain: str | None = value("backenddomain", "name", str, default=None)
    geometry: Geometry | None = child(Geometry, default=None)
    blockio: BlockIo | None = child(BlockIo, default=None)
    mirror: Mirror | None = child(Mirror, default=None, live=True)
    target: DiskTarget = child(DiskTarget, missing=_missing_target)
    iotune: IoTune | None = child(IoTune, default=None)
    readonly: bool = flag("readonly", default=False)
    shareable: bool = flag("shareable", default=False)
    transient: Transient | None = child(Transient, default=None)
    serial: str | None = text("serial", str, default=None, keep_empty=True)
    wwn: str | None = text("wwn", str, default=None)
    vendor: str | None = text("vendor", str, default=None)
    product: str | None = text("product", str, default=None)
    encryption: Encryption | None = child(Encryption, default=None)
