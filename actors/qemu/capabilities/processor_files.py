"""libvirt's tables of processors, as its package installs them; a host without them knows no models but QEMU's."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from actors.qemu.processors import Processors
from conf.cpu.ppc64 import parse_ppc64_map
from conf.cpu.x86_map import parse_x86_map
from conf.document import parse_document
from schema.errors import VirtError

FOLDER: Final = Path("/usr/share/libvirt/cpu_map")


def load_processors(folder: Path = FOLDER, host_arch: str = "x86_64") -> Processors:
    """The tables; nothing where they are absent or cannot be read."""

    def read(name: str) -> bytes:
        return (folder / name).read_bytes()

    try:
        arm = frozenset(node.get("name") or "" for node in parse_document(read("arm_features.xml")).iterfind("feature"))
        return Processors(x86=parse_x86_map(read), ppc64=parse_ppc64_map(read), host_arch=host_arch, arm_features=arm)
    except (OSError, ValueError, VirtError):
        return Processors(host_arch=host_arch)
