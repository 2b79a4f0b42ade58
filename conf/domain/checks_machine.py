"""Processors, threads, nodes and features that contradict themselves, in libvirt's words."""

from __future__ import annotations

import re
from collections.abc import Iterator

from conf.cpu.cpu import CpuMode, GuestCpu, NumaCell
from conf.domain import defaults_numa
from conf.domain.clock import LifecycleAction
from conf.domain.defaults_processor import cpuset, iothread_ids
from conf.domain.domain import Domain
from conf.domain.features import Hyperv, Kvm
from conf.domain.resources import Resource
from conf.faults import unexplained
from conf.values import parse_any_base32, parse_int, parse_uint
from schema.enums.error import ErrorDomain
from schema.errors import ConfigUnsupported, InvalidArguments, RefusedDocument, XmlDetailError, XmlError
from util.cpuset import parse_cpuset


def check_text(domain: Domain) -> None:
    """Refuses processors, nodes and features whose text contradicts itself."""
    _check_nodes(domain)
    _check_processors(domain)
    _check_pools(domain)
    if domain.cpu is not None:
        _check_cpu(domain.cpu)
    if domain.features is not None:
        _check_hyperv(domain.features.hyperv or Hyperv())
        _check_kvm(domain.features.kvm or Kvm())
    _check_lifecycle(domain)
    _check_lists(domain)
    _check_passthrough(domain)


def cells_of(domain: Domain) -> list[NumaCell]:
    """The nodes of the guest."""
    return domain.cpu.numa.cells if domain.cpu is not None and domain.cpu.numa is not None else []


def _check_nodes(domain: Domain) -> None:
    cells = cells_of(domain)
    if [cell.id for cell in cells] != list(range(len(cells))):
        raise XmlError(
            "Exactly one 'cell' element per guest NUMA cell allowed, non-contiguous ranges or ranges not starting "
            "from 0 are not allowed"
        )
    owners: dict[int, int | None] = {}
    for cell in cells:
        for number in sorted(parse_cpuset(cell.cpus) if cell.cpus else ()):
            if number in owners:
                raise ConfigUnsupported(f"NUMA cells {cell.id} and {owners[number]} have overlapping vCPU ids")
            owners[number] = cell.id
    seen = set(owners)
    if len(seen) > domain.vcpu.count:
        raise RefusedDocument("Number of CPUs in <numa> exceeds the <vcpu> count")
    if seen and max(seen) >= domain.vcpu.count:
        raise RefusedDocument("CPU IDs in <numa> exceed the <vcpu> count")
    tune = domain.numatune
    if tune is None:
        return
    if tune.memnodes and not cells:
        raise XmlError("Element 'memnode' is invalid without any guest NUMA cells")
    whole = tune.memory.mode if tune.memory is not None else None
    tuned: set[int] = set()
    for node in tune.memnodes:
        if node.cellid in tuned:
            raise XmlError(f"Multiple memnode elements with cellid {node.cellid}")
        tuned.add(node.cellid)
        if node.cellid >= len(cells):
            raise XmlError("Argument 'cellid' in memnode element must correspond to existing guest's NUMA cell")
        if node.nodeset is None:
            raise XmlError("Missing required nodeset attribute in memnode element")
        if whole == "restrictive" and node.mode != "restrictive":
            raise XmlError(
                "'restrictive' mode is required in memnode element when mode is 'restrictive' in memory element"
            )


def _check_processors(domain: Domain) -> None:
    tune = domain.cputune
    if tune is None:
        return
    vcpus: set[str] = set()
    for sched in tune.vcpuscheds:
        if sched.vcpus in vcpus:
            raise XmlDetailError("'vcpusched' attributes 'vcpus' must not overlap", domain=ErrorDomain.DOMAIN)
        vcpus.add(sched.vcpus)
    known = set(iothread_ids(domain))
    threads: set[str] = set()
    for thread in tune.iothreadscheds:
        for number in parse_cpuset(cpuset(thread.iothreads)):
            if number not in known:
                raise ConfigUnsupported(f"Cannot find 'iothread' : {number}")
        if thread.iothreads in threads:
            raise XmlDetailError("'iothreadsched' attributes 'iothreads' must not overlap", domain=ErrorDomain.DOMAIN)
        threads.add(thread.iothreads)
    for pin in tune.iothreadpins:
        if pin.iothread not in known:
            raise ConfigUnsupported(f"Cannot find 'iothread' : {pin.iothread}")


def _check_pools(domain: Domain) -> None:
    pools = [*(domain.iothreadids.iothreads if domain.iothreadids is not None else ())]
    limits = [(one.thread_pool_min, one.thread_pool_max) for one in pools]
    if domain.defaultiothread is not None:
        limits.append((domain.defaultiothread.thread_pool_min, domain.defaultiothread.thread_pool_max))
    for least, most in limits:
        if most == 0:
            raise ConfigUnsupported("thread_pool_max must be a positive integer")
        if least is not None and (most is None or least > most):
            raise ConfigUnsupported("thread_pool_min must be smaller or equal to thread_pool_max")


_CACHE_LEVELS = range(1, 4)
_VENDOR_LENGTH = 12


