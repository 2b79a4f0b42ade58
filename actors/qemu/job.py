"""The long work that goes on with a guest: a save, a dump, a migration, a backup. There is one at most."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from actors.qemu.guest import Guest
from schema.enums.domain_job import DomainJobOperation as Operation
from schema.enums.domain_job import DomainJobType as Type
from schema.errors import DomainStateError, OperationAborted
from schema.objects import TypedParam

if TYPE_CHECKING:
    from actors.qemu.migration.switching import Switch

Abort = Callable[[], Awaitable[None]]


@dataclass(slots=True)
class Job:
    """One work. `status` is the last answer of `query-migrate`, or of what else measures it."""

    operation: Operation
    word: str
    abort: Abort | None = None
    began: float = field(default_factory=time.monotonic)
    is_aborted: bool = False
    is_post_copy: bool = False
    is_outgoing: bool = False
    may_post_copy: bool = False
    switch: Switch | None = None
    """Lets the guest go over before all of its memory has, while that can be."""
    status: Mapping[str, Any] = field(default_factory=dict)
    measure: Callable[[], Awaitable[Mapping[str, Any]]] | None = None
    """Tells how far it is, where that is not `query-migrate`."""
    tell: Callable[[Job], list[TypedParam]] | None = None
    """What is told of it, where that is not what a migration tells."""
    ended_ms: int | None = None
    delta_ms: int | None = None
    """How long it took to tell the other side so, with whatever its clock differs by."""
    error: str = ""
    """Why it failed, in QEMU's words, where those come by themselves."""

    @property
    def elapsed_ms(self) -> int:
        """How long it has taken, or took."""
        return self.ended_ms if self.ended_ms is not None else int((time.monotonic() - self.began) * 1000)

    def check(self) -> None:
        """Raises OperationAborted when a client has asked for its end."""
        if self.is_aborted:
            raise OperationAborted(f"{self.word}: canceled by client")


@contextlib.contextmanager
def running_job(guest: Guest, operation: Operation, word: str, abort: Abort | None = None) -> Iterator[Job]:
    """The guest has this work while the block runs; what it measured last is kept when it ends well.

    Raises DomainStateError when there is another one.
    """
    if guest.job is not None:
        raise DomainStateError(f"another migration job is already running for domain '{guest.name}'")
    job = guest.job = Job(operation, word, abort)
    try:
        yield job
    except BaseException:
        guest.completed_job = None
        raise
    else:
        job.ended_ms = job.elapsed_ms
        guest.completed_job = job
    finally:
        guest.job = None


_MEMORY: Final = (
    ("memory_constant", "duplicate"),
    ("memory_normal", "normal"),
    ("memory_normal_bytes", "normal-bytes"),
)
_PAGE: Final = 4096


def job_type(job: Job, *, is_completed: bool) -> Type:
    """libvirt's word for how the work stands."""
    if is_completed:
        return Type.COMPLETED
    if job.status.get("status") in ("cancelling", "cancelled"):
        return Type.CANCELLED
    return Type.UNBOUNDED


def sizes(job: Job) -> dict[str, int]:
    """Bytes of memory and of disks that are to be moved, have been, and remain."""
    ram, disk = job.status.get("ram") or {}, job.status.get("disk") or {}
    return {
        f"{kind}_{ours}": int(one.get(theirs, 0))
        for kind, one in (("memory", ram), ("disk", disk))
        for ours, theirs in (("total", "total"), ("processed", "transferred"), ("remaining", "remaining"))
    }


def job_parameters(job: Job) -> list[TypedParam]:
    """All that is known of the work, in libvirt's order."""
    if job.tell is not None:
        return job.tell(job)
    status, size = job.status, sizes(job)
    ram: Mapping[str, Any] = status.get("ram") or {}
    found = [
        TypedParam.of_int("operation", int(job.operation)),
        TypedParam.of_ullong("time_elapsed", job.elapsed_ms),
    ]
    found += _without_network(job, "time_elapsed", job.elapsed_ms)
    if "downtime" in status or "expected-downtime" in status:
        downtime = int(status.get("downtime", status.get("expected-downtime", 0)))
        found.append(TypedParam.of_ullong("downtime", downtime))
        found += _without_network(job, "downtime", downtime)
    if "setup-time" in status:
        found.append(TypedParam.of_ullong("setup_time", int(status["setup-time"])))
    found += [
        TypedParam.of_ullong(f"data_{what}", size[f"memory_{what}"] + size[f"disk_{what}"])
        for what in ("total", "processed", "remaining")
    ]
    found += [TypedParam.of_ullong(name, size[name]) for name in size if name.startswith("memory_")]
    if ram:
        speed = int(float(ram.get("mbps", 0)) * 1_000_000 / 8)
        if speed:
            found.append(TypedParam.of_ullong("memory_bps", speed))
        found += [TypedParam.of_ullong(ours, int(ram[theirs])) for ours, theirs in _MEMORY if theirs in ram]
        found.append(TypedParam.of_ullong("memory_dirty_rate", int(ram.get("dirty-pages-rate", 0))))
        found.append(TypedParam.of_ullong("memory_iteration", int(ram.get("dirty-sync-count", 0))))
        found.append(TypedParam.of_ullong("memory_postcopy_requests", int(ram.get("postcopy-requests", 0))))
        found.append(TypedParam.of_ullong("memory_page_size", int(ram.get("page-size", _PAGE))))
    found += [TypedParam.of_ullong(name, size[name]) for name in size if name.startswith("disk_")]
    found += _compression(status.get("xbzrle-cache") or {})
    if "cpu-throttle-percentage" in status:
        found.append(TypedParam.of_int("auto_converge_throttle", int(status["cpu-throttle-percentage"])))
    return found


def _without_network(job: Job, name: str, value_ms: int) -> list[TypedParam]:
    if job.delta_ms is None or value_ms <= job.delta_ms:
        return []
    return [TypedParam.of_ullong(f"{name}_net", value_ms - job.delta_ms)]


def _compression(cache: Mapping[str, Any]) -> list[TypedParam]:
    names = (
        ("compression_cache", "cache-size"),
        ("compression_bytes", "bytes"),
        ("compression_pages", "pages"),
        ("compression_cache_misses", "cache-miss"),
        ("compression_overflow", "overflow"),
    )
    return [TypedParam.of_ullong(ours, int(cache[theirs])) for ours, theirs in names if theirs in cache]
