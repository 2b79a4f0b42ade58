"""A guest's control groups: made when a limit is first set, gone with the guest.

A guest without limits has none: its processes stay where the driver runs, and what is told of it are the kernel's
values of a new group. Below the guest's group are groups of its threads: `emulator`, `vcpuN`, `iothreadN`.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from actors.qemu.confining.bpf import attach_devices
from actors.qemu.confining.device_program import device_program
from actors.qemu.scopes.bus import NobodyThere, set_weight
from actors.qemu.scopes.groups import find_scope
from actors.qemu.tuning.hierarchy import Hierarchy, read, write
from conf.domain.memory import MemTune
from conf.domain.resources import BlkioDevice
from schema.errors import DomainStateError, HostSystemError, InvalidArguments

UNLIMITED_KIB: Final = (1 << 53) - 1
"""How callers say "no limit" of memory."""
DEFAULT_PERIOD_US: Final = 100_000
DEFAULT_SHARES: Final = 1024
DEFAULT_WEIGHT2: Final = 100
DEFAULT_BLKIO: Final = 100
DEFAULT_PARTITION: Final = "/machine"
_SUFFIX: Final = ".virtroupe"
_NAME_MAX: Final = 20
_SHARES1: Final = (2, 262144)
_SHARES2: Final = (1, 10000)


@dataclass(frozen=True, slots=True)
class Threads:
    """A running guest's process and its threads by what they do."""

    pid: int
    vcpus: dict[int, int]
    iothreads: dict[int, int]
    helpers: tuple[int, ...] = ()
    """Processes that run beside the emulator."""

    def others(self) -> list[int]:
        """The emulator's own threads."""
        known = {*self.vcpus.values(), *self.iothreads.values()}
        try:
            return [int(one.name) for one in Path(f"/proc/{self.pid}/task").iterdir() if int(one.name) not in known]
        except OSError:
            return []


def group_name(partition: str, house: Path, number: int, name: str) -> str:
    """The path of a guest's group; `house` tells the agents of one host apart."""
    mark = hashlib.sha256(str(house).encode()).hexdigest()[:8]
    short = "".join(one if one.isalnum() or one in "-_." else "_" for one in name)[:_NAME_MAX]
    return f"{(partition or DEFAULT_PARTITION).strip('/')}/qemu-{mark}-{number}-{short}{_SUFFIX}"


def leftovers(hierarchy: Hierarchy, house: Path, alive: set[str]) -> list[str]:
    """The groups of guests that ended while nobody looked."""
    mark = f"qemu-{hashlib.sha256(str(house).encode()).hexdigest()[:8]}-"
    found = [f"machine/{one}" for one in hierarchy.groups("machine") if one.startswith(mark) and one.endswith(_SUFFIX)]
    return [one for one in found if one not in alive]


