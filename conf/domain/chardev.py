"""Character devices: `<serial>`, `<parallel>`, `<console>`, `<channel>`, and the host ends they share with others."""

from enum import StrEnum

from conf.domain.device import Device
from conf.domain.seclabel import SourceSeclabel
from conf.element import Element, Empty, attr, child, children, one_of, value
from conf.faults import lacking, malformed, unsupported
from conf.values import ON_OFF, UINT, WRAPPING, YES_NO, words
from schema.errors import ConfigUnsupported


class CharType(StrEnum):
    """What stands at the host end."""

    NULL = "null"
    VC = "vc"
    PTY = "pty"
    DEV = "dev"
    FILE = "file"
    PIPE = "pipe"
    STDIO = "stdio"
    UDP = "udp"
    TCP = "tcp"
    UNIX = "unix"
    SPICEVMC = "spicevmc"
    SPICEPORT = "spiceport"
    NMDM = "nmdm"
    QEMU_VDAGENT = "qemu-vdagent"
    DBUS = "dbus"


class CharMode(StrEnum):
    """Who waits for whom."""

    BIND = "bind"
    CONNECT = "connect"


class Reconnect(Element, tag="reconnect"):
    """When a client end tries again."""

    enabled: bool | None = attr("enabled", YES_NO, default=None)
    timeout_s: int | None = attr("timeout", UINT, default=None)


class CharSource(Element, tag="source", empty=Empty.OMIT):
    """Any host end that needs an address."""


class PtySource(CharSource, case="pty", empty=Empty.OMIT):
    """A pseudo terminal."""

    path: str | None = attr("path", str, default=None, live=True)
    seclabels: list[SourceSeclabel] = children(
        SourceSeclabel, default=[], shown=lambda self, flags: self.seclabels if self.path and not flags & 2 else []
    )


class PathSource(CharSource, case=("dev", "file", "pipe"), empty=Empty.OMIT):
    """A device, file or pipe."""

    path: str | None = attr("path", str, default=None)
    append: bool | None = attr("append", ON_OFF, default=None)
    seclabels: list[SourceSeclabel] = children(SourceSeclabel, default=[])


class NmdmSource(CharSource, case="nmdm", empty=Empty.OMIT):
    """A null modem pair."""

    master: str | None = attr("master", str, default=None)
    slave: str | None = attr("slave", str, default=None)


class UdpSource(CharSource, case="udp", empty=Empty.OMIT):
    """One direction of a UDP connection."""

    mode: CharMode | None = attr("mode", CharMode, default=None)
    host: str | None = attr("host", str, default=None)
    service: str | None = attr("service", str, default=None)


class TcpSource(CharSource, case="tcp", empty=Empty.OMIT):
    """A TCP connection."""

    mode: CharMode = attr("mode", CharMode, default=CharMode.CONNECT)
    host: str | None = attr("host", str, default=None)
    service: str | None = attr("service", str, default=None)
    tls: bool | None = attr("tls", YES_NO, default=None)
    reconnect: Reconnect | None = child(Reconnect, default=None)


class UnixSource(CharSource, case="unix", empty=Empty.OMIT):
    """A unix socket; without a path the hypervisor chooses one."""

    mode: CharMode | None = attr("mode", CharMode, default=None)
    path: str | None = attr("path", str, default=None)
    reconnect: Reconnect | None = child(Reconnect, default=None)
    seclabels: list[SourceSeclabel] = children(SourceSeclabel, default=[])


class SpicePortSource(CharSource, case=("spiceport", "dbus"), empty=Empty.OMIT):
    """A named channel of a remote display."""

    channel: str | None = attr("channel", str, default=None)


class VdagentSource(CharSource, case="qemu-vdagent", empty=Empty.OMIT):
    """QEMU's own end of the SPICE agent."""

    clipboard_copypaste: bool | None = value("clipboard", "copypaste", YES_NO, default=None, needed=True)
    mouse_mode: str | None = value("mouse", "mode", words("client", "server"), default=None, needed=True)


