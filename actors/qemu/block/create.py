"""What QEMU is told to make a new image: its storage, then its format."""

from __future__ import annotations

from typing import Final

from actors.qemu.block.chain import Image
from actors.qemu.block.places import backing_text, place_of
from actors.qemu.command.line import Properties, without_none
from conf.domain.secrets import Encryption
from conf.domain.storage_source import FileSource, NetworkSource, Protocol, StorageSource

_MADE_BY_FORMAT: Final = frozenset({"qcow2", "qcow", "qed", "vmdk", "vdi", "vhdx", "vpc", "parallels"})
_DRIVERS: Final = {"vpc": "vpc", "vhd": "vhdx", "ploop": "parallels"}
_LOCATED: Final = (Protocol.RBD, Protocol.GLUSTER, Protocol.SSH, Protocol.NFS)


def storage_options(source: StorageSource, storage: Properties, size: int) -> Properties | None:
    """How the storage of an image is made; None where it must be there already. `storage` is its node."""
    if isinstance(source, FileSource):
        return {"driver": "file", "filename": source.file, "size": size}
    if isinstance(source, NetworkSource) and source.protocol in _LOCATED:
        place = {key: value for key, value in place_of(storage).items() if key != "driver"}
        return {"driver": storage["driver"], "location": place, "size": size}
    return None


def format_options(
    kind: str,
    lower: str,
    size: int,
    below: Image | None = None,
    *,
    below_storage: Properties | None = None,
    encryption: Encryption | None = None,
    secret: str | None = None,
) -> Properties | None:
    """How the format of an image is made on a node; None for one that has no format of its own.

    `below` is what the image says it stands on, `below_storage` the storage node of that one.
    """
    if kind == "raw":
        if encryption is None:
            return None
        return {**_luks(encryption, secret), "driver": "luks", "file": lower, "size": size}
    if kind not in _MADE_BY_FORMAT and kind not in _DRIVERS:
        return None
    options: Properties = {"driver": _DRIVERS.get(kind, kind), "file": lower, "size": size}
    if below is not None:
        options["backing-file"] = backing_text(below.source, below_storage)
        is_luks = below.format == "raw" and getattr(below.source, "encryption", None) is not None
        options["backing-fmt"] = "luks" if is_luks else below.format
    if encryption is not None:
        options["encrypt"] = {**_luks(encryption, secret), "format": "luks"}
    return options


def _luks(encryption: Encryption, secret: str | None) -> Properties:
    cipher, ivgen = encryption.cipher, encryption.ivgen
    return without_none(
        {
            "key-secret": secret,
            "cipher-alg": f"{cipher.name}-{cipher.size}" if cipher is not None else None,
            "cipher-mode": cipher.mode if cipher is not None else None,
            "hash-alg": cipher.hash if cipher is not None else None,
            "ivgen-alg": ivgen.name if ivgen is not None else None,
            "ivgen-hash-alg": ivgen.hash if ivgen is not None else None,
        }
    )
