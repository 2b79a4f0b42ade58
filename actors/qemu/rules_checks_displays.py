"""What QEMU's displays and video cards cannot do, in libvirt's words."""

from __future__ import annotations

from actors.qemu.capabilities.model import Capabilities
from conf.domain.domain import Domain
from conf.domain.graphics import Graphics, GraphicsType, ListenType
from conf.domain.video import Video, VideoType
from schema.errors import ConfigUnsupported, NumericOverflow, XmlError

_GRAPHICS_FLAGS = {
    GraphicsType.SDL: "sdl",
    GraphicsType.VNC: "vnc",
    GraphicsType.SPICE: "spice",
    GraphicsType.EGL_HEADLESS: "egl-headless",
    GraphicsType.DBUS: "display-dbus",
}
_VNC_PASSWORD = 8


def check_graphics(graphics: Graphics, domain: Domain, capabilities: Capabilities, *, spice_tls: bool) -> None:
    """Refuses a display that QEMU cannot provide. Raises ConfigUnsupported."""
    flag = _GRAPHICS_FLAGS.get(graphics.type)
    if flag is None or capabilities.lacks(flag):
        raise ConfigUnsupported(f"{graphics.type.value} graphics are not supported with this QEMU")
    displays = domain.devices.graphics
    kinds = {one.type for one in displays}
    paired = (GraphicsType.EGL_HEADLESS, GraphicsType.VNC, GraphicsType.SPICE)
    if GraphicsType.EGL_HEADLESS in kinds and graphics.type not in paired:
        raise ConfigUnsupported(
            "graphics type 'egl-headless' is only supported with one of: 'vnc', 'spice' graphics types"
        )
    on_node = graphics.gl is not None and bool(graphics.gl.rendernode)
    if graphics.type is GraphicsType.EGL_HEADLESS and on_node and capabilities.lacks("egl-headless.rendernode"):
        raise ConfigUnsupported("This QEMU doesn't support OpenGL rendernode with egl-headless graphics type")
    with_opengl = sum(one.gl is not None and bool(one.gl.enable) for one in displays)
    if with_opengl + (GraphicsType.EGL_HEADLESS in kinds) > 1:
        raise ConfigUnsupported("multiple OpenGL displays are not supported by QEMU")
    if graphics.type is GraphicsType.VNC:
        if graphics.power_control is not None and capabilities.lacks("vnc-power-control"):
            raise ConfigUnsupported("VNC power control is not available")
        if graphics.passwd is not None and len(graphics.passwd) > _VNC_PASSWORD:
            raise ConfigUnsupported(
                f"VNC password is {len(graphics.passwd)} characters long, only {_VNC_PASSWORD} permitted"
            )
    elif graphics.type is GraphicsType.SPICE:
        places = {one.type for one in graphics.listens[:1]}
        if (graphics.tls_port or 0) > 0 and not spice_tls and not places & {ListenType.NONE, ListenType.SOCKET}:
            raise ConfigUnsupported("spice TLS port set in XML configuration, but TLS is disabled in qemu.conf")
        if graphics.gl is not None and graphics.gl.enable:
            if capabilities.lacks("spice-gl"):
                raise ConfigUnsupported("This QEMU doesn't support spice OpenGL")
            if graphics.gl.rendernode and capabilities.lacks("spice-rendernode"):
                raise ConfigUnsupported("This QEMU doesn't support spice OpenGL rendernode")


_VIDEO_FLAGS: dict[VideoType, tuple[str, ...]] = {
    VideoType.VGA: ("VGA",),
    VideoType.CIRRUS: ("cirrus-vga",),
    VideoType.VMVGA: ("vmware-svga",),
    VideoType.QXL: ("qxl",),
    VideoType.VIRTIO: ("virtio-gpu", "virtio-gpu-ccw"),
    VideoType.BOCHS: ("bochs-display",),
    VideoType.RAMFB: ("ramfb",),
}
_MIB_KIB = 1024
_MAX_KIB = ((1 << 32) - 1) // 1024


def check_video(device: Video, domain: Domain, capabilities: Capabilities) -> None:
    """Refuses a video card that QEMU cannot provide. Raises ConfigUnsupported."""
    model = device.model
    kind = model.type
    if kind in (VideoType.NONE, VideoType.DEFAULT):
        return
    is_vhost = device.driver is not None and device.driver.name == "vhostuser"
    if is_vhost:
        if capabilities.lacks("vhost-user-gpu"):
            raise ConfigUnsupported("this QEMU does not support 'vhost-user' video device")
    elif all(capabilities.lacks(flag) for flag in _VIDEO_FLAGS.get(kind, ())):
        raise ConfigUnsupported(f"domain configuration does not support video model '{kind.value}'")
    if not model.primary and kind not in (VideoType.QXL, VideoType.VIRTIO):
        raise ConfigUnsupported(f"video type '{kind.value}' is only valid as primary video device")
    if model.heads != 1 and kind not in (VideoType.QXL, VideoType.VIRTIO):
        raise ConfigUnsupported(f"video type '{kind.value}' doesn't support multiple 'heads'")
    if model.acceleration is not None and model.acceleration.accel2d:
        raise ConfigUnsupported("qemu does not support the accel2d setting")
    if kind is VideoType.QXL:
        if (model.vram_kib or 0) > _MAX_KIB:
            raise NumericOverflow(f"value for 'vram' must be less than '{_MAX_KIB}'")
        if (model.ram_kib or 0) > _MAX_KIB:
            raise NumericOverflow(f"value for 'ram' must be less than '{_MAX_KIB}'")
        if model.vgamem_kib:
            if model.vgamem_kib < _MIB_KIB:
                raise ConfigUnsupported("value for 'vgamem' must be at least 1 MiB (1024 KiB)")
            if model.vgamem_kib & (model.vgamem_kib - 1):
                raise ConfigUnsupported("value for 'vgamem' must be power of two")
    if model.resolution is not None and kind not in (
        VideoType.VGA,
        VideoType.QXL,
        VideoType.VIRTIO,
        VideoType.BOCHS,
    ):
        raise XmlError("model resolution is not supported")
    if kind in (VideoType.VGA, VideoType.VMVGA) and model.vram_kib and model.vram_kib < _MIB_KIB:
        raise ConfigUnsupported("value for 'vram' must be at least 1 MiB (1024 KiB)")
    if model.acceleration is not None and model.acceleration.accel3d:
        if kind is not VideoType.VIRTIO:
            raise ConfigUnsupported("3d acceleration is supported only with 'virtio' video device")
        if not is_vhost and all(
            capabilities.lacks(flag) for flag in ("virtio-gpu.virgl", "virtio-gpu-gl-pci", "virtio-vga-gl")
        ):
            raise ConfigUnsupported("3d acceleration is not supported by this QEMU binary")
