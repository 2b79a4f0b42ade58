"""Storage pools of a scope: all of one size, with the volumes that were made in them."""

from __future__ import annotations

from typing import Any, Final

import msgspec

from actors.runtime.calls import Calls
from actors.test.described import pool_record
from actors.test.flags import check_flags
from actors.test.host import TestHost
from actors.test.kinds import POOL
from actors.test.records import PoolRecord
from actors.test.world import World
from conf.storage.documents import parse_pool, write_pool
from conf.storage.pool import Pool, PoolSource, PoolType, SourceDevice
from conf.storage.sources import PoolSources, parse_source_spec, write_pool_sources
from schema.enums.storage_pool import StoragePoolEventLifecycleType as Event
from schema.enums.storage_pool import StoragePoolState
from schema.errors import (
    DomainStateError,
    ErrorDomain,
    InternalError,
    InvalidArguments,
    NoSuchStoragePool,
    OperationFailed,
    UnsupportedCall,
)
from schema.objects import StoragePoolRef

calls: Calls[TestHost] = Calls()

_VALIDATE: Final = 1
_LOGICAL_SOURCES: Final = (("/dev/sda20", "testvg1"), ("/dev/sda21", "testvg2"))


@calls.handles()
async def storage_pool_define_xml(host: TestHost, xml: str, flags: int) -> StoragePoolRef:
    """Makes a pool persistent with this definition.

    Raises XmlError and ConfigUnsupported for a document that cannot be used, OperationFailed when another pool has its
    name, uuid or source.
    """
    check_flags(flags, _VALIDATE, "testStoragePoolDefineXML")
    pool = parse_pool(xml, validate=bool(flags & _VALIDATE))
    async with (
        host.runtime.mailbox(("storage_pool_name", pool.name or "")).change(),
        host.runtime.mailbox(("storage_pool", pool.uuid.bytes)).change(),
    ):
        old = _find_same(host.world, pool)
        record = pool_record(pool)
        if old is not None and old.active:
            record = msgspec.structs.replace(old, persistent=True)
        elif old is not None:
            record = msgspec.structs.replace(record, autostart=old.autostart)
        ref = StoragePoolRef(record.name, pool.uuid.bytes)
        await host.commit_record(POOL, record, _told(record, Event.DEFINED), result=ref)
    return ref


@calls.handles()
async def storage_pool_create_xml(host: TestHost, xml: str, flags: int) -> StoragePoolRef:
    """Starts a pool with this definition.

    Raises XmlError and ConfigUnsupported for a document that cannot be used, OperationFailed when another pool has its
    name, uuid or source, DomainStateError when it is active.
    """
    check_flags(flags, 0, "testStoragePoolCreateXML")
    pool = parse_pool(xml)
    async with (
        host.runtime.mailbox(("storage_pool_name", pool.name or "")).change(),
        host.runtime.mailbox(("storage_pool", pool.uuid.bytes)).change(),
    ):
        old = _find_same(host.world, pool)
        if old is not None and old.active:
            raise DomainStateError(f"pool is already active as '{old.name}'", domain=ErrorDomain.STORAGE)
        record = pool_record(pool, active=True, persistent=old is not None)
        if old is not None:
            record = msgspec.structs.replace(record, autostart=old.autostart)
        ref = StoragePoolRef(record.name, pool.uuid.bytes)
        await host.commit_record(POOL, record, _told(record, Event.STARTED), result=ref)
    return ref


@calls.handles(key="pool")
async def storage_pool_create(host: TestHost, pool: StoragePoolRef, flags: int) -> None:
    """Starts a pool. Raises NoSuchStoragePool, DomainStateError."""
    check_flags(flags, 0, "testStoragePoolCreate")
    record = need_inactive(host, pool)
    await host.commit_record(POOL, msgspec.structs.replace(record, active=True), _told(record, Event.STARTED))


@calls.handles(key="pool")
async def storage_pool_build(host: TestHost, pool: StoragePoolRef, flags: int) -> None:
    """Prepares what a pool is made of. Raises NoSuchStoragePool, DomainStateError."""
    check_flags(flags, 0, "testStoragePoolBuild")
    record = need_inactive(host, pool)
    host.emit("storage_pool_event_lifecycle", _told(record, Event.CREATED)[0][1])


@calls.handles(key="pool")
async def storage_pool_destroy(host: TestHost, pool: StoragePoolRef) -> None:
    """Stops a pool; a transient one is gone. Raises NoSuchStoragePool, DomainStateError."""
    record = need_active(host, pool)
    told = _told(record, Event.STOPPED)
    if record.persistent:
        await host.commit_record(POOL, msgspec.structs.replace(record, active=False), told)
    else:
        await host.drop_record(POOL, record, told)


@calls.handles(key="pool")
async def storage_pool_delete(host: TestHost, pool: StoragePoolRef, flags: int) -> None:
    """Deletes what a pool is made of, of which nothing can be seen here. Raises NoSuchStoragePool, DomainStateError."""
    check_flags(flags, 0, "testStoragePoolDelete")
    record = need_inactive(host, pool)
    host.emit("storage_pool_event_lifecycle", _told(record, Event.DELETED)[0][1])


@calls.handles(key="pool")
async def storage_pool_undefine(host: TestHost, pool: StoragePoolRef) -> None:
    """Forgets a pool. Raises NoSuchStoragePool, DomainStateError."""
    record = need_inactive(host, pool)
    await host.drop_record(POOL, record, _told(record, Event.UNDEFINED))


