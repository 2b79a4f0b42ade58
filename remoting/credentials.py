"""Names and passwords for daemons that want SASL: from libvirt's authentication file, else from whoever can be asked.

The file has groups `[auth-libvirt-HOST]` (or `[auth-libvirt-default]`) that say `credentials=NAME`, and groups
`[credentials-NAME]` with `authname` and `password`. A daemon of this host is HOST `localhost`.
"""

from __future__ import annotations

import configparser
import os
from collections.abc import Callable
from pathlib import Path
from typing import Final

from remoting.sasl_client import BY_TICKET, LibraryProof, client_library
from rpc.sasl import Credentials, Mechanism, mechanism, preferred
from rpc.uri import RemoteUri
from schema.errors import AuthCancelled, AuthUnavailable, RpcError
from util.sasl import SaslError, SaslSession

SYSTEM_FILE: Final = Path("/etc/libvirt/auth.conf")
FILE_VARIABLE: Final = "LIBVIRT_AUTH_FILE"
_SERVICE: Final = "libvirt"
_BYTES_MAX: Final = 1 << 20

Asked = Callable[[str], tuple[str, str] | None]
"""Asks somebody for the name and password of a host; None when they would not tell."""


class Prover:
    """Chooses a mechanism out of those that a daemon offers, and proves by it who this side is.

    `ends` are the addresses of this side and of the daemon, `HOST;PORT`; none on a unix socket.
    """

    def __init__(self, uri: RemoteUri, ask: Asked | None, ends: tuple[str, str] | None) -> None:
        self._uri = uri
        self._ask = ask
        self._ends = ends
        self._is_private = uri.transport != "tcp"  # nobody else reads along, so a password may be shown
        self._credentials: Credentials | None = None
        self._mechanisms: list[str] = []
        self._library: LibraryProof | None = None
        self.uses_library = False

    def prepare(self, offered: list[str]) -> None:
        """Looks for whatever the proof needs, and asks for it. Raises AuthUnavailable, AuthCancelled, RpcError."""
        if not offered:
            raise AuthUnavailable(f"'{self._uri.text}' wants SASL and offers no mechanism")
        name = preferred(offered) if self._is_private else None
        by_ticket = [one for one in offered if one in BY_TICKET]
        by_password = [one for one in offered if one not in BY_TICKET]
        try:
            self._credentials = credentials_for(self._uri, self._ask) if by_password else None
        except AuthUnavailable:
            if not by_ticket:
                raise
        if self._credentials is not None and name is not None:
            self._mechanisms = [name]
            return
        self._mechanisms = by_ticket if self._credentials is None else by_password
        try:
            client_library()
        except SaslError as exc:
            shown = ", ".join(offered) or "none"
            raise AuthUnavailable(
                f"'{self._uri.text}' offers the SASL mechanisms {shown}; without libsasl2, SCRAM and PLAIN are known, "
                f"and not over bare TCP ({exc})"
            ) from exc
        self.uses_library = True

    def __call__(self, offered: list[str]) -> Mechanism:
        """The mechanism, ready to speak. Raises AuthUnavailable and AuthFailed."""
        if not self.uses_library:
            assert self._credentials is not None
            return mechanism(self._mechanisms[0], self._credentials)
        self._library = LibraryProof(
            self._mechanisms,
            self._uri.host or os.uname().nodename,
            self._ends,
            self._credentials,
            is_private=self._is_private,
            is_tls=self._uri.transport == "tls",
        )
        return self._library

    @property
    def layer(self) -> SaslSession | None:
        """What encrypts the connection once the proof is complete; nothing where something else does."""
        return None if self._is_private else self._library

    def close(self) -> None:
        """Lets go of the library's session."""
        if self._library is not None:
            self._library.close()
            self._library = None


def credentials_for(uri: RemoteUri, ask: Asked | None = None) -> Credentials:
    """The credentials for a daemon.

    Raises AuthUnavailable when neither the file nor anybody knows them, AuthCancelled when they are not told, RpcError
    for a file that cannot be read.
    """
    host = uri.host or "localhost"
    path = auth_file(uri)
    if path is not None and (found := read_credentials(path, host, uri.user)) is not None:
        return found
    if ask is None:
        where = f"'{path}' has none for it" if path is not None else f"there is no {SYSTEM_FILE}"
        raise AuthUnavailable(f"'{uri.text}' wants a name and a password, and {where}")
    told = ask(host)
    if told is None:
        raise AuthCancelled(f"no name and password for '{uri.text}'")
    return Credentials(*told)


def auth_file(uri: RemoteUri) -> Path | None:
    """The authentication file for a connection, if there is one: named, the user's own, or the host's."""
    named = uri.parameters.get("authfile") or os.environ.get(FILE_VARIABLE)
    if named:
        return Path(named)
    config = os.environ.get("XDG_CONFIG_HOME") or str(Path.home() / ".config")
    own = Path(config) / "libvirt" / "auth.conf"
    if os.geteuid() != 0 and own.exists():
        return own
    return SYSTEM_FILE if SYSTEM_FILE.exists() else None


def read_credentials(path: Path, host: str, user: str = "") -> Credentials | None:
    """The credentials that a file has for a host; None when it has none. `user` is for a group without a name.

    Raises RpcError for a file that cannot be read, and for one that names credentials which it does not have.
    """
    groups = configparser.ConfigParser(interpolation=None, strict=False, delimiters=("=",), comment_prefixes=("#",))
    try:
        with path.open(encoding="utf-8") as file:
            groups.read_string(file.read(_BYTES_MAX))
    except (OSError, UnicodeDecodeError, configparser.Error) as exc:
        raise RpcError(f"the authentication file '{path}' cannot be read: {exc}") from exc
    for group in (f"auth-{_SERVICE}-{host}", f"auth-{_SERVICE}-default"):
        if group in groups:
            break
    else:
        return None
    name = groups[group].get("credentials")
    if name is None:
        raise RpcError(f"the authentication file '{path}': [{group}] names no credentials")
    if f"credentials-{name}" not in groups:
        raise RpcError(f"the authentication file '{path}' has no [credentials-{name}], which [{group}] names")
    known = groups[f"credentials-{name}"]
    user = known.get("authname") or known.get("username") or user
    password = known.get("password")
    if not user or password is None:
        return None
    return Credentials(user, password)
