"""The command line of a definition that nobody starts: nothing is opened or made on the host for it."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from typing import Final

from actors.qemu.capabilities.model import Capabilities
from actors.qemu.command.build import build_command
from actors.qemu.command.launch import Launch
from actors.qemu.host import QemuHost
from actors.qemu.host_options import options_of, places_of
from actors.qemu.prepare import prepare_domain
from actors.qemu.resources import is_optical_drive
from conf.domain.documents import parse_domain
from conf.domain.interface import Interface
from conf.domain.secrets import SecretRef
from conf.domain.storage_source import FileSource, StorageSource, VolumeSource
from conf.domain.vcpu import Placement
from conf.flags import ParseFlags
from schema.errors import InternalError

_FIRST_DESCRIPTOR: Final = 20


class PreviewResources:
    """Stands for a host from which everything could be had."""

    def __init__(self) -> None:
        self._next = _FIRST_DESCRIPTOR

    def _number(self) -> int:
        self._next += 1
        return self._next

    def listen(self, path: str) -> int:
        return self._number()

    def connect(self, purpose: str) -> int:
        return self._number()

    def open_file(self, path: str, *, append: bool) -> int:
        return self._number()

    def open_log(self, path: str, *, append: bool) -> int:
        return self._number()

    def open_device(self, path: str, what: str) -> int:
        return self._number()

    def taps(self, interface: Interface) -> Sequence[int]:
        queues = (interface.driver.queues if interface.driver is not None else None) or 1
        return [self._number() for _ in range(queues)]

    def vhosts(self, interface: Interface, queues: int) -> Sequence[int]:
        return [self._number() for _ in range(queues)]

    def vhost_vsock(self, cid: int | None) -> tuple[int, int]:
        return self._number(), 3 if cid is None else cid

    def vhost_scsi(self) -> int:
        return self._number()

    def secret(self, ref: SecretRef) -> tuple[str, str]:
        return "", ""

    def volume(self, source: VolumeSource) -> StorageSource:
        return FileSource(file=f"{source.pool}/{source.volume}")

    def is_optical(self, path: str) -> bool:
        return is_optical_drive(path)

    def render_node(self) -> str:
        return "/dev/dri/renderD128"

    def scsi_generic(self, adapter: str, bus: int, target: int, unit: int) -> str:
        return "/dev/sg0"

    def fd_group(self, name: str) -> Sequence[int]:
        return [self._number()]

    def seal(self, text: str) -> tuple[str, str]:
        return "", ""

    def passt_socket(self, alias: str) -> str:
        return f"passt-{alias}.socket"

    def tpm_socket(self, alias: str) -> str:
        return f"{alias}.sock"


class PreviewPorts:
    """Every first port is free."""

    def take(self, purpose: str, first: int, last: int) -> int:
        return first


def preview_command(host: QemuHost, caps: Capabilities, xml: str) -> str:
    """The words of the command line, quoted for a shell. Raises XmlError, ConfigUnsupported."""
    rules = host.rules(caps)
    domain = parse_domain(xml, rules, ParseFlags.INACTIVE | ParseFlags.ABI_UPDATE)
    tune = domain.numatune
    if tune is not None and tune.memory is not None and tune.memory.placement is Placement.AUTO:
        raise InternalError("Advice from numad is needed in case of automatic numa placement")
    folder = host.run_folder / f"domain--1-{domain.name[:20]}"
    resources = PreviewResources()
    places = places_of(host, folder)
    processors = host.emulators.processors()
    prepare_domain(domain, rules, places, PreviewPorts(), resources.render_node, processors=processors)
    line = build_command(Launch(domain, caps, options_of(host), folder, resources, _FIRST_DESCRIPTOR))
    words = [f"{name}={shlex.quote(value)}" for name, value in line.environment.items()]
    return " ".join([*words, *(shlex.quote(word) for word in line.words)]) + "\n"
