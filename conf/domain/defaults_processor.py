"""Defaults of processors, input/output threads, their scheduling, and NUMA nodes."""

from __future__ import annotations

from collections import Counter

from conf.cpu.cpu import CpuMatch, CpuMode, CpuModel, Distance, Distances, FeaturePolicy, GuestCpu, NumaCell
from conf.domain import defaults_numa, defaults_resctrl
from conf.domain.domain import Domain
from conf.domain.numatune import MemoryMode, NumaMemory, NumaTune
from conf.domain.vcpu import (
    CpuTune,
    DefaultIoThread,
    EmulatorSched,
    IoThread,
    IoThreadIds,
    IoThreadSched,
    Placement,
    SingleVcpu,
    Vcpus,
    VcpuSched,
)
from schema.errors import ConfigUnsupported, InvalidArguments, RefusedDocument, XmlError
from util.cpuset import parse_cpuset, write_cpuset

MAX_VCPUS = 16384
"""More virtual processors than any hypervisor has; a larger number is a mistake or an attack."""


def normalize(domain: Domain) -> None:
    """Settles processors, threads and nodes as reading a text does."""
    _normalize_vcpu(domain)
    _normalize_iothreads(domain)
    if domain.cputune is not None:
        _normalize_cputune(domain.cputune, domain)
    if domain.numatune is not None and domain.numatune.memory == NumaMemory():
        domain.numatune.memory = None
    if domain.vcpu.placement is Placement.AUTO:
        # who chooses processors for the guest chooses its memory
        domain.numatune = domain.numatune or NumaTune()
        domain.numatune.memory = domain.numatune.memory or NumaMemory()
    if domain.numatune is not None:
        memory = domain.numatune.memory
        if memory is not None:
            _normalize_numatune(memory, domain)
        for node in domain.numatune.memnodes:
            node.mode = node.mode or MemoryMode.STRICT
            if node.nodeset is not None:
                node.nodeset = processors(node.nodeset, "nodeset")
    if domain.cpu is not None:
        _normalize_cpu(domain.cpu)


def cpuset(text: str) -> str:
    """The shortest text for the same processors. Raises InvalidArguments for what names none."""
    return write_cpuset(_numbers(text))


def processors(text: str, what: str) -> str:
    """The shortest text for a set that must not be empty; `what` is the attribute it is of.

    Raises ConfigUnsupported for an empty one, InvalidArguments for what is none.
    """
    numbers = _numbers(text)
    if not numbers:
        raise ConfigUnsupported(f"Invalid value of '{what}': {text}")
    return write_cpuset(numbers)


def _scheduled(text: str, what: str) -> list[int]:
    numbers = _numbers(text)
    if not numbers:
        raise ConfigUnsupported(f"'{what}' scheduler bitmap '{text}' is empty")
    return sorted(numbers)


def _numbers(text: str) -> frozenset[int]:
    try:
        return parse_cpuset(text)
    except ValueError:
        raise InvalidArguments(f"Failed to parse bitmap '{text}'") from None


def _normalize_vcpu(domain: Domain) -> None:
    vcpu = domain.vcpu
    if vcpu.count > MAX_VCPUS:
        raise XmlError(f"Invalid maximum number of vCPUs '{vcpu.count}'")
    if domain.vcpus is not None and domain.vcpus.vcpus:
        vcpu.current = _normalize_states(domain.vcpus, vcpu.count)
    if vcpu.count == 0:
        raise RefusedDocument("CPU IDs in <numa> exceed the <vcpu> count")
    if vcpu.current is not None:
        if vcpu.current > vcpu.count:
            raise ConfigUnsupported("maximum vCPU count must not be less than current vCPU count")
        if not vcpu.current:
            raise ConfigUnsupported("vcpu 0 can't be offline")
        if vcpu.current == vcpu.count:
            vcpu.current = None
    if vcpu.placement is Placement.AUTO:
        vcpu.cpuset = None
    else:
        vcpu.placement = Placement.STATIC
        if vcpu.cpuset is not None:
            vcpu.cpuset = processors(vcpu.cpuset, "cpuset")


def _normalize_states(vcpus: Vcpus, count: int) -> int:
    """Every processor has a state; those not named are off. Returns how many are on."""
    known: dict[int, SingleVcpu] = {}
    for one in vcpus.vcpus:
        if one.id >= count:
            raise XmlError(f"vcpu id '{one.id}' is out of range of maximum vcpu count")
        known[one.id] = one
        one.order = one.order or None
        if one.hotpluggable is None:
            one.hotpluggable = not one.enabled
    vcpus.vcpus = [
        known.get(number) or SingleVcpu(id=number, enabled=False, hotpluggable=True) for number in range(count)
    ]
    if not vcpus.vcpus[0].enabled:
        raise ConfigUnsupported("vcpu 0 can't be offline")
    return sum(one.enabled for one in vcpus.vcpus)


