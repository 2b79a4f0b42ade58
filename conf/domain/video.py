"""Video cards: `<video>`."""

from enum import StrEnum

from conf.domain.device import Device
from conf.element import Element, Empty, attr, child
from conf.faults import internal, malformed, unsupported
from conf.values import ON_OFF, SOME, UINT, YES_NO, words


class VideoType(StrEnum):
    """The models of video cards."""

    DEFAULT = "default"
    VGA = "vga"
    CIRRUS = "cirrus"
    VMVGA = "vmvga"
    XEN = "xen"
    VBOX = "vbox"
    QXL = "qxl"
    PARALLELS = "parallels"
    VIRTIO = "virtio"
    GOP = "gop"
    NONE = "none"
    BOCHS = "bochs"
    RAMFB = "ramfb"


class VideoDriver(Element, tag="driver", empty=Empty.OMIT):
    """Who drives the card."""

    iommu: bool | None = attr("iommu", ON_OFF, default=None)
    ats: bool | None = attr("ats", ON_OFF, default=None)
    packed: bool | None = attr("packed", ON_OFF, default=None)
    page_per_vq: bool | None = attr("page_per_vq", ON_OFF, default=None)
    vgaconf: str | None = attr(
        "vgaconf",
        words("io", "on", "off"),
        default=None,
        shown=lambda self, flags: None if self.vgaconf == "io" else self.vgaconf,
    )
    name: str | None = attr("name", words("default", "qemu", "vhostuser"), default=None)


class Acceleration(Element, tag="acceleration", empty=Empty.OMIT):
    """Drawing by the host."""

    accel3d: bool | None = attr("accel3d", YES_NO, default=None)
    accel2d: bool | None = attr("accel2d", YES_NO, default=None)
    rendernode: str | None = attr("rendernode", str, default=None)


class Resolution(Element, tag="resolution"):
    """The size of the screen."""

    x: int = attr("x", UINT)
    y: int = attr("y", UINT)


class VideoModel(Element, tag="model"):
    """The card; memory counts in KiB."""

    type: VideoType = attr(
        "type", VideoType, default=VideoType.DEFAULT, bad=unsupported("unknown video model '{}'"), blank=True
    )
    ram_kib: int | None = attr("ram", SOME, default=None, bad=malformed("cannot parse video ram '{}'"))
    vram_kib: int | None = attr("vram", SOME, default=None, bad=malformed("cannot parse video vram '{}'"))
    vram64_kib: int | None = attr("vram64", SOME, default=None, bad=malformed("cannot parse video vram64 '{}'"))
    vgamem_kib: int | None = attr("vgamem", SOME, default=None, bad=malformed("cannot parse video vgamem '{}'"))
    heads: int | None = attr(
        "heads",
        UINT,
        default=None,
        bad=internal("cannot parse video heads '{}'"),
        shown=lambda self, flags: self.heads or None,
    )
    primary: bool | None = attr("primary", YES_NO, default=None, shown=lambda self, flags: self.primary or None)
    blob: bool | None = attr("blob", ON_OFF, default=None)
    acceleration: Acceleration | None = child(Acceleration, default=None)
    resolution: Resolution | None = child(Resolution, default=None)


class Video(Device, tag="video"):
    """A video card."""

    driver: VideoDriver | None = child(VideoDriver, default=None)
    model: VideoModel = child(VideoModel, default_factory=VideoModel)
