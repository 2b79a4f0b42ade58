"""What the broker tells about itself, as one map: `broker_status`, and the numbers behind the metrics."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from broker.server import Server


def status_of(server: Server) -> dict[str, Any]:
    """Everything that `virtroupe status` shows of broker and actors."""
    now = time.monotonic()
    intake, journal, routing = server.intake, server.journal, server.routing
    return {
        "pid": os.getpid(),
        "uptime_s": now - server.started,
        "generation": journal.generation,
        "head": list(intake.published),
        "journal": {
            "first": list(journal.first),
            "head": list(journal.head),
            "bytes": journal.size,
            "segments": len(journal.segments),
            "appended": journal.appended,
            "sync": server.config.journal.sync,
            "error": intake.failure or None,
            "lost_tail": journal.lost_tail or None,
        },
        "actors": {desk.actor.name: actor_status(server, desk, now) for desk in routing.desks},
        "clients": server.reception.clients,
        "counters": counters(server),
    }


def actor_status(server: Server, desk: Any, now: float) -> dict[str, Any]:
    """One actor."""
    actor = desk.actor
    connected = actor.routing_id is not None
    return {
        "state": str(actor.state),
        "why": actor.why,
        "retry_at": actor.retry_at,
        "pid": actor.pid if connected else None,
        "epoch": actor.epoch,
        "version": actor.version,
        "seq": server.journal.last(actor.name)[1],
        "event_lag": max(0, actor.seq - server.journal.last(actor.name)[1]) if connected else 0,
        "depth": actor.depth if connected else 0,
        "rss_kib": actor.rss_kib if connected else 0,
        "since_s": now - actor.since if connected else None,
        "beat_age_s": now - actor.beat_at if connected else None,
        "progress_age_s": now - actor.beat_at + actor.progress_s if connected else None,
        "waiting": len(desk.waiting) + len(desk.again),
        "calls": len(desk.in_flight),
        "received": desk.received,
        "answered": desk.answered,
        "failed": desk.failed,
        "busy": desk.busy,
        "expired": desk.expired,
        "resent": desk.resent,
        "pending": desk.pending,
        "starts": actor.starts,
        "restarts": actor.deaths,
        "hangs": actor.hangs,
    }


def counters(server: Server) -> dict[str, int]:
    """Sums over all peers, by name."""
    intake, routing = server.intake, server.routing
    refused = dict(server.reception.refused)  # a scrape reads while the loop counts
    values = {
        "messages": sum(router.received for router in server.routers.values()),
        "strangers": sum(router.strangers for router in server.routers.values()),
        "malformed": sum(router.malformed for router in server.routers.values()),
        "full": sum(router.full for router in server.routers.values()),
        "misuse": server.misuse,
        "faults": server.faults,
        "calls_refused": routing.refused,
        "late_answers": routing.late,
        "doors_accepted": server.lifelines.accepted,
        "doors_refused": server.lifelines.refused + sum(refused.values()),
        "events": intake.accepted,
        "events_repeated": intake.duplicates,
        "events_refused": intake.refused,
        "event_gaps": intake.gaps,
        "journal_failures": intake.failures,
        "journal_syncs": intake.syncs,
        "published": server.publisher.published,
        "replay_parts": server.replays.parts,
        "replay_records": server.replays.records,
        "log_lines_dropped": server.log.dropped,
    }
    values.update({f"refused_{kind}": count for kind, count in refused.items()})
    return values
