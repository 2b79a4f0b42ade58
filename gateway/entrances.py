"""The ways in besides libvirt's two sockets: administrators, TCP, TLS.

Each is bound anew by every gateway. Who connects while none runs is refused here, unlike at the sockets that the holder
keeps: these are for administrators and for clients from other hosts, which have to try again anyway.
"""

from __future__ import annotations

import asyncio
import ipaddress
import os
import socket
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from gateway.admin.answers import ADMIN_CLIENTS_MAX, AdminAnswers
from gateway.admin.client import AdminClient
from gateway.auth.sasl import SaslLink
from gateway.drop_in import DropIn
from gateway.link import Link
from gateway.listening import BACKLOG, bind_unix
from gateway.tls import NotAllowed, TlsLink, server_context, shake_hands
from schema.enums.admin import ClientTransport
from settings.config import Config
from settings.paths import Paths, libvirt_folder
from util.structured_log import StructuredLog

if TYPE_CHECKING:
    import ssl

    from gateway.server import Gateway


class Entrances:
    """Their listening sockets, and who is let in."""

    def __init__(self, paths: Paths, config: Config, log: StructuredLog) -> None:
        self._paths = paths
        self._config = config
        self._settings = config.gateway
        self._log = log
        self._networks = [ipaddress.ip_network(text, strict=False) for text in self._settings.allowed_addresses]
        self._context: ssl.SSLContext | None = None
        self._greetings: set[asyncio.Task[None]] = set()
        self._listeners: list[tuple[socket.socket, Callable[[Gateway, socket.socket], None]]] = []
        self._admin = bind_unix(paths.libvirt_admin_socket, 0o600)
        self._listeners.append((self._admin, self._admit_admin))
        if self._settings.listen_tcp:
            self._bind_tcp(self._settings.listen_tcp, self._admit_tcp)
        if self._settings.listen_tls and self._load_certificates():
            self._bind_tcp(self._settings.listen_tls, self._admit_tls)
        self._answers: AdminAnswers | None = None
        self._drop_in = DropIn(libvirt_folder(), paths, log) if self._settings.drop_in else None
        if self._drop_in is not None:
            self._drop_in.make()

    def _load_certificates(self) -> bool:
        """Whether there are certificates; without them there is no TLS, and everything else is served."""
        try:
            self._context = server_context(self._settings)
        except OSError as exc:
            self._log.error("the certificates cannot be used, so nobody is served over TLS", error=str(exc))
        return self._context is not None

    def _reload_certificates(self) -> None:
        """Takes the certificates as they are now, for those who connect from now on. Raises OSError."""
        self._context = server_context(self._settings)

    def _bind_tcp(self, address: str, admit: Callable[[Gateway, socket.socket], None]) -> None:
        try:
            listener = bind_tcp(address)
        except OSError as exc:
            self._log.error("cannot listen", address=address, error=str(exc))
            return
        self._log.info("listening", address=address)
        self._listeners.append((listener, admit))

    def open(self, gateway: Gateway) -> None:
        """Lets clients in."""
        self._answers = AdminAnswers(gateway, self._config.log.level)
        if self._context is not None:
            gateway.reload_tls = self._reload_certificates
        for listener, admit in self._listeners:
            listener.setblocking(False)
            gateway.listen(listener, partial(admit, gateway))

    def close(self, gateway: Gateway) -> None:
        """Lets nobody in any more."""
        for listener, _ in self._listeners:
            gateway.loop.remove_reader(listener.fileno())
            listener.close()
        self._listeners.clear()
        for greeting in self._greetings:
            greeting.cancel()

    def end(self) -> None:
        """An orderly stop: the paths go."""
        if self._drop_in is not None:
            self._drop_in.remove()
        self._paths.libvirt_admin_socket.unlink(missing_ok=True)

    # --- who comes ---

    def _admit_admin(self, gateway: Gateway, sock: socket.socket) -> None:
        assert self._answers is not None
        caller = gateway.caller_of(sock)
        if caller["uid"] not in (0, os.geteuid()) or len(gateway.admin_clients) >= ADMIN_CLIENTS_MAX:
            self._log.warning("an admin client is turned away", uid=caller["uid"], pid=caller["pid"])
            sock.close()
            return
        gateway.admin_clients.add(AdminClient(gateway, self._answers, sock, caller, gateway.new_client_number()))

    def _admit_tcp(self, gateway: Gateway, sock: socket.socket) -> None:
        caller = self._remote_caller(gateway, sock, "tcp")
        if caller is not None:
            encrypts = self._settings.auth_tcp == "sasl"
            gateway.add_client(sock, caller, ClientTransport.TCP, SaslLink if encrypts else Link)

    def _admit_tls(self, gateway: Gateway, sock: socket.socket) -> None:
        caller = self._remote_caller(gateway, sock, "tls")
        if caller is None:
            return
        if gateway.greetings + len(gateway.unproved) >= gateway.max_greetings:
            self._log.warning("too many clients that have not proved who they are", limit=gateway.max_greetings)
            sock.close()
            return
        gateway.greetings += 1
        greeting = gateway.loop.create_task(self._greet(gateway, sock, caller))
        self._greetings.add(greeting)
        greeting.add_done_callback(self._greetings.discard)

    async def _greet(self, gateway: Gateway, sock: socket.socket, caller: dict[str, Any]) -> None:
        served = False
        try:
            assert self._context is not None
            encryption, name = await shake_hands(gateway.loop, sock, self._context, self._settings.tls_allowed_names)
            caller = {**caller, "x509": name}
            served = True
            link = partial(TlsLink, encryption=encryption)
            gateway.add_client(sock, caller, ClientTransport.TLS, link, encryption.strength)
        except NotAllowed as exc:
            self._log.warning("a client's name is not allowed", name=str(exc), address=caller["address"])
        except (OSError, TimeoutError) as exc:
            self._log.info("a client did not prove who it is", reason=str(exc) or "in time", address=caller["address"])
        finally:
            gateway.greetings -= 1
            if not served:
                sock.close()

    def _remote_caller(self, gateway: Gateway, sock: socket.socket, via: str) -> dict[str, Any] | None:
        """Who connected from another host, as far as its address tells; nobody when it is turned away."""
        try:
            host, port, *_ = sock.getpeername()
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        except OSError:
            sock.close()
            return None
        if not self._is_allowed(host):
            self._log.warning("a client's address is not allowed", address=host)
            sock.close()
            return None
        if not gateway.has_room():
            sock.close()
            return None
        return {
            "uid": -1,
            "gid": -1,
            "pid": 0,
            "user": "",
            "read_only": False,
            "via": f"libvirt+{via}",
            "name": "",
            "address": f"{host};{port}",
        }

    def _is_allowed(self, host: str) -> bool:
        address = ipaddress.ip_address(host.partition("%")[0])
        if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
            address = address.ipv4_mapped
        return not self._networks or any(address in network for network in self._networks)


def bind_tcp(address: str) -> socket.socket:
    """A listening socket for `HOST:PORT`; without a host, for every address of this one. Raises OSError."""
    host, _, port = address.rpartition(":")
    host = host.strip("[]")
    if host:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        return socket.create_server((host, int(port)), family=family, backlog=BACKLOG)
    if socket.has_dualstack_ipv6():
        return socket.create_server(("", int(port)), family=socket.AF_INET6, dualstack_ipv6=True, backlog=BACKLOG)
    return socket.create_server(("", int(port)), backlog=BACKLOG)
