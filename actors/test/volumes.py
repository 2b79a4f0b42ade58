"""Volumes: parts of their pool's document."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import msgspec

from actors.runtime.calls import Calls
from actors.test.described import volume_record
from actors.test.flags import check_flags
from actors.test.host import TestHost
from actors.test.kinds import POOL
from actors.test.lookups import check_pool_uuid
from actors.test.pools import need_active, need_pool
from actors.test.records import PoolRecord, VolumeRecord
from conf.storage.documents import parse_pool, parse_volume
from schema.errors import DomainStateError, InternalError, NoSuchStoragePool, NoSuchStorageVol, OperationFailed
from schema.objects import StoragePoolRef, StorageVolRef

calls: Calls[TestHost] = Calls()

_VALIDATE = 4


@calls.handles(key="pool")
async def storage_vol_create_xml(host: TestHost, pool: StoragePoolRef, xml: str, flags: int) -> StorageVolRef:
    """Makes a volume.

    Raises NoSuchStoragePool, DomainStateError, XmlError, OperationFailed for a name that is taken, InternalError when
    the pool has no room.
    """
    check_flags(flags, _VALIDATE, "testStorageVolCreateXML")
    return await _create(host, need_active(host, pool), xml, validate=bool(flags & _VALIDATE))


@calls.handles(key="pool")
async def storage_vol_create_xml_from(
    host: TestHost, pool: StoragePoolRef, xml: str, clonevol: StorageVolRef, flags: int
) -> StorageVolRef:
    """Makes a volume like another. Raises as `storage_vol_create_xml` does, and NoSuchStorageVol."""
    check_flags(flags, _VALIDATE, "testStorageVolCreateXMLFrom")
    record = need_active(host, pool)
    original = record.volumes.get(clonevol.name)
    if original is None:
        raise NoSuchStorageVol(f"no storage vol with matching name '{clonevol.name}'")
    return await _create(host, record, xml, at_least=original.capacity, validate=bool(flags & _VALIDATE))


@calls.handles()
async def storage_vol_delete(host: TestHost, vol: StorageVolRef, flags: int) -> None:
    """Deletes a volume. Raises NoSuchStoragePool, DomainStateError, NoSuchStorageVol."""
    check_flags(flags, 0, "testStorageVolDelete")
    pool, _ = _need(host, vol)
    async with host.runtime.mailbox(("storage_pool", UUID(pool.uuid).bytes)).change():
        pool, volume = _need(host, vol)
        others = {name: one for name, one in pool.volumes.items() if name != volume.name}
        await host.commit_record(POOL, _with_volumes(pool, others, -volume.allocation))


@calls.handles()
def storage_pool_list_all_volumes(
    host: TestHost, pool: StoragePoolRef, need_results: int, flags: int
) -> dict[str, Any]:
    """The volumes of a pool. Raises NoSuchStoragePool, DomainStateError."""
    check_flags(flags, 0, "testStoragePoolListAllVolumes")
    check_pool_uuid(host, pool)
    record = need_pool(host, pool)
    if not record.active:
        raise DomainStateError("storage pool is not active")
    refs = [_ref(record, volume) for volume in record.volumes.values()]
    return {"vols": refs if need_results else [], "ret": len(refs)}


@calls.handles()
def storage_pool_num_of_volumes(host: TestHost, pool: StoragePoolRef) -> int:
    """How many volumes a pool has. Raises NoSuchStoragePool, DomainStateError."""
    return len(need_active(host, pool).volumes)


@calls.handles()
def storage_pool_list_volumes(host: TestHost, pool: StoragePoolRef, maxnames: int) -> list[str]:
    """The names of a pool's volumes. Raises NoSuchStoragePool, DomainStateError."""
    return list(need_active(host, pool).volumes)[:maxnames]


@calls.handles()
def storage_vol_lookup_by_name(host: TestHost, pool: StoragePoolRef, name: str) -> StorageVolRef:
    """The volume of that name. Raises NoSuchStoragePool, DomainStateError, NoSuchStorageVol."""
    record = need_active(host, pool)
    volume = record.volumes.get(name)
    if volume is None:
        raise NoSuchStorageVol(f"no storage vol with matching name '{name}'")
    return _ref(record, volume)


