"""Displays and video cards."""

from __future__ import annotations

from typing import Final

from actors.qemu.command.device import add_device, address_properties, virtio_driver, virtio_properties
from actors.qemu.command.launch import Launch, alias_of, is_x86, secret_of
from actors.qemu.command.line import CommandLine, Properties, comma_doubled, on_off
from actors.qemu.command.memory import short_name
from actors.qemu.command.protocols import secret_object, tls_object
from conf.domain.graphics import Graphics, GraphicsType, Listen, ListenType
from conf.domain.video import Video, VideoType
from schema.errors import ConfigUnsupported, RefusedDocument

_VNC_BASE_PORT: Final = 5900
_MAX_PORT: Final = 0xFFFF


def add_display(launch: Launch, line: CommandLine) -> None:
    """What QEMU itself shows: nothing, unless a display says otherwise."""
    kinds = {one.type for one in launch.domain.devices.graphics}
    if not kinds:
        line.add("-display", "none")


def add_graphics(launch: Launch, line: CommandLine) -> None:
    """All displays. Raises ConfigUnsupported for a kind QEMU does not have."""
    kinds = [one.type for one in launch.domain.devices.graphics]
    if len(kinds) != len(set(kinds)):
        raise ConfigUnsupported("only 1 graphics device of each type (sdl, vnc, spice, headless, dbus) is supported")
    for graphics in launch.domain.devices.graphics:
        if len(graphics.listens) > 1:
            raise ConfigUnsupported("QEMU does not support multiple listens for one graphics device.")
        match graphics.type:
            case GraphicsType.VNC:
                _add_vnc(launch, line, graphics)
            case GraphicsType.SPICE:
                _add_spice(launch, line, graphics)
            case GraphicsType.SDL:
                _add_sdl(line, graphics)
            case GraphicsType.EGL_HEADLESS:
                has_node = graphics.gl is not None and launch.caps.has("egl-headless.rendernode")
                node = graphics.gl.rendernode if graphics.gl is not None and has_node else None
                words = "egl-headless" + (f",rendernode={comma_doubled(node)}" if node is not None else "")
                line.add("-display", words)
            case GraphicsType.DBUS:
                _add_dbus(launch, line, graphics)
            case _:
                raise ConfigUnsupported(f"unsupported graphics type '{graphics.type}'")


def _add_dbus(launch: Launch, line: CommandLine, graphics: Graphics) -> None:
    words = "dbus"
    if graphics.p2p:
        words += ",p2p=on"
    elif graphics.address is not None:
        words += f",addr={comma_doubled(graphics.address)}"
    elif launch.options.dbus_folder:
        words += f",addr=unix:path={launch.options.dbus_folder}/{short_name(launch)}-dbus.sock"
    if graphics.gl is not None and graphics.gl.enable is not None:
        words += f",gl={on_off(graphics.gl.enable)}"
        if graphics.gl.rendernode:
            words += f",rendernode={comma_doubled(graphics.gl.rendernode)}"
    if graphics.audio_id:
        if all(one.id != graphics.audio_id for one in launch.domain.devices.audios):
            raise RefusedDocument("unable to find audio backend for sound device")
        words += f",audiodev=audio{graphics.audio_id}"
    line.add("-display", words)


def _add_sdl(line: CommandLine, graphics: Graphics) -> None:
    if graphics.xauth:
        line.environment["XAUTHORITY"] = graphics.xauth
    if graphics.display:
        line.environment["DISPLAY"] = graphics.display
    words = "sdl"
    if graphics.gl is not None and graphics.gl.enable is not None:
        words += f",gl={on_off(graphics.gl.enable)}"
    if graphics.fullscreen:
        line.add("-full-screen")
    line.add("-display", words)


def listen_of(graphics: Graphics) -> Listen | None:
    """Where a display listens; the first place counts."""
    return graphics.listens[0] if graphics.listens else None


