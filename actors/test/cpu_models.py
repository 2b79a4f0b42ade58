"""Processor models: their names, and what several processors have in common."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Final

from actors.runtime.calls import Calls
from actors.test.flags import check_flags
from actors.test.host import TestHost
from conf.cpu import ppc64, x86
from conf.cpu.asked import parse_asked_cpu
from conf.cpu.cpu import CpuMatch, CpuMode, CpuModel, GuestCpu
from conf.cpu.names import MODELS, models_of
from conf.cpu.ppc64 import Ppc64Map, parse_ppc64_map
from conf.cpu.x86_map import X86Map, parse_x86_map
from conf.origin import told_by
from schema.enums.connect import ConnectBaselineCPUFlags as Baseline
from schema.errors import ErrorDomain, OperationFailed, OperationUnsupported, UnsupportedCall

calls: Calls[TestHost] = Calls()

MAP_FOLDER: Final = Path("/usr/share/libvirt/cpu_map")
_X86: Final = ("x86_64", "i686")
_PPC64: Final = ("ppc64", "ppc64le")


@calls.handles()
async def connect_baseline_cpu(
    host: TestHost,
    xmlCPUs: list[str],  # noqa: N803  (the wire's own name)
    flags: int,
) -> str:
    """The processor that several have in common.

    Raises XmlError and XmlDetailError for what is none, OperationFailed when they have nothing in common,
    UnsupportedCall for architectures nobody knows, OperationUnsupported where libvirt's tables are not installed.
    """
    check_flags(flags, Baseline.EXPAND_FEATURES, "testConnectBaselineCPU")
    with told_by(ErrorDomain.CPU):
        asked = [parse_asked_cpu(one, must_be_host=True) for one in xmlCPUs]
        arch = asked[0].arch
        cpus = [one.cpu for one in asked]
        if arch in _X86:
            table = await host.runtime.in_thread(_x86_table)
            cpu = x86.baseline(cpus, table)
            if flags & Baseline.EXPAND_FEATURES:
                x86.expand(cpu, table)
        elif arch in _PPC64:
            cpu = ppc64.baseline(cpus, await host.runtime.in_thread(_ppc64_table))
        elif arch in MODELS:
            cpu = _same(cpus)
        else:
            raise UnsupportedCall(f"cannot compute baseline CPU of {arch} architecture", domain=ErrorDomain.CPU)
    cpu.mode, cpu.match = CpuMode.CUSTOM, CpuMatch.EXACT
    return cpu.to_xml()


def _same(cpus: list[GuestCpu]) -> GuestCpu:
    """The processor of architectures whose models nobody compares: all must have one."""
    names = {one.model.name if one.model is not None else None for one in cpus}
    if len(names) != 1:
        raise OperationFailed("CPUs are incompatible")
    return GuestCpu(model=CpuModel(name=names.pop(), fallback="allow"))


@cache
def _x86_table() -> X86Map:
    return parse_x86_map(_read)


@cache
def _ppc64_table() -> Ppc64Map:
    return parse_ppc64_map(_read)


def _read(name: str) -> bytes:
    try:
        return (MAP_FOLDER / name).read_bytes()
    except FileNotFoundError as exc:
        raise OperationUnsupported(f"there is no table of processor models in '{MAP_FOLDER}'") from exc


@calls.handles()
def connect_get_cpu_model_names(host: TestHost, arch: str, need_results: int, flags: int) -> dict[str, object]:
    """The names of an architecture's models.

    Raises InvalidArguments for an unknown architecture, UnsupportedCall for one without a list.
    """
    check_flags(flags, 0, "testConnectGetCPUModelNames")
    names = models_of(arch)
    return {"models": list(names) if need_results else [], "ret": len(names)}
