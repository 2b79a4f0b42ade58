"""Counters of guests, all of them made up: they follow the clock or stand still, as those of libvirt's test driver."""

from __future__ import annotations

import time
from typing import Any, Final

from actors.runtime.calls import Calls
from actors.test import rules
from actors.test.device_limits import need_interface
from actors.test.flags import check_flags
from actors.test.guest import Guest
from actors.test.host import TestHost
from actors.test.inside import GUEST_TIME_S
from actors.test.parameters import STRING_OKAY
from conf.domain.disk import Disk
from schema.enums.connect import ConnectGetAllDomainStatsFlags as StatsFlags
from schema.enums.domain import DomainMessageType as Messages
from schema.enums.domain_block import DomainDiskErrorCode as DiskError
from schema.enums.domain_resources import DomainMemoryStatTags as Tag
from schema.enums.domain_resources import DomainStatsTypes as StatsTypes
from schema.errors import ArgumentUnsupported, InvalidArguments, OperationUnsupported
from schema.objects import (
    DomainDiskError,
    DomainMemoryStat,
    DomainRef,
    DomainStatsRecord,
    TypedParam,
)
from schema.summaries import domain_selection

calls: Calls[TestHost] = Calls()

_TIB: Final = 1 << 40
_CAPACITY: Final = 1099506450432
_CPU_TIMES_NS: Final = ((24386308517, 23151740627), (24386308518, 23151740628))
_USER_NS: Final = 5540000000
_SYSTEM_NS: Final = 6460000000
_KNOWN_STATS: Final = int(StatsTypes.STATE | StatsTypes.IOTHREAD)
_FILTERS: Final = 0xFF  # active to other: what a list can select by, without its files
_STATS_FLAGS: Final = int(StatsFlags.ENFORCE_STATS | StatsFlags.NOWAIT | StatsFlags.BACKING)


@calls.handles()
def domain_get_info(host: TestHost, dom: DomainRef) -> dict[str, int]:
    """State, memory, processors and time used, which is the time of day. Raises NoSuchDomain."""
    record = host.guest(dom).record
    return {
        "state": record.state,
        "maxMem": record.facts.max_mem,
        "memory": record.facts.mem,
        "nrVirtCpu": record.facts.vcpus,
        "cpuTime": time.time_ns(),
    }


@calls.handles()
def domain_get_control_info(host: TestHost, dom: DomainRef, flags: int) -> dict[str, int]:
    """Whether a guest can be controlled, which it always can. Raises NoSuchDomain, DomainStateError."""
    check_flags(flags, 0, "testDomainGetControlInfo")
    host.guest(dom).check_active()
    return {"state": 0, "details": 0, "stateTime": 0}


@calls.handles()
def domain_get_security_label(host: TestHost, dom: DomainRef) -> dict[str, Any]:
    """The label of a guest, which only an active one has; its NUL travels along. Raises NoSuchDomain."""
    is_active = host.guest(dom).is_active
    return {"label": b"libvirt-test\0" if is_active else b"\0", "enforcing": int(is_active)}


@calls.handles()
def domain_get_messages(host: TestHost, dom: DomainRef, flags: int) -> list[str]:
    """What is unusual about a running guest. Raises NoSuchDomain."""
    check_flags(flags, int(Messages.TAINTING | Messages.DEPRECATION), "testDomainGetMessages")
    guest = host.guest(dom)
    return rules.messages(guest.live, flags) if guest.is_active else []


@calls.handles()
def domain_memory_stats(
    host: TestHost,
    dom: DomainRef,
    maxStats: int,  # noqa: N803
    flags: int,
) -> list[DomainMemoryStat]:
    """The memory of a running guest, as its balloon tells it. Raises NoSuchDomain, DomainStateError."""
    if maxStats == 0:
        return []
    check_flags(flags, 0, "testDomainMemoryStats")
    guest = host.guest(dom)
    guest.check_active()
    if guest.live.devices.memballoon is None:
        return []
    memory = rules.current_memory(guest.live)
    stats = {
        Tag.ACTUAL_BALLOON: memory,
        Tag.SWAP_IN: 0,
        Tag.SWAP_OUT: 0,
        Tag.MAJOR_FAULT: 0,
        Tag.MINOR_FAULT: 0,
        Tag.UNUSED: memory // 2,
        Tag.AVAILABLE: memory,
        Tag.USABLE: memory // 2,
        Tag.LAST_UPDATE: GUEST_TIME_S,
        Tag.DISK_CACHES: memory // 8,
        Tag.HUGETLB_PGALLOC: 0,
        Tag.HUGETLB_PGFAIL: 0,
        Tag.RSS: memory // 2,
    }
    return [DomainMemoryStat(tag, value) for tag, value in stats.items()][:maxStats]


