"""What lists and states answer of the host's objects (networks, pools, interfaces, devices, secrets, filters).

Like `summaries.py` for guests: the same maps travel in events, snapshots and read models. Source of the flags:
libvirt's virConnectListAll...Flags.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final, TypedDict

from schema.enums.interface import ConnectListAllInterfacesFlags as ListedInterface
from schema.enums.network import ConnectListAllNetworksFlags as ListedNetwork
from schema.enums.node_device import ConnectListAllNodeDeviceFlags as ListedDevice
from schema.enums.secret import ConnectListAllSecretsFlags as ListedSecret
from schema.enums.storage_pool import ConnectListAllStoragePoolsFlags as ListedPool
from schema.enums.storage_pool import StoragePoolState


class NetworkSummary(TypedDict):
    """A virtual network."""

    active: bool
    persistent: bool
    autostart: bool
    bridge: str | None
    scope: str


class StoragePoolSummary(TypedDict):
    """A storage pool; `type` as in its document (`dir`, `logical`)."""

    state: int
    persistent: bool
    autostart: bool
    type: str
    scope: str


class InterfaceSummary(TypedDict):
    """A network interface of the host."""

    active: bool
    mac: str
    scope: str


class NodeDeviceSummary(TypedDict):
    """A device of the host; `caps` as in its document (`pci`, `net`, `scsi_host`)."""

    active: bool
    persistent: bool
    autostart: bool
    parent: str | None
    caps: list[str]
    scope: str


class SecretSummary(TypedDict):
    """A secret, without its value."""

    usage_type: int
    usage_id: str
    ephemeral: bool
    private: bool
    scope: str


class NWFilterSummary(TypedDict):
    """A set of packet filter rules."""

    scope: str


_Test = Callable[[Mapping[str, Any]], bool]
_Groups = tuple[tuple[tuple[int, _Test], ...], ...]


def _yes(name: str) -> _Test:
    return lambda summary: bool(summary[name])


def _no(name: str) -> _Test:
    return lambda summary: not summary[name]


def _is(name: str, value: object) -> _Test:
    return lambda summary: summary[name] == value


def _has(name: str, value: object) -> _Test:
    return lambda summary: value in summary[name]


def pool_is_active(summary: Mapping[str, Any]) -> bool:
    """Whether a pool's volumes can be used."""
    return bool(summary["state"] != StoragePoolState.INACTIVE)


_CAPS: Final = {
    "system": ListedDevice.CAP_SYSTEM,
    "pci": ListedDevice.CAP_PCI_DEV,
    "usb_device": ListedDevice.CAP_USB_DEV,
    "usb": ListedDevice.CAP_USB_INTERFACE,
    "net": ListedDevice.CAP_NET,
    "scsi_host": ListedDevice.CAP_SCSI_HOST,
    "scsi_target": ListedDevice.CAP_SCSI_TARGET,
    "scsi": ListedDevice.CAP_SCSI,
    "storage": ListedDevice.CAP_STORAGE,
    "fc_host": ListedDevice.CAP_FC_HOST,
    "vports": ListedDevice.CAP_VPORTS,
    "scsi_generic": ListedDevice.CAP_SCSI_GENERIC,
    "drm": ListedDevice.CAP_DRM,
    "mdev_types": ListedDevice.CAP_MDEV_TYPES,
    "mdev": ListedDevice.CAP_MDEV,
    "ccw": ListedDevice.CAP_CCW_DEV,
    "css": ListedDevice.CAP_CSS_DEV,
    "vdpa": ListedDevice.CAP_VDPA,
    "ap_card": ListedDevice.CAP_AP_CARD,
    "ap_queue": ListedDevice.CAP_AP_QUEUE,
    "ap_matrix": ListedDevice.CAP_AP_MATRIX,
    "vpd": ListedDevice.CAP_VPD,
}
_POOL_TYPES: Final = {
    "dir": ListedPool.DIR,
    "fs": ListedPool.FS,
    "netfs": ListedPool.NETFS,
    "logical": ListedPool.LOGICAL,
    "disk": ListedPool.DISK,
    "iscsi": ListedPool.ISCSI,
    "iscsi-direct": ListedPool.ISCSI_DIRECT,
    "scsi": ListedPool.SCSI,
    "mpath": ListedPool.MPATH,
    "rbd": ListedPool.RBD,
    "sheepdog": ListedPool.SHEEPDOG,
    "gluster": ListedPool.GLUSTER,
    "zfs": ListedPool.ZFS,
    "vstorage": ListedPool.VSTORAGE,
}

# Flags of one group select what fits any of them; a group without a flag selects everything.
_GROUPS: Final[dict[str, _Groups]] = {
    "network": (
        ((ListedNetwork.ACTIVE, _yes("active")), (ListedNetwork.INACTIVE, _no("active"))),
        ((ListedNetwork.PERSISTENT, _yes("persistent")), (ListedNetwork.TRANSIENT, _no("persistent"))),
        ((ListedNetwork.AUTOSTART, _yes("autostart")), (ListedNetwork.NO_AUTOSTART, _no("autostart"))),
    ),
    "storage_pool": (
        ((ListedPool.ACTIVE, pool_is_active), (ListedPool.INACTIVE, lambda s: not pool_is_active(s))),
        ((ListedPool.PERSISTENT, _yes("persistent")), (ListedPool.TRANSIENT, _no("persistent"))),
        ((ListedPool.AUTOSTART, _yes("autostart")), (ListedPool.NO_AUTOSTART, _no("autostart"))),
        tuple((flag, _is("type", name)) for name, flag in _POOL_TYPES.items()),
    ),
    "interface": (((ListedInterface.ACTIVE, _yes("active")), (ListedInterface.INACTIVE, _no("active"))),),
    "node_device": (
        ((ListedDevice.ACTIVE, _yes("active")), (ListedDevice.INACTIVE, _no("active"))),
        tuple((flag, _has("caps", name)) for name, flag in _CAPS.items()),
    ),
    "secret": (
        ((ListedSecret.EPHEMERAL, _yes("ephemeral")), (ListedSecret.NO_EPHEMERAL, _no("ephemeral"))),
        ((ListedSecret.PRIVATE, _yes("private")), (ListedSecret.NO_PRIVATE, _no("private"))),
    ),
    "nwfilter": (),
}


def known_flags(type: str) -> int:
    """Every flag that the list of a type of object knows."""
    return sum(int(flag) for group in _GROUPS[type] for flag, _ in group)


def selection(type: str, flags: int) -> Callable[[Mapping[str, Any]], bool]:
    """Whether an object is in the list that these flags ask for."""
    wanted = [[test for flag, test in group if flags & flag] for group in _GROUPS[type]]
    wanted = [tests for tests in wanted if tests]
    return lambda summary: all(any(test(summary) for test in tests) for tests in wanted)
