"""Counters of guests: what the host measures of their processes, and what their monitors tell.

Bulk statistics ask every guest side by side, each with its own limit: one that does not answer is told without those
counters, and holds up nobody.
"""

from __future__ import annotations

import asyncio
import os
import stat
from pathlib import Path
from typing import Any, Final

from actors.qemu.agent.processors import count_in_use
from actors.qemu.block.counters import count_lower, lower_stats, written_to
from actors.qemu.disk_stats import iothread_stats
from actors.qemu.flags import AFFECT, check_flags, one_impact
from actors.qemu.guest import Guest
from actors.qemu.host import QemuHost
from actors.qemu.linking.counters import guest_counters
from actors.qemu.memory import memory_stats_of
from actors.qemu.monitor.link import Command
from actors.qemu.notices import source_path
from actors.qemu.process_memory import thread_use
from actors.qemu.statistics_off import capacity_of, images_of
from actors.qemu.statistics_off import part_of as part_of_off
from actors.qemu.tuning.measures import dirty_rate, event_counts
from actors.runtime.calls import Calls
from conf.domain.disk import Disk
from schema.body import Packed, packed_parts
from schema.enums.connect import ConnectGetAllDomainStatsFlags as StatsFlags
from schema.enums.domain import DomainModificationImpact as Impact
from schema.enums.domain_resources import DomainMemoryStatTags as Tag
from schema.enums.domain_resources import DomainStatsTypes as StatsTypes
from schema.enums.domain_resources import DomainVcpuFlags as VcpuFlags
from schema.errors import (
    DomainStateError,
    HostSystemError,
    InvalidArguments,
    OperationUnsupported,
    VirtError,
)
from schema.objects import DomainRef, DomainStatsRecord, TypedParam
from schema.summaries import LIST_DOMAINS_FLAGS, domain_selection
from schema.table import need_procedure

calls: Calls[QemuHost] = Calls()

BULK_ANSWER_S: Final = 0.5
"""How long one guest may take to answer within bulk statistics."""
OFF_AT_ONCE: Final = 256
"""So many guests that are off are told before other work has its turn."""
_KNOWN: Final = int(
    StatsTypes.STATE
    | StatsTypes.CPU_TOTAL
    | StatsTypes.BALLOON
    | StatsTypes.VCPU
    | StatsTypes.INTERFACE
    | StatsTypes.BLOCK
    | StatsTypes.IOTHREAD
    | StatsTypes.PERF
    | StatsTypes.DIRTYRATE
)
_BACKING: Final = 1 << 32
"""Beside the kinds of counters: those of the images below are wanted too."""
_BULK_FLAGS: Final = int(StatsFlags.ENFORCE_STATS | StatsFlags.NOWAIT | StatsFlags.BACKING)
_RUNNING_VCPU: Final = 1
_STRING_OKAY: Final = 4  # the client understands typed parameters that are strings


@calls.handles()
def domain_get_info(host: QemuHost, dom: DomainRef) -> dict[str, int]:
    """State, memory, processors and time used. Raises NoSuchDomain."""
    guest = host.guest(dom)
    summary = guest.summary()
    return {
        "state": summary["state"],
        "maxMem": summary["max_mem"],
        "memory": summary["mem"],
        "nrVirtCpu": summary["vcpus"],
        "cpuTime": cpu_ns_of(guest),
    }


def cpu_ns_of(guest: Guest) -> int:
    """The processor time that a guest has used; 0 when it is off."""
    used = None if guest.process is None else guest.process.stat()
    return 0 if used is None else used.cpu_ns


@calls.handles()
def domain_get_control_info(host: QemuHost, dom: DomainRef, flags: int) -> dict[str, int]:
    """Whether a guest's monitor answers. Raises NoSuchDomain, DomainStateError when it is off."""
    check_flags(flags, 0, "qemuDomainGetControlInfo")
    guest = host.guest(dom)
    guest.need_run()
    if guest.monitor is None or not guest.monitor.is_open:
        return {"state": 3, "details": 2, "stateTime": 0}
    return {"state": 2 if guest.monitor.unanswered else 0, "details": 0, "stateTime": 0}


# --- processors ------------------------------------------------------------------------------------------------------