def _check_cpu(cpu: GuestCpu) -> None:
    if cpu.cache is not None and cpu.cache.level is not None and cpu.cache.level not in _CACHE_LEVELS:
        raise XmlError("invalid CPU cache level, must be in range [1,3]")
    vendor = cpu.model.vendor_id if cpu.model is not None else None
    if vendor is not None:
        if len(vendor) != _VENDOR_LENGTH:
            raise XmlError("vendor_id must be exactly 12 characters long")
        if "," in vendor:
            raise XmlError("vendor id is invalid")
    if cpu.migratable is not None and cpu.mode not in (CpuMode.HOST_PASSTHROUGH, CpuMode.MAXIMUM):
        raise ConfigUnsupported("Attribute migratable is only allowed for 'host-passthrough' / 'maximum' CPU mode")
    numa = cpu.numa
    if numa is None:
        return
    if not numa.cells:
        raise XmlError("NUMA topology defined without NUMA cells")
    defaults_numa.check_caches(numa)
    defaults_numa.check_paths(numa)


_LEAST_RETRIES = 4095
_LONGEST_VENDOR = 12


def _check_hyperv(hyperv: Hyperv) -> None:
    locks, vendor = hyperv.spinlocks, hyperv.vendor_id
    if locks is not None and locks.state:
        if locks.retries is None:
            raise XmlError("Missing required attribute 'retries' in element 'spinlocks'")
        if locks.retries < _LEAST_RETRIES:
            raise XmlError("HyperV spinlock retry count must be at least 4095")
    if vendor is not None and vendor.state:
        if vendor.value is None:
            raise XmlError("missing 'value' attribute for HyperV feature 'vendor_id'")
        if len(vendor.value) > _LONGEST_VENDOR:
            raise XmlError("HyperV vendor_id value must not be more than 12 characters.")
        if "," in vendor.value:
            raise XmlError("HyperV vendor_id value is invalid")


_RING_SIZES = (1024, 65536)


def _check_kvm(kvm: Kvm) -> None:
    ring = kvm.dirty_ring
    if ring is not None and ring.state:
        if ring.size is None:
            raise XmlError("Missing required attribute 'size' in element 'dirty-ring'", domain=ErrorDomain.XML)
        least, most = _RING_SIZES
        if not least <= ring.size <= most or ring.size & (ring.size - 1):
            raise XmlError(f"dirty ring must be power of 2 and ranges [{least}, {most}]")


def _check_lifecycle(domain: Domain) -> None:
    for event, action in (("poweroff", domain.on_poweroff), ("reboot", domain.on_reboot)):
        if action in (LifecycleAction.COREDUMP_DESTROY, LifecycleAction.COREDUMP_RESTART):
            raise ConfigUnsupported(f"Lifecycle event '{event}' doesn't support '{action.value}' action")


def _doubles(names: list[str]) -> Iterator[str]:
    return (name for place, name in enumerate(names) if name in names[:place])


_VARIABLE = re.compile(r"[A-Za-z0-9_]*$", re.ASCII)


def _check_passthrough(domain: Domain) -> None:
    """What QEMU is given as it stands."""
    for variable in domain.qemu_commandline.variables if domain.qemu_commandline is not None else ():
        if variable.name[:1] != "_" and not variable.name[:1].isalpha():
            raise RefusedDocument("Invalid environment name, it must begin with a letter or underscore")
        if _VARIABLE.match(variable.name) is None:
            raise RefusedDocument("Invalid environment name, it must contain only alphanumerics and underscore")
    for device in domain.qemu_override.devices if domain.qemu_override is not None else ():
        for one in (part for frontend in device.frontends for part in frontend.properties):
            if one.name == "id":
                raise XmlError("property with name 'id' can't be overridden")
            if one.type == "remove":
                if one.value is not None:
                    raise XmlError("setting 'value' attribute of 'qemu:property' doesn't make sense with 'remove' type")
                continue
            if one.value is None:
                raise XmlError("missing 'value' attribute for 'qemu:property'")
            if not _fits(one.type, one.value):
                raise XmlError(f"invalid value '{one.value}' of 'value' attribute of 'qemu:property'")


def _fits(kind: str, value: str) -> bool:
    """Is it a value of that type of QEMU's properties?"""
    if kind == "bool":
        return value in ("true", "false")
    if kind == "string":
        return True
    try:
        return parse_int(value) is not None if kind == "signed" else parse_uint(value) is not None
    except ValueError:
        return False


def _is_number(text: str | None) -> bool:
    try:
        return text is not None and parse_any_base32(text) >= 0
    except ValueError:
        return False


_LONGEST_APPID = 128


def _check_resource(resource: Resource) -> None:
    appid = resource.fibrechannel_appid
    if appid is None:
        if resource.partition is None:
            raise unexplained()
        return
    if not (appid.isascii() and appid.isprintable()):
        raise XmlError("Fibre Channel 'appid' is not a printable string")
    if len(appid) > _LONGEST_APPID:
        raise InvalidArguments(f"Fibre Channel 'appid' string length must be between [1, {_LONGEST_APPID}]")


def _check_lists(domain: Domain) -> None:
    for name in _doubles([one.name for one in domain.perf.events] if domain.perf is not None else []):
        raise XmlError(f"perf event '{name}' was already specified")
    for name in _doubles([one.name for one in domain.keywrap.ciphers] if domain.keywrap is not None else []):
        raise RefusedDocument(f"A domain definition can have no more than one cipher node with name {name}")
    security = domain.launch_security
    if security is not None and security.type == "sev" and not _is_number(security.policy):
        raise XmlError("failed to get launch security policy")
    if domain.resource is not None:
        _check_resource(domain.resource)
    if len(domain.os.acpi_tables) > 1:
        raise XmlError("Only one acpi table is supported")
    ids = domain.idmap
    if ids is None:
        return
    if bool(ids.uids) != bool(ids.gids):
        raise ConfigUnsupported("uid and gid should be mapped both")
    if ids.uids and any(all(one.start for one in side) for side in (ids.uids, ids.gids)):
        raise ConfigUnsupported("You must map the root user of container")
