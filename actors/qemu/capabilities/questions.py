"""What an emulator is asked about itself, and what its answers mean.

Everything is asked in one write: no question depends on an answer. What an emulator refuses to answer it does not have.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from actors.qemu.capabilities.model import Capabilities, CpuModel, Machine
from actors.qemu.monitor.protocol import Data

Question = tuple[str, Data | None]

ASKED_DEVICES: Final = (
    "virtio-blk-pci",
    "virtio-net-pci",
    "virtio-scsi-pci",
    "scsi-hd",
    "ide-hd",
    "PIIX4_PM",
    "usb-redir",
    "usb-storage",
    "kvm-pit",
    "VGA",
    "vmware-svga",
    "qxl",
    "virtio-gpu-pci",
    "ICH9-LPC",
    "virtio-balloon-pci",
    "intel-iommu",
    "mch",
    "nvdimm",
    "pcie-root-port",
    "usb-host",
    "vhost-user-fs-device",
    "virtio-mem-pci",
    "virtio-iommu-pci",
)
ASKED_OBJECTS: Final = ("memory-backend-file", "memory-backend-memfd", "none-machine")

QUESTIONS: Final[tuple[Question, ...]] = (
    ("query-version", None),
    ("query-target", None),
    ("query-kvm", None),
    ("query-machines", None),
    ("query-cpu-definitions", None),
    ("qom-list-types", None),
    ("query-commands", None),
    ("query-command-line-options", None),
    ("query-tpm-models", None),
    ("query-tpm-types", None),
    ("query-migrate-capabilities", None),
    *(("device-list-properties", {"typename": name}) for name in ASKED_DEVICES),
    *(("qom-list-properties", {"typename": name}) for name in ASKED_OBJECTS),
)
"""Asked of the emulator with KVM if it has it."""

OTHER_QUESTIONS: Final[tuple[Question, ...]] = (("query-cpu-definitions", None),)
"""Asked again of an emulator with KVM, without it."""

_ARCHES: Final = {"i386": "i686", "arm": "armv7l"}


def capabilities_from_answers(
    emulator: str, answers: Sequence[Any], other_answers: Sequence[Any] | None = None
) -> Capabilities:
    """The record that answers to QUESTIONS (None: refused) and, with KVM, to OTHER_QUESTIONS make.

    Raises ValueError when an answer without which nothing can be said is absent or malformed.
    """
    if len(answers) != len(QUESTIONS):
        raise ValueError("not every question was answered or refused")
    named = {name: answer for (name, arguments), answer in zip(QUESTIONS, answers, strict=True) if arguments is None}
    try:
        number = named["query-version"]["qemu"]
        version = (int(number["major"]), int(number["minor"]), int(number["micro"]))
        arch = str(named["query-target"]["arch"])
        machines = tuple(_machine(one) for one in named["query-machines"])
        types = frozenset(str(one["name"]) for one in named["qom-list-types"])
        kvm = bool((named["query-kvm"] or {}).get("enabled"))
        models = _cpu_models(named["query-cpu-definitions"])
        others = models if other_answers is None else _cpu_models(other_answers[0])
        return Capabilities(
            emulator=emulator,
            version=version,
            package=str(named["query-version"].get("package", "")),
            arch=_ARCHES.get(arch, arch),
            kvm=kvm,
            machines=machines,
            cpus={"kvm": models, "qemu": others} if kvm else {"qemu": models},
            types=types,
            commands=frozenset(str(one["name"]) for one in named["query-commands"]),
            options={
                str(one["option"]): frozenset(str(p["name"]) for p in one["parameters"])
                for one in named["query-command-line-options"] or ()
            },
            properties=_properties(answers),
            tpm_models=tuple(named["query-tpm-models"] or ()),
            tpm_types=tuple(named["query-tpm-types"] or ()),
            migration=frozenset(str(one["capability"]) for one in named["query-migrate-capabilities"] or ()),
        )
    except (KeyError, TypeError, AttributeError) as exc:
        raise ValueError(f"'{emulator}' gave an answer that cannot be used: {exc!r}") from exc


def _machine(one: Data) -> Machine:
    return Machine(
        name=str(one["name"]),
        alias=one.get("alias"),
        is_default=bool(one.get("is-default", False)),
        max_cpus=int(one["cpu-max"]),
        hotpluggable_cpus=bool(one.get("hotpluggable-cpus", False)),
        default_cpu=one.get("default-cpu-type"),
        default_ram_id=one.get("default-ram-id"),
        numa_mem=bool(one.get("numa-mem-supported", False)),
        deprecated=bool(one.get("deprecated", False)),
    )


def _cpu_models(answer: Any) -> tuple[CpuModel, ...]:
    return tuple(
        CpuModel(
            name=str(one["name"]),
            typename=str(one.get("typename", "")),
            missing=None if one.get("unavailable-features") is None else tuple(one["unavailable-features"]),
            deprecated=bool(one.get("deprecated", False)),
        )
        for one in answer or ()
    )


def _properties(answers: Sequence[Any]) -> dict[str, frozenset[str]]:
    found = {}
    for (name, arguments), answer in zip(QUESTIONS, answers, strict=True):
        if name in ("device-list-properties", "qom-list-properties") and arguments is not None and answer is not None:
            found[str(arguments["typename"])] = frozenset(str(one["name"]) for one in answer)
    return found
