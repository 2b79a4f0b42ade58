"""Where the data of a storage volume is, as a disk's own source: a file, a device, or a unit on the pool's server."""

from __future__ import annotations

from typing import Final

from conf.domain.secrets import Auth, SecretRef
from conf.domain.storage_source import (
    BlockSource,
    FileSource,
    Host,
    Initiator,
    NetworkSource,
    Protocol,
    StorageSource,
    VolumeSource,
)
from conf.storage.pool import Pool, PoolAuth, PoolType
from schema.errors import ConfigUnsupported, XmlError

_FILES: Final = (PoolType.DIR, PoolType.FS, PoolType.NETFS)
_DIRECT: Final = "direct"


def source_of_volume(source: VolumeSource, pool: Pool, path: str, kind: str) -> StorageSource:
    """The source that stands for a volume; `path` and `kind` (`file`, `block`) are what its pool says of it.

    Raises XmlError and ConfigUnsupported for a mode or a pool that disks cannot use.
    """
    is_iscsi = pool.type in (PoolType.ISCSI, PoolType.ISCSI_DIRECT)
    if source.mode is not None and not is_iscsi:
        raise XmlError("disk source mode is only valid when storage pool is of iscsi type")
    if pool.type in _FILES:
        found: StorageSource = FileSource(file=path)
    elif is_iscsi and (source.mode == _DIRECT or pool.type is PoolType.ISCSI_DIRECT):
        found = _unit(source, pool)
    elif kind == "block":
        found = BlockSource(dev=path)
    elif kind == "file":
        found = FileSource(file=path)
    else:
        raise ConfigUnsupported(f"using '{pool.type}' pools for backing 'volume' disks isn't yet supported")
    for name in ("seclabels", "slices", "encryption", "reservations", "startup_policy", "index"):
        if hasattr(found, name):
            setattr(found, name, getattr(source, name))
    return found


def _unit(source: VolumeSource, pool: Pool) -> NetworkSource:
    given = pool.source
    if len(given.hosts) != 1:
        raise ConfigUnsupported("Expected exactly 1 host for the storage pool")
    _, _, number = source.volume.rpartition(":")
    if not number.isdigit() or not source.volume.startswith("unit:"):
        raise ConfigUnsupported(f"volume name '{source.volume}' doesn't have required leading prefix 'unit:'")
    host = given.hosts[0]
    target = given.devices[0].path if given.devices else ""
    unit = NetworkSource(
        protocol=Protocol.ISCSI,
        name=f"{target}/{number}",
        hosts=[Host(name=host.name, port=host.port)],
    )
    iqn = given.initiator.iqn if given.initiator is not None else None
    if iqn is not None:
        unit.initiator = Initiator(iqn=iqn.name)
    unit.auth = _auth(given.auth) if given.auth is not None else None
    return unit


def _auth(auth: PoolAuth) -> Auth:
    secret = auth.secret
    ref = None
    if secret is not None:
        ref = SecretRef(type="iscsi", uuid=secret.uuid, usage=secret.usage)
    return Auth(username=auth.username, secret=ref)