def _normalize_numatune(memory: NumaMemory, domain: Domain) -> None:
    memory.mode = memory.mode or MemoryMode.STRICT
    if memory.nodeset is None and memory.placement is None and domain.vcpu.placement is not Placement.AUTO:
        memory.placement = Placement.STATIC
    if memory.nodeset is not None and memory.placement is not Placement.AUTO:
        memory.nodeset = processors(memory.nodeset, "nodeset")
        memory.placement = None
    elif memory.placement is Placement.STATIC:
        raise ConfigUnsupported("nodeset for NUMA memory tuning must be set if 'placement' is 'static'")
    elif memory.placement is Placement.AUTO or domain.vcpu.placement is Placement.AUTO:
        memory.nodeset, memory.placement = None, Placement.AUTO
        tune = domain.cputune
        pinned = tune is not None and (tune.vcpupins or tune.emulatorpin is not None or tune.iothreadpins)
        if domain.vcpu.cpuset is None and not pinned:
            domain.vcpu.placement = Placement.AUTO


def _normalize_iothreads(domain: Domain) -> None:
    count = domain.iothreads or 0
    known = domain.iothreadids.iothreads if domain.iothreadids is not None else []
    taken = [one.id for one in known]
    for number in taken:
        if taken.count(number) > 1:
            raise XmlError(f"duplicate iothread id '{number}' found")
    if count > MAX_VCPUS:
        raise XmlError(f"invalid iothreads count '{count}'")
    if known:
        free = (number for number in range(1, count + len(known) + 1) if number not in taken)
        domain.iothreadids = IoThreadIds(iothreads=known + [IoThread(id=next(free)) for _ in range(count - len(known))])
        count = max(count, len(known))
    domain.iothreads = count or None
    if domain.defaultiothread == DefaultIoThread():
        domain.defaultiothread = None


def iothread_ids(domain: Domain) -> list[int]:
    """The numbers of all input/output threads."""
    if domain.iothreadids is not None and domain.iothreadids.iothreads:
        return [one.id for one in domain.iothreadids.iothreads]
    return list(range(1, (domain.iothreads or 0) + 1))


def _normalize_cputune(tune: CpuTune, domain: Domain) -> None:
    count = domain.vcpu.count
    for name, amount in vars(tune).items():
        if amount == 0 and name.endswith(("period", "quota")):
            setattr(tune, name, None)
    if len({pin.vcpu for pin in tune.vcpupins}) != len(tune.vcpupins):
        double = Counter(pin.vcpu for pin in tune.vcpupins).most_common(1)[0][0]
        raise RefusedDocument(f"duplicate vcpupin for vcpu '{double}'")
    tune.vcpupins = sorted((pin for pin in tune.vcpupins if pin.vcpu < count), key=lambda pin: pin.vcpu)
    for pin in tune.vcpupins:
        pin.cpuset = processors(pin.cpuset, "cpuset")
    if tune.emulatorpin is not None:
        tune.emulatorpin.cpuset = processors(tune.emulatorpin.cpuset, "cpuset")
    if len({pin.iothread for pin in tune.iothreadpins}) != len(tune.iothreadpins):
        shared = Counter(pin.iothread for pin in tune.iothreadpins).most_common(1)[0][0]
        raise RefusedDocument(f"duplicate iothreadpin for same iothread '{shared}'")
    tune.iothreadpins.sort(key=lambda pin: pin.iothread)
    for thread in tune.iothreadpins:
        thread.cpuset = processors(thread.cpuset, "cpuset")
    schedules = [
        VcpuSched(vcpus=str(number), scheduler=sched.scheduler, priority=_priority(sched))
        for sched in tune.vcpuscheds
        for number in _scheduled(sched.vcpus, "vcpus")
    ]
    for sched in schedules:
        if int(sched.vcpus) >= count:
            raise ConfigUnsupported(f"vCPU '{sched.vcpus}' is not present in domain definition")
    tune.vcpuscheds = sorted(schedules, key=lambda sched: int(sched.vcpus))
    iothreads = [
        IoThreadSched(iothreads=str(number), scheduler=sched.scheduler, priority=_priority(sched))
        for sched in tune.iothreadscheds
        for number in _scheduled(sched.iothreads, "iothreads")
    ]
    tune.iothreadscheds = sorted(iothreads, key=lambda sched: int(sched.iothreads))
    if tune.emulatorsched is not None:
        tune.emulatorsched.priority = _priority(tune.emulatorsched)
    defaults_resctrl.normalize(tune, count)


