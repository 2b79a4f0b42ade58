"""What a definition gets when its guest starts: aliases, ports of displays, paths of sockets, numbers of images.

The definition becomes the running guest's own: this is what its document then shows.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

from actors.qemu import rules_machine
from actors.qemu.command.blockdev import is_empty, number_images
from actors.qemu.firmware import choose_firmware, load_descriptors
from actors.qemu.processors import Processors, settle_cpu
from actors.qemu.rules import QemuRules
from actors.qemu.rules_devices import align_module
from conf.domain.addresses.mainframe import assign_zpci
from conf.domain.chardev import Channel, CharMode, CharType, UnixSource
from conf.domain.domain import Domain
from conf.domain.graphics import Gl, Graphics, GraphicsType, Listen, ListenType
from conf.domain.memory_device import MemoryModel
from conf.domain.video import VideoType
from conf.values import bytes_per_unit
from schema.errors import ConfigUnsupported


class Ports(Protocol):
    """Hands out ports that nobody listens on."""

    def take(self, purpose: str, first: int, last: int) -> int:
        """A free port. Raises ConfigUnsupported when there is none."""


@dataclass(frozen=True, slots=True)
class Places:
    """The folders and addresses that a start needs."""

    folder: Path
    channels: Path
    vnc_listen: str = "127.0.0.1"
    spice_listen: str = "127.0.0.1"
    vnc_socket: bool = False
    spice_socket: bool = False
    spice_tls: bool = False
    nvram: Path = Path("/var/lib/virtroupe/qemu/nvram")
    firmwares: tuple[Path, ...] = ()
    display_ports: tuple[int, int] = (5900, 65535)
    websocket_ports: tuple[int, int] = (5700, 65535)


def prepare_domain(
    domain: Domain,
    rules: QemuRules,
    places: Places,
    ports: Ports,
    render_node: Callable[[], str],
    *,
    incoming: bool = False,
    processors: Processors | None = None,
) -> None:
    """Completes a definition for its start; one whose guest comes from elsewhere keeps its memory as it was there.

    Raises ConfigUnsupported when the host has no port or render node left to give, or not the processor, and
    CpuIncompatible when that lacks a feature.
    """
    choose_firmware(domain, load_descriptors(places.firmwares) if domain.os.firmware else (), places.nvram)
    if processors is not None:
        settle_cpu(domain, rules.capabilities, processors)
    if rules_machine.is_s390(domain) and rules.capabilities.has("zpci"):
        assign_zpci(domain, bridges=True)
    rules.assign_aliases(domain)
    if not incoming:
        align_memory(domain)
    number_images(domain)
    for channel in domain.devices.channels:
        _place_channel(channel, places)
    for graphics in domain.devices.graphics:
        _place_display(graphics, places, ports, render_node)
    _give_heads(domain)
    for disk in domain.devices.disks:
        if disk.driver is not None and (disk.source is None or is_empty(disk.source)):
            disk.driver.type = None  # a drive without medium has no format


def _give_heads(domain: Domain) -> None:
    for video in domain.devices.videos:
        if video.model.type is not VideoType.NONE and video.model.heads is None:
            video.model.heads = 1


def _place_channel(channel: Channel, places: Places) -> None:
    target = channel.target
    if channel.type is not CharType.UNIX or target is None or target.type != "virtio":
        return
    source = channel.source
    if source is None:
        source = channel.source = UnixSource(mode=CharMode.BIND)
    if not isinstance(source, UnixSource):
        return
    own = places.channels / places.folder.name / (target.name or channel.alias or "channel")
    # what a snapshot was taken of had a folder that is gone
    if source.path is None or (source.mode is CharMode.BIND and Path(source.path).parent.parent == places.channels):
        source.mode = source.mode or CharMode.BIND
        source.path = str(own)


def _place_display(graphics: Graphics, places: Places, ports: Ports, render_node: Callable[[], str]) -> None:
    if graphics.type is GraphicsType.EGL_HEADLESS:
        if graphics.gl is None:
            graphics.gl = Gl()
        if graphics.gl.rendernode is None:
            graphics.gl.rendernode = render_node()
        return
    if graphics.type not in (GraphicsType.VNC, GraphicsType.SPICE):
        return
    if not graphics.listens:
        graphics.listens.append(Listen(type=ListenType.ADDRESS, address=graphics.listen))
    for listen in graphics.listens:
        _place_listen(graphics, listen, places)
    first = graphics.listens[0]
    if first.type in (ListenType.ADDRESS, ListenType.NETWORK):
        _give_ports(graphics, places, ports)
    if graphics.gl is not None and graphics.gl.enable and graphics.gl.rendernode is None:
        graphics.gl.rendernode = render_node()


def _place_listen(graphics: Graphics, listen: Listen, places: Places) -> None:
    is_vnc = graphics.type is GraphicsType.VNC
    wants_socket = places.vnc_socket if is_vnc else places.spice_socket
    name = f"{graphics.type.value}.sock"
    if listen.type is ListenType.ADDRESS:
        if listen.address is None and wants_socket and graphics.listen is None:
            listen.type = ListenType.SOCKET
            listen.socket = str(places.folder / name)
            listen.from_config = 1
        elif listen.address is None:
            listen.address = graphics.listen or (places.vnc_listen if is_vnc else places.spice_listen)
            listen.from_config = 1
    elif listen.type is ListenType.SOCKET and listen.socket is None:
        listen.socket = str(places.folder / name)
        listen.auto_generated = True


def _give_ports(graphics: Graphics, places: Places, ports: Ports) -> None:
    if graphics.type is GraphicsType.VNC:
        if graphics.autoport:
            graphics.port = ports.take("vnc", *places.display_ports)
        if graphics.websocket == -1:
            graphics.websocket = ports.take("websocket", *places.websocket_ports)
            graphics.websocket_generated = True
        return
    wants_plain = wants_tls = False
    if graphics.autoport:
        wants_plain = graphics.default_mode != "secure"
        wants_tls = places.spice_tls and graphics.default_mode != "insecure"
    if graphics.port == -1 or (graphics.autoport and wants_plain):
        graphics.port = ports.take("spice", *places.display_ports)
    if graphics.tls_port == -1 or (graphics.autoport and wants_tls):
        graphics.tls_port = ports.take("spice-tls", *places.display_ports)


def align_memory(domain: Domain) -> None:
    """Rounds memory up to what the machine can have: whole MiB, on POWER whole blocks of 256 MiB."""
    is_power = rules_machine.arch_of(domain) in rules_machine.PPC64
    unit = _BLOCK_KIB if is_power else _MIB_KIB
    cells = domain.cpu.numa.cells if domain.cpu is not None and domain.cpu.numa is not None else []
    modules = sum(one.target.size_kib for one in domain.devices.memories if one.model in _COUNTED)
    for one in domain.devices.memories:
        if is_power:
            align_module(one)
        else:
            one.target.size_kib = _round(one.target.size_kib, _MODULE_KIB)
    aligned = sum(one.target.size_kib for one in domain.devices.memories if one.model in _COUNTED)
    for number, cell in enumerate(cells):
        if cell.memory > _LARGEST_KIB:
            raise ConfigUnsupported(f"memory size of NUMA node '{number}' overflowed after alignment")
        cell.memory = _round(cell.memory * (bytes_per_unit(cell.unit or "KiB") or 1024) // 1024, unit)
        cell.unit = "KiB"
    if domain.max_memory is not None:
        domain.max_memory.kib = _round(domain.max_memory.kib, unit)
    if cells:
        domain.memory.kib = sum(cell.memory for cell in cells) + aligned
        return
    counted = modules if domain.max_memory is not None else 0
    whole = aligned if domain.max_memory is not None else 0
    domain.memory.kib = _round(domain.memory.kib - counted, unit) + whole


def _round(kib: int, unit_kib: int) -> int:
    return -(-kib // unit_kib) * unit_kib


_LARGEST_KIB: Final = (1 << 53) - 1024
_MIB_KIB: Final = 1024
_MODULE_KIB: Final = 2048
_BLOCK_KIB: Final = 256 * 1024
_COUNTED: Final = (MemoryModel.DIMM, MemoryModel.NVDIMM, MemoryModel.VIRTIO_MEM)
