"""What a definition needs of other drivers, asked of their ports before a guest gets it: secrets, volumes, bridges.

A secret's value never stands on a command line or in a monitor's log: QEMU gets it encrypted with a key of the guest,
which lies in a file that only the guest's user reads.
"""

from __future__ import annotations

import base64
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final
from uuid import UUID

from actors.qemu.command.launch import MASTER_KEY, Options, secret_of
from actors.runtime.ports import Ports
from conf.domain.chardev import TcpSource
from conf.domain.graphics import Graphics, GraphicsType
from conf.domain.interface import NetworkSource
from conf.domain.secrets import Auth, Encryption, SecretRef
from conf.domain.storage_source import BlockSource, FileSource, Protocol, StorageSource, VolumeSource
from conf.domain.storage_source import NetworkSource as ImageOnServer
from conf.element import Element
from schema.errors import ConfigUnsupported, HostSystemError

KEY_BYTES: Final = 32
_BLOCK: Final = 16
_OF_VOLUMES: Final = "volume"
_OF_KEYS: Final = "tls"


@dataclass(frozen=True, slots=True)
class Needs:
    """What ports have answered for one start, or for one device."""

    key_file: Path
    secrets: dict[str, bytes] = field(default_factory=dict)
    volumes: dict[tuple[str, str], StorageSource] = field(default_factory=dict)

    def sealed(self, ref: SecretRef) -> tuple[str, str]:
        """A secret's value as QEMU takes it, and its initialization vector; both in base64.

        Raises ConfigUnsupported for a secret that nobody asked for, HostSystemError without the guest's key.
        """
        value = self.secrets.get(_name(ref))
        if value is None:
            raise ConfigUnsupported(f"secret '{ref.uuid or ref.usage}' is not available")
        return self._seal(value)

    def sealed_text(self, text: str) -> tuple[str, str]:
        """A text as QEMU takes secrets, in the same form. Raises HostSystemError without the guest's key."""
        return self._seal(text.encode())

    def _seal(self, value: bytes) -> tuple[str, str]:
        try:
            key = self.key_file.read_bytes()
        except OSError as exc:
            raise HostSystemError(exc.errno or 0, f"cannot read '{self.key_file}'") from exc
        return seal(value, key, os.urandom(_BLOCK))

    def volume(self, source: VolumeSource) -> StorageSource:
        """Where a volume lies. Raises ConfigUnsupported for one that nobody asked for."""
        found = self.volumes.get((source.pool, source.volume))
        if found is None:
            raise ConfigUnsupported(f"storage pool '{source.pool}' is not available")
        return found


async def ask_ports(part: Element, ports: Ports, folder: Path, options: Options) -> Needs:
    """Asks for all that a definition, or a device, needs; bridges of networks are written into it.

    Certificates whose keys have a password are named by the options.

    Raises NoSuchSecret, NoSuchStoragePool, NoSuchStorageVol, NoSuchNetwork.
    """
    needs = Needs(folder / MASTER_KEY)
    for element in elements_of(part):
        if isinstance(element, Auth) and element.secret is not None:
            await _ask_secret(needs, ports, element.secret, element.secret.type or "")
        elif isinstance(element, Encryption):
            for ref in element.secrets:
                await _ask_secret(needs, ports, ref, _OF_VOLUMES)
        elif isinstance(element, VolumeSource):
            path = await ports.volumes.volume_path(element.pool, element.volume)
            is_device = path.startswith("/dev/")
            place = BlockSource(dev=path) if is_device else FileSource(file=path)
            needs.volumes[element.pool, element.volume] = place
        elif isinstance(element, NetworkSource) and element.bridge is None:
            element.bridge = await ports.networks.network_bridge(element.network)
        if key := _key_of(element, options):
            await _ask_secret(needs, ports, secret_of(key), _OF_KEYS)
    return needs


async def ask_key(ports: Ports, folder: Path, uuid: str) -> tuple[str, str]:
    """The password of a certificate's key as QEMU takes it for the guest with that folder, and its vector.

    Raises NoSuchSecret, HostSystemError without the guest's key.
    """
    needs, ref = Needs(folder / MASTER_KEY), secret_of(uuid)
    await _ask_secret(needs, ports, ref, _OF_KEYS)
    return needs.sealed(ref)


def _key_of(element: Element, options: Options) -> str:
    """The secret of the certificates that an element is served with, or goes to its server with; empty without."""
    if isinstance(element, Graphics) and element.type is GraphicsType.VNC and options.vnc_tls:
        return options.vnc_tls_secret
    if isinstance(element, TcpSource) and (options.chardev_tls if element.tls is None else element.tls):
        return options.chardev_tls_secret
    if isinstance(element, ImageOnServer) and element.protocol is Protocol.NBD:
        return options.nbd_tls_secret if (options.nbd_tls if element.tls is None else element.tls) else ""
    return ""


def elements_of(part: Element) -> Iterator[Element]:
    """An element and all below it."""
    waiting = [part]
    while waiting:
        element = waiting.pop()
        yield element
        for value in vars(element).values():
            if isinstance(value, Element):
                waiting.append(value)
            elif isinstance(value, list):
                waiting += [item for item in value if isinstance(item, Element)]


def seal(value: bytes, key: bytes, vector: bytes) -> tuple[str, str]:
    """Encrypts as QEMU's `secret` objects expect: AES-256 in CBC mode with PKCS #7 padding, both results in base64."""
    from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

    padding = _BLOCK - len(value) % _BLOCK
    encryptor = Cipher(algorithms.AES(key), modes.CBC(vector)).encryptor()
    data = encryptor.update(value + bytes([padding]) * padding) + encryptor.finalize()
    return base64.b64encode(data).decode(), base64.b64encode(vector).decode()


def _name(ref: SecretRef) -> str:
    return str(ref.uuid) if ref.uuid is not None else f"usage {ref.usage}"


async def _ask_secret(needs: Needs, ports: Ports, ref: SecretRef, usage_type: str) -> None:
    uuid: UUID | None = ref.uuid
    needs.secrets[_name(ref)] = await ports.secrets.secret_value(
        uuid=uuid, usage_type=usage_type, usage=ref.usage or ""
    )
