"""What a daemon has, in the form in which our own drivers tell it: name, key, summary, and a mark of the definition.

Nothing here is remembered: every question goes to the daemon. What its driver does not support is left at its default.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from typing import Any, Final

from conf.document import parse_document
from conf.domain.tags import NAMESPACE, tags_of_domain
from remoting.connection import DaemonConnection
from schema import objects as refs
from schema.errors import DeadlinePassed, ErrorCode, HypervisorGone, VirtError
from schema.table import need_procedure

AT_ONCE: Final = 16
_INACTIVE: Final = 1
_DOMAIN_INACTIVE: Final = 2
_TITLE: Final = 1
_GONE_CODES: Final = frozenset(
    (
        ErrorCode.NO_DOMAIN,
        ErrorCode.NO_NETWORK,
        ErrorCode.NO_STORAGE_POOL,
        ErrorCode.NO_NODE_DEVICE,
        ErrorCode.NO_INTERFACE,
        ErrorCode.NO_NWFILTER,
        ErrorCode.NO_SECRET,
    )
)


@dataclass(frozen=True, slots=True)
class FarObject:
    """An object as the daemon has it now."""

    type: str
    key: bytes | str
    name: str
    summary: dict[str, Any]
    digest: bytes = b""


Read = Callable[[DaemonConnection, Any, str], Awaitable[FarObject]]


@dataclass(frozen=True, slots=True)
class Kind:
    """A type of object: how all are listed, how one is looked up anew, and how it is read."""

    listing: str
    lookup: str
    by: str
    read: Read


async def _ask(conn: DaemonConnection, field: str, default: Any, procedure: str, /, **args: Any) -> Any:
    """A field of a call's result; the default where the daemon's driver cannot tell."""
    try:
        return getattr(await conn.call(procedure, args), field)
    except (HypervisorGone, DeadlinePassed):
        raise
    except VirtError as exc:
        if exc.code in _GONE_CODES:
            raise
        return default


def _mark(xml: str) -> bytes:
    return hashlib.blake2b(xml.encode("utf-8", "surrogateescape"), digest_size=8).digest() if xml else b""


async def _domain(conn: DaemonConnection, dom: refs.DomainRef, scope: str) -> FarObject:
    state, info, persistent, autostart, saved, os_type, title, snapshots, checkpoints, xml = await asyncio.gather(
        conn.call("domain_get_state", dom=dom, flags=0),
        conn.call("domain_get_info", dom=dom),
        _ask(conn, "persistent", 0, "domain_is_persistent", dom=dom),
        _ask(conn, "autostart", 0, "domain_get_autostart", dom=dom),
        _ask(conn, "result", 0, "domain_has_managed_save_image", dom=dom, flags=0),
        _ask(conn, "type", "", "domain_get_os_type", dom=dom),
        _ask(conn, "metadata", None, "domain_get_metadata", dom=dom, type=_TITLE, uri=None, flags=0),
        _ask(conn, "num", 0, "domain_snapshot_num", dom=dom, flags=0),
        _ask(conn, "ret", 0, "domain_list_all_checkpoints", dom=dom, need_results=0, flags=0),
        _ask(conn, "xml", "", "domain_get_xml_desc", dom=dom, flags=_DOMAIN_INACTIVE),
    )
    summary = {
        "id": dom.id,
        "state": int(state.state),
        "reason": int(state.reason),
        "persistent": bool(persistent),
        "autostart": bool(autostart),
        "managed_save": bool(saved),
        "os_type": os_type,
        "max_mem": info.maxMem,
        "mem": info.memory,
        "vcpus": info.nrVirtCpu,
        "title": title,
        "scope": scope,
        "snapshots": snapshots,
        "checkpoints": checkpoints,
        "since": 0.0,
    }
    if NAMESPACE in xml:
        summary["tags"] = list(tags_of_domain(parse_document(xml)))
    return FarObject("domain", dom.uuid, dom.name, summary, _mark(xml))


async def _network(conn: DaemonConnection, net: refs.NetworkRef, scope: str) -> FarObject:
    active, persistent, autostart, bridge, xml = await asyncio.gather(
        conn.call("network_is_active", net=net),
        _ask(conn, "persistent", 0, "network_is_persistent", net=net),
        _ask(conn, "autostart", 0, "network_get_autostart", net=net),
        _ask(conn, "name", None, "network_get_bridge_name", net=net),
        _ask(conn, "xml", "", "network_get_xml_desc", net=net, flags=_INACTIVE),
    )
    summary = {
        "active": bool(active.active),
        "persistent": bool(persistent),
        "autostart": bool(autostart),
        "bridge": bridge,
        "scope": scope,
    }
    return FarObject("network", net.uuid, net.name, summary, _mark(xml))


async def _storage_pool(conn: DaemonConnection, pool: refs.StoragePoolRef, scope: str) -> FarObject:
    info, persistent, autostart, xml = await asyncio.gather(
        conn.call("storage_pool_get_info", pool=pool),
        _ask(conn, "persistent", 0, "storage_pool_is_persistent", pool=pool),
        _ask(conn, "autostart", 0, "storage_pool_get_autostart", pool=pool),
        _ask(conn, "xml", "", "storage_pool_get_xml_desc", pool=pool, flags=_INACTIVE),
    )
    summary = {
        "state": int(info.state),
        "persistent": bool(persistent),
        "autostart": bool(autostart),
        "type": _pool_type(xml),
        "scope": scope,
    }
    return FarObject("storage_pool", pool.uuid, pool.name, summary)  # its XML tells its fill level: no definition


def _pool_type(xml: str) -> str:
    head = xml.partition("<pool")[2].partition(">")[0]
    for mark in ("type='", 'type="'):
        if mark in head:
            return head.partition(mark)[2].partition(mark[-1])[0]
    return ""


async def _secret(conn: DaemonConnection, secret: refs.SecretRef, scope: str) -> FarObject:
    xml = str(await _ask(conn, "xml", "", "secret_get_xml_desc", secret=secret, flags=0))
    head = xml.partition("<secret")[2].partition(">")[0]
    summary = {
        "usage_type": secret.usageType,
        "usage_id": secret.usageID,
        "ephemeral": "ephemeral='yes'" in head,
        "private": "private='yes'" in head,
        "scope": scope,
    }
    return FarObject("secret", secret.uuid, _secret_name(secret), summary, _mark(xml))


def _secret_name(secret: refs.SecretRef) -> str:
    """A secret's name is its uuid."""
    text = secret.uuid.hex()
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


