"""Which processors of the host the threads of a guest may run on."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Final

from actors.qemu.flags import AFFECT, check_flags, impact, one_impact
from actors.qemu.guest import Guest
from actors.qemu.host import QemuHost
from actors.qemu.process_memory import thread_use
from actors.qemu.tuning.access import threads_of
from actors.qemu.tuning.draft import Draft
from actors.qemu.tuning.parameters import tuned
from actors.runtime.calls import Calls
from conf.domain.domain import Domain
from conf.domain.vcpu import CpuTune, EmulatorPin, IoThreadPin, VcpuPin
from schema.enums.domain import DomainModificationImpact as Impact
from schema.errors import HostSystemError, InvalidArguments, OperationFailed
from schema.objects import DomainIothreadInfo, DomainRef, TypedParam, VcpuInfo
from util.cpuset import bits_from_cpuset, cpuset_from_bits, parse_cpuset, write_cpuset

calls: Calls[QemuHost] = Calls()

_RUNNING: Final = 1
_OFFLINE: Final = 0


def host_processors() -> frozenset[int]:
    """The processors that this host has and that are switched on."""
    try:
        return parse_cpuset(Path("/sys/devices/system/cpu/online").read_text(encoding="ascii").strip())
    except (OSError, ValueError):
        return frozenset(range(os.cpu_count() or 1))


def _map_length() -> int:
    return -(-(max(host_processors()) + 1) // 8)


def default_processors(definition: Domain) -> frozenset[int]:
    """Where threads run that are not pinned themselves."""
    return parse_cpuset(definition.vcpu.cpuset) if definition.vcpu.cpuset else host_processors()


def vcpu_processors(definition: Domain, number: int) -> frozenset[int]:
    """Where one virtual processor may run."""
    for pin in definition.cputune.vcpupins if definition.cputune is not None else ():
        if pin.vcpu == number:
            return parse_cpuset(pin.cpuset)
    return default_processors(definition)


def emulator_processors(definition: Domain) -> frozenset[int]:
    """Where the emulator's own threads may run."""
    if definition.cputune is not None and definition.cputune.emulatorpin is not None:
        return parse_cpuset(definition.cputune.emulatorpin.cpuset)
    return default_processors(definition)


def iothread_processors(definition: Domain, number: int) -> frozenset[int]:
    """Where one input/output thread may run."""
    for pin in definition.cputune.iothreadpins if definition.cputune is not None else ():
        if pin.iothread == number:
            return parse_cpuset(pin.cpuset)
    return default_processors(definition)


def iothread_numbers(definition: Domain) -> list[int]:
    """The numbers of a definition's input/output threads."""
    if definition.iothreadids is not None and definition.iothreadids.iothreads:
        return [one.id for one in definition.iothreadids.iothreads]
    return list(range(1, (definition.iothreads or 0) + 1))


def pin_thread(thread: int, processors: frozenset[int]) -> None:
    """Raises HostSystemError when the host refuses; nothing when the thread is gone."""
    try:
        os.sched_setaffinity(thread, processors)
    except ProcessLookupError:
        return
    except OSError as exc:
        raise HostSystemError(exc.errno or 0, f"cannot set CPU affinity on process {thread}") from exc


def _affinity(thread: int) -> frozenset[int] | None:
    try:
        return frozenset(os.sched_getaffinity(thread))
    except OSError:
        return None


def _wanted(cpumap: bytes, what: str) -> frozenset[int]:
    found = cpuset_from_bits(cpumap)
    if not found:
        raise InvalidArguments(f"Empty cpu list for {what}pinning" if what else "Empty cpu list for pinning")
    return found


def _cputune(definition: Domain) -> CpuTune:
    tune = definition.cputune = definition.cputune or CpuTune()
    return tune


# --- virtual processors ----------------------------------------------------------------------------------------------


