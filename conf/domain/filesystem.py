"""Folders and images that a guest mounts: `<filesystem>`."""

from collections.abc import Iterable
from enum import StrEnum

from conf.domain.device import Device
from conf.domain.disk import IMAGE_FORMATS
from conf.element import Element, Empty, attr, child, flag, one_of, size, value
from conf.faults import malformed, unsupported
from conf.values import INT32, ON_OFF, ULONG, Codec, parse_octal, words

MODE: Codec[int] = Codec(parse_octal, lambda value: f"{value:04o}", "Expected non-negative integer value")
"""Permissions, in octal digits."""


class FilesystemType(StrEnum):
    """What is mounted."""

    MOUNT = "mount"
    BLOCK = "block"
    FILE = "file"
    TEMPLATE = "template"
    RAM = "ram"
    BIND = "bind"
    VOLUME = "volume"


class FilesystemDriver(Element, tag="driver", empty=Empty.OMIT):
    """How the host serves the folder."""

    type: str | None = attr(
        "type", words("default", "path", "handle", "loop", "nbd", "ploop", "virtiofs"), default=None
    )
    format: str | None = attr(
        "format", IMAGE_FORMATS, default=None, bad=unsupported("unknown driver format value '{}'")
    )
    wrpolicy: str | None = attr("wrpolicy", words("immediate"), default=None)
    queue: int | None = attr("queue", ULONG, default=None, bad=malformed("cannot parse queue size '{}' for virtiofs"))
    iommu: bool | None = attr("iommu", ON_OFF, default=None)
    ats: bool | None = attr("ats", ON_OFF, default=None)
    packed: bool | None = attr("packed", ON_OFF, default=None)
    page_per_vq: bool | None = attr("page_per_vq", ON_OFF, default=None)


class BinaryLock(Element, tag="lock", empty=Empty.OMIT):
    """How virtiofsd treats locks."""

    posix: bool | None = attr("posix", ON_OFF, default=None)
    flock: bool | None = attr("flock", ON_OFF, default=None)


class FilesystemBinary(Element, tag="binary", empty=Empty.OMIT):
    """The virtiofsd program and its options."""

    path: str | None = attr("path", str, default=None, blank=True)
    xattr: bool | None = attr("xattr", ON_OFF, default=None)
    cache_mode: str | None = value("cache", "mode", words("none", "always"), default=None)
    sandbox_mode: str | None = value("sandbox", "mode", words("namespace", "chroot"), default=None)
    lock: BinaryLock | None = child(BinaryLock, default=None)
    thread_pool_size: int | None = value(
        "thread_pool",
        "size",
        INT32,
        default=None,
        bad=malformed("cannot parse thread pool size '{}' for virtiofs"),
    )


class FilesystemSource(Element, tag="source", empty=Empty.OMIT):
    """Any source."""


class MountSource(FilesystemSource, case=("mount", "bind"), empty=Empty.OMIT):
    """A folder of the host, or the socket of a virtiofsd that runs already."""

    dir: str | None = attr("dir", str, default=None)
    socket: str | None = attr("socket", str, default=None)


class BlockFilesystemSource(FilesystemSource, case="block", empty=Empty.OMIT):
    """A block device."""

    dev: str | None = attr("dev", str, default=None)


class FileFilesystemSource(FilesystemSource, case="file", empty=Empty.OMIT):
    """An image file."""

    file: str | None = attr("file", str, default=None)


class TemplateSource(FilesystemSource, case="template", empty=Empty.OMIT):
    """A container template."""

    name: str | None = attr("name", str, default=None)


class RamSource(FilesystemSource, case="ram", empty=Empty.OMIT):
    """Memory."""

    usage: int | None = attr("usage", ULONG, default=None)
    units: str | None = attr("units", str, default=None)


class VolumeFilesystemSource(FilesystemSource, case="volume", empty=Empty.OMIT):
    """A volume of a storage pool."""

    pool: str | None = attr("pool", str, default=None)
    volume: str | None = attr("volume", str, default=None)


FILESYSTEM_SOURCES = (
    MountSource,
    BlockFilesystemSource,
    FileFilesystemSource,
    TemplateSource,
    RamSource,
    VolumeFilesystemSource,
)


class _LimitsLast(Device, trailing=True, boots=True):
    space_hard_limit_bytes: int | None = size("space_hard_limit", default=None, unit="bytes")
    space_soft_limit_bytes: int | None = size("space_soft_limit", default=None, unit="bytes")


class Filesystem(_LimitsLast, tag="filesystem", boots=True):
    """Something the guest mounts; `target_dir` is a path in containers, a tag elsewhere."""

    type: FilesystemType = attr("type", FilesystemType, default=FilesystemType.MOUNT)
    accessmode: str | None = attr("accessmode", words("passthrough", "mapped", "squash"), default=None)
    fmode: int | None = attr("fmode", MODE, default=None)
    dmode: int | None = attr("dmode", MODE, default=None)
    multidevs: str | None = attr("multidevs", words("default", "remap", "forbid", "warn"), default=None)
    model: str | None = attr("model", words("virtio", "virtio-transitional", "virtio-non-transitional"), default=None)
    driver: FilesystemDriver | None = child(FilesystemDriver, default=None)
    binary: FilesystemBinary | None = child(FilesystemBinary, default=None)
    source: FilesystemSource | None = one_of(*FILESYSTEM_SOURCES, by_parent="type", default=None)
    target_dir: str | None = value("target", "dir", str, default=None)
    readonly: bool = flag("readonly", default=False)


def filesystem_at(filesystems: Iterable[Filesystem], target: str) -> Filesystem | None:
    """What is mounted at a path of the guest (`/` is a container's root); None when nothing is."""
    return next((one for one in filesystems if one.target_dir == target), None)
