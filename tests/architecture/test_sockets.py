"""Sockets are opened in the few modules that are named here, and nowhere else."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Final

import pytest

from tests.architecture.tree import ROOT, imported_modules, modules

OPENERS: Final = {
    "broker/door.py": "the doors",
    "broker/files.py": "open files beside a call, for the driver to fetch",
    "broker/lifeline.py": "a peer's end of its door connection",
    "broker/link.py": "a peer's connection, ZMTP in its own loop",
    "broker/scrapes.py": "the Prometheus endpoint",
    "broker/router.py": "the broker's ROUTERs, ZMTP in its own loop",
    "broker/server.py": "the broker's loop",
    "broker/sockets.py": "the broker's event socket",
    "broker/stream.py": "both ends of a ticket",
    "broker/subscriber.py": "a connection to the event socket, ZMTP in its own loop",
    "broker/unsent.py": "writes for both ends of ZMTP",
    "gateway/activation.py": "libvirt's listening sockets, given by systemd",
    "gateway/admin/client.py": "administrators",
    "gateway/auth/proofs.py": "the addresses of both ends of a client's connection, for SASL",
    "gateway/auth/sasl.py": "libvirt's clients, encrypted by SASL",
    "gateway/connection.py": "libvirt's clients",
    "gateway/drop_in.py": "whether another daemon serves libvirt's own paths",
    "gateway/entrances.py": "the listening sockets besides libvirt's own two",
    "gateway/files.py": "a pair of sockets, one for the client and one for the driver",
    "gateway/holder.py": "libvirt's listening sockets",
    "gateway/link.py": "the gateway's end of the holder",
    "gateway/listening.py": "libvirt's listening sockets",
    "gateway/server.py": "libvirt's clients",
    "gateway/tls.py": "clients from other hosts",
    "actors/runtime/streams.py": "tickets",
    "actors/runtime/derived/native.py": "the host's name only",
    "actors/remote/files.py": "displays of guests on other hosts, between the client's socket and the daemon's",
    "actors/qemu/monitor/link.py": "QEMU's monitor",
    "actors/qemu/agent/link.py": "the agent in a guest",
    "actors/qemu/helpers/gpu.py": "a pair of sockets, one for a guest and one for the program that draws for it",
    "actors/qemu/migration/places.py": "whether a port is free",
    "actors/qemu/migration/tunnel.py": "a guest's memory on its way through this process",
    "actors/qemu/capabilities/probe.py": "the monitor of a QEMU that is asked what it can",
    "actors/qemu/resources.py": "the listening end of a guest's monitor",
    "actors/runtime/rtnetlink.py": "the kernel's routing socket",
    "actors/qemu/taps.py": "ioctls for tap devices",
    "remoting/endpoint.py": "other daemons of libvirt's protocol",
    "remoting/unix_way.py": "other daemons of libvirt's protocol on this host",
    "remoting/relay.py": "tickets of the library's own process",
    "util/xmlrpc_unix.py": "supervisord's XML-RPC",
}
SOCKET_MODULES: Final = ("socket", "zmq", "socketserver", "http.server")
SOCKET_CALLS: Final = (
    "open_connection",
    "open_unix_connection",
    "start_server",
    "start_unix_server",
    "create_connection",
    "create_unix_connection",
    "create_server",
    "create_unix_server",
)


def opens_sockets(path: Path, root: Path = ROOT) -> bool:
    """Whether a file imports a socket module or uses asyncio's ways to one."""
    text = (root / path).read_text(encoding="utf-8")
    if any(name == m or name.startswith(f"{m}.") for name in imported_modules(root / path) for m in SOCKET_MODULES):
        return True
    return any(isinstance(node, ast.Attribute) and node.attr in SOCKET_CALLS for node in ast.walk(ast.parse(text)))


def test_only_the_named_modules_open_sockets() -> None:
    found = {str(path) for path in modules() if opens_sockets(path)}
    assert found - OPENERS.keys() == set(), "a socket is opened where none should be"
    assert OPENERS.keys() - found == set(), "these no longer open one: take them off the list"


@pytest.mark.parametrize("line", ["import socket", "from zmq import Context", "loop.create_unix_server(f, path)"])
def test_a_new_opener_is_noticed(tmp_path: Path, line: str) -> None:
    (tmp_path / "new.py").write_text(line + "\n", encoding="utf-8")
    assert opens_sockets(Path("new.py"), tmp_path)