@calls.handles(key="dom")
async def domain_pin_vcpu_flags(host: QemuHost, dom: DomainRef, vcpu: int, cpumap: bytes, flags: int) -> None:
    """Says on which of the host's processors one of the guest's may run.

    Raises NoSuchDomain, DomainStateError, InvalidArguments for a processor that is not there, HostSystemError.
    """
    check_flags(flags, AFFECT, "qemuDomainPinVcpuFlags")
    guest = host.guest(dom)
    draft = Draft(guest, impact(guest, flags))
    if draft.live is not None and vcpu >= (draft.live.vcpu.current or draft.live.vcpu.count):
        count = draft.live.vcpu.current or draft.live.vcpu.count
        raise InvalidArguments(f"vcpu {vcpu} is out of range of live cpu count {count}")
    if draft.config is not None and vcpu >= draft.config.vcpu.count:
        raise InvalidArguments(f"vcpu {vcpu} is out of range of persistent cpu count {draft.config.vcpu.count}")
    processors = _wanted(cpumap, "vcpu ")
    if draft.live is not None:
        thread = guest.need_run().vcpu_threads.get(vcpu)
        if thread is not None:
            pin_thread(thread, processors)
    text = write_cpuset(processors)
    for definition in draft.definitions:
        pins = _cputune(definition).vcpupins
        pins[:] = sorted([one for one in pins if one.vcpu != vcpu] + [VcpuPin(vcpu=vcpu, cpuset=text)], key=_by_vcpu)
    told = [tuned(guest, [TypedParam.of_string(f"cputune.vcpupin{vcpu}", text)])]
    await draft.commit(host, told if draft.live is not None else ())


def _by_vcpu(pin: VcpuPin) -> int:
    return pin.vcpu


@calls.handles(key="dom")
async def domain_pin_vcpu(host: QemuHost, dom: DomainRef, vcpu: int, cpumap: bytes) -> None:
    """The same for a running guest. Raises as that does."""
    await domain_pin_vcpu_flags(host, dom, vcpu, cpumap, int(Impact.LIVE))


@calls.handles()
def domain_get_vcpu_pin_info(host: QemuHost, dom: DomainRef, ncpumaps: int, maplen: int, flags: int) -> dict[str, Any]:
    """On which of the host's processors the guest's may run. Raises NoSuchDomain, DomainStateError."""
    check_flags(flags, AFFECT, "qemuDomainGetVcpuPinInfo")
    guest = host.guest(dom)
    definition = guest.live if one_impact(guest, flags & AFFECT) & Impact.LIVE else guest.config
    count = min(max(0, ncpumaps), definition.vcpu.count)
    maps = [bits_from_cpuset(vcpu_processors(definition, number), max(0, maplen)) for number in range(count)]
    return {"cpumaps": b"".join(maps), "num": count}


@calls.handles()
def domain_get_vcpus(host: QemuHost, dom: DomainRef, maxinfo: int, maplen: int) -> dict[str, Any]:
    """What a guest's processors use, where they ran last and where they may run.

    Raises NoSuchDomain, DomainStateError when it is off.
    """
    guest = host.guest(dom)
    run = guest.need_run()
    infos, maps = [], []
    for number, thread in list(run.vcpu_threads.items())[: max(0, maxinfo)]:
        use = thread_use(run.pid, thread)
        if use is not None:
            infos.append(VcpuInfo(number, _RUNNING, use.cpu_ns, use.processor))
            processors = _affinity(thread) or vcpu_processors(guest.live, number)
            maps.append(bits_from_cpuset(processors, max(0, maplen)))
    return {"info": infos, "cpumaps": b"".join(maps)}


# --- the emulator ----------------------------------------------------------------------------------------------------


