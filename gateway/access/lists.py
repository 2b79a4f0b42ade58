"""Lists and counts as a caller may see them: what it has no permission for is not in them.

The older calls give only names, ids or a number; they are answered from the newer list, which names the objects.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final
from uuid import UUID

from schema.enums.connect import ConnectListAllDomainsFlags as Domains
from schema.enums.interface import ConnectListAllInterfacesFlags as Interfaces
from schema.enums.network import ConnectListAllNetworksFlags as Networks
from schema.enums.storage_pool import ConnectListAllStoragePoolsFlags as Pools
from schema.model import Procedure

NAMES_MAX: Final = 16384


def _name(item: Any) -> Any:
    return item.name


@dataclass(frozen=True, slots=True)
class FromList:
    """An older call by a newer one: which list, with what arguments, and what of each object is told."""

    call: str
    args: dict[str, Any] = field(default_factory=dict)
    value: Callable[[Any], Any] = _name


def _whole(call: str, flags: int, value: Callable[[Any], Any] = _name) -> FromList:
    return FromList(call, {"need_results": 1, "flags": flags}, value)


OLDER: Final = {
    "connect_num_of_domains": _whole("connect_list_all_domains", Domains.ACTIVE),
    "connect_list_domains": _whole("connect_list_all_domains", Domains.ACTIVE, lambda item: item.id),
    "connect_num_of_defined_domains": _whole("connect_list_all_domains", Domains.INACTIVE),
    "connect_list_defined_domains": _whole("connect_list_all_domains", Domains.INACTIVE),
    "connect_num_of_networks": _whole("connect_list_all_networks", Networks.ACTIVE),
    "connect_list_networks": _whole("connect_list_all_networks", Networks.ACTIVE),
    "connect_num_of_defined_networks": _whole("connect_list_all_networks", Networks.INACTIVE),
    "connect_list_defined_networks": _whole("connect_list_all_networks", Networks.INACTIVE),
    "connect_num_of_storage_pools": _whole("connect_list_all_storage_pools", Pools.ACTIVE),
    "connect_list_storage_pools": _whole("connect_list_all_storage_pools", Pools.ACTIVE),
    "connect_num_of_defined_storage_pools": _whole("connect_list_all_storage_pools", Pools.INACTIVE),
    "connect_list_defined_storage_pools": _whole("connect_list_all_storage_pools", Pools.INACTIVE),
    "connect_num_of_interfaces": _whole("connect_list_all_interfaces", Interfaces.ACTIVE),
    "connect_list_interfaces": _whole("connect_list_all_interfaces", Interfaces.ACTIVE),
    "connect_num_of_defined_interfaces": _whole("connect_list_all_interfaces", Interfaces.INACTIVE),
    "connect_list_defined_interfaces": _whole("connect_list_all_interfaces", Interfaces.INACTIVE),
    "connect_num_of_nwfilters": _whole("connect_list_all_nwfilters", 0),
    "connect_list_nwfilters": _whole("connect_list_all_nwfilters", 0),
    "connect_num_of_secrets": _whole("connect_list_all_secrets", 0),
    "connect_list_secrets": _whole("connect_list_all_secrets", 0, lambda item: str(UUID(bytes=item.uuid))),
    "storage_pool_num_of_volumes": _whole("storage_pool_list_all_volumes", 0),
    "storage_pool_list_volumes": _whole("storage_pool_list_all_volumes", 0),
    "node_num_of_devices": FromList("node_list_devices", {"maxnames": NAMES_MAX}, lambda item: item),
}
_LIMITS: Final = ("maxnames", "maxids", "maxuuids")


def older_result(procedure: Procedure, how: FromList, args: Any, items: list[Any]) -> dict[str, Any]:
    """The result of an older call, from the objects that the caller may see."""
    (item,) = procedure.ret
    if not item.is_list:
        return {item.name: len(items)}
    most = next((getattr(args, name) for name in _LIMITS if hasattr(args, name)), NAMES_MAX)
    return {item.name: [how.value(one) for one in items][: max(0, most)]}


def list_field(procedure: Procedure) -> str:
    """The field that holds the objects of a list."""
    return next(item.name for item in procedure.ret if item.is_list)


def fitted(procedure: Procedure, args: Any, items: list[Any]) -> dict[str, Any]:
    """The result of a newer list with these objects, as far as the caller wants them."""
    values: dict[str, Any] = {list_field(procedure): items if getattr(args, "need_results", 1) else []}
    if any(item.name == "ret" for item in procedure.ret):
        values["ret"] = len(items)
    return values
