"""The host's processor: `<cpu>` of capabilities, and what is asked of a host in comparisons."""

from __future__ import annotations

from conf.cpu.cpu import CpuCache, CpuModel, CpuTopology, MaxPhysAddr
from conf.element import Element, attr, child, children, flag, text, value
from conf.faults import lacking
from conf.values import UINT, ULONG, YES_NO
from schema.errors import XmlError


class HostModes(Element, tag="features"):
    """Ways in which the processor can run; told by hosts that do not know their processor's features."""

    pae: bool = flag("pae", default=False)
    nonpae: bool = flag("nonpae", default=False)
    vmx: bool = flag("vmx", default=False)
    svm: bool = flag("svm", default=False)


class CpuSignature(Element, tag="signature"):
    """By what its maker tells a processor from others."""

    family: int = attr("family", UINT)
    model: int = attr("model", UINT)
    stepping: int = attr("stepping", UINT)


class CpuCounter(Element, tag="counter"):
    """A counter that runs at a fixed frequency."""

    name: str = attr("name", str)
    frequency: int = attr("frequency", ULONG)
    scaling: bool | None = attr("scaling", YES_NO, default=None)


class HostFeature(Element, tag="feature"):
    """A feature that the model does not have of itself."""

    name: str = attr("name", str, missing=lacking(XmlError, "Invalid CPU feature name"))


class CpuPages(Element, tag="pages"):
    """A size that memory pages can have."""

    unit: str | None = attr("unit", str, default=None)
    size_kib: int = attr("size", ULONG)


class HostCpu(Element, tag="cpu"):
    """A processor as the host has it."""

    arch: str | None = text("arch", str, default=None)
    modes: HostModes | None = child(HostModes, default=None)
    model: CpuModel | None = child(CpuModel, default=None)
    vendor: str | None = text("vendor", str, default=None)
    microcode: int | None = value("microcode", "version", UINT, default=None)
    signature: CpuSignature | None = child(CpuSignature, default=None)
    counter: CpuCounter | None = child(CpuCounter, default=None)
    topology: CpuTopology | None = child(CpuTopology, default=None)
    cache: CpuCache | None = child(CpuCache, default=None)
    maxphysaddr: MaxPhysAddr | None = child(MaxPhysAddr, default=None)
    features: list[HostFeature] = children(HostFeature, default=[])
    pages: list[CpuPages] = children(CpuPages, default=[])