@calls.handles()
async def domain_get_vcpus_flags(host: QemuHost, dom: DomainRef, flags: int) -> int:
    """How many processors a guest has, may have, or uses as its agent says.

    Raises NoSuchDomain, DomainStateError, and what asking the agent raises.
    """
    known = int(VcpuFlags.LIVE | VcpuFlags.CONFIG | VcpuFlags.MAXIMUM | VcpuFlags.GUEST)
    check_flags(flags, known, "qemuDomainGetVcpusFlags")
    guest = host.guest(dom)
    if flags & VcpuFlags.GUEST:
        return await count_in_use(host, guest, maximum=bool(flags & VcpuFlags.MAXIMUM))
    definition = guest.live if one_impact(guest, flags & AFFECT) & Impact.LIVE else guest.config
    vcpu = definition.vcpu
    return vcpu.count if flags & VcpuFlags.MAXIMUM else vcpu.current or vcpu.count


@calls.handles()
def domain_get_cpu_stats(
    host: QemuHost, dom: DomainRef, nparams: int, start_cpu: int, ncpus: int, flags: int
) -> dict[str, Any]:
    """The processor time of a guest as a whole. Raises NoSuchDomain, DomainStateError, OperationUnsupported."""
    check_flags(flags, _STRING_OKAY, "qemuDomainGetCPUStats")
    guest = host.guest(dom)
    guest.need_run()
    used = None if guest.process is None else guest.process.stat()
    if used is None:
        raise DomainStateError("domain is not running")
    if start_cpu != -1:
        raise OperationUnsupported("counters per host processor are not supported yet")
    found = [
        TypedParam.of_ullong("cpu_time", used.cpu_ns),
        TypedParam.of_ullong("user_time", used.cpu_user_ns),
        TypedParam.of_ullong("system_time", used.cpu_system_ns),
    ]
    if nparams == 0:
        return {"params": [], "nparams": len(found)}
    return {"params": found[:nparams], "nparams": min(len(found), nparams)}


# --- disks -----------------------------------------------------------------------------------------------------------


def find_disk_of(guest: Guest, path: str) -> Disk:
    """The disk that a target's name or a source's path means. Raises InvalidArguments."""
    definition = guest.live if guest.is_active else guest.config
    for disk in definition.devices.disks:
        if path in (disk.target.dev, source_path(disk)):
            return disk
    error = InvalidArguments()
    error.message = f"invalid argument: invalid path: {path}"
    raise error


async def _block_counters(guest: Guest) -> dict[str, dict[str, Any]]:
    """QEMU's counters of all disks by alias. Raises as `Guest.ask` does."""
    return _by_alias(await guest.ask("query-blockstats"))


