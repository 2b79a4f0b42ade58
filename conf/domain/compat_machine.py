"""What a guest sees of two definitions beside devices: identity, memory, processors, firmware, features, clock."""

from __future__ import annotations

from enum import Enum
from typing import Any

from conf.domain.domain import Domain
from conf.domain.features import Features
from conf.element import Form
from schema.errors import ConfigUnsupported


def check_machine(source: Domain, target: Domain, *, with_current_memory: bool) -> None:
    """Raises ConfigUnsupported for the first difference."""
    _check_identity(source, target)
    _check_memory(source, target, with_current_memory=with_current_memory)
    _check_processors(source, target)
    _check_firmware(source, target)
    _check_features(source, target)
    _check_timers(source, target)
    _check_cpu(source, target)
    _check_sysinfo(source, target)


def text_of(value: Any) -> str:
    """A value as it stands in a message."""
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, Enum):
        return str(value.value)
    return "none" if value is None else str(value)


def _same(noun: str, source: Any, target: Any, quote: str = "") -> None:
    if source != target:
        raise ConfigUnsupported(
            f"Target {noun} {quote}{text_of(target)}{quote} does not match source {quote}{text_of(source)}{quote}"
        )


def _check_identity(source: Domain, target: Domain) -> None:
    _same("domain virt type", source.type, target.type)
    _same("domain uuid", source.uuid, target.uuid)
    _same("domain name", source.name, target.name, "'")
    _same("domain genid", source.genid, target.genid)


def _check_memory(source: Domain, target: Domain, *, with_current_memory: bool) -> None:
    _same("domain max memory", source.memory.kib, target.memory.kib)
    if with_current_memory:
        old, new = source.current_memory_kib, target.current_memory_kib
        _same(
            "domain current memory",
            source.memory.kib if old is None else old,
            target.memory.kib if new is None else new,
        )
    for name, noun in (("slots", "domain memory slots count"), ("kib", "maximum memory size")):
        old, new = getattr(source.max_memory, name, None) or 0, getattr(target.max_memory, name, None) or 0
        if old != new:
            raise ConfigUnsupported(f"Target {noun} '{new}' doesn't match source '{old}'")


def _check_processors(source: Domain, target: Domain) -> None:
    old, new = source.vcpu, target.vcpu
    _same("domain vCPU count", old.current or old.count, new.current or new.count)
    _same("domain vCPU max", old.count, new.count)
    _same("domain iothreads count", source.iothreads or 0, target.iothreads or 0)


def _check_firmware(source: Domain, target: Domain) -> None:
    old, new = source.os.kind, target.os.kind
    _same("domain OS type", old.type, new.type)
    _same("domain architecture", old.arch, new.arch)
    _same("domain machine type", old.machine, new.machine)
    _same("domain SMBIOS mode", source.os.smbios_mode, target.os.smbios_mode)


def _check_features(source: Domain, target: Domain) -> None:
    """Features are on or off, or have parts that are; the names in messages are those of the document."""
    old, new = source.features, target.features
    for one in Features.declared:
        before, after = getattr(old, one.name, None), getattr(new, one.name, None)
        if before == after or (not before and not after):
            continue
        name = one.xml or one.element_classes()[0].tag_name
        if one.form is Form.CHILD:
            parts = one.element_classes()[0].declared
            part = next((it for it in parts if getattr(before, it.name, None) != getattr(after, it.name, None)), None)
            shown = [
                text_of(getattr(it, part.name, None)) if part and not part.classes else _state(it)
                for it in (before, after)
            ]
        else:
            shown = [_state(before), _state(after)]
        raise ConfigUnsupported(f"State of feature '{name}' differs: source: '{shown[0]}', destination: '{shown[1]}'")


def _state(value: Any) -> str:
    if value is None or value is False:
        return "default"
    return text_of(value) if isinstance(value, bool | str | int) else "on"


def _check_timers(source: Domain, target: Domain) -> None:
    """Only the frequency of the time stamp counter and the presence of timers are hardware."""
    before = {one.name: one for one in source.clock.timers}
    after = {one.name: one for one in target.clock.timers}
    for name in sorted(before.keys() | after.keys()):
        old, new = before.get(name), after.get(name)
        was = old.present if old is not None else None
        becomes = new.present if new is not None else None
        if was != becomes:
            raise ConfigUnsupported(
                f"Target timer presence '{text_of(becomes)}' does not match source '{text_of(was)}'"
            )
        if name == "tsc":
            _same("TSC frequency", old.frequency if old else None, new.frequency if new else None)


def _check_cpu(source: Domain, target: Domain) -> None:
    old, new = source.cpu, target.cpu
    if old is None and new is None:
        return
    if old is None or new is None:
        # a processor that is not described is the machine's own
        present = old if old is not None else new
        assert present is not None
        if present.mode is None and present.model is None and present.topology is None and present.numa is None:
            return
        raise ConfigUnsupported("Target CPU does not match source")
    _same("CPU mode", old.mode, new.mode)
    _same("CPU model", old.model.name if old.model else None, new.model.name if new.model else None)
    _same("CPU vendor", old.vendor, new.vendor)
    for name in ("sockets", "dies", "cores", "threads"):
        _same(f"CPU {name}", getattr(old.topology, name, 0), getattr(new.topology, name, 0))
    before = {one.name: one.policy for one in old.features}
    after = {one.name: one.policy for one in new.features}
    if len(before) != len(after):
        raise ConfigUnsupported(f"Target CPU feature count {len(after)} does not match source {len(before)}")
    for name, policy in before.items():
        if name not in after:
            raise ConfigUnsupported(f"Target CPU is missing feature {name}")
        _same(f"CPU feature policy of {name}", policy, after[name])
    cells = [len(one.numa.cells) if one.numa is not None else 0 for one in (old, new)]
    if cells[0] != cells[1]:
        raise ConfigUnsupported(f"Target domain NUMA node count '{cells[1]}' doesn't match source '{cells[0]}'")
    if old.numa is not None and new.numa is not None:
        for number, (this, that) in enumerate(zip(old.numa.cells, new.numa.cells, strict=True)):
            if this.memory != that.memory:
                raise ConfigUnsupported(
                    f"Size of target NUMA node {number} ('{that.memory}') doesn't match source ('{this.memory}')"
                )
            if this.cpus != that.cpus:
                raise ConfigUnsupported(f"Processor mask of target NUMA node {number} doesn't match source")


def _check_sysinfo(source: Domain, target: Domain) -> None:
    if len(source.sysinfos) != len(target.sysinfos):
        raise ConfigUnsupported("Target sysinfo does not match source")
    for old, new in zip(source.sysinfos, target.sysinfos, strict=True):
        _same("sysinfo type", old.type, new.type)
        for block in ("bios", "system", "chassis"):
            before, after = getattr(old, block), getattr(new, block)
            names = [one.name for part in (before, after) if part is not None for one in part.entries]
            for name in names:
                _same(
                    f"sysinfo {block} {name}",
                    before.get(name) if before is not None else None,
                    after.get(name) if after is not None else None,
                )
        if old != new:
            raise ConfigUnsupported("Target sysinfo does not match source")
