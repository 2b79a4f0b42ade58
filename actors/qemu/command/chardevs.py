"""`-chardev`: the host end of everything that is a stream of bytes."""

from __future__ import annotations

from typing import Protocol

from actors.qemu.command.launch import Launch, secret_of
from actors.qemu.command.line import CommandLine, comma_doubled, on_off
from actors.qemu.command.protocols import secret_object, tls_object
from conf.domain.chardev import (
    CharLog,
    CharMode,
    CharSource,
    CharType,
    PathSource,
    SpicePortSource,
    TcpSource,
    UdpSource,
    UnixSource,
    VdagentSource,
)
from schema.errors import ConfigUnsupported


class HostEnd(Protocol):
    """What serial ports, channels, redirected devices and random number generators have in common."""

    @property
    def type(self) -> CharType | None: ...

    @property
    def source(self) -> CharSource | None: ...

    @property
    def protocol(self) -> str | None: ...


def socket_words(launch: Launch, name: str, path: str, is_server: bool, reconnect_s: int | None = None) -> str:
    """A unix socket: one that listens is made by us, so that clients can connect before QEMU runs."""
    if is_server:
        return f"socket,id={name},fd={launch.host.listen(path)},server=on,wait=off"
    reconnect = f",reconnect={reconnect_s}" if reconnect_s is not None else ""
    return f"socket,id={name},path={comma_doubled(path)}{reconnect}"


def add_chardev(
    launch: Launch, line: CommandLine, end: HostEnd, name: str, alias: str, *, vmc: str = "vdagent"
) -> None:
    """The host end of a device. Raises ConfigUnsupported for a kind that QEMU does not have."""
    if _has_tls(launch, end):
        listens = isinstance(end.source, TcpSource) and end.source.mode is CharMode.BIND
        _add_tls(launch, line, name, "server" if listens else "client")
    log = _log_words(launch, line, end, alias)
    words = _backend(launch, line, end, name, alias, vmc)
    line.add("-chardev", words + log)


def _has_tls(launch: Launch, end: HostEnd) -> bool:
    if end.type is not CharType.TCP or not isinstance(end.source, TcpSource):
        return False
    return launch.options.chardev_tls if end.source.tls is None else end.source.tls


def _add_tls(launch: Launch, line: CommandLine, name: str, endpoint: str) -> None:
    password = None
    if launch.options.chardev_tls_secret:
        password = f"{name}-secret0"
        data, vector = launch.host.secret(secret_of(launch.options.chardev_tls_secret))
        line.add_json("-object", secret_object(password, data, vector))
    options = launch.options
    line.add_json(
        "-object",
        tls_object(f"obj{name}_tls0", options.chardev_tls_folder, endpoint, options.chardev_tls_verify, password),
    )


def _log_words(launch: Launch, line: CommandLine, end: HostEnd, alias: str) -> str:
    log: CharLog | None = getattr(end, "log", None)
    if log is None or log.file is None:
        return ""
    number = launch.next_fdset()
    descriptor = launch.host.open_log(log.file, append=log.append is True)
    line.add("-add-fd", f"set={number},fd={descriptor},opaque={alias}-log")
    # the file was truncated when it was opened, if at all
    return f",logfile=/dev/fdset/{number},logappend=on"


def _backend(launch: Launch, line: CommandLine, end: HostEnd, name: str, alias: str, vmc: str) -> str:
    source = end.source
    match end.type:
        case CharType.NULL | CharType.VC | CharType.PTY | CharType.STDIO:
            return f"{end.type.value},id={name}"
        case CharType.DEV:
            kind = "parallel" if alias.startswith("parallel") else "serial"
            return f"{kind},id={name},path={comma_doubled(_path(source))}"
        case CharType.FILE:
            append = isinstance(source, PathSource) and source.append is True
            number = launch.next_fdset()
            descriptor = launch.host.open_file(_path(source), append=append)
            line.add("-add-fd", f"set={number},fd={descriptor},opaque={alias}-source")
            return f"file,id={name},path=/dev/fdset/{number},append=on"
        case CharType.PIPE:
            return f"pipe,id={name},path={comma_doubled(_path(source))}"
        case CharType.UDP:
            return _udp(end, name)
        case CharType.TCP:
            return _tcp(launch, end, name)
        case CharType.UNIX:
            if not isinstance(source, UnixSource) or source.path is None:
                raise ConfigUnsupported("a unix socket needs a path")
            reconnect = source.reconnect
            timeout = (reconnect.timeout_s or 0) if reconnect is not None else None
            return socket_words(launch, name, source.path, source.mode is not CharMode.CONNECT, timeout)
        case CharType.SPICEVMC:
            return f"spicevmc,id={name},name={vmc}"
        case CharType.SPICEPORT:
            assert isinstance(source, SpicePortSource)
            return f"spiceport,id={name},name={comma_doubled(source.channel or '')}"
        case CharType.QEMU_VDAGENT:
            return _vdagent(source, name)
        case CharType.DBUS:
            assert isinstance(source, SpicePortSource)
            return f"dbus,id={name},name={comma_doubled(source.channel or '')}"
        case _:
            raise ConfigUnsupported(f"unsupported chardev '{end.type}'")


def _path(source: CharSource | None) -> str:
    if not isinstance(source, PathSource) or source.path is None:
        raise ConfigUnsupported("Missing source path attribute for char device")
    return source.path


def _udp(end: HostEnd, name: str) -> str:
    there, here = end.source, getattr(end, "second_source", None)
    # either of the two says what it is: "connect" where it sends, "bind" where it listens
    for one in (end.source, getattr(end, "second_source", None)):
        if isinstance(one, UdpSource) and one.mode is CharMode.BIND:
            here = one
        elif isinstance(one, UdpSource):
            there = one
    if here is there:
        there = None
    host = there.host or "" if isinstance(there, UdpSource) else ""
    port = there.service or "0" if isinstance(there, UdpSource) else "0"
    local_host = here.host or "" if isinstance(here, UdpSource) else ""
    local_port = here.service or "0" if isinstance(here, UdpSource) else "0"
    return (
        f"udp,id={name},host={comma_doubled(host)},port={port},"
        f"localaddr={comma_doubled(local_host)},localport={local_port}"
    )


def _tcp(launch: Launch, end: HostEnd, name: str) -> str:
    source = end.source
    if not isinstance(source, TcpSource):
        raise ConfigUnsupported("a TCP connection needs a host and a service")
    words = f"socket,id={name},host={comma_doubled(source.host or '')},port={source.service or ''}"
    if end.protocol == "telnet":
        words += ",telnet=on"
    if source.mode is CharMode.BIND:
        words += ",server=on,wait=off"
    if _has_tls(launch, end):
        words += f",tls-creds=obj{name}_tls0"
    if source.reconnect is not None:
        words += f",reconnect={source.reconnect.timeout_s or 0}"
    return words


def _vdagent(source: CharSource | None, name: str) -> str:
    clipboard = mouse = False
    if isinstance(source, VdagentSource):
        clipboard = bool(source.clipboard_copypaste)
        mouse = source.mouse_mode == "client"
    words = f"qemu-vdagent,id={name},name=vdagent"
    if isinstance(source, VdagentSource) and source.clipboard_copypaste is not None:
        words += f",clipboard={on_off(clipboard)}"
    if isinstance(source, VdagentSource) and source.mouse_mode is not None:
        words += f",mouse={on_off(mouse)}"
    return words
