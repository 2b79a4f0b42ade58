"""Prometheus' view of broker, journal and actors, on a unix socket and, if configured, over TCP.

A scrape is served by a thread of its own and only reads numbers; the loop keeps them as plain attributes, because the
client library's own counters cost more than routing a call.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Final

from broker.calls import LATENCY_BOUNDS_S
from broker.status import status_of

if TYPE_CHECKING:
    from prometheus_client import Metric

    from broker.scrapes import ScrapeServer
    from broker.server import Server
    from util.structured_log import StructuredLog

_GAUGES: Final = {
    "depth": "Calls the actor says it holds",
    "waiting": "Calls that wait for the actor",
    "calls": "Calls that the actor has been sent and not answered",
    "rss_kib": "Resident memory in KiB",
    "event_lag": "Events of the actor that are not in the journal yet",
    "epoch": "Incarnation of the actor",
    "seq": "Last event of the actor in the journal",
}
_COUNTERS: Final = {
    "received": "Calls to the actor",
    "answered": "Outcomes the actor gave",
    "failed": "Errors among its outcomes",
    "busy": "Calls refused because a queue was full",
    "expired": "Calls whose deadline the broker had to keep",
    "resent": "Calls sent again to a new incarnation",
    "pending": "Calls answered as pending",
    "restarts": "Ends of the actor that were not in order",
    "hangs": "Times it was fenced because it hung",
}


class Collector:
    """Turns the broker's numbers into metric families at each scrape."""

    def __init__(self, server: Callable[[], Server]) -> None:
        self._server = server

    def collect(self) -> Iterator[Metric]:
        """All families."""
        from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily

        server = self._server()
        status = status_of(server)
        yield GaugeMetricFamily("virtroupe_broker_uptime_seconds", "Age of the broker", value=status["uptime_s"])
        yield GaugeMetricFamily("virtroupe_broker_clients", "Connected native clients", value=status["clients"])
        journal = status["journal"]
        yield GaugeMetricFamily("virtroupe_journal_bytes", "Size of all records", value=journal["bytes"])
        yield GaugeMetricFamily("virtroupe_journal_segments", "Files of the journal", value=journal["segments"])
        yield GaugeMetricFamily("virtroupe_journal_head", "Offset after the last record", value=journal["head"][1])
        yield GaugeMetricFamily(
            "virtroupe_journal_failing", "1 while nothing can be written", value=int(journal["error"] is not None)
        )
        events = CounterMetricFamily("virtroupe_broker", "What the broker counted", labels=["what"])
        for name, value in status["counters"].items():
            events.add_metric([name], value)
        yield events
        state = GaugeMetricFamily("virtroupe_actor_state", "1 for the state the actor is in", labels=["actor", "state"])
        for name, actor in status["actors"].items():
            state.add_metric([name, actor["state"]], 1)
        yield state
        for key, text in _GAUGES.items():
            gauge = GaugeMetricFamily(f"virtroupe_actor_{key}", text, labels=["actor"])
            for name, actor in status["actors"].items():
                gauge.add_metric([name], actor[key])
            yield gauge
        for key, text in _COUNTERS.items():
            counter = CounterMetricFamily(f"virtroupe_actor_{key}", text, labels=["actor"])
            for name, actor in status["actors"].items():
                counter.add_metric([name], actor[key])
            yield counter
        latency = HistogramMetricFamily(
            "virtroupe_call_seconds", "From the broker's receipt of a call to its outcome", labels=["actor"]
        )
        for desk in list(server.routing.desks):
            total, buckets = 0, []
            for bound, count in zip((*map(str, LATENCY_BOUNDS_S), "+Inf"), list(desk.buckets), strict=True):
                total += count
                buckets.append((bound, total))
            latency.add_metric([desk.actor.name], buckets, desk.latency_sum_s)
        yield latency


class MetricsServer:
    """Serves scrapes from `start` to `close`."""

    def __init__(self, path: Path, listen: str, server: Callable[[], Server], log: StructuredLog) -> None:
        """Raises ValueError when `listen` is neither empty nor HOST:PORT."""
        self._path = path
        self._address = parse_address(listen) if listen else None
        self._collector = Collector(server)
        self._log = log
        self._servers: list[ScrapeServer] = []
        self._is_closed = False

    def start(self) -> None:
        """Begins in a thread of its own: what an HTTP server needs takes longer to load than the broker itself."""
        threading.Thread(target=self._run, name="metrics", daemon=True).start()

    def close(self) -> None:
        """Ends serving."""
        self._is_closed = True
        for server in self._servers:
            server.shutdown()
            server.server_close()

    def _run(self) -> None:
        from broker.scrapes import open_servers

        try:
            self._servers = open_servers(self._path, self._address, self._collector)
        except OSError as exc:
            self._log.error("metrics are not served", error=str(exc))
            return
        for server in self._servers[1:]:
            threading.Thread(target=server.serve_forever, name="metrics", args=(0.2,), daemon=True).start()
        if not self._is_closed:
            self._servers[0].serve_forever(0.2)


def parse_address(listen: str) -> tuple[str, int]:
    """Host and port of HOST:PORT. Raises ValueError."""
    host, _, port = listen.rpartition(":")
    if not host or not port.isdecimal() or int(port) > 65535:
        raise ValueError(f"metrics.listen '{listen}' is not HOST:PORT")
    return host.strip("[]"), int(port)
