"""Memory modules: `<memory>` among the devices."""

from enum import StrEnum
from uuid import UUID

from conf.domain.device import Device
from conf.element import Element, Empty, attr, child, flag, size, text
from conf.faults import lacking
from conf.values import UINT, UUID_TEXT, YES_NO, words
from schema.errors import XmlError


class MemoryModel(StrEnum):
    """The kinds of modules."""

    DIMM = "dimm"
    NVDIMM = "nvdimm"
    VIRTIO_PMEM = "virtio-pmem"
    VIRTIO_MEM = "virtio-mem"
    SGX_EPC = "sgx-epc"


class MemoryDeviceSource(Element, tag="source", empty=Empty.OMIT):
    """Where the module's memory comes from."""

    nodemask: str | None = text("nodemask", str, default=None)
    pagesize_kib: int | None = size("pagesize", default=None)
    path: str | None = text("path", str, default=None)
    alignsize_kib: int | None = size("alignsize", default=None)
    pmem: bool = flag("pmem", default=False)


class MemoryLabel(Element, tag="label"):
    """The label area of an NVDIMM."""

    size_kib: int = size("size")


class MemoryDeviceTarget(Element, tag="target"):
    """What the guest sees of the module."""

    size_kib: int = size("size")
    node: int | None = text("node", UINT, default=None)
    label: MemoryLabel | None = child(MemoryLabel, default=None)
    readonly: bool = flag("readonly", default=False)
    block_kib: int | None = size("block", default=None)
    requested_kib: int | None = size("requested", default=None)
    current_kib: int | None = size("current", default=None, live=True)


class MemoryDevice(Device, tag="memory"):
    """A memory module."""

    model: MemoryModel = attr("model", MemoryModel)
    access: str | None = attr("access", words("shared", "private"), default=None)
    discard: bool | None = attr("discard", YES_NO, default=None)
    uuid: UUID | None = text("uuid", UUID_TEXT, default=None)
    source: MemoryDeviceSource | None = child(MemoryDeviceSource, default=None)
    target: MemoryDeviceTarget = child(
        MemoryDeviceTarget, missing=lacking(XmlError, "missing <target> element for <memory> device")
    )
