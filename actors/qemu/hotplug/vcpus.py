"""How many processors guests have: at their next start, and plugged into or taken from a running one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from actors.qemu.agent.processors import use_so_many
from actors.qemu.flags import check_apart, check_flags, impact
from actors.qemu.guest import Guest
from actors.qemu.host import QemuHost
from actors.qemu.hotplug.board import Board
from actors.qemu.hotplug.departures import Removal
from actors.qemu.hotplug.guest_board import GuestTalk, commit, commit_surely, open_board, text_of
from actors.qemu.hotplug.processors import (
    Entity,
    count_in,
    keep_orders,
    read_entities,
    set_in,
    the_one,
    to_change,
    write_vcpus,
)
from actors.runtime.calls import Calls
from conf.domain.domain import Domain
from conf.domain.vcpu import SingleVcpu
from schema.enums.domain import DomainModificationImpact as Impact
from schema.enums.domain_resources import DomainVcpuFlags as VcpuFlags
from schema.errors import (
    InternalError,
    InvalidArguments,
    OperationFailed,
    OperationTimeout,
    OperationUnsupported,
    VirtError,
)
from schema.objects import DomainRef
from util.cpuset import parse_cpuset

calls: Calls[QemuHost] = Calls()

_FLAGS: Final = int(VcpuFlags.LIVE | VcpuFlags.CONFIG | VcpuFlags.MAXIMUM | VcpuFlags.GUEST | VcpuFlags.HOTPLUGGABLE)
_ONE_FLAGS: Final = int(Impact.LIVE | Impact.CONFIG)
_MOST: Final = 0xFFFF


@calls.handles(key="dom")
async def domain_set_vcpus_flags(host: QemuHost, dom: DomainRef, nvcpus: int, flags: int) -> None:
    """Gives a guest so many processors; with MAXIMUM: the most it may have at its next start; with GUEST: uses so many.

    Raises NoSuchDomain, InvalidArguments for more than the most, DomainStateError, OperationUnsupported, and as the
    guest agent does.
    """
    check_flags(flags, _FLAGS, "qemuDomainSetVcpusFlags")
    check_apart(flags, VcpuFlags.GUEST, "VIR_DOMAIN_VCPU_GUEST", VcpuFlags.MAXIMUM, "VIR_DOMAIN_VCPU_MAXIMUM")
    guest = host.guest(dom)
    if not 0 < nvcpus <= _MOST:
        raise InvalidArguments("the number of vcpus must not be 0")
    which = impact(guest, flags)
    if flags & VcpuFlags.GUEST:
        await use_so_many(host, guest, nvcpus)
        return
    if flags & VcpuFlags.MAXIMUM:
        await _set_maximum(host, guest, nvcpus, which)
        return
    if which & Impact.LIVE:
        _check_count(guest.live, nvcpus, "live")
    draft = None
    if which & Impact.CONFIG:
        draft = guest.config.copy()
        _check_count(draft, nvcpus, "persistent")
        count_in(draft, nvcpus, hotpluggable=bool(flags & VcpuFlags.HOTPLUGGABLE))
    if not which & Impact.LIVE:
        await commit(host, guest, config=draft, completes=True)
        return
    facts = {"uuid": guest.record.uuid, "count": nvcpus, "config": text_of(draft)}
    async with host.intents.change("vcpus", facts), open_board(host, guest) as board:
        try:
            await set_count(board, nvcpus)
        except VirtError:
            await _keep(host, guest, board.domain, None)  # some may have come or gone
            raise
        await _keep(host, guest, board.domain, draft)


async def _set_maximum(host: QemuHost, guest: Guest, count: int, which: int) -> None:
    if which & Impact.LIVE:
        raise OperationUnsupported("maximum vcpu count of a live domain can't be modified")
    config = guest.config.copy()
    if config.cpu is not None and config.cpu.topology is not None:
        topology = config.cpu.topology
        if topology.sockets * topology.dies * topology.cores * topology.threads != count:
            raise _invalid("CPU topology doesn't match the desired vcpu count")
    current = config.vcpu.current or config.vcpu.count
    config.vcpu.count = count
    config.vcpu.current = current if current < count else None
    if config.vcpus is not None:
        kept = [one for one in config.vcpus.vcpus if one.id < count]
        config.vcpus.vcpus = kept + [SingleVcpu(id=number, enabled=False) for number in range(len(kept), count)]
        online = sum(one.enabled for one in kept)
        config.vcpu.current = online if online != count else None
    await commit(host, guest, config=config, completes=True)


def _check_count(definition: Domain, count: int, word: str) -> None:
    if count > definition.vcpu.count:
        raise _invalid(
            f"requested vcpus is greater than max allowable vcpus for the {word} domain: "
            f"{count} > {definition.vcpu.count}"
        )


def _invalid(text: str) -> InvalidArguments:
    error = InvalidArguments()
    error.message = f"invalid argument: {text}"
    return error


@calls.handles(key="dom")
async def domain_set_vcpu(host: QemuHost, dom: DomainRef, cpumap: str, state: int, flags: int) -> None:
    """Plugs some processors in, or takes them out.

    Raises NoSuchDomain, DomainStateError, InvalidArguments when that cannot be done in one step, and
    OperationTimeout when the guest does not let them go.
    """
    check_flags(flags, _ONE_FLAGS, "qemuDomainSetVcpu")
    if state not in (0, 1):
        raise _invalid("unsupported state value")
    guest = host.guest(dom)
    which = impact(guest, flags)
    numbers = frozenset(parse_cpuset(cpumap))
    if not numbers:
        raise _invalid("no vcpus selected for modification")
    draft = None
    if which & Impact.CONFIG:
        draft = guest.config.copy()
        set_in(draft, numbers, enable=bool(state))
    if not which & Impact.LIVE:
        await commit(host, guest, config=draft, completes=True)
        return
    facts = {"uuid": guest.record.uuid, "numbers": sorted(numbers), "enable": bool(state), "config": text_of(draft)}
    async with host.intents.change("vcpus", facts), open_board(host, guest) as board:
        await set_some(board, numbers, enable=bool(state))
        await _keep(host, guest, board.domain, draft)


async def _keep(host: QemuHost, guest: Guest, live: Domain, draft: Domain | None) -> None:
    await take_threads(guest)
    await commit_surely(host, guest, live, draft)
    host.log.info("a guest's vcpus were changed", guest=guest.name, vcpus=live.vcpu.current or live.vcpu.count)


async def take_threads(guest: Guest) -> None:
    """The threads of a guest's processors are known anew. Raises as `Guest.ask` does."""
    cpus = await guest.ask("query-cpus-fast")
    guest.adopt(guest.running(threads=threads_by_number(cpus)), live=guest.live)


