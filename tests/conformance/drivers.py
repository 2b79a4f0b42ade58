"""The rules of the driver that a case names, for the host that the corpus takes for granted."""

from __future__ import annotations

from functools import cache
from typing import Any

from lxml import etree

from actors.bhyve.rules import BhyveRules
from actors.lxc.rules import LxcRules
from actors.qemu.capabilities.model import Capabilities, CpuModel, Machine
from actors.qemu.rules import QemuRules
from conf.domain.domain import VirtType
from conf.domain.rules import DomainRules
from tests.shared import need_shared

_ARCHES = {"armv7l": "arm", "armv6l": "arm", "i686": "i386", "ppc64le": "ppc64"}


class CorpusGeneric(DomainRules):
    """A driver without rules on an x86_64 host."""

    default_arch = "x86_64"
    namespaces = frozenset({"lxc"})


class CorpusQemu(QemuRules):
    """QEMU on that host, with the corpus' idea of chance."""

    def random_bytes(self, count: int) -> bytes:
        """0, 1, 2, ..."""
        return bytes(range(count))


class CorpusBhyve(BhyveRules):
    """bhyve, with the corpus' idea of chance."""

    def random_bytes(self, count: int) -> bytes:
        """Zeros."""
        return bytes(count)


def rules_for(case: dict[str, Any]) -> DomainRules:
    """The rules of the case's driver, with the emulator that the case describes."""
    driver = case.get("driver")
    if driver == "lxc":
        return LxcRules()
    if driver == "bhyve":
        return CorpusBhyve(has_many_ports="BHYVE_CAP_AHCI32SLOT" in case.get("bhyve_caps", ()))
    if driver != "qemu":
        return CorpusGeneric()
    gic = "2" if case.get("gic") in ("GIC_NONE", "GIC_V2") else "3"
    is_recorded = "file" in case.get("caps", {})
    accelerators = (VirtType.QEMU, VirtType.KVM) if is_recorded else (VirtType.QEMU, VirtType.KVM, VirtType.HVF)
    return CorpusQemu(
        capabilities_of(case),
        gic=gic,
        state_folder="/tmp/lib",
        channel_folder="/tmp/channel",
        accelerators=accelerators,
    )


def capabilities_of(case: dict[str, Any]) -> Capabilities:
    """The emulator of a case: a recorded one, or one that has what its flags say."""
    caps = case.get("caps", {"mode": "none"})
    arch = case.get("domain", {}).get("arch") or caps.get("arch") or "x86_64"
    if "file" in caps:
        virt = "kvm" if case.get("domain", {}).get("virt_type") == "kvm" else "tcg"
        return _recorded(caps["file"], arch, virt, strip_aliases=caps["mode"] == "latest")
    return _emulator(arch, frozenset(caps.get("flags", ())), (Machine(name="pc"),), {})


def _emulator(
    arch: str, types: frozenset[str], machines: tuple[Machine, ...], cpus: dict[str, tuple[CpuModel, ...]]
) -> Capabilities:
    return Capabilities(
        emulator=f"/usr/bin/qemu-system-{_ARCHES.get(arch, arch)}",
        version=(0, 0, 0),
        package="",
        arch=arch,
        kvm=True,
        machines=machines,
        cpus=cpus,
        types=types,
        commands=frozenset(),
        options={},
        properties={},
        flags=types,
    )


@cache
def _recorded(name: str, arch: str, virt: str, *, strip_aliases: bool) -> Capabilities:
    root = etree.parse(need_shared("corpus", name)).getroot()
    flags = frozenset(node.get("name", "") for node in root.iter("flag"))
    machines: dict[str, Machine] = {}
    for node in root.iter("machine"):
        if node.get("type") != virt:
            continue
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
    models = tuple(
        CpuModel(name=node.get("name", ""), typename=node.get("typename", ""))
        for node in root.iter("cpu")
        if node.get("type") == virt
    )
    # what the file calls TCG, the driver calls by the domain's type
    cpus = {"kvm": models, "qemu": models, "hvf": models}
    return _emulator(arch, flags, tuple(machines.values()), cpus)