class GuestGroups:
    """The groups of one running guest. All methods block for as long as the kernel takes, and raise HostSystemError."""

    def __init__(self, hierarchy: Hierarchy, group: str, threads: Threads) -> None:
        self.hierarchy = hierarchy
        self.group = group
        self.threads = threads

    def _made(self, controller: str) -> Path:
        self.hierarchy.need(controller)
        is_new = not self.hierarchy.folder(controller, self.group).is_dir()
        folder = self.hierarchy.make(controller, self.group)
        if is_new:
            self.hierarchy.join(controller, self.group, self.threads.pid)
            for helper in self.threads.helpers:
                with contextlib.suppress(HostSystemError):  # it has ended
                    self.hierarchy.join(controller, self.group, helper)
        return folder

    def _found(self, controller: str, child: str = "") -> Path | None:
        self.hierarchy.need(controller)
        folder = self.hierarchy.folder(controller, self.group)
        folder = folder / child if child else folder
        return folder if folder.is_dir() else None

    def _weighed(self, controller: str) -> Path | None:
        """The group that stands beside those of other guests: the scope, where there is one."""
        folder = self._found(controller)
        above = self.hierarchy.folder(controller, find_scope(self.group) or self.group)
        return above if folder is not None and above.is_dir() else folder

    def _tell(self, name: str, value: int) -> None:
        """systemd puts back what it believes to be a scope's weight, now and then."""
        scope = find_scope(self.group)
        if scope:
            with contextlib.suppress(NobodyThere, HostSystemError):
                set_weight(scope.rpartition("/")[2], name, value)

    # --- processors --------------------------------------------------------------------------------------------------

    @property
    def default_shares(self) -> int:
        """What a new group has."""
        return DEFAULT_WEIGHT2 if self.hierarchy.is_version2("cpu") else DEFAULT_SHARES

    def shares(self) -> int:
        """The guest's weight among others."""
        folder = self._weighed("cpu")
        name = "cpu.weight" if self.hierarchy.is_version2("cpu") else "cpu.shares"
        value = read(folder / name) if folder is not None else None
        return self.default_shares if value is None else int(value)

    def set_shares(self, value: int) -> int:
        """Gives the guest a weight; gives what the kernel made of it. Raises InvalidArguments too."""
        self.hierarchy.need("cpu")
        version2 = self.hierarchy.is_version2("cpu")
        low, high = _SHARES2 if version2 else _SHARES1
        if not low <= value <= high:
            raise InvalidArguments(f"shares '{value}' must be in range [{low}, {high}]")
        self._made("cpu")
        folder = self._weighed("cpu")
        assert folder is not None
        write(folder / ("cpu.weight" if version2 else "cpu.shares"), str(value))
        self._tell("CPUWeight" if version2 else "CPUShares", value)
        return self.shares()

    def bandwidth(self, child: str = "") -> tuple[int, int]:
        """(period, quota) in microseconds; a quota of -1 is none. `child` is `emulator`, `vcpu0` and the like."""
        folder = self._found("cpu", child)
        if folder is None:
            return DEFAULT_PERIOD_US, -1
        if self.hierarchy.is_version2("cpu"):
            words = (read(folder / "cpu.max") or "max 100000").split()
            return int(words[1]), -1 if words[0] == "max" else int(words[0])
        period, quota = read(folder / "cpu.cfs_period_us"), read(folder / "cpu.cfs_quota_us")
        return int(period or DEFAULT_PERIOD_US), int(quota or -1)

    def set_bandwidth(self, child: str, period: int, quota: int) -> None:
        """Sets what is not 0 of (period, quota); a negative quota is none."""
        folder = self._made("cpu")
        if child:
            folder = self._child(child)
        old_period, old_quota = self.bandwidth(child)
        if self.hierarchy.is_version2("cpu"):
            new = quota or old_quota
            write(folder / "cpu.max", f"{'max' if new < 0 else new} {period or old_period}")
            return
        if period:
            write(folder / "cpu.cfs_period_us", str(period))
        if quota:
            write(folder / "cpu.cfs_quota_us", str(max(quota, -1)))

    def _child(self, child: str) -> Path:
        """The group of some threads, which are moved there when it is made."""
        folder = self.hierarchy.folder("cpu", f"{self.group}/{child}")
        if folder.is_dir():
            return folder
        folder = self.hierarchy.make_threaded("cpu", self.group, child)
        for thread in self.threads_of(child):
            self.hierarchy.join_thread("cpu", f"{self.group}/{child}", thread)
        return folder

    def threads_of(self, child: str) -> list[int]:
        """The threads that a group is for."""
        if child == "emulator":
            return self.threads.others()
        for kind, table in (("vcpu", self.threads.vcpus), ("iothread", self.threads.iothreads)):
            number = child.removeprefix(kind)
            if number != child and number.isdigit() and int(number) in table:
                return [table[int(number)]]
        return []

    # --- memory ------------------------------------------------------------------------------------------------------

    def memory(self) -> MemTune:
        """The limits in force, None for none."""
        folder = self._found("memory")
        if folder is None:
            return MemTune()
        names = _MEMORY2 if self.hierarchy.is_version2("memory") else _MEMORY1
        values = [_kib(read(folder / name)) for name in names]
        if self.hierarchy.is_version2("memory") and values[2] is not None:
            values[2] += values[0] or 0  # the kernel has swap alone
        return MemTune(hard_limit_kib=values[0], soft_limit_kib=values[1], swap_hard_limit_kib=values[2])

    def set_memory(self, place: int, kib: int | None) -> None:
        """Sets the hard (0), the soft (1), or the limit of memory and swap together (2); None is none."""
        version2 = self.hierarchy.is_version2("memory")
        names = _MEMORY2 if version2 else _MEMORY1
        nothing = "max" if version2 else "-1"
        folder = self._made("memory")
        if place == 2 and not (folder / names[2]).exists():
            raise HostSystemError(2, f"Unable to write to '{folder / names[2]}'")
        before = self.memory()
        if place == 2 and version2 and kib is not None:
            kib = max(0, kib - (before.hard_limit_kib or 0))
        write(folder / names[place], nothing if kib is None else str(kib * 1024))
        if place == 0 and version2 and before.swap_hard_limit_kib is not None:
            # memory and swap together stay as they are
            left = max(0, before.swap_hard_limit_kib - (kib or 0))
            write(folder / names[2], str(left * 1024))

    # --- block devices -----------------------------------------------------------------------------------------------

    def weight(self) -> int:
        """The guest's weight among others that use a block device."""
        folder = self._weighed("blkio")
        if folder is None:
            return DEFAULT_BLKIO
        for name in self._weights():
            for line in (read(folder / name) or "").splitlines():
                if ":" not in line:  # those are of single devices
                    return int(line.split()[-1])
        return DEFAULT_BLKIO

    def set_weight(self, value: int) -> None:
        """Raises DomainStateError too, when no scheduler of this host knows weights."""
        self._made("blkio")
        folder = self._weighed("blkio")
        assert folder is not None
        names = [name for name in self._weights() if (folder / name).exists()]
        for name in names:
            write(folder / name, str(value))
        if names:
            self._tell("IOWeight" if self.hierarchy.is_version2("blkio") else "BlockIOWeight", value)
            return
        raise DomainStateError("blkio weight is valid only for bfq or cfq scheduler")

    def _weights(self) -> tuple[str, ...]:
        """The files that a weight goes into, those that there are."""
        return _WEIGHTS2 if self.hierarchy.is_version2("blkio") else _WEIGHTS1

    def set_device(self, device: BlkioDevice, attribute: str, value: int) -> None:
        """Limits one block device; 0 is no limit. Raises DomainStateError, InvalidArguments too."""
        folder = self._made("blkio")
        number = block_number(device.path or "")
        if attribute == "weight":
            above = self._weighed("blkio") or folder
            names = [name for name in _DEVICE_WEIGHTS if (above / name).exists()]
            refusals = []
            for name in names:
                try:
                    write(above / name, f"{number} {value or 'default'}")
                except HostSystemError as exc:
                    refusals.append(exc)  # of two ways of weighing, a device's scheduler knows one at most
            if names and len(refusals) == len(names):
                raise refusals[0]
            if names:
                return
            raise DomainStateError("blkio device weight is valid only for cfq scheduler")
        if self.hierarchy.is_version2("blkio"):
            write(folder / "io.max", f"{number} {_LIMITS2[attribute]}={value or 'max'}")
        else:
            write(folder / _LIMITS1[attribute], f"{number} {value}")

    # --- devices -----------------------------------------------------------------------------------------------------

    def restrict_devices(self, rules: Iterable[str]) -> None:
        """The guest opens what these lines name alone, from now on; what it has open stays open.

        Raises DomainStateError without control groups.
        """
        wanted = set(rules)
        folder = self._made("devices")
        if self.hierarchy.is_version2("devices"):
            try:
                attach_devices(folder, device_program(sorted(wanted)))
            except OSError as exc:
                raise HostSystemError(exc.errno or 0, f"Unable to limit the devices of '{folder}'") from exc
            return
        known = (read(folder / "devices.list") or "").splitlines()
        if _ALL_DEVICES in known:
            write(folder / "devices.deny", "a")
            known = []
        for rule in known:
            if rule not in wanted:
                write(folder / "devices.deny", rule)
        for rule in wanted.difference(known):
            write(folder / "devices.allow", rule)

    # --- memory nodes ------------------------------------------------------------------------------------------------

    def set_nodes(self, nodes: str) -> None:
        """Which of the host's memory nodes the guest's memory comes from."""
        write(self._made("cpuset") / "cpuset.mems", nodes)


