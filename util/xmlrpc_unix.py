"""XML-RPC over an AF_UNIX socket, on one connection that is kept open."""

from __future__ import annotations

import http.client
import socket
import xmlrpc.client
from pathlib import Path


class UnixConnection(http.client.HTTPConnection):
    """HTTP to a server that listens on a path."""

    def __init__(self, path: Path, timeout_s: float) -> None:
        super().__init__("localhost", timeout=timeout_s)
        self._path = str(path)

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


class UnixTransport(xmlrpc.client.Transport):
    """Carries XML-RPC to a path; a connection that the server closed is opened again once."""

    def __init__(self, path: Path, timeout_s: float) -> None:
        super().__init__()
        self._path = path
        self._timeout_s = timeout_s
        self._open: UnixConnection | None = None

    def make_connection(self, host: object) -> http.client.HTTPConnection:
        if self._open is None:
            self._open = UnixConnection(self._path, self._timeout_s)
        return self._open

    def close(self) -> None:
        opened, self._open = self._open, None
        if opened is not None:
            opened.close()


def unix_proxy(path: Path, timeout_s: float) -> xmlrpc.client.ServerProxy:
    """The server that listens on a path. Its calls raise OSError, http.client.HTTPException or xmlrpc.client.Fault."""
    return xmlrpc.client.ServerProxy("http://localhost/RPC2", UnixTransport(path, timeout_s), allow_none=True)
