"""TLS in front of libvirt's protocol: who a client is by its certificate, and a link that encrypts.

The handshake is a task with a deadline; only who has passed it becomes a connection. Then the same bytes go through the
same code as on a unix socket, for a `TlsLink` is a `Link`. libvirt's daemon tells a client that its certificate was
accepted by one byte inside TLS, before the first message.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any, Final

from gateway.link import READ_BYTES, ReadBuffer, WrappedLink
from settings.config import GatewaySettings

ACCEPTED: Final = b"\1"
HANDSHAKE_S: Final = 10.0
_SHORT: Final = {
    "commonName": "CN",
    "countryName": "C",
    "stateOrProvinceName": "ST",
    "localityName": "L",
    "organizationName": "O",
    "organizationalUnitName": "OU",
    "emailAddress": "EMAIL",
    "domainComponent": "DC",
    "userId": "UID",
    "serialNumber": "serialNumber",
}


class NotAllowed(Exception):
    """The certificate is good, but its name is not one of those that may connect."""


def server_context(settings: GatewaySettings) -> ssl.SSLContext:
    """The server's certificates and the authority of its clients', as they lie in the files now.

    Raises OSError (of which ssl.SSLError is one) when they cannot be used.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.verify_mode = ssl.CERT_REQUIRED
    context.num_tickets = 0  # nobody resumes a session
    context.load_cert_chain(settings.tls_certificate, settings.tls_key)
    context.load_verify_locations(settings.tls_authority)
    if settings.tls_revoked:
        context.load_verify_locations(settings.tls_revoked)
        context.verify_flags |= ssl.VERIFY_CRL_CHECK_LEAF
    return context


def distinguished_name(certificate: dict[str, Any]) -> str:
    """The subject of a certificate in one line, in the order in which it stands there: `C=GB,O=Red Hat,CN=client`."""
    parts = (pair for group in certificate.get("subject", ()) for pair in group)
    return ",".join(f"{_SHORT.get(name, name)}={_escaped(value)}" for name, value in parts)


def _escaped(value: str) -> str:
    return "".join(f"\\{char}" if char in ',+"\\<>;' else char for char in value)


def check_name(name: str, allowed: tuple[str, ...]) -> None:
    """Whether a client of this name may connect: everybody when no pattern is given. Raises NotAllowed."""
    if allowed and not any(fnmatchcase(name, pattern) for pattern in allowed):
        raise NotAllowed(name)


@dataclass(slots=True)
class Encryption:
    """The state of one TLS connection, apart from its socket."""

    tls: ssl.SSLObject
    incoming: ssl.MemoryBIO
    outgoing: ssl.MemoryBIO

    @property
    def strength(self) -> int:
        """How many bits its key has."""
        cipher = self.tls.cipher()
        return cipher[2] if cipher is not None else 0


async def shake_hands(
    loop: asyncio.AbstractEventLoop, sock: socket.socket, context: ssl.SSLContext, allowed: tuple[str, ...]
) -> tuple[Encryption, str]:
    """Becomes sure of who the client is; its name.

    Raises TimeoutError, OSError and NotAllowed; the socket is the caller's to close.
    """
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = context.wrap_bio(incoming, outgoing, server_side=True)
    async with asyncio.timeout(HANDSHAKE_S):
        while True:
            try:
                tls.do_handshake()
                break
            except ssl.SSLWantReadError:
                await loop.sock_sendall(sock, outgoing.read())
                data = await loop.sock_recv(sock, READ_BYTES)
                if not data:
                    raise ConnectionResetError("the client went away") from None
                incoming.write(data)
            except ssl.SSLError:
                await loop.sock_sendall(sock, outgoing.read())  # the alert says why
                raise
        name = distinguished_name(tls.getpeercert() or {})
        check_name(name, allowed)
        tls.write(ACCEPTED)
        await loop.sock_sendall(sock, outgoing.read())
    return Encryption(tls, incoming, outgoing), name


class TlsLink(WrappedLink):
    """A link whose bytes are encrypted on the wire."""

    __slots__ = ("_encryption",)

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        sock: socket.socket,
        buffer: ReadBuffer,
        *,
        encryption: Encryption,
        **callbacks: Callable[..., None],
    ) -> None:
        self._encryption = encryption
        super().__init__(loop, sock, buffer, **callbacks)
        loop.call_soon(self._unwrap, b"")  # what came with the end of the handshake

    def _unwrap(self, data: bytes) -> None:
        encryption = self._encryption
        if data:
            encryption.incoming.write(data)
        try:
            while not self.closing:
                plain = encryption.tls.read(READ_BYTES)
                if not plain:
                    self.abort()
                    return
                self._plain(plain)
        except ssl.SSLWantReadError:
            if encryption.outgoing.pending and not self.closed:
                super().write(encryption.outgoing.read())
        except ssl.SSLError:
            self.abort()

    def write(self, data: bytes) -> None:
        """Sends, encrypted. `buffered` counts what encryption made of it."""
        if self.closed:
            return
        encryption = self._encryption
        view = memoryview(data)
        try:
            while view:
                view = view[encryption.tls.write(view) :]
        except ssl.SSLError:
            self.abort()
            return
        super().write(encryption.outgoing.read())
