"""A guest's processors as its machine has them: in what groups they come and go, and which of them can."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from conf.domain.domain import Domain
from conf.domain.vcpu import SingleVcpu, Vcpus
from schema.errors import ConfigUnsupported, InvalidArguments, OperationUnsupported

_PERIPHERAL = "/machine/peripheral/"


@dataclass(slots=True)
class Entity:
    """Processors that come and go together, from number `first` on."""

    first: int
    count: int
    driver: str
    props: dict[str, Any]
    path: str | None = None
    threads: list[int] = field(default_factory=list)
    order: int = 0

    @property
    def is_online(self) -> bool:
        return self.path is not None

    @property
    def alias(self) -> str | None:
        """The name of one that was plugged in; those the guest started with have none."""
        if self.path is None or not self.path.startswith(_PERIPHERAL):
            return None
        return self.path.removeprefix(_PERIPHERAL)

    @property
    def is_hotpluggable(self) -> bool:
        return not self.is_online or self.alias is not None

    def __contains__(self, number: int) -> bool:
        return self.first <= number < self.first + self.count


def read_entities(slots: Sequence[Mapping[str, Any]], cpus: Sequence[Mapping[str, Any]]) -> list[Entity]:
    """What `query-hotpluggable-cpus` and `query-cpus-fast` tell, in the order of the processors' numbers."""
    by_path: dict[str, list[Mapping[str, Any]]] = {}
    for cpu in cpus:
        path = str(cpu.get("qom-path", ""))
        # a thread of a core lies below it
        by_path.setdefault(path.partition("/thread[")[0], []).append(cpu)
    found: list[Entity] = []
    number = 0
    # QEMU lists the highest first
    for slot in reversed(slots):
        count = int(slot.get("vcpus-count", 1))
        entity = Entity(number, count, str(slot["type"]), dict(slot["props"]), slot.get("qom-path"))
        threads = by_path.get(entity.path or "", ())
        entity.threads = [int(one["thread-id"]) for one in sorted(threads, key=lambda one: int(one["cpu-index"]))]
        found.append(entity)
        number += count
    ranks = {path: min(int(one["cpu-index"]) for one in many) for path, many in by_path.items()}
    online = [one for one in found if one.is_online]
    for order, entity in enumerate(sorted(online, key=lambda one: ranks.get(one.path or "", one.first)), 1):
        entity.order = order
    return found


def keep_orders(entities: Iterable[Entity], known: Vcpus | None) -> None:
    """Processors keep the order in which they came, as the definition has it; those that are new come after them."""
    orders = {one.id: one.order for one in known.vcpus if one.order} if known is not None else {}
    if not orders:
        return
    highest = max(orders.values())
    for entity in sorted((one for one in entities if one.is_online), key=lambda one: one.order):
        if entity.first in orders:
            entity.order = orders[entity.first] or 0
        else:
            highest += 1
            entity.order = highest


def write_vcpus(domain: Domain, entities: Iterable[Entity]) -> None:
    """The definition of the running guest says which processors there are."""
    states = [
        SingleVcpu(
            id=number,
            enabled=entity.is_online,
            hotpluggable=entity.is_hotpluggable,
            order=entity.order if entity.is_online else None,
        )
        for entity in entities
        for number in range(entity.first, entity.first + entity.count)
    ]
    online = sum(one.enabled for one in states)
    domain.vcpus = Vcpus(vcpus=states)
    domain.vcpu.current = online if online != domain.vcpu.count else None


def to_change(entities: Sequence[Entity], count: int) -> list[Entity]:
    """The groups to plug in or take out so that there are `count` processors.

    Raises ConfigUnsupported when groups do not make that number.
    """
    online = sum(one.count for one in entities if one.is_online)
    chosen: list[Entity] = []
    if count > online:
        for entity in entities:
            if not entity.is_online and online + entity.count <= count:
                chosen.append(entity)
                online += entity.count
            if online == count:
                break
    elif count < online:
        for entity in sorted((one for one in entities if one.alias is not None), key=lambda one: -one.order):
            if online - entity.count >= count:
                chosen.append(entity)
                online -= entity.count
            if online == count:
                break
    if online != count:
        raise ConfigUnsupported("failed to find appropriate hotpluggable vcpus to reach the desired target vcpu count")
    return chosen


def the_one(entities: Sequence[Entity], numbers: frozenset[int], *, enable: bool) -> Entity:
    """The group that consists of those processors. Raises InvalidArguments."""
    chosen = [one for one in entities if any(number in one for number in numbers)]
    total = sum(one.count for one in entities)
    for number in sorted(numbers):
        if number >= total:
            raise _refused(f"vcpu {number} is not present in live config")
    for entity in chosen:
        for number in range(entity.first, entity.first + entity.count):
            if number not in numbers:
                raise _refused(
                    f"vcpu '{number}' was not selected but it belongs to hotpluggable entity "
                    f"'{entity.first}-{entity.first + entity.count - 1}' which was partially selected"
                )
    for entity in chosen:
        if entity.is_online == enable:
            raise _refused(f"vcpu '{entity.first}' is already in requested state")
        if not enable and entity.alias is None:
            raise OperationUnsupported(f"vcpu '{entity.first}' can't be unplugged")
    if len(chosen) != 1:
        raise _refused("only one hotpluggable entity can be selected")
    return chosen[0]


def _refused(text: str) -> InvalidArguments:
    error = InvalidArguments()
    error.message = f"invalid argument: {text}"
    return error


def count_in(config: Domain, count: int, *, hotpluggable: bool) -> None:
    """A definition for the next start has so many processors; the first ones are on."""
    current = config.vcpu.current or config.vcpu.count
    states = _states(config, current)
    known = config.vcpus is not None
    for one in states:
        one.order = None
    if current < count:
        for one in states:
            if current == count:
                break
            if not one.enabled:
                one.enabled, one.hotpluggable = True, hotpluggable
                known = known or hotpluggable
                current += 1
    else:
        for one in reversed(states):
            if current == count:
                break
            if one.enabled:
                one.enabled, one.hotpluggable = False, True
                current -= 1
    config.vcpus = Vcpus(vcpus=states) if known else None
    config.vcpu.current = count if count != config.vcpu.count else None


def set_in(config: Domain, numbers: frozenset[int], *, enable: bool) -> None:
    """Some processors of a definition for the next start are on or off. Raises InvalidArguments."""
    current = config.vcpu.current or config.vcpu.count
    states = _states(config, current)
    for number in sorted(numbers):
        if number >= len(states):
            raise _refused(f"vcpu {number} is not present in persistent config")
        if number == 0:
            raise _refused("vCPU '0' can't be modified")
    first = min(numbers)
    if any(one.enabled and not one.hotpluggable for one in states if one.id > first and one.id not in numbers):
        raise _refused(f"vcpu '{first}' can't be modified as it is followed by non-hotpluggable online vcpus")
    for one in states:
        one.order = None
        if one.id in numbers:
            one.enabled, one.hotpluggable = enable, True
    online = sum(one.enabled for one in states)
    config.vcpus = Vcpus(vcpus=states)
    config.vcpu.current = online if online != config.vcpu.count else None


def _states(config: Domain, current: int) -> list[SingleVcpu]:
    known = {one.id: one.copy() for one in config.vcpus.vcpus} if config.vcpus is not None else {}
    return [
        known.get(number) or SingleVcpu(id=number, enabled=number < current, hotpluggable=number >= current)
        for number in range(config.vcpu.count)
    ]
