"""Enums and flags of network filters."""

from enum import IntFlag


class NWFilterBindingCreateFlags(IntFlag):
    """libvirt's `virNWFilterBindingCreateFlags`."""

    VALIDATE = 1


class NWFilterDefineFlags(IntFlag):
    """libvirt's `virNWFilterDefineFlags`."""

    VALIDATE = 1
