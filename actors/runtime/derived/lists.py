"""What lists and lookups of all kinds of objects have in common."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from actors.runtime.derived.flags import check_flags
from actors.runtime.host import Host
from actors.runtime.objects import Entry
from schema.errors import VirtError
from schema.host_summaries import known_flags, selection


def listed(host: Host, type: str, field: str, need_results: int, flags: int) -> dict[str, Any]:
    """The answer of a `list_all`. Raises UnsupportedFlags."""
    check_flags(host, flags, known_flags(type))
    selects = selection(type, flags)
    found = [entry for entry in host.objects.all(type) if selects(entry.summary)]
    return {field: [entry.ref for entry in found] if need_results else [], "ret": len(found)}


def chosen(host: Host, type: str, test: Callable[[Mapping[str, Any]], bool]) -> list[Entry]:
    """The objects whose summary passes."""
    return [entry for entry in host.objects.all(type) if test(entry.summary)]


def names(entries: list[Entry], most: int) -> list[str]:
    """At most so many names."""
    return [entry.name for entry in entries[: max(0, most)]]


def need(entry: Entry | None, error: type[VirtError], text: str) -> Entry:
    """The entry. Raises the error when there is none."""
    if entry is None:
        raise error(text)
    return entry


def is_active(summary: Mapping[str, Any]) -> bool:
    return bool(summary["active"])


def is_inactive(summary: Mapping[str, Any]) -> bool:
    return not summary["active"]
