"""Lists, lookups and states of virtual networks, from their summaries."""

from __future__ import annotations

from typing import Any

from actors.runtime.calls import Calls
from actors.runtime.derived.lists import chosen, is_active, is_inactive, listed, names, need
from actors.runtime.host import Host
from actors.runtime.objects import Entry, format_uuid
from schema.errors import InternalError, NoSuchNetwork
from schema.objects import NetworkRef

calls: Calls[Host] = Calls()


@calls.handles()
def connect_num_of_networks(host: Host) -> int:
    """How many networks are up."""
    return len(chosen(host, "network", is_active))


@calls.handles()
def connect_list_networks(host: Host, maxnames: int) -> list[str]:
    """The names of networks that are up."""
    return names(chosen(host, "network", is_active), maxnames)


@calls.handles()
def connect_num_of_defined_networks(host: Host) -> int:
    """How many networks are down."""
    return len(chosen(host, "network", is_inactive))


@calls.handles()
def connect_list_defined_networks(host: Host, maxnames: int) -> list[str]:
    """The names of networks that are down."""
    return names(chosen(host, "network", is_inactive), maxnames)


@calls.handles()
def connect_list_all_networks(host: Host, need_results: int, flags: int) -> dict[str, Any]:
    """The networks that the flags select. Raises UnsupportedFlags."""
    return listed(host, "network", "nets", need_results, flags)


@calls.handles()
def network_lookup_by_name(host: Host, name: str) -> Any:
    """Raises NoSuchNetwork."""
    entry = host.objects.find_by_name("network", name)
    return need(entry, NoSuchNetwork, f"no network with matching name '{name}'").ref


@calls.handles()
def network_lookup_by_uuid(host: Host, uuid: bytes) -> Any:
    """Raises NoSuchNetwork."""
    entry = host.objects.find("network", uuid)
    return need(entry, NoSuchNetwork, f"no network with matching uuid '{format_uuid(uuid)}'").ref


@calls.handles()
def network_is_active(host: Host, net: NetworkRef) -> int:
    """Raises NoSuchNetwork."""
    return int(_need(host, net).summary["active"])


@calls.handles()
def network_is_persistent(host: Host, net: NetworkRef) -> int:
    """Raises NoSuchNetwork."""
    return int(_need(host, net).summary["persistent"])


@calls.handles()
def network_get_autostart(host: Host, net: NetworkRef) -> int:
    """Raises NoSuchNetwork."""
    return int(_need(host, net).summary["autostart"])


@calls.handles()
def network_get_bridge_name(host: Host, net: NetworkRef) -> str:
    """Raises NoSuchNetwork, and InternalError for a network without a bridge."""
    bridge = _need(host, net).summary["bridge"]
    if bridge is None:
        raise InternalError(f"network '{net.name}' does not have a bridge name.")
    return str(bridge)


def _need(host: Host, net: NetworkRef) -> Entry:
    entry = host.objects.find("network", net.uuid)
    return need(entry, NoSuchNetwork, f"no network with matching uuid '{format_uuid(net.uuid)}' ({net.name})")
