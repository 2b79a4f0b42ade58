"""Sources of storage pools that lack what their kind needs, in libvirt's words."""

from __future__ import annotations

import re
from typing import Final

from conf.storage.pool import Pool, PoolAuth, PoolType, SourceAdapter
from schema.errors import ConfigUnsupported, RefusedDocument, XmlDetailError, XmlError

_WITH_HOST: Final = frozenset(
    {PoolType.NETFS, PoolType.ISCSI, PoolType.ISCSI_DIRECT, PoolType.RBD, PoolType.SHEEPDOG, PoolType.GLUSTER}
)
_ON_DEVICES: Final = frozenset({PoolType.FS, PoolType.DISK})
_NFS: Final = (None, "auto", "nfs")
_WWN: Final = re.compile("[0-9a-fA-F]{16}\\Z").match


def check_source(pool: Pool) -> None:
    """Raises XmlError, XmlDetailError, ConfigUnsupported, RefusedDocument for a source that is none of its kind."""
    source = pool.source
    if pool.type is PoolType.RBD and source.name is None:
        raise XmlError("element 'name' is mandatory for RBD pool")
    if source.auth is not None:
        _check_auth(source.auth)
    if source.protocol is not None:
        if source.format not in _NFS:
            raise ConfigUnsupported(f"storage pool protocol ver unsupported for pool type '{source.format}'")
        if "," in source.protocol:
            raise XmlDetailError(f"storage pool protocol ver '{source.protocol}' must not contain ','")
    if pool.type in _WITH_HOST and not source.hosts:
        raise XmlError("missing storage pool source host name")
    if pool.type is PoolType.NETFS and source.dir is None:
        raise XmlError("missing storage pool source path")
    if pool.type is PoolType.ISCSI_DIRECT and (source.initiator is None or source.initiator.iqn is None):
        raise ConfigUnsupported("missing initiator IQN")
    if pool.type is PoolType.SCSI:
        if source.adapter is None:
            raise XmlError("missing storage pool source adapter")
        _check_adapter(source.adapter)
    if pool.type in _ON_DEVICES and not source.devices:
        raise XmlError("missing storage pool source device name")


def _check_auth(auth: PoolAuth) -> None:
    if auth.type is None:
        raise ConfigUnsupported("storage pool missing auth type")
    if not auth.username:
        raise XmlError("missing username for auth")
    if auth.secret is None:
        raise XmlError("Missing <secret> element in auth")


def _check_adapter(adapter: SourceAdapter) -> None:
    if adapter.type == "fc_host":
        for wwn in (adapter.wwnn, adapter.wwpn):
            if wwn is None:
                raise XmlError("'wwnn' and 'wwpn' must be specified for adapter type 'fchost'")
        for wwn in (adapter.wwnn, adapter.wwpn):
            if _WWN((wwn or "").removeprefix("0x")) is None:
                raise RefusedDocument(f"Malformed wwn: {wwn}")
        return
    parent = adapter.parentaddr
    if adapter.type is None:
        if adapter.wwnn or adapter.wwpn or adapter.parent:
            raise XmlError("Use of 'wwnn', 'wwpn', and 'parent' attributes requires use of the adapter 'type'")
        if parent is not None:
            raise XmlError("Use of 'parentaddr' element requires use of the adapter 'type'")
    if adapter.name is None and parent is None:
        raise XmlError("Either 'name' or 'parent' must be specified for the 'scsi_host' adapter")
    if parent is not None:
        if parent.address is None:
            raise XmlError("Missing scsi_host PCI address element")
        if parent.unique_id is None:
            raise XmlError("Missing or invalid scsi adapter 'unique_id' value")
