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

from rpc.sasl import Credentials, Mechanism, mechanism, preferred
from rpc.uri import RemoteUri
from schema.errors import AuthCancelled, AuthUnavailable, RpcError

SYSTEM_FILE: Final = Path("/etc/libvirt/auth.conf")
FILE_VARIABLE: Final = "LIBVIRT_AUTH_FILE"
_SERVICE: Final = "libvirt"
_BYTES_MAX: Final = 1 << 20

Asked = Callable[[str], tuple[str, str] | None]
"""Asks somebody for the name and password of a host; None when they would not tell."""


def prove_to(uri: RemoteUri, ask: Asked | None) -> Callable[[list[str]], Mechanism]:
    """What chooses a mechanism out of those that the daemon offers, and the credentials for it."""

    def prove(offered: list[str]) -> Mechanism:
        name = preferred(offered)
        if name is None:
            shown = ", ".join(offered) or "none"
            raise AuthUnavailable(f"'{uri.text}' offers the SASL mechanisms {shown}, none of which is known here")
        return mechanism(name, credentials_for(uri, ask))

    return prove


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
