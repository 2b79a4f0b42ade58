"""Guests for scripted drivers."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from schema.objects import DomainRef
from schema.summaries import DomainSummary

SCOPE = "test:///default"
UUID_1 = UUID("11111111-2222-3333-4444-555555555555")
UUID_2 = UUID("99999999-2222-3333-4444-555555555555")
RUNNING = DomainRef("web1", UUID_1.bytes, 3)
OFF = DomainRef("web2", UUID_2.bytes, -1)


def summary(ref: DomainRef, state: int, reason: int, **more: Any) -> DomainSummary:
    return DomainSummary(
        id=ref.id,
        state=state,
        reason=reason,
        persistent=more.get("persistent", True),
        autostart=more.get("autostart", False),
        managed_save=more.get("managed_save", False),
        os_type="hvm",
        max_mem=2097152,
        mem=1048576,
        vcpus=2,
        title=more.get("title"),
        scope=SCOPE,
        snapshots=0,
        checkpoints=0,
        since=1.0,
    )


def record(ref: DomainRef, told: DomainSummary, scope: str = SCOPE) -> dict[str, Any]:
    return {
        "type": "domain",
        "key": ref.uuid,
        "name": ref.name,
        "version": 4,
        "summary": dict(told),
        "scope": scope,
    }


SNAPSHOT = {
    "epoch": 1,
    "seq": 9,
    "objects": [
        record(OFF, summary(OFF, 5, 1)),
        record(RUNNING, summary(RUNNING, 1, 1, title="the first", autostart=True)),
        record(DomainRef("elsewhere", b"e" * 16, 1), summary(RUNNING, 1, 1), scope="test:///other.xml"),
        {"type": "network", "key": b"n" * 16, "name": "default", "version": 1, "summary": {}, "scope": SCOPE},
    ],
}
"""An answer to `actor_snapshot`."""
