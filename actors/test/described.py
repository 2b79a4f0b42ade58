"""From definitions of networks, pools, volumes, interfaces and devices to the records that are kept of them."""

from __future__ import annotations

from typing import Final

from actors.test.records import DeviceRecord, InterfaceRecord, NetworkRecord, PoolRecord, VolumeRecord
from conf.host_interface.documents import write_host_interface
from conf.host_interface.interface import HostInterface
from conf.network.documents import write_network
from conf.network.network import Network
from conf.node_device.device import NodeDevice, ScsiHostCapability
from conf.node_device.documents import write_node_device
from conf.storage.documents import volume_type, write_pool, write_volume
from conf.storage.pool import Pool
from conf.storage.volume import Volume, VolumeType
from schema.errors import XmlError

POOL_BYTES: Final = 100 << 30  # the size of every pool


def network_record(network: Network, *, active: bool = False, persistent: bool = True) -> NetworkRecord:
    """A new network."""
    return NetworkRecord(
        uuid=str(network.uuid),
        name=network.name,
        xml=write_network(network),
        bridge=network.bridge.name if network.bridge is not None else None,
        active=active,
        persistent=persistent,
    )


def interface_record(interface: HostInterface, *, active: bool = False) -> InterfaceRecord:
    """A new interface."""
    return InterfaceRecord(
        name=interface.name, mac=interface.mac or "", xml=write_host_interface(interface), active=active
    )


def pool_record(pool: Pool, *, active: bool = False, persistent: bool = True) -> PoolRecord:
    """A new pool without volumes. It is as large as every pool, whatever its definition says."""
    return PoolRecord(
        uuid=str(pool.uuid),
        name=pool.name or "",
        xml=write_pool(pool),
        type=pool.type.value,
        path=pool.target.path or "",
        capacity=POOL_BYTES,
        allocation=0,
        available=POOL_BYTES,
        active=active,
        persistent=persistent,
    )


def volume_record(volume: Volume, pool: Pool) -> VolumeRecord:
    """A new volume below its pool's path. Its document calls it a file, as libvirt's test driver does."""
    kind = volume_type(volume, pool)
    folder = pool.target.path or ""
    path = f"{folder.rstrip('/')}/{volume.name}"
    volume.type = VolumeType.FILE.value
    volume.key = path
    volume.target.path = path
    return VolumeRecord(
        name=volume.name or "",
        key=path,
        xml=write_volume(volume),
        capacity=volume.capacity_bytes or 0,
        allocation=volume.allocation_bytes or 0,
        type=list(VolumeType).index(kind),
    )


def device_record(device: NodeDevice) -> DeviceRecord:
    """A new device. Raises XmlError for one without a name."""
    if device.name is None:
        raise XmlError("missing device name")
    caps = [device.capability.kind]
    fabric = None
    if isinstance(device.capability, ScsiHostCapability):
        fabric = device.capability.fabric()
    return DeviceRecord(
        name=device.name,
        xml=write_node_device(device),
        parent=device.parent,
        caps=caps,
        wwnn=fabric.wwnn if fabric is not None else None,
        wwpn=fabric.wwpn if fabric is not None else None,
    )