@calls.handles(key="dom")
async def domain_pin_emulator(host: QemuHost, dom: DomainRef, cpumap: bytes, flags: int) -> None:
    """Says on which of the host's processors the emulator's own threads may run.

    Raises NoSuchDomain, DomainStateError, InvalidArguments, HostSystemError.
    """
    check_flags(flags, AFFECT, "qemuDomainPinEmulator")
    guest = host.guest(dom)
    draft = Draft(guest, impact(guest, flags))
    processors = _wanted(cpumap, "emulator ")
    if draft.live is not None:
        threads = await threads_of(guest)
        for thread in threads.others():
            pin_thread(thread, processors)
    text = write_cpuset(processors)
    for definition in draft.definitions:
        _cputune(definition).emulatorpin = EmulatorPin(cpuset=text)
    told = [tuned(guest, [TypedParam.of_string("cputune.emulatorpin", text)])]
    await draft.commit(host, told if draft.live is not None else ())


@calls.handles()
def domain_get_emulator_pin_info(host: QemuHost, dom: DomainRef, maplen: int, flags: int) -> dict[str, Any]:
    """On which of the host's processors the emulator's own threads may run. Raises NoSuchDomain, DomainStateError."""
    check_flags(flags, AFFECT, "qemuDomainGetEmulatorPinInfo")
    guest = host.guest(dom)
    definition = guest.live if one_impact(guest, flags & AFFECT) & Impact.LIVE else guest.config
    return {"cpumaps": bits_from_cpuset(emulator_processors(definition), max(0, maplen)), "ret": 1}


# --- input/output threads --------------------------------------------------------------------------------------------


@calls.handles(key="dom")
async def domain_pin_iothread(host: QemuHost, dom: DomainRef, iothreads_id: int, cpumap: bytes, flags: int) -> None:
    """Says on which of the host's processors an input/output thread may run.

    Raises NoSuchDomain, DomainStateError, InvalidArguments for a thread that is not there, HostSystemError.
    """
    check_flags(flags, AFFECT, "qemuDomainPinIOThread")
    guest = host.guest(dom)
    draft = Draft(guest, impact(guest, flags))
    processors = _wanted(cpumap, "iothread ")
    if draft.live is not None:
        threads = (await threads_of(guest)).iothreads
        if iothreads_id not in threads:
            raise InvalidArguments(f"iothread {iothreads_id} not found")
        pin_thread(threads[iothreads_id], processors)
    if draft.config is not None and iothreads_id not in iothread_numbers(draft.config):
        raise InvalidArguments(f"iothreadid {iothreads_id} not found")
    text = write_cpuset(processors)
    for definition in draft.definitions:
        pins = _cputune(definition).iothreadpins
        others = [one for one in pins if one.iothread != iothreads_id]
        pins[:] = sorted([*others, IoThreadPin(iothread=iothreads_id, cpuset=text)], key=lambda one: one.iothread)
    told = [tuned(guest, [TypedParam.of_string(f"cputune.iothreadpin{iothreads_id}", text)])]
    await draft.commit(host, told if draft.live is not None else ())


@calls.handles(key="dom", lane="query")
async def domain_get_iothread_info(host: QemuHost, dom: DomainRef, flags: int) -> dict[str, Any]:
    """A guest's input/output threads and where they may run. Raises NoSuchDomain, DomainStateError."""
    check_flags(flags, AFFECT, "qemuDomainGetIOThreadInfo")
    guest = host.guest(dom)
    length = _map_length()
    if not one_impact(guest, flags & AFFECT) & Impact.LIVE:
        found = [(number, iothread_processors(guest.config, number)) for number in iothread_numbers(guest.config)]
    else:
        found = await _live_iothreads(guest)
    infos = [DomainIothreadInfo(number, bits_from_cpuset(processors, length)) for number, processors in found]
    return {"info": infos, "ret": len(infos)}


async def _live_iothreads(guest: Guest) -> list[tuple[int, frozenset[int]]]:
    threads = (await threads_of(guest)).iothreads
    found = []
    for number in threads:  # in QEMU's order, which is libvirt's
        processors = _affinity(threads[number])
        if processors is None:
            raise OperationFailed(f"input/output thread {number} has ended")
        found.append((number, processors))
    return found
