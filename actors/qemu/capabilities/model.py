"""What one emulator binary can do, as its monitor told it.

A plain record: it is kept on disk, and a test makes it from a recorded dialogue.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

import msgspec

OLDEST: Final = (6, 2, 0)  # the first that takes -device as JSON
"""The oldest QEMU whose command line this driver writes."""
_OF_THE_HOST: Final = ("host", "max", "base")
_VERSIONED: Final = re.compile(r".*-v\d+\Z").match


class Machine(msgspec.Struct, frozen=True, omit_defaults=True):
    """A machine type; `plain_default_cpu` is the processor of guests without KVM where it is another one.

    No processors at most: it is not known how many.
    """

    name: str
    alias: str | None = None
    is_default: bool = False
    max_cpus: int = 0
    hotpluggable_cpus: bool = False
    default_cpu: str | None = None
    plain_default_cpu: str | None = None
    default_ram_id: str | None = None
    numa_mem: bool = False
    deprecated: bool = False

    def cpu_for(self, virt: str) -> str | None:
        """The type of the processor of guests of a virtualization type that ask for none."""
        return self.default_cpu if virt == "kvm" else self.plain_default_cpu or self.default_cpu


class CpuProperty(msgspec.Struct, frozen=True, omit_defaults=True):
    """What the host's processor has under one of QEMU's names; `migratable` is None where QEMU does not tell."""

    name: str
    value: bool | int | str
    migratable: bool | None = None


class HostCpu(msgspec.Struct, frozen=True):
    """The best processor that a guest can have here: a model that never changes, and what is added to it."""

    model: str
    properties: tuple[CpuProperty, ...]
    tells_migratable: bool = False


class Gic(msgspec.Struct, frozen=True):
    """An interrupt controller of ARM, and who provides it."""

    version: int
    kernel: bool
    emulated: bool


class Sev(msgspec.Struct, frozen=True):
    """Encryption of guests by AMD's processors."""

    cbitpos: int
    reduced_phys_bits: int
    pdh: str
    cert_chain: str
    cpu0_id: str | None = None


class Sgx(msgspec.Struct, frozen=True):
    """Intel's enclaves; sizes in KiB by host node."""

    flc: bool
    sgx1: bool
    sgx2: bool
    section_size_kib: int
    sections: tuple[tuple[int, int], ...] = ()


class CpuModel(msgspec.Struct, frozen=True, omit_defaults=True):
    """A CPU model; `missing` are features this host cannot give it, None when QEMU did not say."""

    name: str
    typename: str
    missing: tuple[str, ...] | None = None
    deprecated: bool = False

    @property
    def is_plain(self) -> bool:
        """A model that documents name: no version of one, and not what the host happens to have."""
        return self.name not in _OF_THE_HOST and _VERSIONED(self.name) is None


class Capabilities(msgspec.Struct, frozen=True):
    """Everything that is known of one emulator. CPUs are by virtualization type, `kvm` and `qemu`."""

    emulator: str
    version: tuple[int, int, int]
    package: str
    arch: str
    kvm: bool
    machines: tuple[Machine, ...]
    cpus: dict[str, tuple[CpuModel, ...]]
    flags: frozenset[str]
    tpm_models: tuple[str, ...] = ()
    tpm_types: tuple[str, ...] = ()
    host_cpus: dict[str, HostCpu] = {}
    gics: tuple[Gic, ...] = ()
    sev: Sev | None = None
    sgx: Sgx | None = None
    hyperv: tuple[str, ...] = ()
    """What Windows guests can be given of their own hypervisor, by libvirt's names."""

    @property
    def number(self) -> int:
        """The version as libvirt counts it."""
        major, minor, micro = self.version
        return major * 1_000_000 + minor * 1_000 + micro

    def has(self, flag: str) -> bool:
        """The emulator has what this flag stands for; the flags are named as in libvirt's capability files."""
        return flag in self.flags

    def lacks(self, flag: str) -> bool:
        """The emulator does not have what this flag stands for."""
        return flag not in self.flags

    @property
    def json_options(self) -> frozenset[str]:
        """The options of the command line that are given as JSON."""
        return frozenset(option for option, flag in _JSON_FLAGS.items() if flag in self.flags)

    def find_machine(self, name: str) -> Machine | None:
        """The machine of that name or alias."""
        for machine in self.machines:
            if name in (machine.name, machine.alias):
                return machine
        return None

    def canonical_machine(self, name: str) -> str:
        """The name that an alias stands for."""
        machine = self.find_machine(name)
        return name if machine is None else machine.name

    def default_machine(self) -> str | None:
        """The machine of a guest that names none."""
        found = preferred_machine(self.arch, self.machines)
        return None if found is None else found.name

    def cpu_models(self, virt: str) -> tuple[CpuModel, ...]:
        """The CPU models of a virtualization type."""
        return self.cpus.get(virt, self.cpus.get("qemu", ()))


_JSON_FLAGS: Final = {"-device": "device.json+hotplug", "-netdev": "netdev.json", "-object": "object.qapified"}

_PREFERRED: Final = {
    "aarch64": "integratorcp",
    "alpha": "clipper",
    "armv7l": "integratorcp",
    "cris": "axis-dev88",
    "i686": "pc",
    "m68k": "mcf5208evb",
    "microblaze": "petalogix-s3adsp1800",
    "microblazeel": "petalogix-s3adsp1800",
    "mips": "malta",
    "mips64": "malta",
    "mips64el": "malta",
    "mipsel": "malta",
    "ppc": "g3beige",
    "ppc64": "pseries",
    "riscv32": "spike",
    "riscv64": "spike",
    "s390x": "s390-ccw-virtio",
    "sh4": "shix",
    "sh4eb": "shix",
    "sparc": "SS-5",
    "sparc64": "sun4u",
    "x86_64": "pc",
    "xtensa": "sim",
    "xtensaeb": "sim",
}


def preferred_machine(arch: str, machines: Sequence[Machine]) -> Machine | None:
    """The machine of guests that name none, which stands first in libvirt's lists; it is not QEMU's own default."""
    wanted = _PREFERRED.get(arch)
    real = [one for one in machines if one.name != "none"]
    for one in real:
        if wanted is not None and wanted in (one.name, one.alias):
            return one
    return real[0] if real else None
