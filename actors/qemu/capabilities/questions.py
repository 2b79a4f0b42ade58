"""What an emulator is asked about itself, and what its answers mean.

Everything is asked in one write: no question depends on an answer. What an emulator refuses to answer it does not have.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from actors.qemu.capabilities.flags import Answers, flags_from_answers
from actors.qemu.capabilities.model import (
    Capabilities,
    CpuModel,
    CpuProperty,
    Gic,
    HostCpu,
    Machine,
    Sev,
    Sgx,
    preferred_machine,
)
from actors.qemu.capabilities.schema_paths import QmpSchema
from actors.qemu.monitor.protocol import Data

Question = tuple[str, Data | None]

ASKED_DEVICES: Final = (
    *("virtio-blk-pci", "virtio-net-pci", "virtio-scsi-pci", "virtio-blk-ccw", "virtio-net-ccw", "virtio-scsi-ccw"),
    *("vfio-pci", "scsi-hd", "ide-hd", "PIIX4_PM", "usb-redir", "usb-storage", "kvm-pit", "VGA", "vmware-svga", "qxl"),
    *("virtio-gpu-pci", "virtio-gpu-device", "virtio-gpu-ccw", "ICH9-LPC", "virtio-balloon-pci", "virtio-balloon-ccw"),
    *("virtio-balloon-device", "intel-iommu", "spapr-pci-host-bridge", "mch", "nvdimm", "pcie-root-port", "usb-host"),
    *("vhost-user-fs-device", "virtio-mem-pci", "virtio-iommu-pci"),
)
ASKED_OBJECTS: Final = (
    *("memory-backend-file", "memory-backend-memfd", "max-x86_64-cpu", "max-arm-cpu", "none-machine"),
)
VERSIONED_MACHINES: Final = ("pseries", "virt")
"""Machines that are asked for their properties under the name of their newest version."""


def _expansion(kind: str, model: str, **properties: bool) -> Question:
    asked: dict[str, Any] = {"name": model}
    if properties:
        asked["props"] = {name.replace("_", "-"): value for name, value in properties.items()}
    return "query-cpu-model-expansion", {"type": kind, "model": asked}


def _host_cpu_questions(model: str) -> tuple[Question, ...]:
    """A static answer names what never changes; where there is none, what the model has in full is asked."""
    return (_expansion("static", model), _expansion("static", model, migratable=False), _expansion("full", model))


_HYPERV: Final = _expansion("full", "host", migratable=False, hv_passthrough=True)
HYPERV_FEATURES: Final = (
    *("relaxed", "vapic", "spinlocks", "vpindex", "runtime", "synic", "stimer", "reset", "vendor_id", "frequencies"),
    *("reenlightenment", "tlbflush", "ipi", "evmcs", "avic"),
)

QUESTIONS: Final[tuple[Question, ...]] = (
    ("query-version", None),
    ("query-target", None),
    ("query-qmp-schema", None),
    ("query-kvm", None),
    ("query-machines", None),
    ("query-cpu-definitions", None),
    ("qom-list-types", None),
    ("query-commands", None),
    ("query-command-line-options", None),
    ("query-tpm-models", None),
    ("query-tpm-types", None),
    ("query-migrate-capabilities", None),
    ("query-gic-capabilities", None),
    ("query-sev-capabilities", None),
    ("query-sgx-capabilities", None),
    *(("device-list-properties", {"typename": name}) for name in ASKED_DEVICES),
    *(("qom-list-properties", {"typename": name}) for name in ASKED_OBJECTS),
    *_host_cpu_questions("host"),
    _HYPERV,
    *_host_cpu_questions("max"),
)
"""Asked of the emulator with KVM if it has it."""

OTHER_QUESTIONS: Final[tuple[Question, ...]] = (
    ("query-cpu-definitions", None),
    ("query-machines", None),
    *_host_cpu_questions("max"),
)
"""Asked again of an emulator with KVM, without it."""

_POWER: Final = re.compile(r"power(6|7|8|9|10)\Z").match
_ARCHES: Final = {"i386": "i686", "arm": "armv7l"}
_MACHINE: Final = re.compile(r"(pseries|virt)-[\d.]+-machine\Z").match


def key_of(question: Question) -> str:
    """A name for a question and its arguments."""
    return json.dumps(question, sort_keys=True)


def follow_up(answers: Sequence[Any]) -> tuple[Question, ...]:
    """What is asked once the first answers are there: the properties of a machine whose name they tell."""
    machines = answers[QUESTIONS.index(("query-machines", None))] or ()
    names = (str(one["name"]) for one in machines if one.get("alias", one["name"]) in VERSIONED_MACHINES)
    return tuple(("qom-list-properties", {"typename": f"{name}-machine"}) for name in names)


def capabilities_from_answers(
    emulator: str,
    answers: Sequence[Any],
    other_answers: Sequence[Any] | None = None,
    more: Mapping[str, Any] | None = None,
) -> Capabilities:
    """The record that answers to QUESTIONS (None: refused) and, with KVM, to OTHER_QUESTIONS make.

    `more` are answers to `follow_up` by the machine's type. Raises ValueError when an answer without which nothing can
    be said is absent or malformed.
    """
    if len(answers) != len(QUESTIONS):
        raise ValueError("not every question was answered or refused")
    said = {key_of(question): answer for question, answer in zip(QUESTIONS, answers, strict=True)}
    others = said
    if other_answers is not None:
        others = {key_of(question): answer for question, answer in zip(OTHER_QUESTIONS, other_answers, strict=True)}
    named = {name: said[key_of((name, arguments))] for name, arguments in QUESTIONS if arguments is None}
    try:
        number = named["query-version"]["qemu"]
        version = (int(number["major"]), int(number["minor"]), int(number["micro"]))
        arch = str(named["query-target"]["arch"])
        arch = _ARCHES.get(arch, arch)
        kvm = bool((named["query-kvm"] or {}).get("enabled"))
        models = _cpu_models(named["query-cpu-definitions"])
        plain = _cpu_models(others[key_of(("query-cpu-definitions", None))])
        host_cpus = {"kvm": _host_cpu(said, "host", arch)} if kvm else {}
        host_cpus["qemu"] = _host_cpu(others, "max", arch)
        return Capabilities(
            emulator=emulator,
            version=version,
            package=str(named["query-version"].get("package", "")),
            arch=arch,
            kvm=kvm,
            machines=_preferred_first(
                arch, _machines(named["query-machines"], others[key_of(("query-machines", None))])
            ),
            cpus={"kvm": models, "qemu": plain} if kvm else {"qemu": plain},
            flags=flags_from_answers(_answers(named, _properties(said, more or {}), arch, version, kvm=kvm)),
            tpm_models=tuple(named["query-tpm-models"] or ()),
            tpm_types=tuple(named["query-tpm-types"] or ()),
            host_cpus={virt: cpu for virt, cpu in host_cpus.items() if cpu is not None},
            gics=tuple(
                Gic(int(one["version"]), bool(one["kernel"]), bool(one["emulated"]))
                for one in named["query-gic-capabilities"] or ()
            ),
            sev=_sev(named["query-sev-capabilities"]),
            sgx=_sgx(named["query-sgx-capabilities"]),
            hyperv=_hyperv(said.get(key_of(_HYPERV))),
        )
    except (KeyError, TypeError, AttributeError) as exc:
        raise ValueError(f"'{emulator}' gave an answer that cannot be used: {exc!r}") from exc


def _answers(
    named: Mapping[str, Any],
    properties: Mapping[str, frozenset[str]],
    arch: str,
    version: tuple[int, int, int],
    *,
    kvm: bool,
) -> Answers:
    return Answers(
        arch=arch,
        version=version,
        kvm=kvm,
        types=frozenset(str(one["name"]) for one in named["qom-list-types"]),
        commands=frozenset(str(one["name"]) for one in named["query-commands"]),
        properties=properties,
        options={
            str(one["option"]): frozenset(str(p["name"]) for p in one["parameters"])
            for one in named["query-command-line-options"] or ()
        },
        schema=QmpSchema(named["query-qmp-schema"] or ()),
        tpm_types=tuple(named["query-tpm-types"] or ()),
        migration=frozenset(str(one["capability"]) for one in named["query-migrate-capabilities"] or ()),
        sev=named["query-sev-capabilities"] is not None,
        sgx=named["query-sgx-capabilities"] is not None,
    )


def _machines(with_kvm: Any, without: Any) -> Iterator[Machine]:
    plain = {str(one["name"]): one.get("default-cpu-type") for one in without or ()}
    for one in with_kvm:
        yield _machine(one, plain.get(str(one["name"])))


def _preferred_first(arch: str, machines: Iterator[Machine]) -> tuple[Machine, ...]:
    found = list(machines)
    first = preferred_machine(arch, found)
    place = found.index(first) if first is not None else 0
    return (*found[place : place + 1], *found[:place], *found[place + 1 :])


def _machine(one: Data, plain_cpu: str | None) -> Machine:
    cpu = one.get("default-cpu-type")
    return Machine(
        name=str(one["name"]),
        alias=one.get("alias"),
        is_default=bool(one.get("is-default", False)),
        max_cpus=int(one["cpu-max"]),
        hotpluggable_cpus=bool(one.get("hotpluggable-cpus", False)),
        default_cpu=cpu,
        plain_default_cpu=plain_cpu if plain_cpu != cpu else None,
        default_ram_id=one.get("default-ram-id"),
        numa_mem=bool(one.get("numa-mem-supported", False)),
        deprecated=bool(one.get("deprecated", False)),
    )


def _model_name(name: str) -> str:
    """Newer emulators write POWER small."""
    return name.upper() if _POWER(name) else name


def _cpu_models(answer: Any) -> tuple[CpuModel, ...]:
    return tuple(
        CpuModel(
            name=_model_name(str(one["name"])),
            typename=str(one.get("typename", "")),
            missing=None if one.get("unavailable-features") is None else tuple(one["unavailable-features"]),
            deprecated=bool(one.get("deprecated", False)),
        )
        for one in answer or ()
    )


def _properties(said: Mapping[str, Any], more: Mapping[str, Any]) -> dict[str, frozenset[str]]:
    found = {}
    for name in (*ASKED_DEVICES, *ASKED_OBJECTS):
        for command in ("device-list-properties", "qom-list-properties"):
            answer = said.get(key_of((command, {"typename": name})))
            if answer is not None:
                found[name] = frozenset(str(one["name"]) for one in answer)
    for name, answer in more.items():
        match = _MACHINE(name)
        if answer is not None:
            found[f"{match[1]}-machine" if match else name] = frozenset(str(one["name"]) for one in answer)
    return found


def _host_cpu(said: Mapping[str, Any], model: str, arch: str) -> HostCpu | None:
    plain, strict, full = (said.get(key_of(question)) for question in _host_cpu_questions(model))
    is_x86 = arch in ("x86_64", "i686")
    answer = plain if is_x86 or arch == "s390x" else full
    if answer is None:
        return None
    # what is lost when the guest must be able to move is told by the difference of two answers
    migratable = answer["model"].get("props", {})
    everything = strict["model"].get("props", {}) if is_x86 and strict is not None else None
    if everything is None:
        return HostCpu(answer["model"]["name"], tuple(CpuProperty(name, value) for name, value in migratable.items()))
    found = []
    for name, value in everything.items():
        moves = migratable.get(name)
        told = None if value is not True else moves is True
        found.append(CpuProperty(name, value, told))
    return HostCpu(answer["model"]["name"], tuple(found), tells_migratable=True)


def _hyperv(answer: Any) -> tuple[str, ...]:
    properties = answer["model"].get("props", {}) if answer is not None else {}
    found = []
    for name in HYPERV_FEATURES:
        value = properties.get(f"hv-{name.replace('_', '-')}")
        # a number or a text says that there is such a thing, whatever its value
        if value is not None and value is not False:
            found.append(name)
    return tuple(found)


def _sev(answer: Any) -> Sev | None:
    if answer is None:
        return None
    return Sev(
        cbitpos=int(answer["cbitpos"]),
        reduced_phys_bits=int(answer["reduced-phys-bits"]),
        pdh=str(answer["pdh"]),
        cert_chain=str(answer["cert-chain"]),
        cpu0_id=answer.get("cpu0-id"),
    )


def _sgx(answer: Any) -> Sgx | None:
    if answer is None:
        return None
    return Sgx(
        flc=bool(answer["flc"]),
        sgx1=bool(answer["sgx1"]),
        sgx2=bool(answer["sgx2"]),
        section_size_kib=int(answer.get("section-size", 0)) // 1024,
        sections=tuple((int(one["node"]), int(one["size"]) // 1024) for one in answer.get("sections", ())),
    )
