"""Finding objects, where libvirt's test driver has words of its own for what is not there."""

from __future__ import annotations

from actors.runtime.calls import Calls
from actors.runtime.derived import networks as derived_networks
from actors.runtime.derived import storage_pools as derived_pools
from actors.test.host import TestHost
from actors.test.world import uuid_text
from schema.errors import NoSuchDomain, NoSuchNetwork, NoSuchStoragePool
from schema.objects import DomainRef, NetworkRef, StoragePoolRef

calls: Calls[TestHost] = Calls()


@calls.handles()
def domain_lookup_by_id(host: TestHost, id: int) -> DomainRef:
    """The guest that runs under an id. Raises NoSuchDomain."""
    entry = host.objects.find_domain_by_id(id)
    if entry is None:
        raise NoSuchDomain
    return host.world.guests[_key(entry.key)].ref


@calls.handles()
def domain_lookup_by_uuid(host: TestHost, uuid: bytes) -> DomainRef:
    """The guest of a uuid. Raises NoSuchDomain."""
    guest = host.world.guests.get(uuid)
    if guest is None:
        raise NoSuchDomain
    return guest.ref


@calls.handles()
def domain_lookup_by_name(host: TestHost, name: str) -> DomainRef:
    """The guest of a name. Raises NoSuchDomain."""
    guest = host.world.find(name)
    if guest is None:
        raise NoSuchDomain
    return guest.ref


@calls.handles()
def domain_is_updated(host: TestHost, dom: DomainRef) -> int:
    """Whether a guest's definition changed since it was made: libvirt's test driver never says so.

    Raises NoSuchDomain.
    """
    host.guest(dom)
    return 0


@calls.handles()
def network_is_active(host: TestHost, net: NetworkRef) -> int:
    """Whether a network runs. Raises NoSuchNetwork."""
    _check_network_uuid(host, net)
    return derived_networks.network_is_active(host, net)


@calls.handles()
def network_is_persistent(host: TestHost, net: NetworkRef) -> int:
    """Whether a network has a definition that stays. Raises NoSuchNetwork."""
    _check_network_uuid(host, net)
    return derived_networks.network_is_persistent(host, net)


@calls.handles()
def network_get_autostart(host: TestHost, net: NetworkRef) -> int:
    """Whether a network starts with the host. Raises NoSuchNetwork."""
    _check_network_name(host, net)
    return derived_networks.network_get_autostart(host, net)


@calls.handles()
def network_get_bridge_name(host: TestHost, net: NetworkRef) -> str:
    """The bridge of a network. Raises NoSuchNetwork, and InternalError for a network without one."""
    _check_network_name(host, net)
    return derived_networks.network_get_bridge_name(host, net)


@calls.handles()
def storage_pool_is_active(host: TestHost, pool: StoragePoolRef) -> int:
    """Whether a pool can be used. Raises NoSuchStoragePool."""
    check_pool_uuid(host, pool)
    return derived_pools.storage_pool_is_active(host, pool)


@calls.handles()
def storage_pool_is_persistent(host: TestHost, pool: StoragePoolRef) -> int:
    """Whether a pool has a definition that stays. Raises NoSuchStoragePool."""
    check_pool_uuid(host, pool)
    return derived_pools.storage_pool_is_persistent(host, pool)


@calls.handles()
def storage_pool_get_autostart(host: TestHost, pool: StoragePoolRef) -> int:
    """Whether a pool starts with the host. Raises NoSuchStoragePool."""
    if pool.uuid not in host.world.pools:
        raise NoSuchStoragePool(f"no storage pool with matching name '{pool.name}'")
    return derived_pools.storage_pool_get_autostart(host, pool)


def check_pool_uuid(host: TestHost, pool: StoragePoolRef) -> None:
    """Raises NoSuchStoragePool in the words of the functions that look by uuid."""
    if pool.uuid not in host.world.pools:
        raise NoSuchStoragePool(f"no storage pool with matching uuid '{uuid_text(pool.uuid)}'")


def _check_network_uuid(host: TestHost, net: NetworkRef) -> None:
    if net.uuid not in host.world.networks:
        raise NoSuchNetwork(f"no network with matching uuid '{uuid_text(net.uuid)}'")


def _check_network_name(host: TestHost, net: NetworkRef) -> None:
    if net.uuid not in host.world.networks:
        raise NoSuchNetwork(f"no network with matching name '{net.name}'")


def _key(key: bytes | str) -> bytes:
    return key if isinstance(key, bytes) else key.encode()
