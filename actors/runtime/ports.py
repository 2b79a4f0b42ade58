"""What a driver needs of things that other drivers keep: a secret's value, a volume's path, a network's bridge.

A driver asks a port and does not know who answers. Today that is the host's configuration
(`actors/runtime/configured_ports.py`); an actor that keeps secrets, storage or networks answers through the broker.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol
from uuid import UUID


class SecretPort(Protocol):
    """Values of secrets."""

    async def secret_value(self, *, uuid: UUID | None, usage_type: str, usage: str) -> bytes:
        """The value of a secret, named by its UUID, or by its use. Raises NoSuchSecret."""


class VolumePort(Protocol):
    """Where volumes lie."""

    async def volume_path(self, pool: str, volume: str) -> str:
        """The absolute path of a volume. Raises NoSuchStoragePool, NoSuchStorageVol."""


class NetworkPort(Protocol):
    """What networks are on this host."""

    async def network_bridge(self, network: str) -> str:
        """The bridge that a network's guests are joined to. Raises NoSuchNetwork."""


@dataclass(frozen=True, slots=True)
class Ports:
    """The ports of one driver."""

    secrets: SecretPort
    volumes: VolumePort
    networks: NetworkPort
