"""The HTTP side of the metrics: one scrape after the other, none of them for longer than a few seconds."""

from __future__ import annotations

import contextlib
import os
import socket
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from socketserver import BaseServer, TCPServer, UnixStreamServer
from typing import Any, ClassVar, Final

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

from broker.metrics import Collector

SCRAPE_TIMEOUT_S: Final = 5.0
ScrapeServer = BaseServer


def open_servers(path: Path, address: tuple[str, int] | None, collector: Collector) -> list[ScrapeServer]:
    """A server on the unix socket and, with an address, one on TCP. Raises OSError."""

    class Handler(_Handler):
        source = collector

    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    servers: list[ScrapeServer] = [_Unix(os.fspath(path), Handler)]
    path.chmod(0o660)
    if address is not None:
        try:
            servers.append(_Tcp(address, Handler))
        except OSError:
            servers[0].server_close()
            raise
    return servers


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
        """`/metrics`, and whatever else somebody asks for."""
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
