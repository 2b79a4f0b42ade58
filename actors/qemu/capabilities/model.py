"""What one emulator binary can do, as its monitor told it.

A plain record: it is kept on disk, and a test makes it from a recorded dialogue.
"""

from __future__ import annotations

import re
from typing import Final

import msgspec

OLDEST: Final = (6, 2, 0)  # the first that takes -device as JSON
"""The oldest QEMU whose command line this driver writes."""
_OF_THE_HOST: Final = ("host", "max", "base")
_VERSIONED: Final = re.compile(r".*-v\d+\Z").match


class Machine(msgspec.Struct, frozen=True, omit_defaults=True):
    """A machine type."""

    name: str
    alias: str | None = None
    is_default: bool = False
    max_cpus: int = 1
    hotpluggable_cpus: bool = False
    default_cpu: str | None = None
    default_ram_id: str | None = None
    numa_mem: bool = False
    deprecated: bool = False


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
    """Everything that is known of one emulator. `cpus` are by virtualization type, `kvm` and `qemu`."""

    emulator: str
    version: tuple[int, int, int]
    package: str
    arch: str
    kvm: bool
    machines: tuple[Machine, ...]
    cpus: dict[str, tuple[CpuModel, ...]]
    types: frozenset[str]
    commands: frozenset[str]
    options: dict[str, frozenset[str]]
    properties: dict[str, frozenset[str]]
    tpm_models: tuple[str, ...] = ()
    tpm_types: tuple[str, ...] = ()
    migration: frozenset[str] = frozenset()
    flags: frozenset[str] | None = None
    """What the emulator can do in libvirt's words; None where nobody has worked it out."""

    @property
    def number(self) -> int:
        """The version as libvirt counts it."""
        major, minor, micro = self.version
        return major * 1_000_000 + minor * 1_000 + micro

    def has(self, device: str) -> bool:
        """The emulator was built with this device or object."""
        return device in self.types

    def lacks(self, flag: str) -> bool:
        """The emulator certainly cannot do what libvirt calls by this name."""
        return self.flags is not None and flag not in self.flags

    def has_property(self, device: str, name: str) -> bool:
        """The device is there and has this property."""
        return name in self.properties.get(device, ())

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
        preferred = _PREFERRED.get(self.arch)
        found = self.find_machine(preferred) if preferred else None
        if found is None:
            found = next((m for m in self.machines if m.is_default), None)
        return None if found is None else found.name

    def cpu_models(self, virt: str) -> tuple[CpuModel, ...]:
        """The CPU models of a virtualization type."""
        return self.cpus.get(virt, ())


_JSON_FLAGS: Final = {"-device": "device.json+hotplug", "-netdev": "netdev.json", "-object": "object.qapified"}

# QEMU itself has no default there, or one that nobody wants
_PREFERRED: Final = {
    "x86_64": "pc",
    "i686": "pc",
    "aarch64": "virt",
    "armv7l": "virt",
    "riscv64": "virt",
    "riscv32": "virt",
    "s390x": "s390-ccw-virtio",
    "ppc64": "pseries",
    "ppc64le": "pseries",
}
