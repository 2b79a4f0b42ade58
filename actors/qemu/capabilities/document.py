"""The capabilities document: the host, and for each architecture what its emulator can run."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from actors.qemu.capabilities.host_processor import HostProcessor
from actors.qemu.capabilities.model import Capabilities, Machine
from actors.qemu.capabilities.store import host_arch
from actors.runtime.host_facts.host_part import read_host_part
from conf.capabilities import documents
from conf.capabilities.documents import HostCapabilities
from conf.capabilities.guest import (
    AcpiToggle,
    ApicToggle,
    DiskSnapshotToggle,
    GuestArch,
    GuestDomain,
    GuestFeatures,
    GuestPart,
    MachineType,
)
from conf.capabilities.host import SecurityModel

_IS_WIDE: Final = ("alpha", "s390x")  # besides those that have it in their names
_TRANSPORTS: Final = ("tcp", "rdma")


def write_capabilities(emulators: Sequence[Capabilities], processor: HostProcessor | None = None) -> str:
    """The document, as libvirt's clients read it. Raises HostSystemError."""
    host = read_host_part(host_arch(), transports=_TRANSPORTS, security_models=[SecurityModel(model="none", doi="0")])
    if processor is not None and host.cpu is not None:
        processor.describe(host.cpu)
    return documents.write_capabilities(HostCapabilities(host=host, guests=[guest_part(caps) for caps in emulators]))


def guest_part(caps: Capabilities) -> GuestPart:
    """What guests of one architecture can have."""
    machines = [machine for machine in caps.machines if machine.name != "none"]
    types = ["qemu", "kvm"] if caps.kvm else ["qemu"]
    return GuestPart(
        os_type="hvm",
        arch=GuestArch(
            name=caps.arch,
            wordsize=64 if "64" in caps.arch or caps.arch in _IS_WIDE else 32,
            emulator=caps.emulator,
            machines=[entry for one in machines for entry in _entries(one)],
            domains=[GuestDomain(type=one) for one in types],
        ),
        features=_features(caps.arch),
    )


def _features(arch: str) -> GuestFeatures:
    is_x86 = arch in ("x86_64", "i686")
    return GuestFeatures(
        pae=arch == "i686",
        nonpae=arch == "i686",
        acpi=AcpiToggle(default=True, toggle=True) if is_x86 or arch == "aarch64" else None,
        apic=ApicToggle(default=True, toggle=False) if is_x86 else None,
        cpuselection=True,
        deviceboot=True,
        disksnapshot=DiskSnapshotToggle(default=True, toggle=False),
    )


def _entries(machine: Machine) -> list[MachineType]:
    return [_machine(machine), _alias(machine)] if machine.alias else [_machine(machine)]


def _machine(machine: Machine) -> MachineType:
    return MachineType(name=machine.name, max_cpus=machine.max_cpus, deprecated=machine.deprecated or None)


def _alias(machine: Machine) -> MachineType:
    return MachineType(name=machine.alias or "", canonical=machine.name, max_cpus=machine.max_cpus)