def _add_vnc(launch: Launch, line: CommandLine, graphics: Graphics) -> None:
    options = launch.options
    listen = listen_of(graphics)
    words: str
    if listen is not None and listen.type is ListenType.SOCKET:
        words = f"vnc=unix:{comma_doubled(listen.socket or '')}"
    elif listen is not None and listen.type is ListenType.NONE:
        words = "none"
    else:
        if not graphics.autoport and not _VNC_BASE_PORT <= (graphics.port or 0) <= _MAX_PORT:
            raise ConfigUnsupported("vnc port must be in range [5900,65535]")
        address = listen.address if listen is not None else None
        if address is None and listen is not None and listen.type is ListenType.NETWORK:
            raise ConfigUnsupported(f"listen network '{listen.network}' had no usable address")
        words = _bracketed(address or "") + f":{(graphics.port or _VNC_BASE_PORT) - _VNC_BASE_PORT}"
        if graphics.websocket:
            words += f",websocket={graphics.websocket}"
    if graphics.share_policy is not None:
        words += f",share={graphics.share_policy}"
    # QEMU then refuses everybody until a password is set through the monitor
    if graphics.passwd is not None or options.vnc_password:
        words += ",password=on"
    if options.vnc_tls:
        password = None
        if options.vnc_tls_secret:
            password = "vnc-tls-creds0-secret0"
            data, vector = launch.host.secret(secret_of(options.vnc_tls_secret))
            line.add_json("-object", secret_object(password, data, vector))
        line.add_json(
            "-object",
            tls_object("vnc-tls-creds0", options.vnc_tls_folder, "server", options.vnc_tls_verify, password),
        )
        words += ",tls-creds=vnc-tls-creds0"
    if options.vnc_sasl:
        words += ",sasl=on"
        if options.vnc_sasl_folder:
            line.environment["SASL_CONF_PATH"] = options.vnc_sasl_folder
    if graphics.power_control is not None:
        words += f",power-control={on_off(graphics.power_control)}"
    if graphics.audio_id:
        words += f",audiodev=audio{graphics.audio_id}"
    elif launch.domain.devices.audios:
        words += f",audiodev=audio{launch.domain.devices.audios[0].id}"
    line.add("-vnc", words)
    if graphics.keymap is not None:
        line.add("-k", graphics.keymap)


def _bracketed(address: str) -> str:
    return f"[{address}]" if ":" in address else address


def _add_spice(launch: Launch, line: CommandLine, graphics: Graphics) -> None:
    options = launch.options
    listen = listen_of(graphics)
    words: list[str] = []
    has_insecure = has_secure = False
    if listen is not None and listen.type is ListenType.SOCKET:
        words += ["unix", f"addr={comma_doubled(listen.socket or '')}"]
        has_insecure = True
    elif listen is not None and listen.type is ListenType.NONE:
        words.append("port=0")
        has_insecure = True
    else:
        if graphics.port is not None and graphics.port > 0:
            words.append(f"port={graphics.port}")
            has_insecure = True
        if graphics.tls_port is not None and graphics.tls_port > 0:
            if not options.spice_tls:
                raise ConfigUnsupported("spice TLS port set in XML configuration, but TLS is disabled in qemu.conf")
            words.append(f"tls-port={graphics.tls_port}")
            has_secure = True
        if not has_insecure and not has_secure:
            words.append("port=0")
        address = listen.address if listen is not None else None
        if address and (has_insecure or has_secure):
            words.append(f"addr={comma_doubled(address)}")
    if options.spice_sasl:
        words.append("sasl=on")
        if options.spice_sasl_folder:
            line.environment["SASL_CONF_PATH"] = options.spice_sasl_folder
    if graphics.mouse_mode is not None:
        words.append("agent-mouse=" + ("off" if graphics.mouse_mode == "server" else "on"))
    # a password is set through the monitor; without one everybody would be refused
    if graphics.passwd is None and not options.spice_password:
        words.append("disable-ticketing=on")
    if has_secure:
        words.append(f"x509-dir={comma_doubled(options.spice_tls_folder)}")
    words += _spice_modes(graphics, has_secure=has_secure, has_insecure=has_insecure)
    words += _spice_tuning(graphics)
    if graphics.gl is not None and graphics.gl.enable:
        words.append("gl=on")
        if graphics.gl.rendernode is not None:
            words.append(f"rendernode={comma_doubled(graphics.gl.rendernode)}")
    words.append("seamless-migration=on")
    line.add("-spice", ",".join(words))
    if graphics.keymap is not None:
        line.add("-k", graphics.keymap)


def _spice_modes(graphics: Graphics, *, has_secure: bool, has_insecure: bool) -> list[str]:
    """Which channels are encrypted. Raises ConfigUnsupported where the display has no such port."""
    words = []
    for mode, prefix, possible, connection in (
        ("secure", "tls-channel", has_secure, "TLS"),
        ("insecure", "plaintext-channel", has_insecure, "plaintext"),
    ):
        if graphics.default_mode == mode:
            if not possible:
                raise ConfigUnsupported(
                    f"spice defaultMode {mode} requested in XML configuration, "
                    f"but {connection} connection is not available"
                )
            words.append(f"{prefix}=default")
    for channel in graphics.channels:
        is_secure = channel.mode == "secure"
        if not (has_secure if is_secure else has_insecure):
            raise ConfigUnsupported(
                f"spice {channel.mode} channels set in XML configuration, "
                f"but {'TLS' if is_secure else 'plaintext'} connection is not available"
            )
        words.append(f"{'tls' if is_secure else 'plaintext'}-channel={channel.name}")
    return words