CHAR_SOURCES = (PtySource, PathSource, NmdmSource, UdpSource, TcpSource, UnixSource, SpicePortSource, VdagentSource)


class CharLog(Element, tag="log"):
    """A copy of what the guest writes."""

    file: str | None = attr("file", str, default=None)
    append: bool | None = attr("append", ON_OFF, default=None)


_PORT = malformed("Invalid port number: {}")
_TARGET_TYPE = unsupported("unknown target type '{}' specified for character device")


class SerialTarget(Element, tag="target"):
    """The serial port in the guest."""

    type: str | None = attr(
        "type",
        words(
            *("none", "isa-serial", "usb-serial", "pci-serial"),
            *("spapr-vio-serial", "system-serial", "sclp-serial", "isa-debug"),
        ),
        default=None,
        bad=_TARGET_TYPE,
    )
    port: int | None = attr("port", WRAPPING, default=None, bad=_PORT)
    model: str | None = value(
        "model",
        "name",
        words(
            *("none", "isa-serial", "usb-serial", "pci-serial", "spapr-vty", "pl011", "sclpconsole"),
            *("sclplmconsole", "16550a", "isa-debugcon"),
        ),
        default=None,
        blank=True,
        bad=unsupported("unknown target model '{}' specified for character device"),
    )


class ParallelTarget(Element, tag="target"):
    """The parallel port in the guest."""

    port: int | None = attr("port", WRAPPING, default=None, bad=_PORT)


class ConsoleTarget(Element, tag="target"):
    """The console in the guest."""

    type: str | None = attr(
        "type",
        words("none", "serial", "xen", "uml", "virtio", "lxc", "openvz", "sclp", "sclplm"),
        default=None,
        bad=_TARGET_TYPE,
    )
    port: int | None = attr("port", WRAPPING, default=None, bad=_PORT)


class ChannelTarget(Element, tag="target"):
    """The channel in the guest: a virtio port by name, or a forwarded address."""

    type: str = attr(
        "type",
        words("none", "guestfwd", "virtio", "xen"),
        missing=lacking(ConfigUnsupported, "unknown target type '(null)' specified for character device"),
        bad=_TARGET_TYPE,
    )
    address: str | None = attr("address", str, default=None)
    port: int | None = attr("port", UINT, default=None)
    name: str | None = attr("name", str, default=None)
    state: str | None = attr("state", str, default=None, live=True)


def shown_end(source: CharSource | None) -> CharSource | None:
    """A socket whose path the hypervisor will choose is not written."""
    return None if isinstance(source, UnixSource) and source.path is None else source


PROTOCOLS = words("raw", "telnet", "telnets", "tls")
"""What is spoken over TCP."""


class CharDevice(Device):
    """What all character devices have. A second `<source>` is UDP's other direction."""

    type: CharType = attr(
        "type",
        CharType,
        default=CharType.PTY,
        bad=unsupported("unknown type presented to host for character device: {}"),
    )
    source: CharSource | None = one_of(
        *CHAR_SOURCES, by_parent="type", default=None, shown=lambda self, flags: shown_end(self.source)
    )
    second_source: UdpSource | None = child(UdpSource, default=None, tag="source")
    protocol: str | None = value("protocol", "type", PROTOCOLS, default=None, bad=unsupported("Unknown protocol '{}'"))
    log: CharLog | None = child(CharLog, default=None)


class Serial(CharDevice, tag="serial"):
    """A serial port."""

    target: SerialTarget | None = child(SerialTarget, default=None)


class Parallel(CharDevice, tag="parallel"):
    """A parallel port."""

    target: ParallelTarget | None = child(ParallelTarget, default=None)


class Console(CharDevice, tag="console"):
    """A console. The first one stands for the first serial port where the guest has serial ports."""

    tty: str | None = attr("tty", str, default=None, live=True)
    target: ConsoleTarget | None = child(ConsoleTarget, default=None)


class Channel(CharDevice, tag="channel"):
    """A channel between host and guest."""

    target: ChannelTarget | None = child(ChannelTarget, default=None)
