"""Input/output threads of guests: more of them, fewer, and how they poll."""

from __future__ import annotations

from typing import Any, Final

from actors.qemu.flags import AFFECT, check_flags, impact
from actors.qemu.guest import Guest
from actors.qemu.host import QemuHost
from actors.qemu.hotplug.guest_board import GuestTalk, commit, commit_surely, text_of
from actors.qemu.tuning.parameters import read_parameters
from actors.runtime.calls import Calls
from conf.domain.defaults_processor import iothread_ids
from conf.domain.domain import Domain
from conf.domain.vcpu import IoThread, IoThreadIds
from schema.enums.domain import DomainModificationImpact as Impact
from schema.errors import DomainStateError, InvalidArguments, OperationUnsupported
from schema.objects import DomainRef, TypedParam

calls: Calls[QemuHost] = Calls()

_POLLING: Final = {"poll_max_ns": "poll-max-ns", "poll_grow": "poll-grow", "poll_shrink": "poll-shrink"}
_POOL: Final = {"thread_pool_min": "thread-pool-min", "thread_pool_max": "thread-pool-max"}
_KINDS: Final = {
    "poll_max_ns": "ullong",
    "poll_grow": "uint",
    "poll_shrink": "uint",
    "thread_pool_min": "int",
    "thread_pool_max": "int",
}
_INT_MAX: Final = 0x7FFFFFFF


@calls.handles(key="dom")
async def domain_add_iothread(host: QemuHost, dom: DomainRef, iothread_id: int, flags: int) -> None:
    """Adds a thread. Raises NoSuchDomain, DomainStateError, InvalidArguments for a number that is taken or zero."""
    check_flags(flags, AFFECT, "qemuDomainAddIOThread")
    if iothread_id == 0:
        raise _invalid("invalid value of 0 for iothread_id")
    guest = host.guest(dom)
    which = impact(guest, flags)
    live, draft = _drafts(guest, which)
    for definition in (live, draft):
        if definition is not None:
            add_thread(definition, iothread_id)
    if live is None:
        await commit(host, guest, config=draft, completes=True)
        return
    facts = {"uuid": guest.record.uuid, "number": iothread_id, "add": True, "config": text_of(draft)}
    async with host.intents.change("iothread", facts):
        await GuestTalk(guest).ask("object-add", {"qom-type": "iothread", "id": _alias(iothread_id)})
        await commit_surely(host, guest, live, draft)


@calls.handles(key="dom")
async def domain_del_iothread(host: QemuHost, dom: DomainRef, iothread_id: int, flags: int) -> None:
    """Removes a thread that nothing uses. Raises NoSuchDomain, DomainStateError, InvalidArguments."""
    check_flags(flags, AFFECT, "qemuDomainDelIOThread")
    if iothread_id == 0:
        raise _invalid("invalid value of 0 for iothread_id")
    guest = host.guest(dom)
    which = impact(guest, flags)
    live, draft = _drafts(guest, which)
    for definition in (live, draft):
        if definition is not None:
            _check_unused(definition, iothread_id)
            drop_thread(definition, iothread_id)
    if live is None:
        await commit(host, guest, config=draft, completes=True)
        return
    facts = {"uuid": guest.record.uuid, "number": iothread_id, "add": False, "config": text_of(draft)}
    async with host.intents.change("iothread", facts):
        await GuestTalk(guest).ask("object-del", {"id": _alias(iothread_id)})
        await commit_surely(host, guest, live, draft)