async def _nwfilter(conn: DaemonConnection, nwfilter: refs.NWFilterRef, scope: str) -> FarObject:
    xml = await _ask(conn, "xml", "", "nwfilter_get_xml_desc", nwfilter=nwfilter, flags=0)
    return FarObject("nwfilter", nwfilter.uuid, nwfilter.name, {"scope": scope}, _mark(xml))


async def _interface(conn: DaemonConnection, iface: refs.InterfaceRef, scope: str) -> FarObject:
    active = await _ask(conn, "active", 0, "interface_is_active", iface=iface)
    return FarObject("interface", iface.name, iface.name, {"active": bool(active), "mac": iface.mac, "scope": scope})


async def _node_device(conn: DaemonConnection, dev: refs.NodeDeviceRef, scope: str) -> FarObject:
    parent, caps, active, persistent, autostart = await asyncio.gather(
        _ask(conn, "parentName", None, "node_device_get_parent", name=dev.name),
        _ask(conn, "names", [], "node_device_list_caps", name=dev.name, maxnames=1024),
        _ask(conn, "active", 1, "node_device_is_active", name=dev.name),
        _ask(conn, "persistent", 0, "node_device_is_persistent", name=dev.name),
        _ask(conn, "autostart", 0, "node_device_get_autostart", name=dev.name),
    )
    summary = {
        "active": bool(active),
        "persistent": bool(persistent),
        "autostart": bool(autostart),
        "parent": parent,
        "caps": list(caps),
        "scope": scope,
    }
    return FarObject("node_device", dev.name, dev.name, summary)


KINDS: Final = {
    "domain": Kind("connect_list_all_domains", "domain_lookup_by_uuid", "uuid", _domain),
    "network": Kind("connect_list_all_networks", "network_lookup_by_uuid", "uuid", _network),
    "storage_pool": Kind("connect_list_all_storage_pools", "storage_pool_lookup_by_uuid", "uuid", _storage_pool),
    "secret": Kind("connect_list_all_secrets", "secret_lookup_by_uuid", "uuid", _secret),
    "nwfilter": Kind("connect_list_all_nwfilters", "nwfilter_lookup_by_uuid", "uuid", _nwfilter),
    "interface": Kind("connect_list_all_interfaces", "interface_lookup_by_name", "name", _interface),
    "node_device": Kind("connect_list_all_node_devices", "node_device_lookup_by_name", "name", _node_device),
}

_KIND_OF: Final[dict[type, str]] = {
    refs.DomainRef: "domain",
    refs.NetworkRef: "network",
    refs.StoragePoolRef: "storage_pool",
    refs.SecretRef: "secret",
    refs.NWFilterRef: "nwfilter",
    refs.InterfaceRef: "interface",
    refs.NodeDeviceRef: "node_device",
}


def objects_in(values: Iterable[Any]) -> list[tuple[str, bytes | str]]:
    """Type and key of each object that arguments or a result name; a snapshot counts as its guest."""
    found = []
    for value in values:
        owner = getattr(value, "dom", None) or getattr(value, "net", None) or value
        kind = _KIND_OF.get(type(owner))
        if kind is not None:
            found.append((kind, owner.uuid if KINDS[kind].by == "uuid" else owner.name))
    return found


async def read_object(conn: DaemonConnection, type: str, key: bytes | str, scope: str) -> FarObject | None:
    """An object as it is now; None when there is none any more. Raises what the daemon answers otherwise."""
    kind = KINDS[type]
    try:
        found = await conn.call(kind.lookup, {kind.by: key})
        ref = getattr(found, need_procedure(kind.lookup).ret[0].name)
        return await kind.read(conn, ref, scope)
    except VirtError as exc:
        if exc.code in _GONE_CODES:
            return None
        raise


async def read_all(conn: DaemonConnection, type: str, scope: str) -> list[FarObject] | None:
    """All objects of a type; None where the daemon does not tell. Raises HypervisorGone and DeadlinePassed."""
    kind = KINDS[type]
    row = need_procedure(kind.listing)
    found: list[FarObject] = []
    try:
        listed = getattr(await conn.call(kind.listing, {"need_results": 1, "flags": 0}), row.ret[0].name)
        for begin in range(0, len(listed), AT_ONCE):
            part = await asyncio.gather(*(_read(conn, kind, ref, scope) for ref in listed[begin : begin + AT_ONCE]))
            found += [item for item in part if item is not None]
    except (HypervisorGone, DeadlinePassed):
        raise
    except VirtError:
        return None
    return found


async def _read(conn: DaemonConnection, kind: Kind, ref: Any, scope: str) -> FarObject | None:
    try:
        return await kind.read(conn, ref, scope)
    except VirtError as exc:
        if exc.code in _GONE_CODES:
            return None  # gone between the list and now
        raise
