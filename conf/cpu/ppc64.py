"""Working with POWER processors: models are compared by name, and a newer one can be made to look like an older."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from conf.cpu.cpu import CpuMatch, CpuMode, CpuModel, GuestCpu
from conf.cpu.x86 import Verdict
from conf.document import parse_document
from schema.errors import ConfigUnsupported, OperationFailed, RefusedDocument

_LEGACY: Final = {
    "POWER7_v2.1": "POWER7",
    "POWER7_v2.3": "POWER7",
    "POWER7+_v2.1": "POWER7",
    "POWER8_v1.0": "POWER8",
}
_HOST: Final = re.compile(r"POWER(\d+)\Z").match
_COMPATIBLE: Final = re.compile(r"power(\d+)\Z").match
_OLDEST, _NEWEST = 6, 10

Ppc64Map = Mapping[str, str | None]
"""The vendor of each model."""


def parse_ppc64_map(read: Callable[[str], bytes]) -> dict[str, str | None]:
    """The table whose files `read` gives by name, `index.xml` first. Raises XmlError and what `read` raises."""
    found: dict[str, str | None] = {}
    for arch in parse_document(read("index.xml")).iterfind("arch"):
        if arch.get("name") != "ppc64":
            continue
        for include in arch.iterfind("include"):
            for node in parse_document(read(include.get("filename") or "")).iterfind("model"):
                vendor = node.find("vendor")
                found[node.get("name") or ""] = vendor.get("name") if vendor is not None else None
    return found


def convert_legacy(cpu: GuestCpu) -> None:
    """Models were once named with their revision."""
    if cpu.model is not None and cpu.model.name in _LEGACY:
        cpu.model.name = _LEGACY[cpu.model.name]


def _need(name: str | None, table: Ppc64Map) -> str:
    if name not in table:
        raise RefusedDocument(f"Unknown CPU model {name}")
    return name or ""


def compare(host: GuestCpu, cpu: GuestCpu, table: Ppc64Map) -> tuple[Verdict, str]:
    """Whether the host's processor is what is wanted, or can look like it.

    Raises RefusedDocument for models and ways of looking that nobody knows.
    """
    if cpu.vendor is not None and cpu.vendor != host.vendor:
        return Verdict.INCOMPATIBLE, f"host CPU vendor does not match required CPU vendor {cpu.vendor}"
    own = host.model.name if host.model is not None else None
    wanted = cpu.model.name if cpu.model is not None else None
    if cpu.mode is CpuMode.HOST_MODEL:
        return _looks(own, wanted)
    if _need(wanted, table) != _need(own, table):
        return Verdict.INCOMPATIBLE, f"host CPU model does not match required CPU model {wanted}"
    return Verdict.IDENTICAL, ""


def _looks(own: str | None, wanted: str | None) -> tuple[Verdict, str]:
    if wanted is None:
        return Verdict.IDENTICAL, ""
    host = _HOST(own or "")
    if host is None or not _OLDEST <= int(host[1]) <= _NEWEST:
        raise RefusedDocument("Host CPU does not support compatibility modes")
    mode = _COMPATIBLE(wanted)
    if mode is None or not _OLDEST <= int(mode[1]) <= _NEWEST:
        raise RefusedDocument(f"Unknown compatibility mode {wanted}")
    if int(mode[1]) > int(host[1]):
        return Verdict.INCOMPATIBLE, ""
    return Verdict.IDENTICAL, ""


def update(guest: GuestCpu, host: GuestCpu) -> None:
    """Settles what a guest's processor is on a host."""
    guest.mode = guest.mode or CpuMode.CUSTOM
    if guest.mode is CpuMode.CUSTOM:
        guest.match = CpuMatch.EXACT
    elif guest.mode is CpuMode.HOST_MODEL and guest.model is not None and guest.model.name is None:
        guest.model = None


def translate(cpu: GuestCpu, usable: Mapping[str, object]) -> None:
    """Checks that an emulator knows the model. Raises ConfigUnsupported."""
    name = cpu.model.name if cpu.model is not None else None
    if cpu.mode is CpuMode.CUSTOM and name is not None and usable and name not in usable:
        raise ConfigUnsupported(f"CPU model {name} is not supported by hypervisor")


def baseline(cpus: Sequence[GuestCpu], table: Ppc64Map) -> GuestCpu:
    """The processor that all of several are. Raises OperationFailed when they are not the same."""
    names = [_need(one.model.name if one.model is not None else None, table) for one in cpus]
    if len(set(names)) != 1:
        raise OperationFailed("CPUs are incompatible")
    own = table[names[0]]
    vendors = {one.vendor for one in cpus if one.vendor is not None}
    if len(vendors) > 1 or (vendors and own is not None and vendors != {own}):
        raise OperationFailed("CPU vendors do not match")
    return GuestCpu(model=CpuModel(name=names[0], fallback="forbid"))
