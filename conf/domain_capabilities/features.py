"""Which features guests can have: `<features>`."""

from __future__ import annotations

from conf.domain_capabilities.support import Support
from conf.element import Element, Empty, attr, child, children, size, text, value
from conf.values import UINT, ULONG, YES_NO


class GicSupport(Support, tag="gic"):
    """The interrupt controller of ARM guests. Choices: `version`."""


class SevSupport(Element, tag="sev"):
    """Encrypted memory of AMD processors."""

    supported: bool = attr("supported", YES_NO)
    cbitpos: int | None = text("cbitpos", UINT, default=None)
    reduced_phys_bits: int | None = text("reducedPhysBits", UINT, default=None)
    max_guests: int | None = text("maxGuests", UINT, default=None)
    max_es_guests: int | None = text("maxESGuests", UINT, default=None)


class SgxSection(Element, tag="section"):
    """Enclave memory of one node of the host."""

    node: int = attr("node", UINT)
    size_kib: int = attr("size", ULONG)
    unit: str = attr("unit", str, default="KiB")


class SgxSupport(Element, tag="sgx"):
    """Enclaves of Intel processors."""

    supported: bool = attr("supported", YES_NO)
    flc: bool | None = text("flc", YES_NO, default=None)
    sgx1: bool | None = text("sgx1", YES_NO, default=None)
    sgx2: bool | None = text("sgx2", YES_NO, default=None)
    section_size_kib: int | None = size("section_size", default=None)
    sections: list[SgxSection] = children(SgxSection, default=[], within="sections")


class HypervSupport(Support, tag="hyperv"):
    """What Windows guests know from their own hypervisor. Choices: `features`."""


class FeatureSupport(Element, tag="features", empty=Empty.OPEN):
    """A feature that a driver says nothing about is None."""

    gic: GicSupport | None = child(GicSupport, default=None)
    vmcoreinfo: bool | None = value("vmcoreinfo", "supported", YES_NO, default=None)
    genid: bool | None = value("genid", "supported", YES_NO, default=None)
    backing_store_input: bool | None = value("backingStoreInput", "supported", YES_NO, default=None)
    backup: bool | None = value("backup", "supported", YES_NO, default=None)
    async_teardown: bool | None = value("async-teardown", "supported", YES_NO, default=None)
    s390_pv: bool | None = value("s390-pv", "supported", YES_NO, default=None)
    sev: SevSupport | None = child(SevSupport, default=None)
    sgx: SgxSupport | None = child(SgxSupport, default=None)
    hyperv: HypervSupport | None = child(HypervSupport, default=None)
