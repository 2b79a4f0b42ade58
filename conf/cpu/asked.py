"""Processors that a caller asks about: a host's when they name an architecture, else what a guest wants."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from conf.cpu.cpu import CpuMatch, CpuMode, GuestCpu
from conf.document import parse_document
from schema.errors import ConfigUnsupported, XmlError

_OF_HOSTS: Final = ("arch", "signature", "counter", "microcode", "pages", "topology", "maxphysaddr", "cache")


@dataclass(frozen=True, slots=True)
class AskedCpu:
    """A processor; a guest's has no architecture."""

    cpu: GuestCpu
    arch: str | None = None

    @property
    def is_guest(self) -> bool:
        """It is what a guest wants, not what a host has."""
        return self.arch is None


def parse_asked_cpu(xml: str | bytes, *, must_be_host: bool = False, validate: bool = False) -> AskedCpu:
    """Reads a `<cpu>`.

    Raises XmlError, ConfigUnsupported for a host's that has a guest's mode, with `validate` XmlInvalidSchema.
    """
    node = parse_document(xml, name="CPU_definition", root="cpu", validate=validate)
    arch = (node.findtext("arch") or "").strip() or None
    if arch is not None or must_be_host:
        if node.get("mode") is not None:
            raise ConfigUnsupported("Attribute mode is only allowed for guest CPU")
        if arch is None:
            raise XmlError("Missing CPU architecture")
        for tag in _OF_HOSTS:
            for one in node.findall(tag):
                node.remove(one)
        if not (node.findtext("model") or "").strip():
            raise XmlError("Missing CPU model name")
        return AskedCpu(GuestCpu.parse(node), arch)
    cpu = GuestCpu.parse(node)
    cpu.mode = cpu.mode or CpuMode.CUSTOM
    cpu.match = cpu.match or CpuMatch.EXACT
    return AskedCpu(cpu)
