"""Where a guest that arrives is waited for: a port of the range that is kept for it, or a unix socket."""

from __future__ import annotations

import asyncio
import errno
import ipaddress
import os
import socket
from pathlib import Path
from typing import Any, Final

from actors.qemu.host import QemuHost
from actors.qemu.migration.parameters import MigrationParameters
from schema.errors import ArgumentUnsupported, HostSystemError, InternalError, InvalidArguments, OperationFailed

_FORGET_PORT_S: Final = 30.0


def address_for(host: QemuHost, params: MigrationParameters) -> tuple[str, str | None]:
    """Where QEMU listens, and what the other side is told of it. Raises InvalidArguments, OperationFailed."""
    uri = params.uri
    if uri is not None and uri.startswith("unix:"):
        path = uri.removeprefix("unix:").removeprefix("//")
        if not path.startswith("/"):
            number = errno.ENOENT if path else errno.ECONNREFUSED
            raise HostSystemError(number, f"Failed to connect socket to '{path or '(null)'}'")
        Path(path).unlink(missing_ok=True)
        return f"unix:{path}", uri
    if uri is None:
        name = host.config.qemu.migration_host or os.uname().nodename
        if not name or name.startswith("localhost"):
            raise InternalError("hostname on destination resolved to localhost, but migration requires an FQDN")
        port = _free_port(host)
        return f"tcp:{_listen(host, params)}:{port}", f"tcp:{name}:{port}"
    scheme, colon, rest = uri.partition(":")
    if not colon:
        raise InvalidArguments(f"missing scheme in migration URI: {uri}")
    if scheme not in ("tcp", "rdma"):
        raise ArgumentUnsupported(f"unsupported scheme {scheme} in migration URI {uri}")
    place = rest.removeprefix("//").rstrip("/")
    name, _, port_given = place.rpartition(":") if _has_port(place) else (place, "", "")
    if not name:
        raise InvalidArguments(f"missing host in migration URI: {uri}")
    if port_given == "0":
        uri = f"{scheme}://{name}"  # any port, as none
    elif port_given:
        return f"{scheme}:{_listen(host, params)}:{port_given}", None
    port = _free_port(host)
    return f"{scheme}:{_listen(host, params)}:{port}", f"{uri.rstrip('/')}:{port}"


def _has_port(place: str) -> bool:
    return ":" in place.rpartition("]")[2]


def _listen(host: QemuHost, params: MigrationParameters) -> str:
    if named := params.listen or host.config.qemu.migration_address:
        try:
            is_six = ipaddress.ip_address(named).version == 6
        except ValueError:
            is_six = False
        return f"[{named}]" if is_six else named
    return "[::]" if _has_ipv6() else "0.0.0.0"


def _has_ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6, socket.SOCK_STREAM) as probe:
            probe.bind(("::", 0))
    except OSError:
        return False
    return True


def _free_port(host: QemuHost) -> int:
    first, last = host.config.qemu.migration_ports
    for port in range(first, last + 1):
        if port in host.ports:
            continue
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("", port))
            except OSError:
                continue
        # the next arrival takes another one even if this one's QEMU does not listen yet
        host.ports.add(port)
        asyncio.get_running_loop().call_later(_FORGET_PORT_S, host.ports.discard, port)
        return port
    raise OperationFailed(f"Unable to find an unused port in range 'migration' ({first}-{last})")


def nbd_place(host: QemuHost, params: MigrationParameters) -> dict[str, Any]:
    """Where disks that are sent along are written to. Raises OperationFailed."""
    place = params.disks_uri or ""
    if place.startswith("unix:"):
        path = place.removeprefix("unix:").removeprefix("//")
        Path(path).unlink(missing_ok=True)
        return {"type": "unix", "data": {"path": path}}
    listen = params.listen or host.config.qemu.migration_address or ("::" if _has_ipv6() else "0.0.0.0")
    return {"type": "inet", "data": {"host": listen, "port": str(params.disks_port or _free_port(host))}}
