"""What a definition says of a guest's shares of the host, put in force when the guest has been built."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from actors.qemu.confining.allowed import device_rules
from actors.qemu.confining.devices import nodes_of_guest
from actors.qemu.helpers.processes import pids_of_helpers
from actors.qemu.host import QemuHost
from actors.qemu.monitor.link import Monitor
from actors.qemu.records import Run
from actors.qemu.tuning.access import group_of
from actors.qemu.tuning.bandwidth import shape
from actors.qemu.tuning.blockshares import OF_DEVICES
from actors.qemu.tuning.devices import lists_devices
from actors.qemu.tuning.groups import GuestGroups, Threads, leftovers
from actors.qemu.tuning.hierarchy import host_hierarchy
from actors.qemu.tuning.perf import EVENTS, PerfCounters
from actors.qemu.tuning.pinning import (
    default_processors,
    emulator_processors,
    iothread_processors,
    pin_thread,
    vcpu_processors,
)
from actors.qemu.tuning.scheduling import limit
from conf.domain.domain import Domain
from conf.domain.numatune import MemoryMode
from conf.domain.vcpu import CpuTune
from schema.errors import HostSystemError, VirtError
from util.cpuset import parse_cpuset

_POLICIES: Final = {
    "batch": os.SCHED_BATCH,
    "idle": os.SCHED_IDLE,
    "fifo": os.SCHED_FIFO,
    "rr": os.SCHED_RR,
}


def asks_for_something(live: Domain) -> bool:
    """Whether anything has to be done at all; most guests want nothing."""
    tuned = (live.cputune, live.memtune, live.blkiotune, live.perf)
    return (
        any(one is not None for one in tuned)
        or live.vcpu.cpuset is not None
        or _confining_nodes(live) is not None
        or any(one.bandwidth is not None for one in live.devices.interfaces)
    )


async def apply_tuning(host: QemuHost, run: Run, live: Domain, monitor: Monitor) -> PerfCounters | None:
    """Puts all of it in force before the guest runs; gives its counters of events, if it has any.

    Raises HostSystemError, InvalidArguments, DomainStateError for what this host refuses, InternalError for interfaces.
    """
    if not asks_for_something(live) and not lists_devices(host):
        return None
    iothreads: dict[int, int] = {}
    if live.iothreads or live.iothreadids is not None:
        for one in await monitor.execute("query-iothreads"):
            number = str(one["id"]).removeprefix("iothread")
            if number.isdigit():
                iothreads[int(number)] = int(one["thread-id"])
    threads = Threads(run.pid, run.vcpu_threads, iothreads, pids_of_helpers(Path(run.folder)))
    groups = GuestGroups(host_hierarchy(), group_of(host, run), threads)
    await host.runtime.in_thread(_apply, groups, live)
    if lists_devices(host):
        await host.runtime.in_thread(groups.restrict_devices, device_rules(nodes_of_guest(live, None)))
    for interface in live.devices.interfaces:
        name = interface.target.dev if interface.target is not None else None
        if interface.bandwidth is not None and name:
            await shape(name, interface.bandwidth)
    wanted = [event.name for event in live.perf.events if event.enabled] if live.perf is not None else []
    return count_events(run.pid, wanted) if wanted else None


def count_events(pid: int, names: Iterable[str]) -> PerfCounters:
    """Counts events of a guest. Raises ArgumentUnsupported, HostSystemError."""
    counters = PerfCounters(pid)
    try:
        for name in names:
            if name in EVENTS:
                counters.enable(name)
    except BaseException:
        counters.close()
        raise
    return counters


def _confining_nodes(live: Domain) -> str | None:
    """The memory nodes that the kernel keeps a guest to; of the other modes QEMU is told."""
    memory = live.numatune.memory if live.numatune is not None else None
    if memory is None or memory.mode is not MemoryMode.RESTRICTIVE or memory.nodeset is None:
        return None
    return memory.nodeset


def _apply(groups: GuestGroups, live: Domain) -> None:
    _limit_memory(groups, live)
    if (nodes := _confining_nodes(live)) is not None:
        groups.set_nodes(nodes)
    _limit_devices(groups, live)
    if live.cputune is not None:
        _limit_processors(groups, live.cputune)
    _pin(groups.threads, live)
    if live.cputune is not None:
        _schedule(groups.threads, live.cputune)


def _limit_memory(groups: GuestGroups, live: Domain) -> None:
    tune = live.memtune
    if tune is None:
        return
    for place, kib in enumerate((tune.hard_limit_kib, tune.soft_limit_kib, tune.swap_hard_limit_kib)):
        if kib is not None:
            groups.set_memory(place, kib)


def _limit_devices(groups: GuestGroups, live: Domain) -> None:
    tune = live.blkiotune
    if tune is None:
        return
    if tune.weight:
        groups.set_weight(tune.weight)
    for device in tune.devices:
        for attribute in OF_DEVICES.values():
            value = getattr(device, attribute)
            if value:
                groups.set_device(device, attribute, value)


def _limit_processors(groups: GuestGroups, tune: CpuTune) -> None:
    if tune.shares is not None:
        groups.set_shares(tune.shares)
    limits = {
        "global": (tune.global_period, tune.global_quota),
        "emulator": (tune.emulator_period, tune.emulator_quota),
        "vcpu": (tune.period, tune.quota),
        "iothread": (tune.iothread_period, tune.iothread_quota),
    }
    for kind, (period, quota) in limits.items():
        if period or quota:
            limit(groups, kind, period or 0, quota or 0)


def _pin(threads: Threads, live: Domain) -> None:
    tune = live.cputune or CpuTune()
    if live.vcpu.cpuset is None and tune.emulatorpin is None and not tune.vcpupins and not tune.iothreadpins:
        return
    if live.vcpu.cpuset is not None or tune.emulatorpin is not None:
        for thread in threads.others():
            pin_thread(thread, emulator_processors(live))
    everywhere = default_processors(live)
    for number, thread in threads.vcpus.items():
        wanted = vcpu_processors(live, number)
        if wanted != everywhere or live.vcpu.cpuset is not None:
            pin_thread(thread, wanted)
    for number, thread in threads.iothreads.items():
        wanted = iothread_processors(live, number)
        if wanted != everywhere or live.vcpu.cpuset is not None:
            pin_thread(thread, wanted)


def _schedule(threads: Threads, tune: CpuTune) -> None:
    if tune.emulatorsched is not None:
        for thread in threads.others():
            _set_policy(thread, tune.emulatorsched.scheduler, tune.emulatorsched.priority)
    for one in tune.vcpuscheds:
        for number in parse_cpuset(one.vcpus) & threads.vcpus.keys():
            _set_policy(threads.vcpus[number], one.scheduler, one.priority)
    for other in tune.iothreadscheds:
        for number in parse_cpuset(other.iothreads) & threads.iothreads.keys():
            _set_policy(threads.iothreads[number], other.scheduler, other.priority)


def _set_policy(thread: int, name: str, priority: int | None) -> None:
    try:
        os.sched_setscheduler(thread, _POLICIES[name], os.sched_param(priority or 0))
    except ProcessLookupError:
        return
    except OSError as exc:
        raise HostSystemError(exc.errno or 0, f"Cannot set scheduler parameters for pid {thread}") from exc


def take_up(host: QemuHost) -> None:
    """The groups of guests that ended while nobody looked go; events of those that run are counted again."""
    for guest in host.guests.values():
        if guest.run is not None and "<perf>" in guest.run.xml and guest.live.perf is not None:
            try:
                wanted = [event.name for event in guest.live.perf.events if event.enabled]
                guest.perf = count_events(guest.run.pid, wanted)
            except VirtError as exc:
                host.log.warning("events of a guest are not counted", guest=guest.name, error=exc.message)
    if os.geteuid() != 0:
        return
    hierarchy = host_hierarchy()
    alive = {group_of(host, guest.run) for guest in host.guests.values() if guest.run is not None}
    for group in leftovers(hierarchy, host.run_folder, alive):
        hierarchy.remove(group)
