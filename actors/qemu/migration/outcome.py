"""How a move went, told by the side that sent: what `domjobinfo --completed` answers where the guest has arrived."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Final

from actors.qemu.job import Job
from actors.qemu.migration.cookie_document import Statistics
from schema.enums.domain_job import DomainJobOperation as Operation

_PARTS: Final[dict[str, dict[str, str]]] = {
    "": {
        "downtime": "downtime",
        "setup_time": "setup-time",
        "auto_converge_throttle": "cpu-throttle-percentage",
    },
    "ram": {
        "memory_total": "total",
        "memory_processed": "transferred",
        "memory_remaining": "remaining",
        "memory_constant": "duplicate",
        "memory_normal": "normal",
        "memory_normal_bytes": "normal-bytes",
        "memory_dirty_rate": "dirty-pages-rate",
        "memory_iteration": "dirty-sync-count",
        "memory_postcopy_requests": "postcopy-requests",
        "memory_page_size": "page-size",
    },
    "disk": {"disk_total": "total", "disk_processed": "transferred", "disk_remaining": "remaining"},
    "xbzrle-cache": {
        "compression_cache": "cache-size",
        "compression_bytes": "bytes",
        "compression_pages": "pages",
        "compression_cache_misses": "cache-miss",
        "compression_overflow": "overflow",
    },
}
"""The names of the document by those of QEMU's answer, and where in it they stand."""
_BITS_OF_MEGA: Final = 1_000_000 / 8


def statistics_of(job: Job) -> Statistics:
    """The document's part about a work that has been measured for the last time."""
    now = int(time.time() * 1000)
    told = Statistics(started=now - job.elapsed_ms, sent=now, delta=job.delta_ms, time_elapsed=job.elapsed_ms)
    for place, names in _PARTS.items():
        part: Mapping[str, object] = (job.status.get(place) or {}) if place else job.status
        for ours, theirs in names.items():
            value = part.get(theirs)
            if isinstance(value, int | float):
                setattr(told, ours, int(value))
    mbps = (job.status.get("ram") or {}).get("mbps")
    if isinstance(mbps, int | float) and mbps:
        told.memory_bps = int(mbps * _BITS_OF_MEGA)
    return told


def arrival_of(told: Statistics) -> Job:
    """The same as the work of the side where the guest arrived, which has ended."""
    status: dict[str, object] = {"status": "completed"}
    for place, names in _PARTS.items():
        values = {theirs: getattr(told, ours) for ours, theirs in names.items()}
        found: dict[str, object] = {name: value for name, value in values.items() if value is not None}
        if place == "ram" and found and told.memory_bps is not None:
            found["mbps"] = told.memory_bps / _BITS_OF_MEGA
        if place and found:
            status[place] = found
        elif not place:
            status |= found
    job = Job(Operation.MIGRATION_IN, "migration in job", status=status)
    job.ended_ms = told.time_elapsed or 0
    if told.sent is not None:
        job.delta_ms = int(time.time() * 1000) - told.sent
    return job
