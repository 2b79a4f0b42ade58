"""Emulators that are not installed: what they can do, from recorded dialogues, libvirt's files, or flags alone."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, Final

import msgspec

from actors.qemu.capabilities.libvirt_file import parse_capability_file
from actors.qemu.capabilities.model import Capabilities, CpuModel, Machine
from actors.qemu.capabilities.questions import (
    OTHER_QUESTIONS,
    QUESTIONS,
    capabilities_from_answers,
    follow_up,
    key_of,
)
from tests.shared import need_shared

PROGRAMS: Final = {"armv7l": "arm", "armv6l": "arm", "i686": "i386", "ppc64le": "ppc64"}
"""The emulators whose names are not those of the architectures."""


def recorded_answers(path: Path) -> list[tuple[str, Any, Any]]:
    """Each command of a recorded dialogue: name, arguments, and its value (None: refused)."""
    text = path.read_text(encoding="utf-8")
    decoder, values, place = json.JSONDecoder(), [], 0
    while (place := _skip_blanks(text, place)) < len(text):
        value, place = decoder.raw_decode(text, place)
        values.append(value)
    pairs = zip(values[::2], values[1::2], strict=True)
    return [(asked["execute"], asked.get("arguments"), said.get("return")) for asked, said in pairs]


def _skip_blanks(text: str, place: int) -> int:
    while place < len(text) and text[place].isspace():
        place += 1
    return place


def capabilities_of_dialogue(path: Path, emulator: str) -> Capabilities:
    """What the emulator of a recorded dialogue can do; the second handshake in it is without KVM."""
    found: list[dict[str, Any]] = []
    for name, arguments, value in recorded_answers(path):
        if name == "qmp_capabilities":
            found.append({})
        found[-1].setdefault(key_of((name, arguments)), value)
    answers = [found[0].get(key_of(question)) for question in QUESTIONS]
    others = [found[-1].get(key_of(question)) for question in OTHER_QUESTIONS]
    more = {(asked[1] or {})["typename"]: found[0].get(key_of(asked)) for asked in follow_up(answers)}
    return capabilities_from_answers(emulator, answers, others, more)


@cache
def capabilities_of_file(name: str, *, strip_aliases: bool) -> Capabilities:
    """The capabilities of one of libvirt's files; without aliases each of them is a machine of its own."""
    caps = parse_capability_file(need_shared("corpus", name).read_bytes())
    if not strip_aliases:
        return caps
    return msgspec.structs.replace(caps, machines=tuple(_unaliased(caps.machines)))


def _unaliased(machines: tuple[Machine, ...]) -> Iterator[Machine]:
    for machine in machines:
        yield msgspec.structs.replace(machine, alias=None)
        if machine.alias is not None:
            yield msgspec.structs.replace(machine, name=machine.alias, alias=None)


def capabilities_of(case: dict[str, Any]) -> Capabilities:
    """The emulator of a case: a recorded one, or one that has what its flags say."""
    caps = case.get("caps", {"mode": "none"})
    if "file" in caps:
        found = capabilities_of_file(caps["file"], strip_aliases=caps["mode"] == "latest")
        return msgspec.structs.replace(found, flags=found.flags | set(caps.get("extra_flags", ())))
    arch = case.get("domain", {}).get("arch") or caps.get("arch") or "x86_64"
    skips_old = "FLAG_SKIP_LEGACY_CPUS" in case.get("test_flags", ())
    return capabilities_of_flags(arch, frozenset(caps.get("flags", ())), skips_old_cpus=skips_old)


_OF_ARCHITECTURE: Final = {
    "x86_64": frozenset({"no-acpi", "no-hpet"}),
    "i686": frozenset({"no-acpi", "no-hpet"}),
    "aarch64": frozenset({"no-acpi"}),
}
"""The flags that follow from the architecture alone."""
_MACHINES: Final = {
    "i686": ("pc",),
    "x86_64": ("pc", "isapc", "pc-q35-2.3", "pc-q35-2.4", "q35", "pc-i440fx-2.1"),
    "aarch64": ("virt", "virt-2.6", "versatilepb"),
    "armv7l": ("vexpress-a9", "vexpress-a15", "versatilepb", "virt"),
    "ppc64": ("pseries",),
    "ppc": ("ppce500", "g3beige", "mac99", "prep"),
    "riscv32": ("virt", "sifive_e", "spike_v1.10"),
    "riscv64": ("virt", "sifive_e", "spike_v1.10"),
    "s390x": ("s390-ccw-virtio", "s390-ccw"),
    "sparc": ("SS-5",),
}


_PC_MODELS: Final = (
    *("Opteron_G3", "Opteron_G2", "Opteron_G1", "Nehalem", "Penryn", "Conroe", "Haswell-noTSX", "Haswell"),
)
_OLD_PC_MODELS: Final = (
    *("n270", "athlon", "pentium3", "pentium2", "pentium", "486", "coreduo", "kvm32", "qemu32", "kvm64", "core2duo"),
    *("phenom", "qemu64"),
)
_MODELS: Final = {
    "x86_64": _PC_MODELS,
    "i686": _PC_MODELS,
    "aarch64": ("cortex-a9", "cortex-a15", "cortex-a57"),
    "armv7l": ("cortex-a9", "cortex-a15", "cortex-a57"),
    "ppc64": ("POWER8", "POWER7"),
    "s390x": ("z990", "zEC12", "z13"),
}


@cache
def capabilities_of_flags(arch: str, flags: frozenset[str], *, skips_old_cpus: bool = False) -> Capabilities:
    """An emulator of no version that has nothing but the flags, with a machine or two as libvirt's tests give it."""
    arch = {"ppc64le": "ppc64", "armv6l": "armv7l"}.get(arch, arch)
    models = _MODELS.get(arch, ())
    if models is _PC_MODELS and not skips_old_cpus:
        models += _OLD_PC_MODELS
    names = _MACHINES.get(arch, ("pc",))
    machines = tuple(Machine(name=name, numa_mem=True, is_default=name == names[0]) for name in names)
    return Capabilities(
        emulator=f"/usr/bin/qemu-system-{PROGRAMS.get(arch, arch)}",
        version=(0, 0, 0),
        package="",
        arch=arch,
        kvm=True,
        machines=machines,
        cpus={virt: tuple(CpuModel(name=name, typename="") for name in models) for virt in ("kvm", "qemu")},
        flags=flags | _OF_ARCHITECTURE.get(arch, frozenset()),
    )
