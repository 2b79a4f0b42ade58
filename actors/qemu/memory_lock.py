"""How much memory a guest's process may keep from being swapped out: what devices of the host reach directly stays."""

from __future__ import annotations

import contextlib
import resource
from typing import Final

from actors.qemu import rules_machine
from conf.domain.controller import ControllerType, PciModel
from conf.domain.disk import Disk
from conf.domain.domain import Domain, VirtType
from conf.domain.hostdev import HostdevType
from conf.domain.interface import InterfaceType
from conf.domain.storage_source import NvmeSource

UNLIMITED: Final = -1
_HUGE: Final = 9007199254740991
"""In KiB: what libvirt takes for no limit."""
_GIB: Final = 1024 * 1024
_MIB: Final = 1024


def lock_limit_bytes(domain: Domain) -> int:
    """The limit; 0 where the guest needs none, UNLIMITED where all its memory is locked."""
    hard = domain.memtune.hard_limit_kib if domain.memtune is not None else None
    if hard is not None and 0 < hard < _HUGE:
        return hard * 1024
    if domain.memory_backing is not None and domain.memory_backing.locked:
        return UNLIMITED
    if rules_machine.is_pseries(domain) and domain.type is VirtType.KVM:
        return _power_kib(domain) * 1024
    users = _direct_users(domain)
    return (users * _total_kib(domain) + _GIB) * 1024 if users else 0


def apply_lock_limit(pid: int, domain: Domain) -> None:
    """Lets a guest's process lock what it must; a process of ours that may not raise limits leaves it as it is."""
    most = lock_limit_bytes(domain)
    if most:
        wanted = resource.RLIM_INFINITY if most == UNLIMITED else most
        with contextlib.suppress(OSError, ValueError):
            resource.prlimit(pid, resource.RLIMIT_MEMLOCK, (wanted, wanted))


def _total_kib(domain: Domain) -> int:
    return domain.memory.kib


def _vfio_users(domain: Domain) -> int:
    devices = domain.devices
    passed = sum(1 for one in devices.hostdevs if one.type in (HostdevType.PCI, HostdevType.MDEV))
    passed += sum(1 for one in devices.interfaces if one.type is InterfaceType.HOSTDEV)
    return passed + sum(1 for one in devices.disks if _is_nvme(one))


def _is_nvme(disk: Disk) -> bool:
    return isinstance(disk.source, NvmeSource)


def _direct_users(domain: Domain) -> int:
    """How many times over the memory is locked: behind an IOMMU of the guest each device counts for itself."""
    vfio = _vfio_users(domain)
    vdpa = sum(1 for one in domain.devices.interfaces if one.type is InterfaceType.VDPA)
    if domain.devices.iommu is not None:
        return vfio + vdpa
    return vdpa + (1 if vfio else 0)


def _power_kib(domain: Domain) -> int:
    """POWER keeps tables of its own for each host bridge, even without devices of the host."""
    bridges = sum(
        1 for one in domain.devices.controllers if one.type is ControllerType.PCI and one.model == PciModel.PCI_ROOT
    )
    memory = _total_kib(domain)
    most = domain.max_memory.kib if domain.max_memory is not None else memory
    base = most // 128 + 4 * _MIB * bridges + 8 * _MIB
    if not _vfio_users(domain):
        return base
    return base + max(2 * _GIB * bridges, memory + memory // 512 * bridges + 8 * _MIB)