@calls.handles(key="pool")
async def storage_pool_refresh(host: TestHost, pool: StoragePoolRef, flags: int) -> None:
    """Looks at the volumes anew, which are the same. Raises NoSuchStoragePool, DomainStateError."""
    check_flags(flags, 0, "testStoragePoolRefresh")
    record = need_active(host, pool)
    host.emit("storage_pool_event_refresh", {"pool": StoragePoolRef(record.name, pool.uuid)})


@calls.handles(key="pool")
async def storage_pool_set_autostart(host: TestHost, pool: StoragePoolRef, autostart: int) -> None:
    """Whether a pool is to start with the host. Raises NoSuchStoragePool, and InvalidArguments for a transient one."""
    record = need_pool(host, pool)
    if not record.persistent:
        raise InvalidArguments("pool has no config file")
    await host.commit_record(POOL, msgspec.structs.replace(record, autostart=bool(autostart)))


@calls.handles()
def storage_pool_get_info(host: TestHost, pool: StoragePoolRef) -> dict[str, int]:
    """A pool's state and sizes in bytes. Raises NoSuchStoragePool."""
    record = need_pool(host, pool)
    return {
        "state": int(StoragePoolState.RUNNING if record.active else StoragePoolState.INACTIVE),
        "capacity": record.capacity,
        "allocation": record.allocation,
        "available": record.available,
    }


@calls.handles()
def storage_pool_get_xml_desc(host: TestHost, pool: StoragePoolRef, flags: int) -> str:
    """A pool's definition with its sizes. Raises NoSuchStoragePool."""
    check_flags(flags, 0, "testStoragePoolGetXMLDesc")
    record = need_pool(host, pool)
    definition = parse_pool(record.xml)
    definition.capacity_bytes = record.capacity
    definition.allocation_bytes = record.allocation
    definition.available_bytes = record.available
    return write_pool(definition)


@calls.handles()
async def connect_find_storage_pool_sources(
    host: TestHost,
    type: str,
    srcSpec: str | None,  # noqa: N803
    flags: int,
) -> str:
    """What pools could be made of: two volume groups, or one share of the server that is named.

    Raises InvalidArguments without a server, XmlError, InternalError and UnsupportedCall for other types.
    """
    check_flags(flags, 0, "testConnectFindStoragePoolSources")
    source = PoolSource()
    if srcSpec is not None:
        source = parse_source_spec(srcSpec)
    if type == PoolType.LOGICAL:
        found = [
            PoolSource(devices=[SourceDevice(path=path)], name=name, format="lvm2") for path, name in _LOGICAL_SOURCES
        ]
    elif type == PoolType.NETFS:
        if not source.hosts:
            raise InvalidArguments("hostname must be specified for netfs sources")
        found = [PoolSource(hosts=source.hosts[:1], dir="/testshare", format="nfs")]
    elif type in {kind.value for kind in PoolType}:
        raise InternalError(f"unknown storage pool type {type}")
    else:
        raise UnsupportedCall(f"pool type '{type}' does not support source discovery", domain=ErrorDomain.TEST)
    return write_pool_sources(PoolSources(sources=found))


def need_pool(host: TestHost, pool: StoragePoolRef) -> PoolRecord:
    """The pool that a reference means. Raises NoSuchStoragePool."""
    record = host.world.pools.get(pool.uuid)
    if record is None:
        raise NoSuchStoragePool(f"no storage pool with matching name '{pool.name}'")
    return record


def need_active(host: TestHost, pool: StoragePoolRef) -> PoolRecord:
    """The same. Raises DomainStateError for one that is not active."""
    record = need_pool(host, pool)
    if not record.active:
        raise DomainStateError(f"storage pool '{record.name}' is not active")
    return record


def need_inactive(host: TestHost, pool: StoragePoolRef) -> PoolRecord:
    """The same. Raises DomainStateError for one that is active."""
    record = need_pool(host, pool)
    if record.active:
        raise DomainStateError(f"storage pool '{record.name}' is active")
    return record


def _find_same(world: World, pool: Pool) -> PoolRecord | None:
    """The pool that a definition means. Raises OperationFailed when name, uuid and source disagree."""
    named = next((one for one in world.pools.values() if one.name == pool.name), None)
    if named is not None and named.uuid != str(pool.uuid):
        raise OperationFailed(f"pool '{named.name}' already exists with uuid {named.uuid}", domain=ErrorDomain.STORAGE)
    for other in world.pools.values():
        if other.name != pool.name and _has_same_source(other, pool):
            raise OperationFailed(f"Storage source conflict with pool: '{other.name}'", domain=ErrorDomain.STORAGE)
    record = world.pools.get(pool.uuid.bytes)
    if record is not None and record.name != pool.name:
        raise OperationFailed(
            f"pool '{record.name}' is already defined with uuid {record.uuid}", domain=ErrorDomain.STORAGE
        )
    return record


def _has_same_source(other: PoolRecord, pool: Pool) -> bool:
    if other.type != pool.type.value:
        return False
    if pool.type is PoolType.DIR:
        return other.path == pool.target.path
    source = parse_pool(other.xml).source
    if pool.type is PoolType.LOGICAL:
        return source.name == pool.source.name
    if pool.type is PoolType.NETFS:
        return source.dir == pool.source.dir and [h.name for h in source.hosts] == [h.name for h in pool.source.hosts]
    return bool(source.devices) and source.devices == pool.source.devices


def _told(record: PoolRecord, event: Event) -> list[tuple[str, dict[str, Any]]]:
    ref = StoragePoolRef(record.name, POOL.key_of(record))  # type: ignore[arg-type]
    return [("storage_pool_event_lifecycle", {"pool": ref, "event": int(event), "detail": 0})]
