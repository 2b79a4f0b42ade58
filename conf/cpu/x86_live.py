"""What processor a guest really has, by what its emulator says of it once it is there."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

from conf.cpu.cpu import CpuCheck, CpuFeature, CpuMode, FeaturePolicy, GuestCpu
from conf.cpu.x86 import bits_of_cpu
from conf.cpu.x86_map import X86Map
from schema.errors import OperationFailed

_REGISTERS: Final = ("EAX", "EBX", "ECX", "EDX")


def bits_of_words(words: Iterable[Mapping[str, int | str]], table: X86Map) -> int:
    """The features in what QEMU tells of its processor's CPUID, register by register."""
    known = set(table.registers())
    bits = 0
    for one in words:
        key = ("cpuid", int(one["cpuid-input-eax"]), int(one.get("cpuid-input-ecx", 0)))
        if key in known:
            values = [int(one["features"]) if name == one["cpuid-register"] else 0 for name in _REGISTERS]
            bits |= table.bits_in(*key, values)
    return bits


def update_live(cpu: GuestCpu, enabled: int, disabled: int, table: X86Map) -> None:
    """Names in a running guest's processor what it has beyond its definition, and what it lacks.

    `enabled` are the features that it has, `disabled` those that were wanted and cannot be given. Raises
    OperationFailed when the definition insists on being met, RefusedDocument for names that are in no table.
    """
    is_hosts = cpu.mode in (CpuMode.HOST_PASSTHROUGH, CpuMode.MAXIMUM)
    wanted = bits_of_cpu(cpu, table)
    unwanted = bits_of_cpu(cpu, table, FeaturePolicy.DISABLE) if is_hosts else 0
    policies: dict[str, FeaturePolicy | None] = {one.name: one.policy for one in cpu.features}
    added, removed = [], []
    for feature in table.features.values():
        name = feature.name
        is_wanted = feature.bits & ~wanted == 0
        is_there = feature.bits & ~enabled == 0
        is_refused = not is_wanted and (not is_hosts or feature.bits & ~unwanted == 0)
        if is_refused and is_there:
            policies[name] = FeaturePolicy.REQUIRE
            added.append(name)
        elif feature.bits & ~disabled == 0 or (is_wanted and not is_there):
            policies[name] = FeaturePolicy.DISABLE
            removed.append(name)
    if cpu.check is CpuCheck.FULL and (added or removed):
        raise OperationFailed(f"guest CPU doesn't match specification: {_why(added, removed)}")
    cpu.features = [CpuFeature(name=name, policy=policy) for name, policy in policies.items()]
    cpu.check = CpuCheck.FULL


def _why(added: list[str], removed: list[str]) -> str:
    parts = [f"extra features: {','.join(added)}"] if added else []
    parts += [f"missing features: {','.join(removed)}"] if removed else []
    return ", ".join(parts)
