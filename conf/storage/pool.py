"""A storage pool: `<pool>`."""

from __future__ import annotations

from enum import StrEnum
from uuid import UUID

from conf.element import Element, Empty, attr, child, children, size, text, value
from conf.faults import lacking, malformed, unsupported
from conf.values import INT, INT32, UINT, UUID_TEXT, YES_NO, Codec, hexadecimal, parse_mode, words
from schema.errors import ConfigUnsupported, XmlError

NO_UUID = UUID(int=0)
"""Stands for "not chosen yet"; `parse_pool` never leaves it."""


MODE: Codec[int] = Codec(parse_mode, lambda value: f"0{value:o}")
"""Permissions, in octal digits."""
FS = ("fs", "http://libvirt.org/schemas/storagepool/fs/1.0")
RBD = ("rbd", "http://libvirt.org/schemas/storagepool/rbd/1.0")


def _named(id: int | None) -> int | None:
    """A user or group that was chosen; -1 leaves it to the host."""
    return None if id == -1 else id


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

    name: str = attr("name", str, missing=lacking(XmlError, "missing storage pool host name"))
    port: int | None = attr("port", INT32, default=None, shown=lambda self, flags: self.port or None)


class SourceDevice(Element, tag="device"):
    """A device that the pool is made of."""

    path: str = attr("path", str, missing=lacking(XmlError, "missing storage pool source device path"))
    part_separator: bool | None = attr("part_separator", YES_NO, default=None)


class AdapterAddress(Element, tag="address"):
    """The place of the parent."""

    domain: int = attr("domain", hexadecimal(4), default=0)
    bus: int = attr("bus", hexadecimal(2), default=0)
    slot: int = attr("slot", hexadecimal(2), default=0)
    function: int = attr("function", hexadecimal(1), default=0)


class ParentAddress(Element, tag="parentaddr"):
    """The parent by its place."""

    unique_id: int | None = attr(
        "unique_id", UINT, default=None, bad=malformed("Missing or invalid scsi adapter 'unique_id' value")
    )
    address: AdapterAddress | None = child(AdapterAddress, default=None)


class SourceAdapter(Element, tag="adapter"):
    """A host adapter behind which the volumes are."""

    type: str | None = attr("type", words("scsi_host", "fc_host"), default=None)
    name: str | None = attr("name", str, default=None)
    parent: str | None = attr("parent", str, default=None)
    parent_wwnn: str | None = attr("parent_wwnn", str, default=None)
    parent_wwpn: str | None = attr("parent_wwpn", str, default=None)
    parent_fabric_wwn: str | None = attr("parent_fabric_wwn", str, default=None)
    managed: bool | None = attr("managed", YES_NO, default=None)
    wwnn: str | None = attr("wwnn", str, default=None)
    wwpn: str | None = attr("wwpn", str, default=None)
    parentaddr: ParentAddress | None = child(ParentAddress, default=None)


class Iqn(Element, tag="iqn"):
    """The name of an initiator."""

    name: str = attr("name", str, missing=lacking(ConfigUnsupported, "missing initiator IQN"), blank=True)


class Initiator(Element, tag="initiator"):
    """Who logs in at an iSCSI target."""

    iqn: Iqn | None = child(Iqn, default=None)


class AuthSecret(Element, tag="secret"):
    """Where the password is."""

    usage: str | None = attr("usage", str, default=None)
    uuid: UUID | None = attr("uuid", UUID_TEXT, default=None)


class PoolAuth(Element, tag="auth"):
    """Who logs in."""

    type: str | None = attr(
        "type", words("chap", "ceph"), default=None, blank=True, bad=unsupported("unknown auth type '{}'")
    )
    username: str | None = attr("username", str, default=None)
    secret: AuthSecret | None = child(AuthSecret, default=None)


class PoolSource(Element, tag="source", empty=Empty.OPEN):
    """Where the pool comes from."""

    hosts: list[SourceHost] = children(SourceHost, default=[])
    devices: list[SourceDevice] = children(SourceDevice, default=[])
    dir: str | None = value("dir", "path", str, default=None, blank=True)
    adapter: SourceAdapter | None = child(SourceAdapter, default=None)
    name: str | None = text("name", str, default=None)
    initiator: Initiator | None = child(Initiator, default=None)
    format: str | None = value("format", "type", str, default=None)
    protocol: str | None = value("protocol", "ver", str, default=None, blank=True)
    auth: PoolAuth | None = child(PoolAuth, default=None)
    vendor: str | None = value("vendor", "name", str, default=None, blank=True)
    product: str | None = value("product", "name", str, default=None, blank=True)


class Permissions(Element, tag="permissions"):
    """Who may use the files."""

    mode: int | None = text("mode", MODE, default=None)
    owner: int | None = text("owner", INT, default=None, shown=lambda self, flags: _named(self.owner))
    group: int | None = text("group", INT, default=None, shown=lambda self, flags: _named(self.group))
    label: str | None = text("label", str, default=None)


class PoolTarget(Element, tag="target", empty=Empty.OMIT):
    """Where the pool appears in the host."""

    path: str | None = text("path", str, default=None)
    permissions: Permissions | None = child(Permissions, default=None)


class PoolFeatures(Element, tag="features", empty=Empty.OMIT):
    """What the pool's file system can do."""

    cow: bool | None = value("cow", "state", YES_NO, default=None)


class MountOption(Element, tag="option", namespace=FS):
    """An option of mount."""

    name: str = attr("name", str)


class MountOptions(Element, tag="mount_opts", namespace=FS):
    """Options added to mount's."""

    options: list[MountOption] = children(MountOption, default=[])


class ConfigOption(Element, tag="option", namespace=RBD):
    """An option of Ceph."""

    name: str = attr("name", str)
    value: str = attr("value", str)


class ConfigOptions(Element, tag="config_opts", namespace=RBD):
    """Options added to Ceph's."""

    options: list[ConfigOption] = children(ConfigOption, default=[])


class RefreshVolume(Element, tag="volume"):
    """How the allocation of volumes is found."""

    allocation: str | None = attr("allocation", words("default", "capacity"), default=None)


class PoolRefresh(Element, tag="refresh", empty=Empty.OMIT):
    """How volumes are looked at."""

    volume: RefreshVolume | None = child(RefreshVolume, default=None)


class Pool(Element, tag="pool", root=True):
    """A storage pool; sizes in bytes."""

    type: PoolType = attr("type", PoolType)
    name: str | None = text("name", str, default=None)
    uuid: UUID = text("uuid", UUID_TEXT, default=NO_UUID, bad=malformed("malformed uuid element"))
    capacity_bytes: int | None = size("capacity", default=None, unit="bytes")
    allocation_bytes: int | None = size("allocation", default=None, unit="bytes")
    available_bytes: int | None = size("available", default=None, unit="bytes")
    features: PoolFeatures | None = child(PoolFeatures, default=None)
    source: PoolSource = child(PoolSource, default_factory=PoolSource)
    target: PoolTarget = child(PoolTarget, default_factory=PoolTarget)
    refresh: PoolRefresh | None = child(PoolRefresh, default=None)
    mount_options: MountOptions | None = child(MountOptions, default=None)
    config_options: ConfigOptions | None = child(ConfigOptions, default=None)