@calls.handles(key="dom")
async def domain_set_iothread_params(
    host: QemuHost, dom: DomainRef, iothread_id: int, params: list[TypedParam], flags: int
) -> None:
    """Changes how a thread polls, and the size of its pool.

    Raises NoSuchDomain, DomainStateError, InvalidArguments, ArgumentUnsupported, and OperationUnsupported for what is
    not kept in definitions.
    """
    check_flags(flags, AFFECT, "qemuDomainSetIOThreadParams")
    if iothread_id == 0:
        raise _invalid("invalid value of 0 for iothread_id")
    given = read_parameters(params, _KINDS)
    for name, value in given.items():
        if name != "poll_max_ns" and not -1 <= int(value) <= _INT_MAX:
            raise _invalid(f"value of '{name}' is out of range [0, {_INT_MAX}]")
    guest = host.guest(dom)
    which = impact(guest, flags)
    live, draft = _drafts(guest, which)
    if draft is not None and any(name in _POLLING for name in given):
        raise OperationUnsupported("configuring persistent polling values is not supported")
    for definition in (live, draft):
        if definition is not None:
            if not has_thread(definition, iothread_id):
                raise _invalid(f"cannot find IOThread '{iothread_id}' in iothreadids")
            _set_pool(_need(definition, iothread_id), given)
    if live is not None:
        path = f"/objects/{_alias(iothread_id)}"
        words = {**_POLLING, **_POOL}
        await guest.ask_all(
            [("qom-set", {"path": path, "property": words[name], "value": value}) for name, value in given.items()]
        )
    await commit(host, guest, live=live, config=draft, completes=live is None)


def _drafts(guest: Guest, which: int) -> tuple[Domain | None, Domain | None]:
    live = guest.live.copy() if which & Impact.LIVE else None
    draft = guest.config.copy() if which & Impact.CONFIG else None
    return live, draft


def _alias(number: int) -> str:
    return f"iothread{number}"


def _threads(definition: Domain) -> list[IoThread]:
    """The threads; those that are only counted get their numbers."""
    if definition.iothreadids is None or not definition.iothreadids.iothreads:
        definition.iothreadids = IoThreadIds(iothreads=[IoThread(id=number) for number in iothread_ids(definition)])
    return definition.iothreadids.iothreads


def add_thread(definition: Domain, number: int) -> None:
    """The definition has one more. Raises InvalidArguments when it has it already."""
    threads = _threads(definition)
    if any(one.id == number for one in threads):
        raise _invalid(f"an IOThread is already using iothread_id '{number}'")
    threads.append(IoThread(id=number))
    _settle(definition, threads)


def has_thread(definition: Domain, number: int) -> bool:
    """The definition has a thread of that number."""
    return number in iothread_ids(definition)


def _need(definition: Domain, number: int) -> IoThread:
    thread = next((one for one in _threads(definition) if one.id == number), None)
    if thread is None:
        raise _invalid(f"cannot find IOThread '{number}' in iothreadids list")
    return thread


def drop_thread(definition: Domain, number: int) -> None:
    """The definition has one less. Raises InvalidArguments when it has none of that number."""
    threads = _threads(definition)
    threads.remove(_need(definition, number))
    if definition.cputune is not None:
        definition.cputune.iothreadpins = [one for one in definition.cputune.iothreadpins if one.iothread != number]
    _settle(definition, threads)


def _settle(definition: Domain, threads: list[IoThread]) -> None:
    """Threads that are numbered from one on need no list."""
    definition.iothreads = len(threads) or None
    plain = all(one.thread_pool_min is None and one.thread_pool_max is None for one in threads)
    if plain and [one.id for one in threads] == list(range(1, len(threads) + 1)):
        definition.iothreadids = None


def _check_unused(definition: Domain, number: int) -> None:
    _need(definition, number)
    for disk in definition.devices.disks:
        if disk.driver is not None and disk.driver.iothread == number:
            raise _invalid(f"cannot remove IOThread '{number}' since it is being used by disk '{disk.target.dev}'")
    for controller in definition.devices.controllers:
        if controller.driver is not None and controller.driver.iothread == number:
            raise _invalid(f"cannot remove IOThread '{number}' since it is being used by controller")


def _set_pool(thread: IoThread, given: dict[str, Any]) -> None:
    for name in _POOL:
        if name in given:
            setattr(thread, name, int(given[name]))
    low, high = thread.thread_pool_min, thread.thread_pool_max
    if low is not None and high is not None and low > high >= 0:
        raise DomainStateError(f"thread_pool_min ({low}) can't be greater than thread_pool_max ({high})")


def _invalid(text: str) -> InvalidArguments:
    error = InvalidArguments()
    error.message = f"invalid argument: {text}"
    return error
