"""The named processor that comes nearest to the host's, for guests that ask for `host-model`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from actors.qemu.capabilities.model import Capabilities, HostCpu
from conf.cpu.cpu import CpuFeature, CpuMatch, CpuMode, CpuModel, FeaturePolicy, GuestCpu
from conf.cpu.x86 import Usable, data_of_properties, decode
from conf.cpu.x86_map import X86Map

_NAMES: Final = {
    "cmp-legacy": "cmp_legacy",
    "ds-cpl": "ds_cpl",
    "fxsr-opt": "fxsr_opt",
    "kvm-pv-eoi": "kvm_pv_eoi",
    "kvm-pv-unhalt": "kvm_pv_unhalt",
    "lahf-lm": "lahf_lm",
    "nodeid-msr": "nodeid_msr",
    "pclmulqdq": "pclmuldq",
    "perfctr-core": "perfctr_core",
    "perfctr-nb": "perfctr_nb",
    "tsc-adjust": "tsc_adjust",
}
"""QEMU's names of features, and those of documents."""
NAMES_IN_QEMU: Final = {document: name for name, document in _NAMES.items()}
OF_THE_HOST: Final = ("cmt", "mbm_local", "mbm_total", "osxsave", "ospke")
"""Features of the host that guests cannot be given."""
_X86: Final = ("x86_64", "i686")


@dataclass(frozen=True, slots=True)
class HostModels:
    """What is told of the host's processor, and what of it a guest can have that may move to another host."""

    reported: GuestCpu
    migratable: GuestCpu


def properties_of_expansion(properties: Mapping[str, bool | int | str]) -> dict[str, bool | int | str]:
    """A processor's properties under the names of documents."""
    return {_NAMES.get(name, name): value for name, value in properties.items()}


def usable_models(caps: Capabilities, virt: str) -> dict[str, tuple[str, ...]]:
    """The models that an emulator knows, with the features that keep each from being used here."""
    return {one.name: tuple(_NAMES.get(name, name) for name in one.missing or ()) for one in caps.cpu_models(virt)}


def host_models(caps: Capabilities, virt: str, table: X86Map | None, host: GuestCpu | None = None) -> HostModels | None:
    """The host's processor as the emulator tells it; where it tells nothing, as the host does (`host`)."""
    told = caps.host_cpus.get(virt)
    if told is not None and caps.arch == "s390x":
        cpu = _mainframe(told)
        return HostModels(cpu, cpu)
    if told is not None and caps.arch in _X86 and table is not None:
        usable = usable_models(caps, virt)
        if caps.lacks("cpu-unavailable-features"):
            told = _without_msrs(told, table)
        reported = _decoded(told, table, usable, migratable=False)
        return HostModels(reported, _decoded(told, table, usable, migratable=True))
    if host is None or host.model is None:
        return None
    features = [one for one in host.features if one.name not in OF_THE_HOST]
    moving = [one for one in features if not _stays(one.name, table)]
    return HostModels(_as_guest(host, features), _as_guest(host, moving))


def _without_msrs(told: HostCpu, table: X86Map) -> HostCpu:
    """What an emulator tells that does not say which features it cannot give: of registers it knows too little."""
    kept = []
    for one in told.properties:
        feature = table.find_feature(_NAMES.get(one.name, one.name))
        if feature is None or not feature.is_msr:
            kept.append(one)
    return HostCpu(told.model, tuple(kept), told.tells_migratable)


def _stays(name: str, table: X86Map | None) -> bool:
    feature = table.find_feature(name) if table is not None else None
    return feature is not None and not feature.migratable


def _as_guest(host: GuestCpu, features: list[CpuFeature]) -> GuestCpu:
    copies = [CpuFeature(name=one.name, policy=one.policy or FeaturePolicy.REQUIRE) for one in features]
    name = host.model.name if host.model is not None else None
    return GuestCpu(
        mode=CpuMode.CUSTOM,
        match=CpuMatch.EXACT,
        model=CpuModel(name=name, fallback="forbid"),
        vendor=host.vendor,
        features=copies,
    )


def _decoded(told: HostCpu, table: X86Map, usable: Usable, *, migratable: bool) -> GuestCpu:
    properties = {one.name: one.value for one in told.properties if not (migratable and one.migratable is False)}
    cpu = decode(data_of_properties(properties_of_expansion(properties), table), table, usable)
    if migratable and not told.tells_migratable:
        cpu.features = [one for one in cpu.features if not _stays(one.name, table)]
    cpu.mode, cpu.match = CpuMode.CUSTOM, CpuMatch.EXACT
    if cpu.model is not None:
        cpu.model.fallback = "forbid"
    return cpu


def _mainframe(told: HostCpu) -> GuestCpu:
    features = [
        CpuFeature(name=one.name, policy=FeaturePolicy.REQUIRE if one.value else FeaturePolicy.DISABLE)
        for one in told.properties
        if isinstance(one.value, bool)
    ]
    model = CpuModel(name=told.model, fallback="forbid")
    return GuestCpu(mode=CpuMode.CUSTOM, match=CpuMatch.EXACT, model=model, features=features)
