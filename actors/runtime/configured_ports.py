"""Ports answered by the host's configuration: files with secrets, folders of volumes, bridges of networks."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any, Final
from uuid import UUID

from actors.runtime.ports import Ports
from schema.errors import HostSystemError, NoSuchNetwork, NoSuchSecret, NoSuchStoragePool, NoSuchStorageVol

SECRET_BYTES_MAX: Final = 65536  # libvirt's own limit of a secret's value

InThread = Callable[..., Awaitable[Any]]
"""Runs blocking work beside the loop: a folder may be on a server that does not answer."""


class ConfiguredSecrets:
    """`"UUID" = "FILE"` or `"TYPE:USAGE" = "FILE"`; the file holds the value, byte for byte."""

    def __init__(self, files: Mapping[str, str], in_thread: InThread) -> None:
        self._in_thread = in_thread
        self._files = {_canonical(name): Path(path) for name, path in files.items()}

    async def secret_value(self, *, uuid: UUID | None, usage_type: str, usage: str) -> bytes:
        """The value of a secret. Raises NoSuchSecret, HostSystemError."""
        path = self._files.get(str(uuid) if uuid is not None else f"{usage_type}:{usage}")
        if path is None:
            which = f"uuid '{uuid}'" if uuid is not None else f"usage '{usage}'"
            raise NoSuchSecret(f"no secret with matching {which}")
        try:
            value: bytes = await self._in_thread(_read, path)
        except OSError as exc:
            raise HostSystemError(exc.errno or 0, f"cannot read the secret's file '{path}'") from exc
        if len(value) > SECRET_BYTES_MAX:
            raise HostSystemError(27, f"the secret's file '{path}' has more than {SECRET_BYTES_MAX} bytes")
        return value


class ConfiguredVolumes:
    """`POOL = "FOLDER"`: a volume is a file in it."""

    def __init__(self, folders: Mapping[str, str], in_thread: InThread) -> None:
        self._in_thread = in_thread
        self._folders = folders

    async def volume_path(self, pool: str, volume: str) -> str:
        """The path of a volume. Raises NoSuchStoragePool, NoSuchStorageVol."""
        folder = self._folders.get(pool)
        if folder is None:
            raise NoSuchStoragePool(f"no storage pool with matching name '{pool}'")
        if volume in ("", ".", "..") or "/" in volume or "\0" in volume:
            raise NoSuchStorageVol(f"no storage vol with matching name '{volume}'")
        path = Path(folder) / volume
        try:
            await self._in_thread(path.stat)
        except OSError as exc:
            raise NoSuchStorageVol(f"no storage vol with matching name '{volume}'") from exc
        return str(path)


class ConfiguredNetworks:
    """`NETWORK = "BRIDGE"`."""

    def __init__(self, bridges: Mapping[str, str]) -> None:
        self._bridges = bridges

    async def network_bridge(self, network: str) -> str:
        """The bridge of a network. Raises NoSuchNetwork."""
        bridge = self._bridges.get(network)
        if bridge is None:
            raise NoSuchNetwork(f"no network with matching name '{network}'")
        return bridge


def configured_ports(
    secrets: Mapping[str, str], pools: Mapping[str, str], networks: Mapping[str, str], in_thread: InThread
) -> Ports:
    """The ports of a driver whose configuration says this."""
    return Ports(
        ConfiguredSecrets(secrets, in_thread), ConfiguredVolumes(pools, in_thread), ConfiguredNetworks(networks)
    )


def _read(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(SECRET_BYTES_MAX + 1)


def _canonical(name: str) -> str:
    try:
        return str(UUID(name))
    except ValueError:
        return name