def _by_alias(stats: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {}
    for one in stats:
        path = str(one.get("qdev") or "").removeprefix("/machine/peripheral/").partition("/")[0]
        if path:
            found[path] = one["stats"]
    return found


@calls.handles(key="dom", lane="query")
async def domain_block_stats(host: QemuHost, dom: DomainRef, path: str) -> dict[str, int]:
    """What a guest has read and written; of all its disks when `path` is empty.

    Raises NoSuchDomain, DomainStateError when it is off, InvalidArguments.
    """
    guest = host.guest(dom)
    guest.need_run()
    disks = [find_disk_of(guest, path)] if path else list(guest.live.devices.disks)
    counters = await _block_counters(guest)
    names = {"rd_req": "rd_operations", "rd_bytes": "rd_bytes", "wr_req": "wr_operations", "wr_bytes": "wr_bytes"}
    total = dict.fromkeys(names, 0)
    for disk in disks:
        for ours, theirs in names.items():
            total[ours] += int(counters.get(disk.alias or "", {}).get(theirs, 0))
    return {**total, "errs": -1}


_BLOCK_PARAMS: Final = (
    ("rd_operations", "rd_operations"),
    ("rd_bytes", "rd_bytes"),
    ("rd_total_times", "rd_total_time_ns"),
    ("wr_operations", "wr_operations"),
    ("wr_bytes", "wr_bytes"),
    ("wr_total_times", "wr_total_time_ns"),
    ("flush_operations", "flush_operations"),
    ("flush_total_times", "flush_total_time_ns"),
)


@calls.handles(key="dom", lane="query")
async def domain_block_stats_flags(
    host: QemuHost, dom: DomainRef, path: str, nparams: int, flags: int
) -> dict[str, Any]:
    """All counters of a disk. Raises NoSuchDomain, DomainStateError when it is off, InvalidArguments."""
    check_flags(flags, _STRING_OKAY, "qemuDomainBlockStatsFlags")
    guest = host.guest(dom)
    guest.need_run()
    disks = [find_disk_of(guest, path)] if path else list(guest.live.devices.disks)
    if not disks:
        return {"params": [], "nparams": 0}
    if nparams == 0:
        return {"params": [], "nparams": len(_BLOCK_PARAMS)}
    counters = await _block_counters(guest)
    found = [
        TypedParam.of_llong(ours, sum(int(counters.get(disk.alias or "", {}).get(theirs, 0)) for disk in disks))
        for ours, theirs in _BLOCK_PARAMS
    ]
    return {"params": found[:nparams], "nparams": min(nparams, len(found))}


@calls.handles(key="dom", lane="query")
async def domain_get_block_info(host: QemuHost, dom: DomainRef, path: str, flags: int) -> dict[str, int]:
    """How large a disk is, and how much of the host it takes.

    Raises NoSuchDomain, InvalidArguments, HostSystemError.
    """
    check_flags(flags, 0, "qemuDomainGetBlockInfo")
    guest = host.guest(dom)
    try:
        disk = find_disk_of(guest, path)
    except InvalidArguments as exc:
        exc.message = f"invalid argument: invalid path {path} not assigned to domain"
        raise
    where = source_path(disk)
    allocation, physical = await host.runtime.in_thread(_sizes_of, where)
    capacity = physical
    if guest.is_active:
        for one in await guest.ask("query-named-block-nodes", {"flat": True}):
            index = disk.source.index if disk.source is not None else None
            if one.get("node-name") == f"libvirt-{index}-format":
                capacity = int(one["image"]["virtual-size"])
    elif disk.driver is not None and disk.driver.type is not None:
        capacity = await host.runtime.in_thread(capacity_of, where, disk.driver.type) or physical
    return {"allocation": allocation, "capacity": capacity, "physical": physical}


def _sizes_of(path: str) -> tuple[int, int]:
    try:
        facts = Path(path).stat()
        if stat.S_ISBLK(facts.st_mode):
            with Path(path).open("rb") as device:
                size = device.seek(0, os.SEEK_END)
            return size, size
    except OSError as exc:
        raise HostSystemError(exc.errno or 0, f"cannot stat file '{path}'") from exc
    return facts.st_blocks * 512, facts.st_size


# --- interfaces ------------------------------------------------------------------------------------------------------


@calls.handles()
def domain_interface_stats(host: QemuHost, dom: DomainRef, device: str) -> dict[str, int]:
    """What a guest's interface has carried, seen from the guest.

    Raises NoSuchDomain, DomainStateError when it is off, InvalidArguments.
    """
    guest = host.guest(dom)
    guest.need_run()
    for interface in guest.live.devices.interfaces:
        name = interface.target.dev if interface.target is not None else None
        mac = interface.mac.address if interface.mac is not None else None
        if device in (name, mac) and name is not None:
            return guest_counters(interface, name)
    error = InvalidArguments()
    error.message = f"invalid argument: '{device}' is not a known interface"
    raise error


# --- everything at once ----------------------------------------------------------------------------------------------


@calls.handles()
async def connect_get_all_domain_stats(host: QemuHost, doms: list[DomainRef], stats: int, flags: int) -> Packed:
    """Counters of many guests; those of a guest that does not answer are left out.

    Raises NoSuchDomain, OperationUnsupported for kinds of counters that there are not, if they are enforced.
    """
    check_flags(flags, _BULK_FLAGS | LIST_DOMAINS_FLAGS, "qemuConnectGetAllDomainStats")
    if stats & ~_KNOWN and flags & StatsFlags.ENFORCE_STATS:
        raise OperationUnsupported(f"Stats types bits 0x{stats & ~_KNOWN:x} are not supported by this daemon")
    wanted = stats & _KNOWN or _KNOWN
    if flags & StatsFlags.BACKING:
        wanted |= _BACKING
    if doms:
        guests = [host.guest(one) for one in doms]
    elif flags & LIST_DOMAINS_FLAGS:
        selects = domain_selection(flags & LIST_DOMAINS_FLAGS)
        guests = [guest for guest in host.guests.values() if selects(guest.summary())]
    else:
        guests = list(host.guests.values())
    row = need_procedure("connect_get_all_domain_stats")
    running = [guest for guest in guests if guest.is_active]
    told = {
        guest.key: packed_parts(row, [record])[0]
        for guest, record in zip(
            running, await asyncio.gather(*(_stats_of(guest, wanted) for guest in running)), strict=True
        )
    }
    off = [guest for guest in guests if guest.key not in told]
    images = await images_of(host, off) if wanted & StatsTypes.BLOCK else {}
    parts = []
    for number, guest in enumerate(guests, 1):
        part = told.get(guest.key)
        parts.append(part_of_off(guest, wanted, images) if part is None else part)
        if number % OFF_AT_ONCE == 0:
            await asyncio.sleep(0)
    return Packed(row, parts)


async def _stats_of(guest: Guest, wanted: int) -> DomainStatsRecord:
    summary = guest.summary()
    found: list[TypedParam] = []
    if wanted & StatsTypes.STATE:
        found.append(TypedParam.of_int("state.state", summary["state"]))
        found.append(TypedParam.of_int("state.reason", summary["reason"]))
    used = None if guest.process is None else guest.process.stat()
    if wanted & StatsTypes.CPU_TOTAL and used is not None:
        found.append(TypedParam.of_ullong("cpu.time", used.cpu_ns))
        found.append(TypedParam.of_ullong("cpu.user", used.cpu_user_ns))
        found.append(TypedParam.of_ullong("cpu.system", used.cpu_system_ns))
        # nobody monitors the host's caches for it, and no host processor polls for a guest that is emulated
        found.append(TypedParam.of_uint("cpu.cache.monitor.count", 0))
        found.append(TypedParam.of_ullong("cpu.haltpoll.success.time", 0))
        found.append(TypedParam.of_ullong("cpu.haltpoll.fail.time", 0))
    if wanted & StatsTypes.BALLOON:
        found.append(TypedParam.of_ullong("balloon.current", summary["mem"]))
        found.append(TypedParam.of_ullong("balloon.maximum", summary["max_mem"]))
    told = await _asked(guest, wanted)
    found += told.get(StatsTypes.BALLOON, [])
    if wanted & StatsTypes.VCPU and guest.run is not None:
        found += _vcpu_stats(guest)
    if wanted & StatsTypes.INTERFACE and guest.is_active:
        found += _interface_stats(guest)
    found += told.get(StatsTypes.BLOCK, [])
    if wanted & StatsTypes.PERF:
        found += event_counts(guest)
    found += told.get(StatsTypes.IOTHREAD, []) + told.get(StatsTypes.DIRTYRATE, [])
    return DomainStatsRecord(guest.ref, found)


async def _asked(guest: Guest, wanted: int) -> dict[StatsTypes, list[TypedParam]]:
    """What only the monitor knows; nothing when it does not answer in time."""
    kinds = [kind for kind in _ASKED if wanted & kind]
    if not guest.is_active or not kinds or _is_silent(guest):
        return {}
    try:
        async with asyncio.timeout(BULK_ANSWER_S):
            asking = dict(_ASKED)
            if wanted & _BACKING:
                asking[StatsTypes.BLOCK] = _block_stats_with_backing
            parts = await asyncio.gather(*(asking[kind](guest) for kind in kinds))
    except (TimeoutError, VirtError):
        return {}
    return dict(zip(kinds, parts, strict=True))


def _is_silent(guest: Guest) -> bool:
    """It has owed an answer for so long that asking more would only make others wait."""
    return guest.monitor is None or guest.monitor.silence_s > BULK_ANSWER_S


_BALLOON_NAMES: Final = {
    Tag.SWAP_IN: "swap_in",
    Tag.SWAP_OUT: "swap_out",
    Tag.MAJOR_FAULT: "major_fault",
    Tag.MINOR_FAULT: "minor_fault",
    Tag.UNUSED: "unused",
    Tag.AVAILABLE: "available",
    Tag.RSS: "rss",
    Tag.USABLE: "usable",
    Tag.LAST_UPDATE: "last-update",
    Tag.DISK_CACHES: "disk_caches",
    Tag.HUGETLB_PGALLOC: "hugetlb_pgalloc",
    Tag.HUGETLB_PGFAIL: "hugetlb_pgfail",
}


async def _balloon_stats(guest: Guest) -> list[TypedParam]:
    found = []
    for one in await memory_stats_of(guest):
        name = _BALLOON_NAMES.get(Tag(one.tag))
        if name is not None:
            found.append(TypedParam.of_ullong(f"balloon.{name}", one.val))
    return found


_BULK_BLOCK: Final = (
    ("rd.reqs", "rd_operations"),
    ("rd.bytes", "rd_bytes"),
    ("rd.times", "rd_total_time_ns"),
    ("wr.reqs", "wr_operations"),
    ("wr.bytes", "wr_bytes"),
    ("wr.times", "wr_total_time_ns"),
    ("fl.reqs", "flush_operations"),
    ("fl.times", "flush_total_time_ns"),
)


async def _block_stats(guest: Guest, *, with_backing: bool = False) -> list[TypedParam]:
    disks = guest.live.devices.disks
    found = [TypedParam.of_uint("block.count", len(disks) + (count_lower(guest) if with_backing else 0))]
    if not disks:
        return found
    questions: list[Command] = [("query-blockstats", None), ("query-named-block-nodes", {"flat": True})]
    if with_backing:
        questions.append(("query-blockstats", {"query-nodes": True}))
    stats, nodes, *written = await guest.ask_all(questions)
    counters = _by_alias(stats)
    images = {str(one.get("node-name")): one.get("image") or {} for one in nodes}
    thresholds = {str(one.get("node-name")): int(one.get("write_threshold", 0)) for one in nodes}
    place = 0
    for disk in disks:
        number, place = place, place + 1
        found.append(TypedParam.of_string(f"block.{number}.name", disk.target.dev))
        path = source_path(disk)
        if path:
            found.append(TypedParam.of_string(f"block.{number}.path", path))
        index = disk.source.index if disk.source is not None else None
        if index is not None:
            found.append(TypedParam.of_uint(f"block.{number}.backingIndex", index))
        own = counters.get(disk.alias or "")
        if own is not None:
            found += [TypedParam.of_ullong(f"block.{number}.{ours}", int(own[theirs])) for ours, theirs in _BULK_BLOCK]
        image = images.get(f"libvirt-{index}-format")
        if image:
            highest = int(own.get("wr_highest_offset", 0)) if own is not None else 0
            found.append(TypedParam.of_ullong(f"block.{number}.allocation", highest))
            found.append(TypedParam.of_ullong(f"block.{number}.capacity", int(image.get("virtual-size", 0))))
            found.append(TypedParam.of_ullong(f"block.{number}.physical", int(image.get("actual-size", 0))))
        if threshold := thresholds.get(f"libvirt-{index}-storage"):
            found.append(TypedParam.of_ullong(f"block.{number}.threshold", threshold))
        if with_backing:
            lower = lower_stats(guest, disk.target.dev, place, images, written_to(written[0]))
            found += lower
            place += sum(1 for one in lower if one.field.endswith(".backingIndex"))
    return found


async def _block_stats_with_backing(guest: Guest) -> list[TypedParam]:
    return await _block_stats(guest, with_backing=True)


_ASKED: Final = {
    StatsTypes.BALLOON: _balloon_stats,
    StatsTypes.BLOCK: _block_stats,
    StatsTypes.IOTHREAD: iothread_stats,
    StatsTypes.DIRTYRATE: dirty_rate,
}


def _vcpu_stats(guest: Guest) -> list[TypedParam]:
    run = guest.need_run()
    vcpu = guest.live.vcpu
    found = [
        TypedParam.of_uint("vcpu.current", vcpu.current or vcpu.count),
        TypedParam.of_uint("vcpu.maximum", vcpu.count),
    ]
    for number, thread in run.vcpu_threads.items():
        use = thread_use(run.pid, thread)
        if use is not None:
            found.append(TypedParam.of_int(f"vcpu.{number}.state", _RUNNING_VCPU))
            found.append(TypedParam.of_ullong(f"vcpu.{number}.time", use.cpu_ns))
            found.append(TypedParam.of_ullong(f"vcpu.{number}.wait", use.wait_ns))
            found.append(TypedParam.of_ullong(f"vcpu.{number}.delay", use.delay_ns))
    return found


def _interface_stats(guest: Guest) -> list[TypedParam]:
    interfaces = guest.live.devices.interfaces
    found = [TypedParam.of_uint("net.count", len(interfaces))]
    for number, interface in enumerate(interfaces):
        name = interface.target.dev if interface.target is not None else None
        if name is None:
            continue
        found.append(TypedParam.of_string(f"net.{number}.name", name))
        try:
            counters = guest_counters(interface, name)
        except HostSystemError:
            continue
        for key, value in counters.items():
            way, _, what = key.partition("_")
            word = {"packets": "pkts"}.get(what, what)
            found.append(TypedParam.of_ullong(f"net.{number}.{way}.{word}", value))
    return found