@calls.handles()
def domain_get_cpu_stats(
    host: TestHost, dom: DomainRef, nparams: int, start_cpu: int, ncpus: int, flags: int
) -> dict[str, Any]:
    """Time used on each of the host's processors, or (`start_cpu` -1) in all. Raises NoSuchDomain, DomainStateError.

    Without room it tells how many parameters there are, without processors how many of those.
    """
    check_flags(flags, 4, "testDomainGetCPUStats")
    host.guest(dom).check_active()
    if start_cpu == -1:
        total = [
            TypedParam.of_ullong("cpu_time", sum(cpu for cpu, _ in _CPU_TIMES_NS)),
            TypedParam.of_ullong("user_time", _USER_NS),
            TypedParam.of_ullong("system_time", _SYSTEM_NS),
        ]
        return {"params": total[:nparams], "nparams": min(nparams, len(total)) if nparams else len(total)}
    if nparams == 0:
        return {"params": [], "nparams": len(_CPU_TIMES_NS) if ncpus == 0 else 2}
    if start_cpu >= len(_CPU_TIMES_NS):
        raise InvalidArguments(f"start_cpu {start_cpu} larger than maximum of {len(_CPU_TIMES_NS) - 1}")
    params: list[TypedParam] = []
    for cpu_time, vcpu_time in _CPU_TIMES_NS[start_cpu : start_cpu + ncpus]:
        both = [TypedParam.of_ullong("cpu_time", cpu_time), TypedParam.of_ullong("vcpu_time", vcpu_time)]
        params += both[:nparams]
    return {"params": params, "nparams": min(nparams, 2)}


@calls.handles()
def domain_get_security_label_list(host: TestHost, dom: DomainRef) -> dict[str, Any]:
    """libvirt's test driver has none, and counts them as -1. Raises NoSuchDomain."""
    host.guest(dom)
    return {"labels": [], "ret": -1}


@calls.handles()
def domain_block_stats(host: TestHost, dom: DomainRef, path: str) -> dict[str, int]:
    """Counters of a disk. Raises NoSuchDomain, DomainStateError, InvalidArguments for a disk that is not there."""
    if not path:
        raise OperationUnsupported("summary statistics are not supported yet")
    guest = host.guest(dom)
    guest.check_active()
    _need_disk(guest, path, f"invalid path: {path}")
    microseconds = time.time_ns() // 1000
    return {
        "rd_req": microseconds // 10,
        "rd_bytes": microseconds // 20,
        "wr_req": microseconds // 30,
        "wr_bytes": microseconds // 40,
        "errs": microseconds // 2_000_000,
    }


@calls.handles()
def domain_get_block_info(host: TestHost, dom: DomainRef, path: str, flags: int) -> dict[str, int]:
    """The size of a disk: each takes a tebibyte. Raises NoSuchDomain, InvalidArguments."""
    check_flags(flags, 0, "testDomainGetBlockInfo")
    _need_disk(host.guest(dom), path, f"invalid path {path} not assigned to domain")
    return {"allocation": _TIB, "capacity": _CAPACITY, "physical": _TIB}


@calls.handles()
def domain_get_disk_errors(host: TestHost, dom: DomainRef, maxerrors: int, flags: int) -> dict[str, Any]:
    """The errors of disks: each has one. Raises NoSuchDomain, DomainStateError."""
    check_flags(flags, 0, "testDomainGetDiskErrors")
    guest = host.guest(dom)
    guest.check_active()
    disks = guest.live.devices.disks
    kinds = (DiskError.UNSPEC, DiskError.NO_SPACE)
    errors = [
        DomainDiskError(disk.target.dev, kinds[place % len(kinds)]) for place, disk in enumerate(disks[:maxerrors])
    ]
    return {"errors": errors, "nerrors": len(errors) if maxerrors else len(disks)}


