"""Lists, lookups and states of storage pools, from their summaries."""

from __future__ import annotations

from typing import Any

from actors.runtime.calls import Calls
from actors.runtime.derived.lists import chosen, listed, names, need
from actors.runtime.host import Host
from actors.runtime.objects import Entry, format_uuid
from schema.errors import NoSuchStoragePool
from schema.host_summaries import pool_is_active
from schema.objects import StoragePoolRef

calls: Calls[Host] = Calls()


def _inactive(host: Host) -> list[Entry]:
    return chosen(host, "storage_pool", lambda summary: not pool_is_active(summary))


@calls.handles()
def connect_num_of_storage_pools(host: Host) -> int:
    """How many pools are active."""
    return len(chosen(host, "storage_pool", pool_is_active))


@calls.handles()
def connect_list_storage_pools(host: Host, maxnames: int) -> list[str]:
    """The names of active pools."""
    return names(chosen(host, "storage_pool", pool_is_active), maxnames)


@calls.handles()
def connect_num_of_defined_storage_pools(host: Host) -> int:
    """How many pools are not active."""
    return len(_inactive(host))


@calls.handles()
def connect_list_defined_storage_pools(host: Host, maxnames: int) -> list[str]:
    """The names of pools that are not active."""
    return names(_inactive(host), maxnames)


@calls.handles()
def connect_list_all_storage_pools(host: Host, need_results: int, flags: int) -> dict[str, Any]:
    """The pools that the flags select. Raises UnsupportedFlags."""
    return listed(host, "storage_pool", "pools", need_results, flags)


@calls.handles()
def storage_pool_lookup_by_name(host: Host, name: str) -> Any:
    """Raises NoSuchStoragePool."""
    entry = host.objects.find_by_name("storage_pool", name)
    return need(entry, NoSuchStoragePool, f"no storage pool with matching name '{name}'").ref


@calls.handles()
def storage_pool_lookup_by_uuid(host: Host, uuid: bytes) -> Any:
    """Raises NoSuchStoragePool."""
    entry = host.objects.find("storage_pool", uuid)
    return need(entry, NoSuchStoragePool, f"no storage pool with matching uuid '{format_uuid(uuid)}'").ref


@calls.handles()
def storage_pool_is_active(host: Host, pool: StoragePoolRef) -> int:
    """Raises NoSuchStoragePool."""
    return int(pool_is_active(_need(host, pool).summary))


@calls.handles()
def storage_pool_is_persistent(host: Host, pool: StoragePoolRef) -> int:
    """Raises NoSuchStoragePool."""
    return int(_need(host, pool).summary["persistent"])


@calls.handles()
def storage_pool_get_autostart(host: Host, pool: StoragePoolRef) -> int:
    """Raises NoSuchStoragePool."""
    return int(_need(host, pool).summary["autostart"])


def _need(host: Host, pool: StoragePoolRef) -> Entry:
    entry = host.objects.find("storage_pool", pool.uuid)
    text = f"no storage pool with matching uuid '{format_uuid(pool.uuid)}' ({pool.name})"
    return need(entry, NoSuchStoragePool, text)
