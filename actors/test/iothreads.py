"""A guest's input/output threads."""

from __future__ import annotations

from typing import Final

from actors.runtime.calls import Calls
from actors.test import rules
from actors.test.flags import AFFECT, check_flags
from actors.test.host import TestHost
from actors.test.parameters import Parameters
from conf.domain.defaults_processor import iothread_ids
from conf.domain.domain import Domain
from conf.domain.vcpu import CpuTune, IoThread, IoThreadIds, IoThreadPin
from schema.enums.domain import DomainModificationImpact as Impact
from schema.errors import ErrorDomain, InvalidArguments
from schema.objects import DomainIothreadInfo, DomainRef, TypedParam
from util.cpuset import bits_from_cpuset, cpuset_from_bits, parse_cpuset, write_cpuset

calls: Calls[TestHost] = Calls()

_CPU_MAP_BYTES: Final = 1
_POLL_MAX_NS: Final = 32768
_POLLING: Final = {
    "poll_max_ns": "ullong",
    "poll_grow": "uint",
    "poll_shrink": "uint",
}


@calls.handles()
def domain_get_iothread_info(host: TestHost, dom: DomainRef, flags: int) -> list[DomainIothreadInfo]:
    """The threads and where they may run. Raises NoSuchDomain, DomainStateError."""
    check_flags(flags, AFFECT, "testDomainGetIOThreadInfo")
    definition = host.guest(dom).one(flags)
    pins = {pin.iothread: parse_cpuset(pin.cpuset) for pin in (definition.cputune or CpuTune()).iothreadpins}
    everywhere = range(rules.current_vcpus(definition))  # libvirt's test driver counts the guest's own processors
    unpinned = parse_cpuset(definition.vcpu.cpuset) if definition.vcpu.cpuset else everywhere
    return [
        DomainIothreadInfo(number, bits_from_cpuset(pins.get(number, unpinned), _CPU_MAP_BYTES))
        for number in iothread_ids(definition)
    ]


@calls.handles(key="dom")
async def domain_add_iothread(host: TestHost, dom: DomainRef, iothread_id: int, flags: int) -> None:
    """Adds a thread. Raises NoSuchDomain, DomainStateError, InvalidArguments for a number that is taken or zero."""
    check_flags(flags, AFFECT, "testDomainAddIOThread")
    if iothread_id == 0:
        raise InvalidArguments("invalid value of 0 for iothread_id")
    draft = host.guest(dom).draft()
    definition = draft.one(flags)
    if _find(definition, iothread_id) is not None:
        raise InvalidArguments(f"an IOThread is already using iothread_id '{iothread_id}'", domain=ErrorDomain.DOMAIN)
    threads = _threads(definition)
    threads.append(IoThread(id=iothread_id))
    definition.iothreads = len(threads)
    # only of these libvirt's test driver tells how they poll, not of those in the definition
    draft.set(polling=draft.value("polling") | {str(iothread_id): [_POLL_MAX_NS, 0, 0]})
    await host.commit(draft)


@calls.handles(key="dom")
async def domain_del_iothread(host: TestHost, dom: DomainRef, iothread_id: int, flags: int) -> None:
    """Removes a thread. Raises NoSuchDomain, DomainStateError, InvalidArguments for one that is not there."""
    check_flags(flags, AFFECT, "testDomainDelIOThread")
    draft = host.guest(dom).draft()
    definition = draft.one(flags)
    threads = _threads(definition)
    threads.remove(_need(definition, iothread_id))
    definition.iothreads = len(threads) or None
    if definition.cputune is not None:
        pins = definition.cputune.iothreadpins
        definition.cputune.iothreadpins = [pin for pin in pins if pin.iothread != iothread_id]
    draft.set(polling={number: told for number, told in draft.value("polling").items() if number != str(iothread_id)})
    await host.commit(draft)


@calls.handles(key="dom")
async def domain_pin_iothread(host: TestHost, dom: DomainRef, iothreads_id: int, cpumap: bytes, flags: int) -> None:
    """Binds a thread. Raises NoSuchDomain, DomainStateError, InvalidArguments for one that is not there."""
    check_flags(flags, AFFECT, "testDomainPinIOThread")
    draft = host.guest(dom).draft()
    definition = draft.one(flags)
    if not any(cpumap):
        raise InvalidArguments("Empty iothread cpumap list for pinning")
    if _find(definition, iothreads_id) is None:
        shown = iothreads_id - 2**32 if iothreads_id >= 2**31 else iothreads_id  # as libvirt prints it
        raise InvalidArguments(f"iothreadid {shown} not found")
    tune = definition.cputune = definition.cputune or CpuTune()
    pins = [pin for pin in tune.iothreadpins if pin.iothread != iothreads_id]
    pins.append(IoThreadPin(iothread=iothreads_id, cpuset=write_cpuset(cpuset_from_bits(cpumap))))
    tune.iothreadpins = sorted(pins, key=lambda pin: pin.iothread)
    await host.commit(draft)


@calls.handles(key="dom")
async def domain_set_iothread_params(
    host: TestHost, dom: DomainRef, iothread_id: int, params: list[TypedParam], flags: int
) -> None:
    """How long a thread polls, which statistics tell of threads that were added.

    Raises NoSuchDomain, DomainStateError, InvalidArguments, ArgumentUnsupported.
    """
    check_flags(flags, Impact.LIVE, "testDomainSetIOThreadParams")
    if iothread_id == 0:
        raise InvalidArguments("invalid value of 0 for iothread_id")
    draft = host.guest(dom).draft()
    thread = _find(draft.one(flags), iothread_id)
    if thread is None:
        raise InvalidArguments(f"cannot find IOThread '{iothread_id}' in iothreadids")
    given = Parameters(params, _POLLING).values
    polling = draft.value("polling").get(str(iothread_id))
    if polling is not None:
        changed = [given.get(name, old) for name, old in zip(_POLLING, polling, strict=True)]
        draft.set(polling=draft.value("polling") | {str(iothread_id): changed})
        await host.commit(draft)


def _threads(definition: Domain) -> list[IoThread]:
    """The threads of a definition that is being changed; those that are only counted get their numbers."""
    if definition.iothreadids is None or not definition.iothreadids.iothreads:
        definition.iothreadids = IoThreadIds(iothreads=[IoThread(id=number) for number in iothread_ids(definition)])
    return definition.iothreadids.iothreads


def _find(definition: Domain, number: int) -> IoThread | None:
    return next((thread for thread in _threads(definition) if thread.id == number), None)


def _need(definition: Domain, number: int) -> IoThread:
    thread = _find(definition, number)
    if thread is None:
        raise InvalidArguments(f"cannot find IOThread '{number}' in iothreadids list", domain=ErrorDomain.DOMAIN)
    return thread
