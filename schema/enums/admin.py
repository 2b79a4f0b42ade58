"""Enums and flags of the admin program."""

from enum import IntEnum


class ClientTransport(IntEnum):
    """libvirt's `virClientTransport`."""

    UNIX = 0
    TCP = 1
    TLS = 2
