"""Limits on the host memory that guests use, and on the memory nodes that it comes from."""

from __future__ import annotations

from typing import Any, Final

from actors.qemu.flags import AFFECT, check_flags, impact, one_impact
from actors.qemu.host import QemuHost
from actors.qemu.tuning.access import groups_of, need_privileges
from actors.qemu.tuning.draft import Draft
from actors.qemu.tuning.groups import UNLIMITED_KIB, GuestGroups
from actors.qemu.tuning.parameters import STRING_OKAY, asked_for, read_parameters
from actors.runtime.calls import Calls
from conf.domain.domain import Domain
from conf.domain.memory import MemTune
from conf.domain.numatune import MemoryMode, NumaMemory, NumaTune
from conf.domain.vcpu import Placement
from schema.enums.domain import DomainModificationImpact as Impact
from schema.errors import ConfigUnsupported, DomainStateError, InvalidArguments
from schema.objects import DomainRef, TypedParam
from util.cpuset import parse_cpuset, write_cpuset

calls: Calls[QemuHost] = Calls()

_MEMORY: Final = ("hard_limit", "soft_limit", "swap_hard_limit")
_MODES: Final = (MemoryMode.STRICT, MemoryMode.PREFERRED, MemoryMode.INTERLEAVE, MemoryMode.RESTRICTIVE)


def _of(tune: MemTune | None, name: str) -> int:
    value = getattr(tune, f"{name}_kib") if tune is not None else None
    return UNLIMITED_KIB if value is None else int(value)


@calls.handles(key="dom", lane="query")
async def domain_get_memory_parameters(host: QemuHost, dom: DomainRef, nparams: int, flags: int) -> dict[str, Any]:
    """The limits on a guest's memory, in KiB. Raises NoSuchDomain, DomainStateError."""
    check_flags(flags, AFFECT | STRING_OKAY, "qemuDomainGetMemoryParameters")
    guest = host.guest(dom)
    need_privileges("Memory tuning")
    if one_impact(guest, flags & AFFECT) & Impact.LIVE:
        groups = await groups_of(host, guest)
        tune: MemTune | None = await host.runtime.in_thread(groups.memory)
    else:
        tune = guest.config.memtune
    return asked_for([TypedParam.of_ullong(name, _of(tune, name)) for name in _MEMORY], nparams)


@calls.handles(key="dom")
async def domain_set_memory_parameters(host: QemuHost, dom: DomainRef, params: list[TypedParam], flags: int) -> None:
    """Changes the limits on a guest's memory.

    Raises NoSuchDomain, DomainStateError, ArgumentUnsupported, InvalidArguments, HostSystemError.
    """
    check_flags(flags, AFFECT, "qemuDomainSetMemoryParameters")
    given: dict[str, int] = read_parameters(params, dict.fromkeys(_MEMORY, "ullong"))
    guest = host.guest(dom)
    need_privileges("Memory tuning")
    draft = Draft(guest, impact(guest, flags))
    if "hard_limit" in given or "swap_hard_limit" in given:
        for definition in draft.definitions:
            hard = given.get("hard_limit", _of(definition.memtune, "hard_limit"))
            if hard > given.get("swap_hard_limit", _of(definition.memtune, "swap_hard_limit")):
                raise InvalidArguments("memory hard_limit tunable value must be lower than or equal to swap_hard_limit")
    if draft.live is not None:
        groups = await groups_of(host, guest)
        await host.runtime.in_thread(_set_memory, groups, _of(draft.live.memtune, "hard_limit"), given)
    for definition in draft.definitions:
        tune = definition.memtune = definition.memtune or MemTune()
        for name, value in given.items():
            setattr(tune, f"{name}_kib", None if value >= UNLIMITED_KIB else value)
    await draft.commit(host)


