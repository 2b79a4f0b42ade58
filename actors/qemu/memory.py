"""How much memory guests have, and how much of it they say they use."""

from __future__ import annotations

from typing import Final

import msgspec

from actors.qemu import records
from actors.qemu.flags import check_flags, impact
from actors.qemu.guest import Guest
from actors.qemu.host import QemuHost
from actors.qemu.live import balloon_path, has_balloon, stats_period
from actors.qemu.process_memory import resident_kib
from actors.runtime.calls import Calls
from conf.domain.documents import write_domain
from conf.domain.domain import Domain
from conf.flags import XmlFlags
from schema.enums.domain import DomainModificationImpact as Impact
from schema.enums.domain_resources import DomainMemoryModFlags as MemoryFlags
from schema.enums.domain_resources import DomainMemoryStatTags as Tag
from schema.errors import DomainStateError, InvalidArguments
from schema.objects import DomainMemoryStat, DomainRef

calls: Calls[QemuHost] = Calls()

_FLAGS: Final = int(MemoryFlags.LIVE | MemoryFlags.CONFIG | MemoryFlags.MAXIMUM)

# the guest's own words, in bytes but for the last three
_STATS: Final = (
    ("stat-swap-in", Tag.SWAP_IN, 1024),
    ("stat-swap-out", Tag.SWAP_OUT, 1024),
    ("stat-major-faults", Tag.MAJOR_FAULT, 1),
    ("stat-minor-faults", Tag.MINOR_FAULT, 1),
    ("stat-free-memory", Tag.UNUSED, 1024),
    ("stat-total-memory", Tag.AVAILABLE, 1024),
    ("stat-available-memory", Tag.USABLE, 1024),
    ("stat-disk-caches", Tag.DISK_CACHES, 1024),
    ("stat-htlb-pgalloc", Tag.HUGETLB_PGALLOC, 1),
    ("stat-htlb-pgfail", Tag.HUGETLB_PGFAIL, 1),
)
_UNKNOWN: Final = (1 << 64) - 1


@calls.handles(key="dom")
async def domain_set_memory_flags(host: QemuHost, dom: DomainRef, memory: int, flags: int) -> None:
    """Gives a guest more memory or takes some back; with MAXIMUM: the most it may have.

    Raises NoSuchDomain, InvalidArguments for more than the most, DomainStateError when the guest has no balloon.
    """
    check_flags(flags, _FLAGS, "qemuDomainSetMemoryFlags")
    guest = host.guest(dom)
    which = impact(guest, flags)
    if memory == 0:
        raise InvalidArguments("memory must not be 0")
    if flags & MemoryFlags.MAXIMUM:
        await _set_maximum(host, guest, memory, which)
        return
    if which & Impact.LIVE and memory > guest.live.memory.kib:
        raise _too_much()
    if which & Impact.CONFIG and memory > guest.config.memory.kib:
        raise _too_much()
    if which & Impact.LIVE:
        if not has_balloon(guest.live):
            raise DomainStateError(
                "Unable to change memory of active domain without the balloon device and guest OS balloon driver"
            )
        await guest.ask("balloon", {"value": memory * 1024})
    if which & Impact.CONFIG:
        config = guest.config.copy()
        config.current_memory_kib = memory
        await _define(host, guest, config)


def _too_much() -> InvalidArguments:
    error = InvalidArguments()
    error.message = "invalid argument: cannot set memory higher than max memory"
    return error


async def _set_maximum(host: QemuHost, guest: Guest, memory: int, which: int) -> None:
    if which & Impact.LIVE:
        raise DomainStateError("cannot resize the maximum memory on an active domain")
    config = guest.config.copy()
    config.memory.kib = memory
    if config.current_memory_kib is not None and config.current_memory_kib > memory:
        config.current_memory_kib = memory
    await _define(host, guest, config)


async def _define(host: QemuHost, guest: Guest, config: Domain) -> None:
    text = write_domain(config, XmlFlags.INACTIVE | XmlFlags.SECURE)
    record = msgspec.structs.replace(guest.record, xml=text, facts=records.facts_of(config))
    await host.write(guest, record, config=config)
    host.publish(guest)


@calls.handles(key="dom")
async def domain_set_memory_stats_period(host: QemuHost, dom: DomainRef, period: int, flags: int) -> None:
    """Makes a guest tell about its memory every so many seconds; 0: not at all.

    Raises NoSuchDomain, DomainStateError when it has no balloon.
    """
    check_flags(flags, int(Impact.LIVE | Impact.CONFIG), "qemuDomainSetMemoryStatsPeriod")
    guest = host.guest(dom)
    which = impact(guest, flags)
    if which & Impact.LIVE:
        if not has_balloon(guest.live):
            raise DomainStateError("Memory balloon model must be virtio to set the collection period")
        name, arguments = stats_period(guest.live, period)
        await guest.ask(name, dict(arguments or {}))
        live = guest.live.copy()
        if live.devices.memballoon is not None:
            live.devices.memballoon.stats_period_s = period or None
        record = guest.running(xml=write_domain(live, XmlFlags.SECURE, id=guest.id))
        await host.write(guest, record, live=live, completes=False)
    if which & Impact.CONFIG:
        config = guest.config.copy()
        if config.devices.memballoon is not None:
            config.devices.memballoon.stats_period_s = period or None
        await _define(host, guest, config)
    else:
        host.publish(guest)


async def memory_stats_of(guest: Guest) -> list[DomainMemoryStat]:
    """What a guest and the host know of its memory. Raises as `Guest.ask` does."""
    found: list[DomainMemoryStat] = []
    if has_balloon(guest.live):
        path = balloon_path(guest.live)
        balloon, stats = await guest.ask_all(
            [("query-balloon", None), ("qom-get", {"path": path, "property": "guest-stats"})]
        )
        actual = int(balloon["actual"]) // 1024
        values = stats.get("stats") or {}
        # a balloon that nobody inflates in the guest says nothing
        if stats.get("last-update"):
            for name, tag, unit in _STATS:
                value = values.get(name)
                if value is not None and 0 <= value < _UNKNOWN:
                    found.append(DomainMemoryStat(int(tag), int(value) // unit))
        found.append(DomainMemoryStat(int(Tag.LAST_UPDATE), int(stats.get("last-update") or 0)))
        found.insert(0, DomainMemoryStat(int(Tag.ACTUAL_BALLOON), actual))
    else:
        found.append(DomainMemoryStat(int(Tag.ACTUAL_BALLOON), guest.facts.mem))
    run = guest.run
    resident = None if run is None else resident_kib(run.pid)
    if resident is not None:
        found.append(DomainMemoryStat(int(Tag.RSS), resident))
    return found


@calls.handles(key="dom", lane="query")
async def domain_memory_stats(
    host: QemuHost,
    dom: DomainRef,
    maxStats: int,  # noqa: N803  (the wire's own name)
    flags: int,
) -> list[DomainMemoryStat]:
    """What a guest and the host know of its memory. Raises NoSuchDomain, DomainStateError when it is off."""
    check_flags(flags, 0, "qemuDomainMemoryStats")
    guest = host.guest(dom)
    guest.need_run()
    return (await memory_stats_of(guest))[:maxStats]
