"""What processor a guest gets on this host: models that depend on the host are settled when the guest starts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from actors.qemu.capabilities.host_model import OF_THE_HOST, HostModels, host_models, usable_models
from actors.qemu.capabilities.model import Capabilities
from actors.qemu.capabilities.model import CpuModel as QemuModel
from conf.cpu import ppc64, x86
from conf.cpu.cpu import CpuCheck, CpuMatch, CpuMode, CpuModel, GuestCpu
from conf.cpu.names import MODELS
from conf.cpu.x86_map import X86Map
from conf.domain.domain import Domain, VirtType
from schema.errors import ConfigUnsupported, CpuIncompatible, UnsupportedCall

_X86 = ("x86_64", "i686")
_PPC64 = ("ppc64", "ppc64le")
_ARM = ("aarch64", "armv7l", "armv6l")


@dataclass(frozen=True, slots=True)
class Processors:
    """What is known of processors: libvirt's tables, where they are installed, and the host's own."""

    x86: X86Map | None = None
    ppc64: ppc64.Ppc64Map | None = None
    host: GuestCpu | None = None
    host_arch: str = "x86_64"
    arm_features: frozenset[str] = frozenset()


def settle_cpu(domain: Domain, caps: Capabilities, processors: Processors) -> None:
    """Settles the processor of a guest that starts: host-model becomes a model with features.

    Raises ConfigUnsupported for a mode or model that the emulator cannot give, CpuIncompatible for what the host lacks.
    """
    cpu = domain.cpu
    arch = domain.os.kind.arch or caps.arch
    if cpu is None:
        return
    if arch not in MODELS and cpu.mode not in (CpuMode.HOST_PASSTHROUGH, CpuMode.MAXIMUM):
        raise UnsupportedCall(f"'{arch}' architecture is not supported by CPU driver")
    if cpu.mode in (None, CpuMode.CUSTOM) and (cpu.model is None or cpu.model.name is None):
        return
    virt = domain.type.value
    is_native = arch == processors.host_arch or (arch in _X86 and processors.host_arch in _X86)
    models = host_models(caps, virt, processors.x86, processors.host if is_native else None)
    _check_mode(domain, arch, cpu, processors, models)
    _check_features(arch, cpu, processors)
    if cpu.mode in (CpuMode.HOST_PASSTHROUGH, CpuMode.MAXIMUM):
        return
    if arch in _PPC64 and processors.host_arch in _PPC64:
        _settle_power(cpu, processors)
    elif arch == "s390x":
        _settle_mainframe(cpu, models)
    elif arch in _X86 and processors.x86 is not None and models is not None:
        _settle_x86(cpu, models, processors.x86, usable_models(caps, virt))
    if arch not in _X86:
        _check_model(cpu, caps.cpu_models(virt))
    if cpu.model is not None and cpu.mode is CpuMode.CUSTOM:
        cpu.model.fallback = "forbid"
    cpu.features = [one for one in cpu.features if one.name not in OF_THE_HOST]


def _check_mode(domain: Domain, arch: str, cpu: GuestCpu, processors: Processors, models: HostModels | None) -> None:
    has_none = models is None and arch not in _X86 and arch != processors.host_arch
    if (cpu.mode is CpuMode.HOST_MODEL and has_none) or (
        cpu.mode is CpuMode.HOST_PASSTHROUGH and domain.type not in (VirtType.KVM, VirtType.HVF)
    ):
        raise ConfigUnsupported(
            f"CPU mode '{cpu.mode}' for {arch} {domain.type} domain on {processors.host_arch} host is not supported "
            "by hypervisor"
        )


def _check_model(cpu: GuestCpu, known: Sequence[QemuModel]) -> None:
    """Another model can stand for one that the emulator does not have only among those of PCs."""
    name = cpu.model.name if cpu.model is not None and cpu.mode in (None, CpuMode.CUSTOM) else None
    if name is None or cpu.model is None or any(one.name == name for one in known):
        return
    if not any(one.typename for one in known):
        return  # that is no emulator's list
    if cpu.model.fallback == "forbid":
        raise ConfigUnsupported(f"CPU model {name} is not supported by hypervisor")
    raise UnsupportedCall(f"cannot translate CPU model {name} to a supported model")


def _check_features(arch: str, cpu: GuestCpu, processors: Processors) -> None:
    for one in cpu.features:
        is_known = True
        if arch in _X86 and processors.x86 is not None:
            is_known = processors.x86.find_feature(one.name) is not None
        elif arch in _ARM and processors.arm_features:
            is_known = one.name in processors.arm_features
        if not is_known:
            raise ConfigUnsupported(f"unknown CPU feature: {one.name}")


def _settle_x86(cpu: GuestCpu, models: HostModels, table: X86Map, usable: x86.Usable) -> None:
    is_known = cpu.mode is CpuMode.HOST_MODEL or (cpu.model is not None and cpu.model.name in table.models)
    if cpu.check is CpuCheck.PARTIAL and is_known:
        verdict, why = x86.compare(models.reported, cpu, table)
        if verdict is x86.Verdict.INCOMPATIBLE:
            raise CpuIncompatible(why)
    if cpu.mode is not CpuMode.HOST_MODEL and cpu.model is not None:
        table.need_model(cpu.model.name or "")
    x86.update(cpu, models.migratable, table)
    if usable:
        x86.translate(cpu, usable, table)


def _settle_power(cpu: GuestCpu, processors: Processors) -> None:
    ppc64.convert_legacy(cpu)
    if processors.ppc64 is None or processors.host is None or cpu.check in (None, CpuCheck.NONE):
        return
    verdict, why = ppc64.compare(processors.host, cpu, processors.ppc64)
    if verdict is x86.Verdict.INCOMPATIBLE:
        raise CpuIncompatible(why)


def _settle_mainframe(cpu: GuestCpu, models: HostModels | None) -> None:
    if cpu.mode is not CpuMode.HOST_MODEL or models is None or models.migratable.model is None:
        return
    wanted = {one.name: one for one in cpu.features}
    cpu.mode, cpu.match = CpuMode.CUSTOM, CpuMatch.EXACT
    cpu.model = CpuModel(name=models.migratable.model.name, fallback="forbid")
    features = {one.name: one for one in models.migratable.features} | wanted
    cpu.features = list(features.values())
