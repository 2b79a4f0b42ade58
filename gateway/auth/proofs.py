"""Which proof a client owes, by the socket that it came through."""

from __future__ import annotations

import os
import socket
from typing import TYPE_CHECKING, Any, Union

from gateway.auth.sasl import SaslHost, SaslProof, Way
from schema.enums.admin import ClientTransport
from settings.config import GatewaySettings
from util.structured_log import StructuredLog

if TYPE_CHECKING:
    from gateway.auth.polkit import PolkitProof

Proof = Union[SaslProof, "PolkitProof"]


class Proofs:
    """Makes them, as the settings say."""

    def __init__(self, settings: GatewaySettings, log: StructuredLog) -> None:
        self._settings = settings
        self._log = log
        self._sasl: SaslHost | None = None

    def owed_by(
        self, caller: dict[str, Any], transport: ClientTransport, sock: socket.socket, strength: int
    ) -> Proof | None:
        """The proof that a client owes; none where its socket asks for none.

        polkit is not asked about root and the agent's own user, who would be locked out when it does not run.
        """
        settings = self._settings
        if transport is ClientTransport.UNIX:
            wanted: str = settings.auth_unix_read_only if caller["read_only"] else settings.auth_unix
        else:
            wanted = settings.auth_tls if transport is ClientTransport.TLS else settings.auth_tcp
        if wanted == "sasl":
            return self._sasl_proof(transport, sock, strength)
        if wanted == "polkit" and caller["uid"] not in (0, os.geteuid()):
            from gateway.auth.polkit import PolkitProof  # D-Bus is loaded where it is asked

            return PolkitProof(settings, self._log, caller)
        return None

    def _sasl_proof(self, transport: ClientTransport, sock: socket.socket, strength: int) -> SaslProof:
        if self._sasl is None:
            self._sasl = SaslHost(self._settings, self._log)
        local = remote = None
        if transport is not ClientTransport.UNIX:
            local, remote = _address(sock.getsockname()), _address(sock.getpeername())
        return SaslProof(self._sasl, Way(local, remote, transport is not ClientTransport.TCP, strength))

    def close(self) -> None:
        """Nobody proves anything any more."""
        if self._sasl is not None:
            self._sasl.close()


def _address(name: tuple[Any, ...]) -> str:
    return f"{name[0]};{name[1]}"
