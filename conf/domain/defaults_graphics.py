"""Defaults of displays: ports and places to listen on."""

from __future__ import annotations

from datetime import datetime

from conf.domain.graphics import SPICE_CHANNELS, Graphics, GraphicsType, Listen, ListenType
from conf.flags import ParseFlags
from schema.errors import ConfigUnsupported, ErrorDomain, RefusedDocument, XmlError

_SOCKET = ("port", "autoport", "listen", "keymap", "passwd", "passwd_valid_to", "connected")
_PARTS: dict[GraphicsType, tuple[str, ...]] = {
    GraphicsType.SDL: ("display", "xauth", "fullscreen"),
    GraphicsType.VNC: (
        *_SOCKET,
        *("socket", "websocket", "websocket_generated", "share_policy", "power_control", "audio_id"),
    ),
    GraphicsType.SPICE: (
        *_SOCKET,
        *("tls_port", "default_mode", "image_compression", "jpeg_compression", "zlib_compression"),
        *("playback_compression", "streaming_mode", "mouse_mode", "clipboard_copypaste", "filetransfer_enable"),
    ),
    GraphicsType.RDP: ("port", "autoport", "listen", "replace_user", "multi_user"),
    GraphicsType.DESKTOP: ("display", "fullscreen"),
    GraphicsType.EGL_HEADLESS: (),
    GraphicsType.DBUS: ("address", "p2p", "audio_id"),
}
"""What each kind of display has of its own."""
_LISTENING = (GraphicsType.VNC, GraphicsType.SPICE, GraphicsType.RDP)


def normalize(graphics: Graphics, flags: ParseFlags) -> None:
    """Settles ports and listens as reading a text does.

    Raises XmlError when the short and the long form of an address differ.
    """
    if graphics.type is not GraphicsType.SPICE:
        graphics.channels = []
    kept = _PARTS[graphics.type]
    for names in _PARTS.values():
        for name in names:
            if name not in kept:
                setattr(graphics, name, None)
    _normalize_password(graphics)
    graphics.p2p = graphics.p2p or None
    if graphics.default_mode == "any":
        graphics.default_mode = None
    # of several words on a channel the last counts
    modes = {one.name: one for one in graphics.channels}
    graphics.channels = [modes[name] for name in SPICE_CHANNELS if name in modes and modes[name].mode != "any"]
    if graphics.gl is not None:
        if graphics.type not in (GraphicsType.SPICE, GraphicsType.SDL, GraphicsType.EGL_HEADLESS, GraphicsType.DBUS):
            graphics.gl = None
        elif graphics.type is not GraphicsType.EGL_HEADLESS and graphics.gl.enable is None:
            raise XmlError("Missing required attribute 'enable' in element 'gl'", domain=ErrorDomain.XML)
        elif graphics.type is GraphicsType.EGL_HEADLESS:
            graphics.gl.enable = None
        elif graphics.type is GraphicsType.SDL:
            graphics.gl.rendernode = None
    if graphics.type not in _LISTENING:
        graphics.listens = []
        return
    _normalize_listens(graphics, flags)
    _normalize_ports(graphics, flags)
    if graphics.type is GraphicsType.SPICE and not (graphics.autoport or graphics.port or graphics.tls_port):
        # a display without a port can only be reached by a socket that is handed over
        listens = graphics.listens
        if listens and listens[0].type is ListenType.ADDRESS:
            listens[0] = Listen(type=ListenType.NONE)


_UNTIL = "%Y-%m-%dT%H:%M:%S"


def _normalize_password(graphics: Graphics) -> None:
    if graphics.passwd is None:
        graphics.passwd_valid_to = graphics.connected = None
        return
    if graphics.passwd_valid_to is not None:
        try:
            datetime.strptime(graphics.passwd_valid_to, _UNTIL)
        except ValueError:
            raise RefusedDocument(
                f"cannot parse password validity time '{graphics.passwd_valid_to}', expect YYYY-MM-DDTHH:MM:SS"
            ) from None
    if graphics.type is GraphicsType.VNC and graphics.connected not in (None, "keep"):
        raise ConfigUnsupported("VNC supports connected='keep' only")


def _normalize_listens(graphics: Graphics, flags: ParseFlags) -> None:
    short = graphics.listen or None
    listens = graphics.listens
    for listen in listens:
        listen.socket = listen.socket or None
        if graphics.type is GraphicsType.RDP and listen.type in (ListenType.NONE, ListenType.SOCKET):
            raise ConfigUnsupported(
                f"listen type '{listen.type.value}' is not available for graphics type '{graphics.type.value}'"
            )
        if listen.network is not None and listen.type is not ListenType.NETWORK:
            raise XmlError("'network' attribute is valid only for listen type 'network'")
        if listen.socket is not None and listen.type is not ListenType.SOCKET:
            raise XmlError("'socket' attribute is valid only for listen type 'socket'")
        if listen.address == "":
            listen.address = None
        if listen.type is ListenType.NETWORK and listen.network is None:
            raise XmlError("'network' attribute is required for listen type 'network'")
        if listen.type is ListenType.ADDRESS and listen.address is None and listen is listens[0]:
            listen.address = short
        if listen.type is ListenType.SOCKET and listen.auto_generated and flags & ParseFlags.INACTIVE:
            listen.socket = None
        if listen.type is ListenType.NETWORK and flags & ParseFlags.INACTIVE:
            listen.address = None
    if listens and short is not None and listens[0].type is ListenType.ADDRESS and listens[0].address != short:
        raise ConfigUnsupported(
            f"graphics 'listen' attribute '{short}' must match 'address' attribute of first listen element "
            f"(found '{listens[0].address or 'none'}')"
        )
    if graphics.type is GraphicsType.VNC and graphics.socket is not None:
        first = Listen(type=ListenType.SOCKET, socket=graphics.socket)
        if listens and listens[0].type is ListenType.SOCKET:
            if listens[0].socket not in (None, graphics.socket):
                raise ConfigUnsupported(
                    f"graphics 'socket' attribute '{graphics.socket}' must match 'socket' attribute of first listen "
                    f"element (found '{listens[0].socket}')"
                )
            listens[0].socket = listens[0].socket or graphics.socket
        elif listens:
            listens[0] = first
        else:
            listens.append(first)
    elif not listens:
        listens.append(Listen(type=ListenType.ADDRESS, address=short))
    # the short forms are written from the first listen
    graphics.listen = graphics.socket = None


def _normalize_ports(graphics: Graphics, flags: ParseFlags) -> None:
    live = bool(flags & ParseFlags.STATUS)
    is_spice = graphics.type is GraphicsType.SPICE
    if graphics.port == -1 and (not is_spice or graphics.tls_port == -1):
        graphics.port = graphics.tls_port = None
        graphics.autoport = True
    if graphics.type is GraphicsType.VNC and graphics.port is None and graphics.autoport is None:
        graphics.autoport = True
    if graphics.autoport and not live:
        graphics.port = graphics.tls_port = None
    if graphics.port == 0:
        graphics.port = None
    if graphics.tls_port == 0:
        graphics.tls_port = None
    graphics.autoport = bool(graphics.autoport)