def _set_memory(groups: GuestGroups, hard_now: int, given: dict[str, int]) -> None:
    groups.hierarchy.need("memory")
    order = ["soft_limit", "swap_hard_limit", "hard_limit"]
    if given.get("hard_limit", UNLIMITED_KIB) < hard_now:
        # a limit that falls may never be above the one of memory and swap together
        order = ["soft_limit", "hard_limit", "swap_hard_limit"]
    for name in order:
        if name in given:
            groups.set_memory(_MEMORY.index(name), None if given[name] >= UNLIMITED_KIB else given[name])


# --- memory nodes ----------------------------------------------------------------------------------------------------


@calls.handles()
def domain_get_numa_parameters(host: QemuHost, dom: DomainRef, nparams: int, flags: int) -> dict[str, Any]:
    """Which of the host's nodes a guest's memory comes from. Raises NoSuchDomain, DomainStateError."""
    check_flags(flags, AFFECT | STRING_OKAY, "qemuDomainGetNumaParameters")
    guest = host.guest(dom)
    definition = guest.live if one_impact(guest, flags & AFFECT) & Impact.LIVE else guest.config
    memory = _memory_of(definition)
    mode = memory.mode if memory is not None and memory.mode is not None else MemoryMode.STRICT
    found = [
        TypedParam.of_int("numa_mode", _MODES.index(mode)),
        TypedParam.of_string("numa_nodeset", (memory.nodeset if memory is not None else None) or ""),
    ]
    return asked_for(found, nparams)


def _memory_of(definition: Domain) -> NumaMemory | None:
    return definition.numatune.memory if definition.numatune is not None else None


@calls.handles(key="dom")
async def domain_set_numa_parameters(host: QemuHost, dom: DomainRef, params: list[TypedParam], flags: int) -> None:
    """Changes which of the host's nodes a guest's memory comes from.

    Raises NoSuchDomain, DomainStateError for what a running guest cannot change, ArgumentUnsupported,
    InvalidArguments, ConfigUnsupported, HostSystemError.
    """
    check_flags(flags, AFFECT, "qemuDomainSetNumaParameters")
    given = read_parameters(params, {"numa_mode": "int", "numa_nodeset": "string"})
    number = given.get("numa_mode")
    if number is not None and not 0 <= number < len(_MODES):
        raise InvalidArguments(f"unsupported numatune mode: '{number}'")
    mode = None if number is None else _MODES[number]
    nodes: str | None = given.get("numa_nodeset")
    if nodes is not None:
        try:
            nodes = write_cpuset(parse_cpuset(nodes))
        except ValueError:
            raise InvalidArguments(f"Failed to parse bitmap '{nodes}'") from None
        if not nodes:
            raise ConfigUnsupported("Invalid nodeset of 'numatune': ")
    guest = host.guest(dom)
    draft = Draft(guest, impact(guest, flags))
    if draft.live is not None:
        need_privileges("NUMA tuning")
        known = _memory_of(draft.live)
        if known is not None and mode is not None and known.mode != mode:
            raise DomainStateError("can't change numatune mode for running domain")
        if known is not None and nodes is not None and known.mode is not MemoryMode.RESTRICTIVE:
            raise DomainStateError("change of nodeset for running domain requires restrictive numa mode")
    for definition in draft.definitions:
        _place(definition, mode, nodes)
    if draft.live is not None and nodes is not None:
        groups = await groups_of(host, guest)
        await host.runtime.in_thread(groups.set_nodes, nodes)
    await draft.commit(host)


def _place(definition: Domain, mode: MemoryMode | None, nodes: str | None) -> None:
    tune = definition.numatune = definition.numatune or NumaTune()
    memory = tune.memory = tune.memory or NumaMemory(mode=MemoryMode.STRICT)
    if nodes is None and memory.nodeset is None and memory.placement is not Placement.AUTO:
        raise ConfigUnsupported("nodeset for NUMA memory tuning must be set if 'placement' is 'static'")
    memory.mode = mode or memory.mode
    memory.nodeset = nodes or memory.nodeset
    if nodes is not None:
        memory.placement = None