@calls.handles()
def domain_interface_stats(host: TestHost, dom: DomainRef, device: str) -> dict[str, int]:
    """Counters of an interface. Raises NoSuchDomain, DomainStateError, InvalidArguments for one that is not there."""
    guest = host.guest(dom)
    guest.check_active()
    need_interface(guest.live, device)
    microseconds = time.time_ns() // 1000
    seconds = microseconds // 1_000_000
    return {
        "rx_bytes": microseconds // 10,
        "rx_packets": microseconds // 100,
        "rx_errs": seconds,
        "rx_drop": seconds // 2,
        "tx_bytes": microseconds // 20,
        "tx_packets": microseconds // 110,
        "tx_errs": seconds // 3,
        "tx_drop": seconds // 4,
    }


@calls.handles()
def domain_memory_peek(host: TestHost, dom: DomainRef, offset: int, size: int, flags: int) -> bytes:
    """A guest's memory, in which each byte tells its place. Raises NoSuchDomain, DomainStateError."""
    check_flags(flags, 3, "testDomainMemoryPeek")
    if not flags:
        raise InvalidArguments("flags parameter must be VIR_MEMORY_VIRTUAL or VIR_MEMORY_PHYSICAL")
    host.guest(dom).check_active()
    return bytes((offset + place) % 256 for place in range(size))


@calls.handles()
def domain_get_launch_security_info(host: TestHost, dom: DomainRef, flags: int) -> list[TypedParam]:
    """libvirt's test driver refuses this. Raises UnsupportedFlags."""
    # libvirt's public function adds the flag that its test driver does not know
    check_flags(flags | STRING_OKAY, 0, "testDomainGetLaunchSecurityInfo")
    return []


@calls.handles()
def connect_get_all_domain_stats(
    host: TestHost, doms: list[DomainRef], stats: int, flags: int
) -> list[DomainStatsRecord]:
    """State and added threads of the guests named, or of all that the list flags select; there is nothing else.

    Raises ArgumentUnsupported when others are insisted on.
    """
    check_flags(flags, _FILTERS | _STATS_FLAGS, "testConnectGetAllDomainStats")
    if flags & StatsFlags.ENFORCE_STATS and stats & ~_KNOWN_STATS:
        raise ArgumentUnsupported(f"Stats types bits 0x{stats & ~_KNOWN_STATS:x} are not supported by this daemon")
    world = host.world
    named = [guest for dom in doms if (guest := world.guests.get(dom.uuid)) is not None]
    is_selected = domain_selection(flags & _FILTERS)
    guests = [guest for guest in (named if doms else world.guests.values()) if is_selected(guest.summary())]
    return [DomainStatsRecord(guest.ref, _stats_of(guest, stats or _KNOWN_STATS)) for guest in guests]


def _stats_of(guest: Guest, stats: int) -> list[TypedParam]:
    found: list[TypedParam] = []
    if stats & StatsTypes.STATE:
        found = [
            TypedParam.of_int("state.state", guest.record.state),
            TypedParam.of_int("state.reason", guest.record.reason),
        ]
    polling = guest.record.polling
    if stats & StatsTypes.IOTHREAD and polling and guest.is_active:
        found.append(TypedParam.of_uint("iothread.count", len(polling)))
        for number, (longest, grow, shrink) in polling.items():
            found.append(TypedParam.of_ullong(f"iothread.{number}.poll-max-ns", longest))
            found.append(TypedParam.of_uint(f"iothread.{number}.poll-grow", grow))
            found.append(TypedParam.of_uint(f"iothread.{number}.poll-shrink", shrink))
    return found


def _need_disk(guest: Guest, path: str, message: str) -> Disk:
    for disk in guest.current.devices.disks:
        if path == disk.target.dev or path == getattr(disk.source, "file", None):
            return disk
    raise InvalidArguments(message)