_ALL_DEVICES: Final = "a *:* rwm"
_MEMORY1: Final = ("memory.limit_in_bytes", "memory.soft_limit_in_bytes", "memory.memsw.limit_in_bytes")
_MEMORY2: Final = ("memory.max", "memory.high", "memory.swap.max")
_WEIGHTS1: Final = ("blkio.bfq.weight", "blkio.weight")
_WEIGHTS2: Final = ("io.weight", "io.bfq.weight")
"""In the second one systemd writes the weight as that scheduler counts, which is another number."""
_DEVICE_WEIGHTS: Final = ("blkio.weight_device", "blkio.bfq.weight_device", "io.bfq.weight", "io.weight")
_LIMITS1: Final = {
    "read_iops_sec": "blkio.throttle.read_iops_device",
    "write_iops_sec": "blkio.throttle.write_iops_device",
    "read_bytes_sec": "blkio.throttle.read_bps_device",
    "write_bytes_sec": "blkio.throttle.write_bps_device",
}
_LIMITS2: Final = {
    "read_iops_sec": "riops",
    "write_iops_sec": "wiops",
    "read_bytes_sec": "rbps",
    "write_bytes_sec": "wbps",
}


def _kib(text: str | None) -> int | None:
    """A limit as the kernel writes it; very large ones are none."""
    if text is None or text == "max":
        return None
    kib = int(text) // 1024
    return None if kib >= UNLIMITED_KIB - 3 else kib


def block_number(path: str) -> str:
    """A block device's number as the kernel writes it. Raises HostSystemError, InvalidArguments for another file."""
    try:
        facts = Path(path).stat()
    except OSError as exc:
        raise HostSystemError(exc.errno or 0, f"Path '{path}' is not accessible") from exc
    if facts.st_mode & 0o170000 != 0o060000:
        raise InvalidArguments(f"Path '{path}' must be a block device")
    return f"{os.major(facts.st_rdev)}:{os.minor(facts.st_rdev)}"
