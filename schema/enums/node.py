"""Enums and flags of the host."""

from enum import IntEnum, IntFlag


class NodeAllocPagesFlags(IntFlag):
    """libvirt's `virNodeAllocPagesFlags`."""

    ADD = 0
    SET = 1


class NodeGetCPUStatsAllCPUs(IntEnum):
    """libvirt's `virNodeGetCPUStatsAllCPUs`."""

    ALL_CPUS = -1


class NodeGetMemoryStatsAllCells(IntEnum):
    """libvirt's `virNodeGetMemoryStatsAllCells`."""

    ALL_CELLS = -1


class NodeSuspendTarget(IntEnum):
    """libvirt's `virNodeSuspendTarget`."""

    MEM = 0
    DISK = 1
    HYBRID = 2
