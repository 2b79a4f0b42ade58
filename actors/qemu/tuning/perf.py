"""Performance events that the host's kernel counts for guests.

The counters belong to this process: they begin anew when it does.
"""

from __future__ import annotations

import ctypes
import os
import platform
import struct
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from actors.qemu.flags import AFFECT, check_flags, impact, one_impact
from actors.qemu.host import QemuHost
from actors.qemu.tuning.draft import Draft
from actors.qemu.tuning.parameters import STRING_OKAY, read_parameters
from actors.runtime.calls import Calls
from conf.domain.resources import Perf, PerfEvent
from schema.enums.domain import DomainModificationImpact as Impact
from schema.errors import ArgumentUnsupported, HostSystemError
from schema.objects import DomainRef, TypedParam

calls: Calls[QemuHost] = Calls()

_HARDWARE: Final = 0
_SOFTWARE: Final = 1
EVENTS: Final[dict[str, tuple[int, int] | None]] = {
    "cmt": None,
    "mbmt": None,
    "mbml": None,
    "cpu_cycles": (_HARDWARE, 0),
    "instructions": (_HARDWARE, 1),
    "cache_references": (_HARDWARE, 2),
    "cache_misses": (_HARDWARE, 3),
    "branch_instructions": (_HARDWARE, 4),
    "branch_misses": (_HARDWARE, 5),
    "bus_cycles": (_HARDWARE, 6),
    "stalled_cycles_frontend": (_HARDWARE, 7),
    "stalled_cycles_backend": (_HARDWARE, 8),
    "ref_cpu_cycles": (_HARDWARE, 9),
    "cpu_clock": (_SOFTWARE, 0),
    "task_clock": (_SOFTWARE, 1),
    "page_faults": (_SOFTWARE, 2),
    "context_switches": (_SOFTWARE, 3),
    "cpu_migrations": (_SOFTWARE, 4),
    "page_faults_min": (_SOFTWARE, 5),
    "page_faults_maj": (_SOFTWARE, 6),
    "alignment_faults": (_SOFTWARE, 7),
    "emulation_faults": (_SOFTWARE, 8),
}
"""Kind and number in the kernel's interface; those of the processor's cache monitors are no longer offered by it."""
_SYSCALLS: Final = {"x86_64": 298, "aarch64": 241, "riscv64": 241, "s390x": 331, "ppc64le": 319, "ppc64": 319}
_ATTR_SIZE: Final = 72
_INHERIT: Final = 1 << 1
_CLOEXEC: Final = 8


@dataclass(slots=True)
class PerfCounters:
    """The counters of one running guest."""

    pid: int
    opened: dict[str, list[int]] = field(default_factory=dict)

    def enable(self, name: str) -> None:
        """Counts an event of the process and its threads. Raises ArgumentUnsupported, HostSystemError."""
        if name in self.opened:
            return
        event = EVENTS[name]
        if event is None:
            raise ArgumentUnsupported(f"unable to enable host cpu perf event for {name}")
        descriptors: list[int] = []
        try:
            for thread in Path(f"/proc/{self.pid}/task").iterdir():
                descriptors.append(_open(event, int(thread.name), name))  # noqa: PERF401  (closed when one fails)
        except BaseException:
            for one in descriptors:
                os.close(one)
            raise
        self.opened[name] = descriptors

    def disable(self, name: str) -> None:
        """Stops counting."""
        for one in self.opened.pop(name, ()):
            os.close(one)

    def read(self, name: str) -> int | None:
        """How often it happened since it is counted; None when it is not."""
        descriptors = self.opened.get(name)
        return None if descriptors is None else sum(struct.unpack("=Q", os.read(one, 8))[0] for one in descriptors)

    def close(self) -> None:
        """Stops counting altogether."""
        for name in list(self.opened):
            self.disable(name)


def _open(event: tuple[int, int], thread: int, name: str) -> int:
    number = _SYSCALLS.get(platform.machine())
    if number is None:
        raise ArgumentUnsupported(f"unable to enable host cpu perf event for {name}")
    kind, config = event
    attr = struct.pack("=IIQQQQQ", kind, _ATTR_SIZE, config, 0, 0, 0, _INHERIT).ljust(_ATTR_SIZE, b"\0")
    libc = ctypes.CDLL(None, use_errno=True)
    descriptor = libc.syscall(number, ctypes.c_char_p(attr), thread, -1, -1, _CLOEXEC)
    if descriptor < 0:
        raise HostSystemError(ctypes.get_errno(), f"unable to open host cpu perf event for {name}")
    return int(descriptor)


@calls.handles()
def domain_get_perf_events(host: QemuHost, dom: DomainRef, flags: int) -> list[TypedParam]:
    """Which events are counted. Raises NoSuchDomain, DomainStateError."""
    check_flags(flags, AFFECT | STRING_OKAY, "qemuDomainGetPerfEvents")
    guest = host.guest(dom)
    if one_impact(guest, flags & AFFECT) & Impact.LIVE:
        enabled = set(guest.perf.opened) if guest.perf is not None else set()
    else:
        enabled = {event.name for event in (guest.config.perf or Perf()).events if event.enabled}
    return [TypedParam.of_boolean(name, name in enabled) for name in EVENTS]


@calls.handles(key="dom")
async def domain_set_perf_events(host: QemuHost, dom: DomainRef, params: list[TypedParam], flags: int) -> None:
    """Counts events or stops it. Raises NoSuchDomain, DomainStateError, ArgumentUnsupported, HostSystemError."""
    check_flags(flags, AFFECT, "qemuDomainSetPerfEvents")
    given = read_parameters(params, dict.fromkeys(EVENTS, "boolean"))
    guest = host.guest(dom)
    draft = Draft(guest, impact(guest, flags))
    if draft.live is not None:
        counters = guest.perf = guest.perf or PerfCounters(guest.need_run().pid)
        for name, value in given.items():
            if value:
                counters.enable(name)
            else:
                counters.disable(name)
    for definition in draft.definitions:
        states = {event.name: event.enabled for event in (definition.perf or Perf()).events}
        states.update((name, bool(value)) for name, value in given.items())
        definition.perf = Perf(events=[PerfEvent(name=name, enabled=states[name]) for name in EVENTS if name in states])
    await draft.commit(host)
