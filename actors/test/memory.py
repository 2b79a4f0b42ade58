"""How much memory a guest has, and the limits on it."""

from __future__ import annotations

from typing import Any, Final

from actors.runtime.calls import Calls
from actors.test import rules
from actors.test.flags import AFFECT, check_flags
from actors.test.host import TestHost
from actors.test.parameters import STRING_OKAY, Parameters, asked_for, counted
from conf.domain.memory import MemTune
from schema.enums.domain_resources import DomainMemoryModFlags as MemoryFlags
from schema.errors import DomainStateError, InvalidArguments
from schema.objects import DomainRef, TypedParam

calls: Calls[TestHost] = Calls()

UNLIMITED: Final = (1 << 53) - 1  # libvirt's VIR_DOMAIN_MEMORY_PARAM_UNLIMITED, in KiB
_LIMITS: Final = {
    "hard_limit": "hard_limit_kib",
    "soft_limit": "soft_limit_kib",
    "swap_hard_limit": "swap_hard_limit_kib",
}


@calls.handles(key="dom")
async def domain_set_memory_flags(host: TestHost, dom: DomainRef, memory: int, flags: int) -> None:
    """Changes the memory of a guest in KiB, or with MAXIMUM what it can grow to.

    Raises NoSuchDomain, InvalidArguments for more than the maximum, DomainStateError when the maximum of a running
    guest is to change.
    """
    check_flags(flags, AFFECT | MemoryFlags.MAXIMUM, "testDomainSetMemoryFlags")
    draft = host.guest(dom).draft()
    definition = draft.one(flags)
    if flags & MemoryFlags.MAXIMUM:
        if draft.changed_live is not None:
            raise DomainStateError("cannot resize the maximum memory on an active domain")
        rules.set_max_memory(definition, memory)
    else:
        if memory > rules.max_memory(definition):
            raise InvalidArguments("cannot set memory higher than max memory")
        definition.current_memory_kib = memory
    await host.commit(draft)


@calls.handles()
def domain_get_memory_parameters(host: TestHost, dom: DomainRef, nparams: int, flags: int) -> dict[str, Any]:
    """The limits on a guest's memory in KiB. Raises NoSuchDomain, DomainStateError."""
    check_flags(flags, AFFECT | STRING_OKAY, "testDomainGetMemoryParameters")
    if nparams == 0:
        return counted(len(_LIMITS))
    tune = host.guest(dom).one(flags).memtune or MemTune()
    found = []
    for name, attribute in _LIMITS.items():
        limit = getattr(tune, attribute)
        found.append(TypedParam.of_ullong(name, UNLIMITED if limit is None else limit))
    return asked_for(found, nparams)


@calls.handles(key="dom")
async def domain_set_memory_parameters(host: TestHost, dom: DomainRef, params: list[TypedParam], flags: int) -> None:
    """Changes limits on a guest's memory.

    Raises NoSuchDomain, DomainStateError, ArgumentUnsupported and InvalidArguments for limits that cannot be.
    """
    check_flags(flags, AFFECT, "testDomainSetMemoryParameters")
    given = Parameters(params, dict.fromkeys(_LIMITS, "ullong"))
    draft = host.guest(dom).draft()
    definition = draft.one(flags)
    tune = definition.memtune or MemTune()
    for name, value in given.values.items():
        setattr(tune, _LIMITS[name], None if value >= UNLIMITED else value)
    swap = UNLIMITED if tune.swap_hard_limit_kib is None else tune.swap_hard_limit_kib
    hard = UNLIMITED if tune.hard_limit_kib is None else tune.hard_limit_kib
    hard = max(hard, given.values.get("hard_limit", 0))
    if hard > swap:
        raise InvalidArguments("memory hard_limit tunable value must be lower than or equal to swap_hard_limit")
    definition.memtune = None if tune == MemTune() else tune
    await host.commit(draft)


@calls.handles(key="dom")
async def domain_set_memory_stats_period(host: TestHost, dom: DomainRef, period: int, flags: int) -> None:
    """How often a guest reports on its memory, in seconds. Raises NoSuchDomain, DomainStateError, InternalError."""
    check_flags(flags, AFFECT, "testDomainSetMemoryStatsPeriod")
    draft = host.guest(dom).draft()
    rules.set_stats_period(draft.one(flags), period)
    await host.commit(draft)