def threads_by_number(cpus: Sequence[Mapping[str, Any]]) -> tuple[int, ...]:
    """What `query-cpus-fast` tells of threads, by the processors' numbers; 0 stands for one that is off."""
    by_number = {int(one["cpu-index"]): int(one["thread-id"]) for one in cpus}
    return tuple(by_number.get(number, 0) for number in range(max(by_number, default=-1) + 1))


async def refresh(host: QemuHost, guest: Guest) -> None:
    """A processor went that nobody waited for any more."""
    async with open_board(host, guest) as board:
        await look(board)
    await _keep(host, guest, board.domain, None)


# --- the running guest -----------------------------------------------------------------------------------------------


async def look(board: Board) -> list[Entity]:
    """The guest's processors now, which its definition then says as well."""
    slots = await board.talk.ask("query-hotpluggable-cpus")
    cpus = await board.talk.ask("query-cpus-fast")
    entities = read_entities(slots, cpus)
    keep_orders(entities, board.domain.vcpus)
    write_vcpus(board.domain, entities)
    return entities


async def set_count(board: Board, count: int) -> None:
    """Plugs processors in, or takes some out, until there are so many. Raises as `change` does, ConfigUnsupported."""
    for entity in to_change(await look(board), count):
        await change(board, entity)


async def set_some(board: Board, numbers: frozenset[int], *, enable: bool) -> None:
    """Plugs those processors in, or takes them out. Raises as `change` does, InvalidArguments."""
    await change(board, the_one(await look(board), numbers, enable=enable))


async def change(board: Board, entity: Entity) -> None:
    """Plugs one group in, or takes it out.

    Raises InternalError when QEMU refuses, OperationFailed when the guest does, OperationTimeout when it does nothing.
    """
    if not entity.is_online:
        arguments: dict[str, Any] = {"driver": entity.driver, "id": f"vcpu{entity.first}", **entity.props}
        await board.talk.ask("device_add", arguments)
    else:
        await _take_out(board, entity)
    await look(board)


async def _take_out(board: Board, entity: Entity) -> None:
    alias = entity.alias or ""
    departure = board.expect(alias)
    try:
        await board.talk.ask("device_del", {"id": alias})
        outcome = await departure.wait()
    except InternalError as exc:
        if "not found" not in exc.message:
            raise
        outcome = Removal.GONE
    finally:
        departure.close()
    if outcome is Removal.REFUSED:
        raise OperationFailed("vcpu unplug request was rejected by the guest")
    if outcome is Removal.PENDING:
        raise OperationTimeout("vcpu unplug request timed out. Unplug result must be manually inspected in the domain")


async def plug_listed(guest: Guest, live: Domain) -> tuple[int, ...] | None:
    """Plugs in the processors that a definition lists as on but pluggable, before its guest runs an instruction.

    The definition then says what there is; the threads by number are returned, None when nothing was plugged in.
    Raises as `Guest.ask` does, ConfigUnsupported.
    """
    listed = live.vcpus.vcpus if live.vcpus is not None else []
    pluggable = [one for one in listed if one.enabled and one.hotpluggable]
    wanted = sorted(pluggable, key=lambda one: (one.order or 0, one.id))
    if not wanted:
        return None
    talk = GuestTalk(guest)
    slots, cpus = await guest.ask_all([("query-hotpluggable-cpus", None), ("query-cpus-fast", None)])
    entities = {one.first: one for one in read_entities(slots, cpus)}
    for one in wanted:
        entity = entities.get(one.id)
        if entity is not None and not entity.is_online:
            await talk.ask("device_add", {"driver": entity.driver, "id": f"vcpu{one.id}", **entity.props})
    slots, cpus = await guest.ask_all([("query-hotpluggable-cpus", None), ("query-cpus-fast", None)])
    present = read_entities(slots, cpus)
    keep_orders(present, live.vcpus)
    write_vcpus(live, present)
    return threads_by_number(cpus)
