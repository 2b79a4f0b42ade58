"""The host memory nodes that a guest's memory comes from."""

from enum import StrEnum

from conf.domain.vcpu import Placement
from conf.element import Element, Empty, attr, child, children
from conf.faults import unsupported
from conf.values import UINT


class MemoryMode(StrEnum):
    """How strictly memory comes from the nodes."""

    STRICT = "strict"
    PREFERRED = "preferred"
    INTERLEAVE = "interleave"
    RESTRICTIVE = "restrictive"


class NumaMemory(Element, tag="memory"):
    """The nodes of the whole guest."""

    mode: MemoryMode | None = attr(
        "mode", MemoryMode, default=None, bad=unsupported("Unsupported NUMA memory tuning mode '{}'")
    )
    nodeset: str | None = attr("nodeset", str, default=None)
    placement: Placement | None = attr(
        "placement", Placement, default=None, bad=unsupported("Unsupported NUMA memory placement mode '{}'")
    )


class NumaMemNode(Element, tag="memnode"):
    """The nodes of one guest node."""

    cellid: int = attr("cellid", UINT)
    mode: MemoryMode | None = attr("mode", MemoryMode, default=None)
    nodeset: str | None = attr("nodeset", str, default=None)


class NumaTune(Element, tag="numatune", empty=Empty.OMIT):
    """The host memory nodes of a guest."""

    memory: NumaMemory | None = child(NumaMemory, default=None)
    memnodes: list[NumaMemNode] = children(NumaMemNode, default=[])