def _spice_tuning(graphics: Graphics) -> list[str]:
    words = []
    if graphics.image_compression:
        words.append(f"image-compression={graphics.image_compression}")
    if graphics.jpeg_compression:
        words.append(f"jpeg-wan-compression={graphics.jpeg_compression}")
    if graphics.zlib_compression:
        words.append(f"zlib-glz-wan-compression={graphics.zlib_compression}")
    if graphics.playback_compression:
        words.append(f"playback-compression={graphics.playback_compression}")
    if graphics.streaming_mode:
        words.append(f"streaming-video={graphics.streaming_mode}")
    if graphics.clipboard_copypaste is False:
        words.append("disable-copy-paste=on")
    if graphics.filetransfer_enable is False:
        words.append("disable-agent-file-xfer=on")
    return words


_PRIMARY: Final = {
    VideoType.VGA: "VGA",
    VideoType.CIRRUS: "cirrus-vga",
    VideoType.VMVGA: "vmware-svga",
    VideoType.QXL: "qxl-vga",
    VideoType.VIRTIO: "virtio-vga",
    VideoType.BOCHS: "bochs-display",
    VideoType.RAMFB: "ramfb",
}
_SECONDARY: Final = {VideoType.QXL: "qxl", VideoType.VIRTIO: "virtio-gpu", VideoType.VGA: "secondary-vga"}


def add_videos(launch: Launch, line: CommandLine) -> None:
    """Video cards; the first is the one the firmware uses. Raises ConfigUnsupported for unknown models."""
    for number, video in enumerate(launch.domain.devices.videos):
        if video.model.type is VideoType.NONE:
            continue
        if _is_vhost_user(video):
            alias = alias_of(video)
            descriptor = launch.host.connect(f"{alias}-vhost-user")
            line.add("-chardev", f"socket,id=chr-vu-{alias},fd={descriptor}")
        add_device(launch, line, video, _card(launch, video, primary=number == 0))


def _is_vhost_user(video: Video) -> bool:
    return video.driver is not None and video.driver.name == "vhostuser"


def _card(launch: Launch, video: Video, *, primary: bool) -> Properties:
    model = video.model
    kind = model.type
    if kind not in (_PRIMARY if primary else {**_PRIMARY, **_SECONDARY}):
        raise ConfigUnsupported(f"domain configuration does not support video model '{kind}'")
    driver = _PRIMARY[kind] if primary or kind not in _SECONDARY else _SECONDARY[kind]
    properties: Properties = {}
    if kind is VideoType.VIRTIO:
        properties["driver"] = _virtio_gpu(launch, video, primary=primary)
        if properties["driver"] != "vhost-user-vga":
            properties.update(virtio_properties(video.driver))
    else:
        properties["driver"] = driver
    properties["id"] = alias_of(video)
    if kind is VideoType.VIRTIO and model.acceleration is not None and not _has_gl(launch):
        properties["virgl"] = model.acceleration.accel3d if launch.caps.has("virtio-gpu.virgl") else None
    if kind is VideoType.VIRTIO or driver in ("qxl", "qxl-vga"):
        properties["max_outputs"] = model.heads or None
    if driver in ("qxl", "qxl-vga"):
        properties["ram_size"] = model.ram_kib * 1024 if model.ram_kib else None
        properties["vram_size"] = model.vram_kib * 1024 if model.vram_kib else None
        if launch.caps.has("qxl.vram64_size_mb"):
            properties["vram64_size_mb"] = (model.vram64_kib or 0) // 1024
        if launch.caps.has("qxl.vgamem_mb"):
            properties["vgamem_mb"] = model.vgamem_kib // 1024 if model.vgamem_kib else None
    elif launch.caps.has(f"{driver}.vgamem_mb"):
        properties["vgamem_mb"] = model.vram_kib // 1024 if model.vram_kib else None
    elif kind is VideoType.BOCHS and model.vram_kib:
        properties["vgamem"] = model.vram_kib * 1024
    if kind is VideoType.VIRTIO and model.blob is not None:
        properties["blob"] = model.blob
    if model.resolution is not None:
        properties["xres"] = model.resolution.x
        properties["yres"] = model.resolution.y
    if _is_vhost_user(video):
        properties["chardev"] = f"chr-vu-{alias_of(video)}"
    properties.update(address_properties(launch, video))
    return properties


def _has_gl(launch: Launch) -> bool:
    return launch.caps.has("virtio-vga-gl") or launch.caps.has("virtio-gpu-gl-pci")


def _virtio_gpu(launch: Launch, video: Video, *, primary: bool) -> str:
    accelerated = video.model.acceleration is not None and bool(video.model.acceleration.accel3d) and _has_gl(launch)
    if _is_vhost_user(video):
        is_vga = primary and is_x86(launch.arch)
        return "vhost-user-vga" if is_vga else virtio_driver(launch, "vhost-user-gpu", video)
    if primary and is_x86(launch.arch) and launch.caps.has("virtio-vga"):
        return "virtio-vga-gl" if accelerated else "virtio-vga"
    return virtio_driver(launch, "virtio-gpu-gl" if accelerated else "virtio-gpu", video)
