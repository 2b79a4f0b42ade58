"""How processors compare with what guests can have here, and what several have in common."""

from __future__ import annotations

from typing import Final

from actors.qemu.capabilities.host_model import host_models, properties_of_expansion, usable_models
from actors.qemu.capabilities.model import Capabilities
from actors.qemu.connect import find_emulation
from actors.qemu.flags import check_flags
from actors.qemu.host import QemuHost
from actors.qemu.processors import Processors
from actors.runtime.calls import Calls
from conf.cpu import ppc64, x86
from conf.cpu.asked import AskedCpu, parse_asked_cpu
from conf.cpu.cpu import CpuMatch, CpuMode, CpuModel, GuestCpu
from conf.cpu.names import MODELS, models_of
from conf.cpu.x86 import Verdict
from schema.enums.connect import ConnectBaselineCPUFlags as Baseline
from schema.enums.connect import ConnectCompareCPUFlags as Compare
from schema.enums.connect import CPUCompareResult
from schema.errors import CpuIncompatible, InvalidArguments, OperationFailed, OperationUnsupported, UnsupportedCall

calls: Calls[QemuHost] = Calls()

_X86: Final = ("x86_64", "i686")
_PPC64: Final = ("ppc64", "ppc64le")
_RESULTS: Final = {
    Verdict.INCOMPATIBLE: CPUCompareResult.INCOMPATIBLE,
    Verdict.IDENTICAL: CPUCompareResult.IDENTICAL,
    Verdict.SUPERSET: CPUCompareResult.SUPERSET,
}


@calls.handles()
def connect_get_cpu_model_names(host: QemuHost, arch: str, need_results: int, flags: int) -> dict[str, object]:
    """The names of an architecture's models.

    Raises InvalidArguments for an unknown architecture, UnsupportedCall for one without a list.
    """
    check_flags(flags, 0, "qemuConnectGetCPUModelNames")
    names = models_of(arch)
    return {"models": list(names) if need_results else [], "ret": len(names)}


@calls.handles()
async def connect_compare_cpu(host: QemuHost, xml: str, flags: int) -> int:
    """Whether this host's processor has what another has, or a guest wants.

    Raises CpuIncompatible for one that does not when the caller wants that.
    """
    check_flags(flags, Compare.FAIL_INCOMPATIBLE | Compare.VALIDATE_XML, "qemuConnectCompareCPU")
    asked = parse_asked_cpu(xml, validate=bool(flags & Compare.VALIDATE_XML))
    known = await host.runtime.in_thread(host.emulators.processors)
    return _compared(known.host, asked, known.host_arch, known, flags)


@calls.handles()
async def connect_compare_hypervisor_cpu(
    host: QemuHost,
    emulator: str | None,
    arch: str | None,
    machine: str | None,
    virttype: str | None,
    xmlCPU: str,  # noqa: N803  (the wire's own name)
    flags: int,
) -> int:
    """The same for the processor that an emulator can give to a guest here.

    Raises OperationUnsupported for other architectures than the PC's.
    """
    check_flags(flags, Compare.FAIL_INCOMPATIBLE | Compare.VALIDATE_XML, "qemuConnectCompareHypervisorCPU")
    caps, _, virt = await find_emulation(host, emulator, arch, machine, virttype)
    wanted = arch or caps.arch
    if wanted not in _X86:
        raise OperationUnsupported(f"comparing with the hypervisor CPU is not supported for arch {wanted}")
    asked = parse_asked_cpu(xmlCPU, validate=bool(flags & Compare.VALIDATE_XML))
    known = await host.runtime.in_thread(host.emulators.processors)
    models = host_models(caps, virt, known.x86, known.host)
    return _compared(models.reported if models is not None else None, asked, wanted, known, flags)


def _compared(host: GuestCpu | None, asked: AskedCpu, arch: str, known: Processors, flags: int) -> int:
    verdict, why = _verdict(host, asked, arch, known)
    if verdict is Verdict.INCOMPATIBLE and flags & Compare.FAIL_INCOMPATIBLE:
        raise CpuIncompatible(why)
    return _RESULTS[verdict]


