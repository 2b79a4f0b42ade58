"""Prometheus' view of broker, journal and actors, on a unix socket and, if configured, over TCP.

A scrape is served by a thread of its own and only reads numbers; the loop keeps them as plain attributes, because the
client library's own counters cost more than routing a call.
"""

from __future__ import annotations

import contextlib
import os
import socket
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from socketserver import BaseServer, TCPServer, UnixStreamServer
from typing import TYPE_CHECKING, Any, ClassVar, Final

from broker.calls import LATENCY_BOUNDS_S
from broker.status import status_of

if TYPE_CHECKING:
    from prometheus_client import Metric

    from broker.server import Server

SCRAPE_TIMEOUT_S: Final = 5.0

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

    def __init__(self, path: Path, listen: str, server: Callable[[], Server]) -> None:
        """Raises ValueError when `listen` is no HOST:PORT."""
        self._path = path
        self._address: tuple[str, int] | None = None
        if listen:
            host, _, port = listen.rpartition(":")
            if not host or not port.isdecimal():
                raise ValueError(f"metrics.listen '{listen}' is not HOST:PORT")
            self._address = (host.strip("[]"), int(port))
        self._collector = Collector(server)
        self._servers: list[BaseServer] = []

    def start(self) -> None:
        """Binds and serves. Raises OSError."""
        collector = self._collector

        class Handler(_Handler):
            source = collector

        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._path.unlink(missing_ok=True)
        self._servers.append(_Unix(os.fspath(self._path), Handler))
        self._path.chmod(0o660)
        if self._address is not None:
            self._servers.append(_Tcp(self._address, Handler))
        for server in self._servers:
            threading.Thread(target=server.serve_forever, name="metrics", args=(0.2,), daemon=True).start()

    def close(self) -> None:
        """Ends serving."""
        for server in self._servers:
            server.shutdown()
            server.server_close()
        self._servers = []


class _Unix(UnixStreamServer):
    def handle_error(self, request: Any, client_address: Any) -> None:
        """A scraper that went away is not worth a line."""


class _Tcp(TCPServer):
    allow_reuse_address = True

    def __init__(self, address: tuple[str, int], handler: type[BaseHTTPRequestHandler]) -> None:
        self.address_family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
        super().__init__(address, handler)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A scraper that went away is not worth a line."""


class _Handler(BaseHTTPRequestHandler):
    source: ClassVar[Collector]
    timeout = SCRAPE_TIMEOUT_S

    def do_GET(self) -> None:
        """`/metrics`, or everything else that asks."""
        from prometheus_client import CollectorRegistry
        from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

        registry = CollectorRegistry(auto_describe=False)
        registry.register(self.source)
        body = generate_latest(registry)
        with contextlib.suppress(OSError):
            self.send_response(200)
            self.send_header("Content-Type", CONTENT_TYPE_LATEST)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    def address_string(self) -> str:
        """There is none on a unix socket."""
        return "scraper"

    def log_message(self, format: str, *args: Any) -> None:
        """Scrapes are not logged."""
