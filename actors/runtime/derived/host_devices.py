"""Lists, lookups and states of the host's interfaces and devices, from their summaries."""

from __future__ import annotations

from typing import Any

from actors.runtime.calls import Calls
from actors.runtime.derived.flags import check_flags
from actors.runtime.derived.lists import chosen, is_active, is_inactive, listed, names, need
from actors.runtime.host import Host
from actors.runtime.objects import Entry
from schema.errors import NoSuchInterface, NoSuchNodeDevice
from schema.objects import InterfaceRef

interface_calls: Calls[Host] = Calls()
node_device_calls: Calls[Host] = Calls()


@interface_calls.handles()
def connect_num_of_interfaces(host: Host) -> int:
    """How many interfaces are up."""
    return len(chosen(host, "interface", is_active))


@interface_calls.handles()
def connect_list_interfaces(host: Host, maxnames: int) -> list[str]:
    """The names of interfaces that are up."""
    return names(chosen(host, "interface", is_active), maxnames)


@interface_calls.handles()
def connect_num_of_defined_interfaces(host: Host) -> int:
    """How many interfaces are down."""
    return len(chosen(host, "interface", is_inactive))


@interface_calls.handles()
def connect_list_defined_interfaces(host: Host, maxnames: int) -> list[str]:
    """The names of interfaces that are down."""
    return names(chosen(host, "interface", is_inactive), maxnames)


@interface_calls.handles()
def connect_list_all_interfaces(host: Host, need_results: int, flags: int) -> dict[str, Any]:
    """The interfaces that the flags select. Raises UnsupportedFlags."""
    return listed(host, "interface", "ifaces", need_results, flags)


@interface_calls.handles()
def interface_lookup_by_name(host: Host, name: str) -> Any:
    """Raises NoSuchInterface."""
    return _interface(host, name).ref


@interface_calls.handles()
def interface_lookup_by_mac_string(host: Host, mac: str) -> Any:
    """Raises NoSuchInterface."""
    found = chosen(host, "interface", lambda summary: str(summary["mac"]).lower() == mac.lower())
    return need(found[0] if found else None, NoSuchInterface, f"no interface with matching mac '{mac}'").ref


@interface_calls.handles()
def interface_is_active(host: Host, iface: InterfaceRef) -> int:
    """Raises NoSuchInterface."""
    return int(_interface(host, iface.name).summary["active"])


@node_device_calls.handles()
def node_num_of_devices(host: Host, cap: str | None, flags: int) -> int:
    """How many devices there are, or have a capability. Raises UnsupportedFlags."""
    check_flags(host, flags, 0)
    return len(_devices(host, cap))


@node_device_calls.handles()
def node_list_devices(host: Host, cap: str | None, maxnames: int, flags: int) -> list[str]:
    """The names of devices, or of those with a capability. Raises UnsupportedFlags."""
    check_flags(host, flags, 0)
    return names(_devices(host, cap), maxnames)


@node_device_calls.handles()
def connect_list_all_node_devices(host: Host, need_results: int, flags: int) -> dict[str, Any]:
    """The devices that the flags select. Raises UnsupportedFlags."""
    return listed(host, "node_device", "devices", need_results, flags)


@node_device_calls.handles()
def node_device_lookup_by_name(host: Host, name: str) -> Any:
    """Raises NoSuchNodeDevice."""
    return _device(host, name).ref


@node_device_calls.handles()
def node_device_get_parent(host: Host, name: str) -> str | None:
    """The device that a device is on. Raises NoSuchNodeDevice."""
    parent: str | None = _device(host, name).summary["parent"]
    return parent


@node_device_calls.handles()
def node_device_num_of_caps(host: Host, name: str) -> int:
    """Raises NoSuchNodeDevice."""
    return len(_device(host, name).summary["caps"])


@node_device_calls.handles()
def node_device_list_caps(host: Host, name: str, maxnames: int) -> list[str]:
    """Raises NoSuchNodeDevice."""
    return list(_device(host, name).summary["caps"][: max(0, maxnames)])


@node_device_calls.handles()
def node_device_is_active(host: Host, name: str) -> int:
    """Raises NoSuchNodeDevice."""
    return int(_device(host, name).summary["active"])


@node_device_calls.handles()
def node_device_is_persistent(host: Host, name: str) -> int:
    """Raises NoSuchNodeDevice."""
    return int(_device(host, name).summary["persistent"])


@node_device_calls.handles()
def node_device_get_autostart(host: Host, name: str) -> int:
    """Raises NoSuchNodeDevice."""
    return int(_device(host, name).summary["autostart"])


def _interface(host: Host, name: str) -> Entry:
    entry = host.objects.find_by_name("interface", name)
    return need(entry, NoSuchInterface, f"no interface with matching name '{name}'")


def _device(host: Host, name: str) -> Entry:
    entry = host.objects.find_by_name("node_device", name)
    return need(entry, NoSuchNodeDevice, f"no node device with matching name '{name}'")


def _devices(host: Host, cap: str | None) -> list[Entry]:
    return chosen(host, "node_device", lambda summary: cap is None or cap in summary["caps"])
