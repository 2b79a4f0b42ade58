"""A guest's processors: how many, and on which of the host's they may run."""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import Any, Final

from actors.runtime.calls import Calls
from actors.test import rules
from actors.test.flags import AFFECT, check_flags
from actors.test.host import TestHost
from actors.test.node import MAX_VCPUS
from conf.domain.domain import Domain
from conf.domain.vcpu import CpuTune, EmulatorPin, VcpuPin
from schema.enums.domain_resources import DomainVcpuFlags as VcpuFlags
from schema.enums.domain_vcpu import VcpuState
from schema.errors import DomainStateError, InvalidArguments
from schema.objects import DomainRef, VcpuInfo
from util.cpuset import bits_from_cpuset, cpuset_from_bits, parse_cpuset, write_cpuset

calls: Calls[TestHost] = Calls()

_KNOWN: Final = int(AFFECT | VcpuFlags.MAXIMUM)


@calls.handles(key="dom")
async def domain_set_vcpus_flags(host: TestHost, dom: DomainRef, nvcpus: int, flags: int) -> None:
    """Changes the number of processors, or with MAXIMUM what it can grow to.

    Raises NoSuchDomain, DomainStateError, InvalidArguments for more than the guest or the host allows.
    """
    check_flags(flags, _KNOWN, "testDomainSetVcpusFlags")
    if nvcpus > MAX_VCPUS:
        raise InvalidArguments(f"requested cpu amount exceeds maximum supported amount ({nvcpus} > {MAX_VCPUS})")
    draft = host.guest(dom).draft()
    for definition in draft.definitions(flags):
        if flags & VcpuFlags.MAXIMUM:
            rules.set_max_vcpus(definition, nvcpus)
            continue
        most = rules.max_vcpus(definition)
        if nvcpus > most:
            raise InvalidArguments(f"requested cpu amount exceeds maximum ({nvcpus} > {most})")
        rules.set_vcpus(definition, nvcpus)
    await host.commit(draft)


@calls.handles()
def domain_get_vcpus_flags(host: TestHost, dom: DomainRef, flags: int) -> int:
    """The number of processors, or with MAXIMUM what it can grow to. Raises NoSuchDomain, DomainStateError."""
    check_flags(flags, _KNOWN, "testDomainGetVcpusFlags")
    definition = host.guest(dom).one(flags)
    return rules.max_vcpus(definition) if flags & VcpuFlags.MAXIMUM else rules.current_vcpus(definition)


@calls.handles()
def domain_get_vcpus(host: TestHost, dom: DomainRef, maxinfo: int, maplen: int) -> dict[str, Any]:
    """What the processors of a running guest do and where they may run. Raises NoSuchDomain, DomainStateError."""
    guest = host.guest(dom)
    if not guest.is_active:
        raise DomainStateError("cannot list vcpus for an inactive domain")
    definition = guest.live
    cpu_time = time.time_ns() // 10_000
    infos, maps = [], b""
    for number in range(min(maxinfo, rules.current_vcpus(definition))):
        allowed = _allowed(host, definition, number)
        infos.append(VcpuInfo(number, VcpuState.RUNNING, cpu_time, max(allowed, default=-1)))
        maps += bits_from_cpuset(allowed, maplen)
    return {"info": infos, "cpumaps": maps.ljust(maxinfo * maplen, b"\0")}


@calls.handles(key="dom")
async def domain_pin_vcpu_flags(host: TestHost, dom: DomainRef, vcpu: int, cpumap: bytes, flags: int) -> None:
    """Binds one processor of a running guest. Raises NoSuchDomain, DomainStateError, InvalidArguments."""
    check_flags(flags, 0, "testDomainPinVcpuFlags")
    guest = host.guest(dom)
    if not guest.is_active:
        raise DomainStateError("cannot pin vcpus on an inactive domain")
    draft = guest.draft()
    definition = draft.live
    if vcpu >= rules.current_vcpus(definition):
        raise InvalidArguments(f"requested vcpu '{vcpu}' is not present in the domain")
    tune = definition.cputune = definition.cputune or CpuTune()
    pins = [pin for pin in tune.vcpupins if pin.vcpu != vcpu]
    pins.append(VcpuPin(vcpu=vcpu, cpuset=write_cpuset(cpuset_from_bits(cpumap))))
    tune.vcpupins = sorted(pins, key=lambda pin: pin.vcpu)
    await host.commit(draft)


@calls.handles(key="dom")
async def domain_pin_vcpu(host: TestHost, dom: DomainRef, vcpu: int, cpumap: bytes) -> None:
    """`domain_pin_vcpu_flags` without flags."""
    await domain_pin_vcpu_flags(host, dom, vcpu, cpumap, 0)


@calls.handles()
def domain_get_vcpu_pin_info(host: TestHost, dom: DomainRef, ncpumaps: int, maplen: int, flags: int) -> dict[str, Any]:
    """Where the processors of a guest may run. Raises NoSuchDomain, DomainStateError."""
    definition = host.guest(dom).one(flags)
    count = min(ncpumaps, rules.max_vcpus(definition))
    maps = [bits_from_cpuset(_allowed(host, definition, number), maplen) for number in range(count)]
    return {"cpumaps": b"".join(maps).ljust(ncpumaps * maplen, b"\0"), "num": count}


@calls.handles(key="dom")
async def domain_pin_emulator(host: TestHost, dom: DomainRef, cpumap: bytes, flags: int) -> None:
    """Binds what serves a guest besides its processors. Raises NoSuchDomain, DomainStateError, InvalidArguments."""
    check_flags(flags, AFFECT, "testDomainPinEmulator")
    draft = host.guest(dom).draft()
    definition = draft.one(flags)
    if not any(cpumap):
        raise InvalidArguments("Empty cpu list for pinning")
    tune = definition.cputune = definition.cputune or CpuTune()
    tune.emulatorpin = EmulatorPin(cpuset=write_cpuset(cpuset_from_bits(cpumap)))
    await host.commit(draft)


@calls.handles()
def domain_get_emulator_pin_info(host: TestHost, dom: DomainRef, maplen: int, flags: int) -> dict[str, Any]:
    """Where that may run. Raises NoSuchDomain, DomainStateError."""
    check_flags(flags, AFFECT, "testDomainGetEmulatorPinInfo")
    definition = host.guest(dom).one(flags)
    pin = None if definition.cputune is None else definition.cputune.emulatorpin
    allowed = _unpinned(host, definition) if pin is None else _numbers(pin.cpuset)
    return {"cpumaps": bits_from_cpuset(allowed, maplen), "ret": 1}


def _allowed(host: TestHost, definition: Domain, vcpu: int) -> Iterable[int]:
    for pin in definition.cputune.vcpupins if definition.cputune else ():
        if pin.vcpu == vcpu:
            return _numbers(pin.cpuset)
    return _unpinned(host, definition)


def _unpinned(host: TestHost, definition: Domain) -> Iterable[int]:
    if definition.vcpu.cpuset:
        return parse_cpuset(definition.vcpu.cpuset)
    node = host.world.record.node
    return range(node.nodes * node.sockets * node.cores * node.threads)


def _numbers(cpuset: str) -> Iterable[int]:
    return parse_cpuset(cpuset) if cpuset else ()
