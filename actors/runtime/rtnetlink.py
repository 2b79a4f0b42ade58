"""Asking the kernel about links, and changing them, over its routing socket.

Why not by a library: docs/design/0014-routing-messages-of-our-own.md.
"""

from __future__ import annotations

import errno
import os
import socket
from typing import Final

from util.netlink import ACK, DONE, ERROR, MULTI, REQUEST, BadMessage, pack_message, read_messages

_READ: Final = 1 << 17
_PATIENCE_S: Final = 10.0
_SEQUENCE: Final = 1


def change(kind: int, flags: int, body: bytes) -> None:
    """Has the kernel do something, and waits until it has. Raises OSError with its reason."""
    _ask(kind, flags | ACK, body)


def ask(kind: int, flags: int, body: bytes) -> list[bytes]:
    """One question; the bodies of its answers, of which there are many for a dump. Raises OSError."""
    return _ask(kind, flags, body)


def _ask(kind: int, flags: int, body: bytes) -> list[bytes]:
    found: list[bytes] = []
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.NETLINK_ROUTE) as link:
        link.bind((0, 0))
        link.settimeout(_PATIENCE_S)
        link.send(pack_message(kind, flags | REQUEST, _SEQUENCE, body))
        while True:
            try:
                for message in read_messages(link.recv(_READ)):
                    if message.sequence != _SEQUENCE:
                        continue
                    if message.kind == ERROR:
                        code = message.error or 0
                        if code:
                            raise OSError(code, os.strerror(code))
                        return found
                    if message.kind == DONE:
                        return found
                    found.append(message.body)
                    if not message.flags & MULTI:
                        return found
            except BadMessage as exc:
                raise OSError(errno.EBADMSG, str(exc)) from exc
            except TimeoutError as exc:
                raise OSError(errno.ETIMEDOUT, "the kernel does not answer") from exc


def index_of(name: str) -> int:
    """A link's number. Raises OSError (ENODEV) when there is no such link."""
    try:
        return socket.if_nametoindex(name)
    except OSError as exc:
        raise OSError(errno.ENODEV, os.strerror(errno.ENODEV)) from exc


def has_link(name: str) -> bool:
    """Whether the host has a link of that name."""
    try:
        index_of(name)
    except OSError:
        return False
    return True
