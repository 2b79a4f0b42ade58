"""Defaults of video cards."""

from __future__ import annotations

from conf.domain.domain import Domain, VirtType
from conf.domain.os import OsType
from conf.domain.video import Video, VideoModel, VideoType


def add_video(domain: Domain) -> None:
    """A display needs a card to show."""
    devices = domain.devices
    if not devices.graphics or devices.videos:
        return
    devices.videos.append(Video(model=VideoModel(type=VideoType.DEFAULT)))


_VIDEO_TYPES = {VirtType.VBOX: VideoType.VBOX, VirtType.VMWARE: VideoType.VMVGA, VirtType.BHYVE: VideoType.GOP}


def _default_video(domain: Domain) -> VideoType:
    """The card of hypervisors that have one kind only."""
    if domain.type in (VirtType.XEN, VirtType.TEST):
        paravirtual = domain.os.kind.type in (OsType.XEN, OsType.XENPVH, OsType.LINUX)
        return VideoType.XEN if paravirtual else VideoType.CIRRUS
    return _VIDEO_TYPES.get(domain.type, VideoType.DEFAULT)


_VIDEO_MEMORY_KIB = {
    VideoType.VGA: 16 * 1024,
    VideoType.CIRRUS: 16 * 1024,
    VideoType.VMVGA: 16 * 1024,
    VideoType.BOCHS: 16 * 1024,
    VideoType.XEN: 4 * 1024,
    VideoType.QXL: 64 * 1024,
    VideoType.GOP: 0,
}


def _power_of_two(amount: int | None) -> int | None:
    """The next power of two, which guests' drivers expect."""
    return (1 << (amount - 1).bit_length()) & 0xFFFFFFFF or None if amount else None


def complete(device: Video, domain: Domain) -> None:
    model = device.model
    if model.type is VideoType.DEFAULT:
        model.type = _default_video(domain)
    if model.vram_kib is None:
        model.vram_kib = _VIDEO_MEMORY_KIB.get(model.type) or None
    if model.type is VideoType.QXL and model.ram_kib is None:
        model.ram_kib = 64 * 1024
    model.ram_kib, model.vram_kib = map(_power_of_two, (model.ram_kib, model.vram_kib))
    if model.type is VideoType.NONE:
        device.model, device.driver = VideoModel(type=VideoType.NONE), None
    elif model.heads is None:
        model.heads = 1


def complete_videos(domain: Domain) -> None:
    """The first card is the primary one unless another was named."""
    videos = [one for one in domain.devices.videos if one.model.type is not VideoType.NONE]
    for video in videos:
        if video.model.primary:
            domain.devices.videos.remove(video)
            domain.devices.videos.insert(0, video)
            return
    if videos:
        videos[0].model.primary = True
