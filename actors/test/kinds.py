"""The objects beside guests: where each kind lies, by what key it is known, what lists tell of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeAlias
from uuid import UUID

from actors.test.records import DeviceRecord, InterfaceRecord, NetworkRecord, PoolRecord
from schema.enums.storage_pool import StoragePoolState

Record: TypeAlias = NetworkRecord | InterfaceRecord | PoolRecord | DeviceRecord


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of object; `type` is the registry's word for it."""

    type: str
    folder: str
    record_class: Any
    key_of: Callable[[Any], bytes | str]
    facts_of: Callable[[Any], Mapping[str, Any]]

    def file_key(self, record: Record) -> str:
        """What its document is named after."""
        return record.name if isinstance(record, InterfaceRecord | DeviceRecord) else record.uuid

    def summary(self, record: Record, scope: str) -> dict[str, Any]:
        """What lists and states answer."""
        return {**self.facts_of(record), "scope": scope}


def _uuid_of(record: NetworkRecord | PoolRecord) -> bytes:
    return UUID(record.uuid).bytes


def _name_of(record: InterfaceRecord | DeviceRecord) -> str:
    return record.name


def _network_facts(record: NetworkRecord) -> Mapping[str, Any]:
    return {
        "active": record.active,
        "persistent": record.persistent,
        "autostart": record.autostart,
        "bridge": record.bridge,
    }


def _pool_facts(record: PoolRecord) -> Mapping[str, Any]:
    state = StoragePoolState.RUNNING if record.active else StoragePoolState.INACTIVE
    return {
        "state": int(state),
        "persistent": record.persistent,
        "autostart": record.autostart,
        "type": record.type,
    }


def _interface_facts(record: InterfaceRecord) -> Mapping[str, Any]:
    return {"active": record.active, "mac": record.mac}


def _device_facts(record: DeviceRecord) -> Mapping[str, Any]:
    return {"active": True, "persistent": True, "autostart": False, "parent": record.parent, "caps": list(record.caps)}


NETWORK: Final = Kind("network", "networks", NetworkRecord, _uuid_of, _network_facts)
POOL: Final = Kind("storage_pool", "pools", PoolRecord, _uuid_of, _pool_facts)
INTERFACE: Final = Kind("interface", "interfaces", InterfaceRecord, _name_of, _interface_facts)
DEVICE: Final = Kind("node_device", "devices", DeviceRecord, _name_of, _device_facts)
KINDS: Final = (NETWORK, POOL, INTERFACE, DEVICE)
