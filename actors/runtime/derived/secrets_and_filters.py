"""Lists and lookups of secrets and packet filters, from their summaries."""

from __future__ import annotations

from typing import Any

from actors.runtime.calls import Calls
from actors.runtime.derived.lists import chosen, listed, names, need
from actors.runtime.host import Host
from actors.runtime.objects import Entry, format_uuid
from schema.errors import NoSuchNWFilter, NoSuchSecret

secret_calls: Calls[Host] = Calls()
nwfilter_calls: Calls[Host] = Calls()


@secret_calls.handles()
def connect_num_of_secrets(host: Host) -> int:
    """How many secrets there are."""
    return len(host.objects.all("secret"))


@secret_calls.handles()
def connect_list_secrets(host: Host, maxuuids: int) -> list[str]:
    """The uuids of secrets, as text."""
    return [_uuid_text(entry) for entry in host.objects.all("secret")[: max(0, maxuuids)]]


@secret_calls.handles()
def connect_list_all_secrets(host: Host, need_results: int, flags: int) -> dict[str, Any]:
    """The secrets that the flags select. Raises UnsupportedFlags."""
    return listed(host, "secret", "secrets", need_results, flags)


@secret_calls.handles()
def secret_lookup_by_uuid(host: Host, uuid: bytes) -> Any:
    """Raises NoSuchSecret."""
    entry = host.objects.find("secret", uuid)
    return need(entry, NoSuchSecret, f"no secret with matching uuid '{format_uuid(uuid)}'").ref


@secret_calls.handles()
def secret_lookup_by_usage(host: Host, usageType: int, usageID: str) -> Any:  # noqa: N803 - the wire's own names
    """Raises NoSuchSecret."""
    found = chosen(host, "secret", lambda s: bool(s["usage_type"] == usageType and s["usage_id"] == usageID))
    return need(found[0] if found else None, NoSuchSecret, f"no secret with matching usage '{usageID}'").ref


@nwfilter_calls.handles()
def connect_num_of_nwfilters(host: Host) -> int:
    """How many filters there are."""
    return len(host.objects.all("nwfilter"))


@nwfilter_calls.handles()
def connect_list_nwfilters(host: Host, maxnames: int) -> list[str]:
    """The names of filters."""
    return names(host.objects.all("nwfilter"), maxnames)


@nwfilter_calls.handles()
def connect_list_all_nwfilters(host: Host, need_results: int, flags: int) -> dict[str, Any]:
    """All filters. Raises UnsupportedFlags."""
    return listed(host, "nwfilter", "filters", need_results, flags)


@nwfilter_calls.handles()
def nwfilter_lookup_by_name(host: Host, name: str) -> Any:
    """Raises NoSuchNWFilter."""
    entry = host.objects.find_by_name("nwfilter", name)
    return need(entry, NoSuchNWFilter, f"no nwfilter with matching name '{name}'").ref


@nwfilter_calls.handles()
def nwfilter_lookup_by_uuid(host: Host, uuid: bytes) -> Any:
    """Raises NoSuchNWFilter."""
    entry = host.objects.find("nwfilter", uuid)
    return need(entry, NoSuchNWFilter, f"no nwfilter with matching uuid '{format_uuid(uuid)}'").ref


def _uuid_text(entry: Entry) -> str:
    return entry.key if isinstance(entry.key, str) else format_uuid(entry.key)
