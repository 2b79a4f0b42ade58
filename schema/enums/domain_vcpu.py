"""Enums and flags of the state of virtual CPUs."""

from enum import IntEnum


class VcpuHostCpuState(IntEnum):
    """libvirt's `virVcpuHostCpuState`."""

    UNAVAILABLE = -2
    OFFLINE = -1


class VcpuState(IntEnum):
    """libvirt's `virVcpuState`."""

    OFFLINE = 0
    RUNNING = 1
    BLOCKED = 2