def _verdict(host: GuestCpu | None, asked: AskedCpu, arch: str, known: Processors) -> tuple[Verdict, str]:
    if arch in _PPC64 and known.ppc64 is not None and host is not None:
        ppc64.convert_legacy(asked.cpu)
        return ppc64.compare(host, asked.cpu, known.ppc64)
    if arch not in _X86:
        raise UnsupportedCall(f"cannot compare CPUs of {arch} architecture")
    if host is None or host.model is None or known.x86 is None:
        return Verdict.INCOMPATIBLE, "unknown host CPU"
    if asked.arch not in (None, *_X86):
        return Verdict.INCOMPATIBLE, f"CPU arch {asked.arch} does not match host arch"
    return x86.compare(host, asked.cpu, known.x86, is_guest=asked.is_guest)


@calls.handles()
async def connect_baseline_cpu(
    host: QemuHost,
    xmlCPUs: list[str],  # noqa: N803  (the wire's own name)
    flags: int,
) -> str:
    """The processor that several hosts have in common. Raises OperationFailed when they have nothing."""
    check_flags(flags, Baseline.EXPAND_FEATURES | Baseline.MIGRATABLE, "qemuConnectBaselineCPU")
    asked = [parse_asked_cpu(one, must_be_host=True) for one in xmlCPUs]
    known = await host.runtime.in_thread(host.emulators.processors)
    arch = asked[0].arch or known.host_arch
    if arch in _X86 and known.x86 is not None:
        cpu = x86.baseline([one.cpu for one in asked], known.x86, migratable=bool(flags & Baseline.MIGRATABLE))
    elif arch in _PPC64 and known.ppc64 is not None:
        cpu = ppc64.baseline([one.cpu for one in asked], known.ppc64)
    elif arch in MODELS:
        cpu = _same([one.cpu for one in asked])
    else:
        raise UnsupportedCall(f"cannot compute baseline CPU of {arch} architecture")
    return _written(cpu, arch, known, flags)


@calls.handles()
async def connect_baseline_hypervisor_cpu(
    host: QemuHost,
    emulator: str | None,
    arch: str | None,
    machine: str | None,
    virttype: str | None,
    xmlCPUs: list[str],  # noqa: N803  (the wire's own name)
    flags: int,
) -> str:
    """The processor that guests of an emulator can have on each of several hosts.

    Raises OperationUnsupported for other architectures than the PC's.
    """
    check_flags(flags, Baseline.EXPAND_FEATURES | Baseline.MIGRATABLE, "qemuConnectBaselineHypervisorCPU")
    asked = [parse_asked_cpu(one) for one in xmlCPUs]
    caps, _, virt = await find_emulation(host, emulator, arch, machine, virttype)
    known = await host.runtime.in_thread(host.emulators.processors)
    wanted = arch or caps.arch
    if wanted not in _X86 or known.x86 is None:
        raise OperationUnsupported(f"computing baseline hypervisor CPU is not supported for arch {wanted}")
    usable = usable_models(caps, virt)
    if not usable:
        raise OperationUnsupported(f"QEMU '{caps.emulator}' does not support any CPU models for virttype '{virt}'")
    is_migratable = bool(flags & Baseline.MIGRATABLE)
    features = _features(caps, virt, is_migratable)
    cpus = [one.cpu for one in asked]
    for number, one in enumerate(cpus):
        if one.model is None:
            raise InvalidArguments(f"no CPU model specified at index {number}")
    cpu = x86.baseline(cpus, known.x86, usable, features, migratable=is_migratable and features is None)
    if cpu.model is not None:
        cpu.model.fallback = "forbid"
    return _written(cpu, wanted, known, flags)


def _features(caps: Capabilities, virt: str, is_migratable: bool) -> list[str] | None:
    """The features that the emulator knows of; None where the emulator does not tell."""
    told = caps.host_cpus.get(virt)
    if told is None or (is_migratable and not told.tells_migratable):
        return None
    names = [
        one.name
        for one in told.properties
        if isinstance(one.value, bool) and not (is_migratable and one.migratable is False)
    ]
    return list(properties_of_expansion(dict.fromkeys(names, True)))


def _same(cpus: list[GuestCpu]) -> GuestCpu:
    """The processor of architectures whose models nobody compares: all must have one."""
    names = {one.model.name if one.model is not None else None for one in cpus}
    if len(names) != 1:
        raise OperationFailed("CPUs are incompatible")
    return GuestCpu(model=CpuModel(name=names.pop(), fallback="allow"))


def _written(cpu: GuestCpu, arch: str, known: Processors, flags: int) -> str:
    cpu.mode, cpu.match = CpuMode.CUSTOM, CpuMatch.EXACT
    if flags & Baseline.EXPAND_FEATURES and arch in _X86 and known.x86 is not None:
        x86.expand(cpu, known.x86)
    return cpu.to_xml()
