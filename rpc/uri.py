"""Connection URIs that lead to another daemon, as libvirt reads them: `driver+transport://user@host:port/path?key=value`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import parse_qsl, quote, urlencode, urlsplit

TRANSPORTS: Final = ("unix", "tcp", "tls", "ssh", "ext")
SERVER_PORTS: Final = {"tcp": 16509, "tls": 16514}
CLIENT_PARAMETERS: Final = frozenset(
    (
        "name", "authfile", "command", "socket", "auth", "sshauth", "netcat", "keyfile", "pkipath", "known_hosts",
        "known_hosts_verify", "tls_priority", "mode", "proxy", "no_sanity", "no_verify", "no_tty",
    )
)  # fmt: skip
"""What the way to the daemon needs and the daemon is not told."""

LOCAL_POWER: Final = frozenset(
    ("command", "netcat", "keyfile", "pkipath", "known_hosts", "sshauth", "auth", "authfile")
)
"""Parameters that name programs and files of the host on which the connection is made."""


class UriError(ValueError):
    """The text is no URI of a daemon; the message names it and says what is wrong."""


@dataclass(frozen=True, slots=True)
class RemoteUri:
    """A URI taken apart; `name` is what the daemon is asked to open ("" lets it choose)."""

    text: str
    driver: str
    transport: str
    host: str
    user: str
    port: int | None
    path: str
    name: str
    parameters: Mapping[str, str] = field(default_factory=dict)

    @property
    def socket(self) -> str:
        """The daemon's unix socket, here or on the other host."""
        return self.parameters.get("socket", "")

    @property
    def is_session(self) -> bool:
        """Whether a daemon of the user's own is meant."""
        return self.path == "/session"

    @property
    def verifies(self) -> bool:
        """Whether the other side's certificate or host key is checked."""
        return self.parameters.get("no_verify", "0") in ("", "0")


def parse_remote_uri(text: str) -> RemoteUri:
    """Raises UriError."""
    try:
        parts = urlsplit(text)
        port = parts.port
        host = parts.hostname or ""
    except ValueError as exc:
        raise UriError(f"'{text}' is not a connection URI: {exc}") from exc
    driver, _, transport = parts.scheme.partition("+")
    if not driver:
        raise UriError(f"'{text}' is not a connection URI: it has no scheme")
    transport = transport or ("tls" if host else "unix")
    if transport not in TRANSPORTS:
        raise UriError(f"'{text}': the transport '{transport}' is not supported, there are {', '.join(TRANSPORTS)}")
    if transport not in ("unix", "ext") and not host:
        raise UriError(f"'{text}': the transport '{transport}' needs a host")
    pairs = parse_qsl(parts.query, keep_blank_values=True)
    mine = {key: value for key, value in pairs if key in CLIENT_PARAMETERS}
    if transport == "ext" and not mine.get("command"):
        raise UriError(f"'{text}': the transport 'ext' needs the parameter 'command'")
    rest = [(key, value) for key, value in pairs if key not in CLIENT_PARAMETERS]
    name = mine.get("name")
    if name is None:
        query = f"?{urlencode(rest, quote_via=quote)}" if rest else ""
        name = f"{driver}://{parts.path or '/'}{query}"
    return RemoteUri(text, driver, transport, host, parts.username or "", port, parts.path, name, mine)
