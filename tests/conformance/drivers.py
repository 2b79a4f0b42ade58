"""The rules of the driver that a case names, for the host that the corpus takes for granted."""

from __future__ import annotations

from functools import cache
from typing import Any

from lxml import etree

from actors.qemu.capabilities.model import Capabilities, Machine
from actors.qemu.rules import QemuRules
from conf.domain.rules import DomainRules
from tests.shared import need_shared

_ARCHES = {"armv7l": "arm", "armv6l": "arm", "i686": "i386", "ppc64le": "ppc64"}


class CorpusGeneric(DomainRules):
    """A driver without rules on an x86_64 host."""

    default_arch = "x86_64"


def rules_for(case: dict[str, Any]) -> DomainRules:
    """The rules of the case's driver, with the emulator that the case describes."""
    if case.get("driver") != "qemu":
        return CorpusGeneric()
    return QemuRules(capabilities_of(case))


def capabilities_of(case: dict[str, Any]) -> Capabilities:
    """The emulator of a case: a recorded one, or one that has what its flags say."""
    caps = case.get("caps", {"mode": "none"})
    arch = case.get("domain", {}).get("arch") or caps.get("arch") or "x86_64"
    if "file" in caps:
        return _recorded(caps["file"], arch, strip_aliases=caps["mode"] == "latest")
    return _emulator(arch, frozenset(caps.get("flags", ())), ())


def _emulator(arch: str, types: frozenset[str], machines: tuple[Machine, ...]) -> Capabilities:
    return Capabilities(
        emulator=f"/usr/bin/qemu-system-{_ARCHES.get(arch, arch)}",
        version=(0, 0, 0),
        package="",
        arch=arch,
        kvm=True,
        machines=machines,
        cpus={},
        types=types,
        commands=frozenset(),
        options={},
        properties={},
    )


@cache
def _recorded(name: str, arch: str, *, strip_aliases: bool) -> Capabilities:
    root = etree.parse(need_shared("corpus", name)).getroot()
    flags = frozenset(node.get("name", "") for node in root.iter("flag"))
    machines: dict[str, Machine] = {}
    for node in root.iter("machine"):
        machine = Machine(
            name=node.get("name", ""),
            alias=None if strip_aliases else node.get("alias"),
            is_default=node.get("default") == "yes",
            default_cpu=node.get("defaultCPU"),
        )
        machines.setdefault(machine.name, machine)
        alias = node.get("alias")
        if strip_aliases and alias is not None:
            machines.setdefault(
                alias, Machine(name=alias, is_default=machine.is_default, default_cpu=machine.default_cpu)
            )
    return _emulator(arch, flags, tuple(machines.values()))
