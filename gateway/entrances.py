"""The ways in besides libvirt's two sockets; each is bound anew by every gateway.

Who connects while no gateway runs is refused here, unlike at the sockets that the holder keeps: these are for
administrators and for clients from other hosts, which have to try again anyway.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from typing import TYPE_CHECKING

from gateway.admin.answers import ADMIN_CLIENTS_MAX, AdminAnswers
from gateway.admin.client import AdminClient
from gateway.listening import bind_unix
from settings.config import Config
from settings.paths import Paths
from util.structured_log import StructuredLog

if TYPE_CHECKING:
    from gateway.server import Gateway


class Entrances:
    """The listening sockets of the admin program."""

    def __init__(self, paths: Paths, config: Config, log: StructuredLog) -> None:
        self._paths = paths
        self._config = config
        self._log = log
        self._listeners: list[socket.socket] = []
        self._admin = bind_unix(paths.libvirt_admin_socket, 0o600)

    def open(self, gateway: Gateway) -> None:
        """Lets clients in."""
        answers = AdminAnswers(gateway, self._config.log.level)

        def admit_admin(sock: socket.socket) -> None:
            caller = gateway.caller_of(sock)
            if caller["uid"] not in (0, os.geteuid()) or len(gateway.admin_clients) >= ADMIN_CLIENTS_MAX:
                self._log.warning("an admin client is turned away", uid=caller["uid"], pid=caller["pid"])
                sock.close()
                return
            gateway.admin_clients.add(AdminClient(gateway, answers, sock, caller, gateway.new_client_number()))

        self._listen(gateway, self._admin, admit_admin)

    def _listen(self, gateway: Gateway, listener: socket.socket, admit: Callable[[socket.socket], None]) -> None:
        listener.setblocking(False)
        self._listeners.append(listener)
        gateway.listen(listener, admit)

    def close(self, gateway: Gateway) -> None:
        """Lets nobody in any more."""
        for listener in self._listeners:
            gateway.loop.remove_reader(listener.fileno())
            listener.close()
        self._listeners.clear()

    def end(self) -> None:
        """An orderly stop: the paths go."""
        self._paths.libvirt_admin_socket.unlink(missing_ok=True)
