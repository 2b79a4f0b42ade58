"""Lists, lookups and states of guests, from their summaries."""

from __future__ import annotations

from typing import Any

from actors.runtime.calls import Calls
from actors.runtime.derived.flags import check_flags
from actors.runtime.host import Host
from actors.runtime.objects import Entry, format_uuid
from schema.errors import NoSuchDomain
from schema.objects import DomainRef
from schema.summaries import LIST_DOMAINS_FLAGS, domain_selection

calls: Calls[Host] = Calls()


def _active(host: Host) -> list[Entry]:
    return [entry for entry in host.objects.all("domain") if entry.summary["id"] != -1]


def _inactive(host: Host) -> list[Entry]:
    return [entry for entry in host.objects.all("domain") if entry.summary["id"] == -1]


@calls.handles()
def connect_num_of_domains(host: Host) -> int:
    """How many guests run."""
    return len(_active(host))


@calls.handles()
def connect_list_domains(host: Host, maxids: int) -> list[int]:
    """The ids of guests that run."""
    return [entry.summary["id"] for entry in _active(host)[: max(0, maxids)]]


@calls.handles()
def connect_num_of_defined_domains(host: Host) -> int:
    """How many guests are off."""
    return len(_inactive(host))


@calls.handles()
def connect_list_defined_domains(host: Host, maxnames: int) -> list[str]:
    """The names of guests that are off."""
    return [entry.name for entry in _inactive(host)[: max(0, maxnames)]]


@calls.handles()
def connect_list_all_domains(host: Host, need_results: int, flags: int) -> dict[str, Any]:
    """The guests that the flags select. Raises UnsupportedFlags."""
    check_flags(host, flags, LIST_DOMAINS_FLAGS)
    selects: Any = domain_selection(flags)
    found = [entry for entry in host.objects.all("domain") if selects(entry.summary)]
    return {"domains": [entry.ref for entry in found] if need_results else [], "ret": len(found)}


@calls.handles()
def domain_lookup_by_id(host: Host, id: int) -> DomainRef:
    """The guest that runs under an id. Raises NoSuchDomain."""
    entry = host.objects.find_domain_by_id(id)
    if entry is None:
        raise NoSuchDomain(f"no domain with matching id {id}")
    return _ref(entry)


@calls.handles()
def domain_lookup_by_uuid(host: Host, uuid: bytes) -> DomainRef:
    """The guest of a uuid. Raises NoSuchDomain."""
    entry = host.objects.find("domain", uuid)
    if entry is None:
        raise NoSuchDomain(f"no domain with matching uuid '{format_uuid(uuid)}'")
    return _ref(entry)


@calls.handles()
def domain_lookup_by_name(host: Host, name: str) -> DomainRef:
    """The guest of a name. Raises NoSuchDomain."""
    entry = host.objects.find_by_name("domain", name)
    if entry is None:
        raise NoSuchDomain(f"no domain with matching name '{name}'")
    return _ref(entry)


@calls.handles()
def domain_is_active(host: Host, dom: DomainRef) -> int:
    """Whether a guest runs. Raises NoSuchDomain."""
    return int(host.need_domain(dom).summary["id"] != -1)


@calls.handles()
def domain_is_persistent(host: Host, dom: DomainRef) -> int:
    """Whether a guest has a definition that stays. Raises NoSuchDomain."""
    return int(host.need_domain(dom).summary["persistent"])


@calls.handles()
def domain_get_state(host: Host, dom: DomainRef, flags: int) -> dict[str, int]:
    """A guest's state and why. Raises NoSuchDomain, UnsupportedFlags."""
    check_flags(host, flags, 0)
    summary = host.need_domain(dom).summary
    return {"state": int(summary["state"]), "reason": int(summary["reason"])}


@calls.handles()
def domain_get_autostart(host: Host, dom: DomainRef) -> int:
    """Whether a guest starts with the host. Raises NoSuchDomain."""
    return int(host.need_domain(dom).summary["autostart"])


@calls.handles()
def domain_has_managed_save_image(host: Host, dom: DomainRef, flags: int) -> int:
    """Whether a guest will go on from its saved memory. Raises NoSuchDomain, UnsupportedFlags."""
    check_flags(host, flags, 0)
    return int(host.need_domain(dom).summary["managed_save"])


@calls.handles()
def domain_get_os_type(host: Host, dom: DomainRef) -> str:
    """What kind of guest it is (`hvm`, `exe`). Raises NoSuchDomain."""
    return str(host.need_domain(dom).summary["os_type"])


@calls.handles()
def domain_get_max_memory(host: Host, dom: DomainRef) -> int:
    """The most memory that a guest may get, in KiB. Raises NoSuchDomain."""
    return int(host.need_domain(dom).summary["max_mem"])


def _ref(entry: Entry) -> DomainRef:
    ref: DomainRef = entry.ref
    return ref
