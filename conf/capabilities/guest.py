"""What guests the host can run: `<guest>`, one for each kind of system and architecture."""

from __future__ import annotations

from conf.element import Element, attr, child, children, content, flag, text
from conf.values import ON_OFF, UINT, YES_NO


class MachineType(Element, tag="machine"):
    """A machine; a `canonical` name says that this one is an alias."""

    canonical: str | None = attr("canonical", str, default=None)
    max_cpus: int | None = attr("maxCpus", UINT, default=None)
    deprecated: bool | None = attr("deprecated", YES_NO, default=None)
    name: str = content(str)


class GuestDomain(Element, tag="domain"):
    """A type of virtualization; emulator and machines stand here where they differ from the architecture's."""

    type: str = attr("type", str)
    emulator: str | None = text("emulator", str, default=None)
    loader: str | None = text("loader", str, default=None)
    machines: list[MachineType] = children(MachineType, default=[])


class GuestArch(Element, tag="arch"):
    """An architecture."""

    name: str = attr("name", str)
    wordsize: int = text("wordsize", UINT)
    emulator: str | None = text("emulator", str, default=None)
    loader: str | None = text("loader", str, default=None)
    machines: list[MachineType] = children(MachineType, default=[])
    domains: list[GuestDomain] = children(GuestDomain, default=[])


class Toggle(Element):
    """A feature that is there by default or not, and can be changed or not."""

    default: bool = attr("default", ON_OFF)
    toggle: bool = attr("toggle", YES_NO)


class AcpiToggle(Toggle, tag="acpi"):
    """ACPI tables."""


class ApicToggle(Toggle, tag="apic"):
    """The local interrupt controllers."""


class DiskSnapshotToggle(Toggle, tag="disksnapshot"):
    """Snapshots of disks of running guests."""


class HapToggle(Toggle, tag="hap"):
    """Paging by the processor."""


class GuestFeatures(Element, tag="features"):
    """What such guests can have."""

    pae: bool = flag("pae", default=False)
    nonpae: bool = flag("nonpae", default=False)
    ia64_be: bool = flag("ia64_be", default=False)
    acpi: AcpiToggle | None = child(AcpiToggle, default=None)
    apic: ApicToggle | None = child(ApicToggle, default=None)
    cpuselection: bool = flag("cpuselection", default=False)
    deviceboot: bool = flag("deviceboot", default=False)
    disksnapshot: DiskSnapshotToggle | None = child(DiskSnapshotToggle, default=None)
    hap: HapToggle | None = child(HapToggle, default=None)


class GuestPart(Element, tag="guest"):
    """A kind of guest."""

    os_type: str = text("os_type", str)
    arch: GuestArch = child(GuestArch)
    features: GuestFeatures | None = child(GuestFeatures, default=None)