def _priority(sched: VcpuSched | IoThreadSched | EmulatorSched) -> int | None:
    if sched.scheduler not in ("fifo", "rr"):
        return None
    if sched.priority is None:
        raise XmlError(f"Missing required attribute 'priority' in element '{sched.tag_name}'")
    return sched.priority


def _normalize_cpu(cpu: GuestCpu) -> None:
    names: set[str] = set()
    for feature in cpu.features:
        if feature.name in names:
            raise XmlError(f"CPU feature '{feature.name}' specified more than once")
        names.add(feature.name)
        feature.policy = feature.policy or FeaturePolicy.REQUIRE
    if cpu.model is not None:
        cpu.mode = cpu.mode or CpuMode.CUSTOM
    elif cpu.mode is CpuMode.CUSTOM:
        cpu.mode = cpu.match = None
    if cpu.mode is not None and cpu.mode is not CpuMode.CUSTOM:
        cpu.match = None
    if cpu.mode in (CpuMode.HOST_PASSTHROUGH, CpuMode.MAXIMUM):
        # the host's processor, whatever it is
        cpu.model = cpu.vendor = None
    if cpu.mode is CpuMode.HOST_MODEL and cpu.model is not None:
        if cpu.model.name is None:
            cpu.model.fallback = None
        if cpu.model == CpuModel():
            cpu.model = None
    if cpu.mode in (CpuMode.CUSTOM, CpuMode.HOST_MODEL) and cpu.model is not None and cpu.model.name is not None:
        if cpu.mode is CpuMode.CUSTOM:
            cpu.match = cpu.match or CpuMatch.EXACT
        cpu.model.fallback = cpu.model.fallback or "allow"
    if cpu.model is None or not cpu.model.name:
        if cpu.vendor is not None:
            raise XmlError("CPU vendor specified without CPU model")
        if cpu.mode is None and cpu.features:
            raise XmlError("Non-empty feature list specified without CPU model")
    if cpu.numa is not None:
        known: set[int] = set()
        for place, cell in enumerate(cpu.numa.cells):
            number = place if cell.id is None else cell.id
            if number in known:
                raise XmlError(f"Duplicate NUMA cell info for cell id '{number}'")
            known.add(number)
            if cell.id is None:
                cell.id = place
            if cell.cpus is not None:
                cell.cpus = cpuset(cell.cpus)
                cell.cpus = cell.cpus or None
            defaults_numa.normalize_cell(cell)
        cpu.numa.cells.sort(key=lambda cell: cell.id or 0)
        _complete_distances(cpu.numa.cells)
        defaults_numa.normalize_paths(cpu.numa)


_LOCAL_DISTANCE = 10
_NO_DISTANCE = 255


def _complete_distances(cells: list[NumaCell]) -> None:
    """A distance holds both ways unless both are given; a node is 10 from itself."""
    known: dict[int, dict[int, int]] = {}
    for cell in cells:
        if cell.distances is not None and not cell.distances.siblings:
            raise XmlError("NUMA distances defined without siblings")
        for sibling in cell.distances.siblings if cell.distances is not None else ():
            if sibling.id >= len(cells):
                raise XmlError(
                    f"'sibling_id {sibling.id}' does not refer to a valid cell within NUMA 'cell id {cell.id}'"
                )
            if not _LOCAL_DISTANCE <= sibling.value <= _NO_DISTANCE or (sibling.id == cell.id) != (
                sibling.value == _LOCAL_DISTANCE
            ):
                raise XmlError(
                    f"'value {sibling.value}' is invalid for 'sibling id {sibling.id}' under NUMA 'cell id {cell.id}'"
                )
        for sibling in cell.distances.siblings if cell.distances is not None else ():
            known.setdefault(cell.id or 0, {})[sibling.id] = sibling.value
    for here, row in list(known.items()):
        row.setdefault(here, _LOCAL_DISTANCE)
        for there, distance in list(row.items()):
            back = known.setdefault(there, {there: _LOCAL_DISTANCE})
            back.setdefault(here, distance)
    for cell in cells:
        row = known.get(cell.id or 0, {})
        siblings = [Distance(id=there, value=row[there]) for there in sorted(row)]
        cell.distances = Distances(siblings=siblings) if siblings else None