@calls.handles()
def storage_vol_lookup_by_key(host: TestHost, key: str) -> StorageVolRef:
    """The volume of that key. Raises NoSuchStorageVol."""
    return _lookup(host, key, "key")


@calls.handles()
def storage_vol_lookup_by_path(host: TestHost, path: str) -> StorageVolRef:
    """The volume at that path. Raises NoSuchStorageVol."""
    return _lookup(host, path, "path")


@calls.handles()
def storage_pool_lookup_by_volume(host: TestHost, vol: StorageVolRef) -> StoragePoolRef:
    """The pool that a volume is in. Raises NoSuchStoragePool."""
    record = _pool_named(host, vol.pool)
    return StoragePoolRef(record.name, UUID(record.uuid).bytes)


@calls.handles()
def storage_vol_get_info(host: TestHost, vol: StorageVolRef) -> dict[str, int]:
    """A volume's type and sizes in bytes. Raises NoSuchStoragePool, DomainStateError, NoSuchStorageVol."""
    _, volume = _need(host, vol)
    return {"type": volume.type, "capacity": volume.capacity, "allocation": volume.allocation}


@calls.handles()
def storage_vol_get_xml_desc(host: TestHost, vol: StorageVolRef, flags: int) -> str:
    """A volume's definition. Raises NoSuchStoragePool, DomainStateError, NoSuchStorageVol."""
    check_flags(flags, 0, "testStorageVolGetXMLDesc")
    return _need(host, vol)[1].xml


@calls.handles()
def storage_vol_get_path(host: TestHost, vol: StorageVolRef) -> str:
    """Where a volume lies. Raises NoSuchStoragePool, DomainStateError, NoSuchStorageVol."""
    return _need(host, vol)[1].key


async def _create(
    host: TestHost, pool: PoolRecord, xml: str, *, at_least: int = 0, validate: bool = False
) -> StorageVolRef:
    definition = parse_pool(pool.xml)
    described = parse_volume(xml, definition, validate=validate)
    if described.name in pool.volumes:
        raise OperationFailed("storage vol already exists")
    described.capacity_bytes = max(described.capacity_bytes or 0, at_least)
    volume = volume_record(described, definition)
    if pool.allocation + volume.allocation > pool.capacity:
        raise InternalError(f"Not enough free space in pool for volume '{volume.name}'")
    ref = _ref(pool, volume)
    volumes = {**pool.volumes, volume.name: volume}
    await host.commit_record(POOL, _with_volumes(pool, volumes, volume.allocation), result=ref)
    return ref


def _with_volumes(pool: PoolRecord, volumes: dict[str, VolumeRecord], grown: int) -> PoolRecord:
    allocation = pool.allocation + grown
    return msgspec.structs.replace(pool, volumes=volumes, allocation=allocation, available=pool.capacity - allocation)


def _need(host: TestHost, vol: StorageVolRef) -> tuple[PoolRecord, VolumeRecord]:
    pool = _pool_named(host, vol.pool)
    if not pool.active:
        raise DomainStateError(f"storage pool '{pool.name}' is not active")
    volume = pool.volumes.get(vol.name)
    if volume is None:
        raise NoSuchStorageVol(f"no storage vol with matching name '{vol.name}'")
    return pool, volume


def _pool_named(host: TestHost, name: str) -> PoolRecord:
    pool = next((pool for pool in host.world.pools.values() if pool.name == name), None)
    if pool is None:
        raise NoSuchStoragePool(f"no storage pool with matching name '{name}'")
    return pool


def _lookup(host: TestHost, key: str, word: str) -> StorageVolRef:
    for pool in host.world.pools.values():
        for volume in pool.volumes.values() if pool.active else ():
            if volume.key == key:
                return _ref(pool, volume)
    raise NoSuchStorageVol(f"no storage vol with matching {word} '{key}'")


def _ref(pool: PoolRecord, volume: VolumeRecord) -> StorageVolRef:
    return StorageVolRef(pool.name, volume.name, volume.key)
