"""Enums and flags of checkpoints of guests."""

from enum import IntFlag


class DomainCheckpointCreateFlags(IntFlag):
    """libvirt's `virDomainCheckpointCreateFlags`."""

    REDEFINE = 1
    QUIESCE = 2
    REDEFINE_VALIDATE = 4


class DomainCheckpointDeleteFlags(IntFlag):
    """libvirt's `virDomainCheckpointDeleteFlags`."""

    CHILDREN = 1
    METADATA_ONLY = 2
    CHILDREN_ONLY = 4


class DomainCheckpointListFlags(IntFlag):
    """libvirt's `virDomainCheckpointListFlags`."""

    DESCENDANTS = 1
    ROOTS = 1
    TOPOLOGICAL = 2
    LEAVES = 4
    NO_LEAVES = 8


class DomainCheckpointXMLFlags(IntFlag):
    """libvirt's `virDomainCheckpointXMLFlags`."""

    SECURE = 1
    NO_DOMAIN = 2
    SIZE = 4
