"""Enums and flags of typed parameters."""

from enum import IntEnum, IntFlag


class TypedParameterFlags(IntFlag):
    """libvirt's `virTypedParameterFlags`."""

    STRING_OKAY = 4


class TypedParameterType(IntEnum):
    """libvirt's `virTypedParameterType`."""

    INT = 1
    UINT = 2
    LLONG = 3
    ULLONG = 4
    DOUBLE = 5
    BOOLEAN = 6
    STRING = 7
