"""A storage pool: `<pool>`."""

from __future__ import annotations

from enum import StrEnum
from uuid import UUID

from conf.element import Element, Empty, attr, child, children, size, text, value
from conf.values import INT, UINT, UUID_TEXT, YES_NO, words

NO_UUID = UUID(int=0)
"""Stands for "not chosen yet"; `parse_pool` never leaves it."""


class PoolType(StrEnum):
    """What holds the volumes."""

    DIR = "dir"
    FS = "fs"
    NETFS = "netfs"
    LOGICAL = "logical"
    DISK = "disk"
    ISCSI = "iscsi"
    SCSI = "scsi"
    MPATH = "mpath"
    RBD = "rbd"
    SHEEPDOG = "sheepdog"
    GLUSTER = "gluster"
    ZFS = "zfs"
    VSTORAGE = "vstorage"
    ISCSI_DIRECT = "iscsi-direct"


class SourceHost(Element, tag="host"):
    """A server."""

    name: str = attr("name", str)
    port: int | None = attr("port", UINT, default=None)


class SourceDevice(Element, tag="device"):
    """A device that the pool is made of."""

    path: str = attr("path", str)
    part_separator: bool | None = attr("part_separator", YES_NO, default=None)


class SourceAdapter(Element, tag="adapter"):
    """A host adapter behind which the volumes are."""

    type: str | None = attr("type", words("scsi_host", "fc_host"), default=None)
    name: str | None = attr("name", str, default=None)
    parent: str | None = attr("parent", str, default=None)
    managed: bool | None = attr("managed", YES_NO, default=None)
    wwnn: str | None = attr("wwnn", str, default=None)
    wwpn: str | None = attr("wwpn", str, default=None)


class Iqn(Element, tag="iqn"):
    """The name of an initiator."""

    name: str = attr("name", str)


class Initiator(Element, tag="initiator"):
    """Who logs in at an iSCSI target."""

    iqn: Iqn | None = child(Iqn, default=None)


class AuthSecret(Element, tag="secret"):
    """Where the password is."""

    usage: str | None = attr("usage", str, default=None)
    uuid: UUID | None = attr("uuid", UUID_TEXT, default=None)


class PoolAuth(Element, tag="auth"):
    """Who logs in."""

    type: str | None = attr("type", words("chap", "ceph"), default=None)
    username: str | None = attr("username", str, default=None)
    secret: AuthSecret | None = child(AuthSecret, default=None)


class PoolSource(Element, tag="source", empty=Empty.OPEN):
    """Where the pool comes from."""

    hosts: list[SourceHost] = children(SourceHost, default=[])
    devices: list[SourceDevice] = children(SourceDevice, default=[])
    dir: str | None = value("dir", "path", str, default=None)
    adapter: SourceAdapter | None = child(SourceAdapter, default=None)
    name: str | None = text("name", str, default=None)
    initiator: Initiator | None = child(Initiator, default=None)
    format: str | None = value("format", "type", str, default=None)
    protocol: str | None = value("protocol", "ver", str, default=None)
    auth: PoolAuth | None = child(PoolAuth, default=None)
    vendor: str | None = value("vendor", "name", str, default=None)
    product: str | None = value("product", "name", str, default=None)


class Permissions(Element, tag="permissions"):
    """Who may use the files."""

    mode: str | None = text("mode", str, default=None)
    owner: int | None = text("owner", INT, default=None)
    group: int | None = text("group", INT, default=None)
    label: str | None = text("label", str, default=None)


class PoolTarget(Element, tag="target", empty=Empty.OMIT):
    """Where the pool appears in the host."""

    path: str | None = text("path", str, default=None)
    permissions: Permissions | None = child(Permissions, default=None)


class Pool(Element, tag="pool", root=True):
    """A storage pool; sizes in bytes."""

    type: PoolType = attr("type", PoolType)
    name: str | None = text("name", str, default=None)
    uuid: UUID = text("uuid", UUID_TEXT, default=NO_UUID)
    capacity_bytes: int | None = size("capacity", default=None, unit="bytes")
    allocation_bytes: int | None = size("allocation", default=None, unit="bytes")
    available_bytes: int | None = size("available", default=None, unit="bytes")
    source: PoolSource = child(PoolSource, default_factory=PoolSource)
    target: PoolTarget = child(PoolTarget, default_factory=PoolTarget)
