"""Who is let in, as what: the kernel's word about a process, tokens of actors, secrets of returning clients.

Pure but for the token files, which are read anew when a token does not match, so that one can be replaced.
"""

from __future__ import annotations

import grp
import hashlib
import hmac
import pwd
import secrets
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NamedTuple

from schema.errors import AccessDenied, InvalidMessage, NotRegistered

PROTOCOL: Final = 1
CLIENT_ID_LENGTH: Final = 17
_CLIENT_MARK: Final = b"c"


class Credentials(NamedTuple):
    """What the kernel says of the process at the other end."""

    pid: int
    uid: int
    gid: int
    groups: frozenset[int] = frozenset()


@dataclass(frozen=True, slots=True)
class Hello:
    """The first message of a peer, checked for its form."""

    role: str
    program: str = ""
    token: bytes = b""
    resume: tuple[bytes, Any] | None = None


@dataclass(frozen=True, slots=True)
class AllowList:
    """Who besides root and the agent's own user may use the read-write door."""

    uids: frozenset[int]
    gids: frozenset[int]

    @classmethod
    def of(cls, own_uid: int, entries: Iterable[str]) -> AllowList:
        """From "user:NAME" and "group:NAME". Raises KeyError for a name that the host does not know, ValueError."""
        uids, gids = {0, own_uid}, set()
        for entry in entries:
            kind, _, name = entry.partition(":")
            if kind == "user":
                uids.add(pwd.getpwnam(name).pw_uid)
            elif kind == "group":
                gids.add(grp.getgrnam(name).gr_gid)
            else:
                raise ValueError(f"'{entry}' is neither 'user:NAME' nor 'group:NAME'")
        return cls(frozenset(uids), frozenset(gids))

    def check(self, who: Credentials) -> None:
        """Raises AccessDenied."""
        if who.uid not in self.uids and who.gid not in self.gids and not (who.groups & self.gids):
            raise AccessDenied(f"user {who.uid} may use only the read-only door")


def read_hello(message: dict[str, Any]) -> Hello:
    """Raises InvalidMessage for anything that is not a hello of this protocol version."""
    if message.get("v") != PROTOCOL:
        raise InvalidMessage(f"the door speaks version {PROTOCOL} of the protocol, not {message.get('v')!r}")
    role, program = message.get("role"), message.get("program", "")
    token, resume = message.get("token", b""), message.get("resume")
    if not (isinstance(role, str) and isinstance(program, str) and isinstance(token, bytes)):
        raise InvalidMessage("a field of the hello has the wrong type")
    if resume is not None and not (isinstance(resume, list) and len(resume) == 2 and isinstance(resume[0], bytes)):
        raise InvalidMessage("'resume' is [id, secret or epoch] or nil")
    return Hello(role, program[:64], token, None if resume is None else (resume[0], resume[1]))


class ClientIds:
    """Makes the routing ids of clients, and knows a returning one by its secret."""

    def __init__(self, key: bytes) -> None:
        self._key = key

    def admit(self, hello: Hello, uid: int, read_only: bool) -> tuple[bytes, bytes]:
        """Routing id and secret. Raises NotRegistered when the client resumes what was never granted to it."""
        if hello.resume is None:
            routing_id = _CLIENT_MARK + secrets.token_bytes(CLIENT_ID_LENGTH - 1)
            return routing_id, self._secret(routing_id, uid, read_only)
        routing_id, claimed = hello.resume
        secret = self._secret(routing_id, uid, read_only)
        if (
            len(routing_id) != CLIENT_ID_LENGTH
            or not isinstance(claimed, bytes)
            or not hmac.compare_digest(secret, claimed)
        ):
            raise NotRegistered("this routing id was not granted to this client")
        return routing_id, secret

    def _secret(self, routing_id: bytes, uid: int, read_only: bool) -> bytes:
        return hmac.digest(self._key, b"%s %d %d" % (routing_id, uid, read_only), hashlib.sha256)


class Tokens:
    """The tokens of roles."""

    def __init__(self, path_of: Callable[[str], Path]) -> None:
        self._path_of = path_of

    def check(self, role: str, token: bytes, who: Credentials, uids: frozenset[int]) -> None:
        """Raises AccessDenied unless the token is the role's and the process runs as one of its users."""
        try:
            right = self._path_of(role).read_bytes()
        except OSError:
            right = b""
        if not right or not hmac.compare_digest(right, token):
            raise AccessDenied(f"the token is not that of '{role}'")
        if who.uid not in uids:
            raise AccessDenied(f"user {who.uid} may not serve as '{role}'")
