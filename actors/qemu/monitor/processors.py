"""What QEMU tells of a guest's processors, number by number: which there are, and what stands for each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

_PERIPHERAL: Final = "/machine/peripheral/"
_TOPOLOGY: Final = ("socket", "die", "core", "thread")


@dataclass(slots=True)
class ProcessorEntry:
    """One processor of the guest. Of those that come and go together only the first says how."""

    online: bool = False
    hotpluggable: bool = False
    thread: int | None = None
    enabled_as: int | None = None
    number: int | None = None
    type: str | None = None
    alias: str | None = None
    path: str | None = None
    place: dict[str, int] = field(default_factory=dict)
    count: int | None = None


def processor_entries(
    cpus: Sequence[Mapping[str, Any]], slots: Sequence[Mapping[str, Any]] | None, most: int
) -> list[ProcessorEntry]:
    """What `query-cpus-fast` and `query-hotpluggable-cpus` tell of `most` processors.

    A machine that tells nothing of slots, or of other numbers, has the processors that run, one after the other.
    """
    if slots is not None and sum(int(one.get("vcpus-count", 1)) for one in slots) == most:
        found = _by_slots(cpus, sorted(slots, key=_place_key), most)
        if found is not None:
            return found
    entries = [ProcessorEntry() for _ in range(most)]
    for entry, cpu in zip(entries, cpus, strict=False):
        entry.online = True
        entry.thread, entry.number = int(cpu["thread-id"]), int(cpu["cpu-index"])
    return entries


def _place_key(slot: Mapping[str, Any]) -> tuple[int, ...]:
    props = slot.get("props", {})
    return tuple(int(props.get(f"{name}-id", 0)) for name in _TOPOLOGY)


def _by_slots(
    cpus: Sequence[Mapping[str, Any]], slots: Sequence[Mapping[str, Any]], most: int
) -> list[ProcessorEntry] | None:
    order: dict[str, int] = {}
    for cpu in cpus:
        path = next((one["qom-path"] for one in slots if _is_below(cpu, one.get("qom-path"))), None)
        if path is not None:
            order.setdefault(str(path), len(order) + 1)
    entries: list[ProcessorEntry] = []
    groups: list[tuple[str, int, int]] = []
    for slot in slots:
        path, count = slot.get("qom-path"), int(slot.get("vcpus-count", 1))
        alias = path.removeprefix(_PERIPHERAL) if path is not None and path.startswith(_PERIPHERAL) else None
        is_online = path is not None
        is_movable = alias is not None or not is_online
        first = ProcessorEntry(online=is_online, hotpluggable=is_movable, alias=alias, path=path, count=count)
        first.type = str(slot["type"])
        first.enabled_as = order.get(path) if path is not None else None
        props = slot.get("props", {})
        first.place = {name: int(props[f"{name}-id"]) for name in _TOPOLOGY if f"{name}-id" in props}
        if path is not None:
            groups.append((path, len(entries), count))
        entries.append(first)
        entries += [ProcessorEntry(online=is_online, hotpluggable=is_movable) for _ in range(count - 1)]
    for cpu in cpus:
        place = next((one for one in groups if _is_below(cpu, one[0])), None)
        if place is None:
            return None
        _, start, count = place
        free = next((n for n in range(start, min(start + count, most)) if entries[n].thread is None), None)
        if free is None:
            return None
        entries[free].thread, entries[free].number = int(cpu["thread-id"]), int(cpu["cpu-index"])
    return entries


def _is_below(cpu: Mapping[str, Any], path: str | None) -> bool:
    own = str(cpu.get("qom-path", ""))
    return path is not None and (own == path or own.startswith(f"{path}/"))
