"""Making a connection: `async with virtroupe.connect(uri) as conn`, or `conn = await virtroupe.connect(uri)`."""

from __future__ import annotations

import os
from collections.abc import Generator
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final

from client.connection import Connection
from client.link import WAIT_S, open_link
from client.uri import default_uri, scope_of
from settings.drivers import leads_elsewhere
from settings.paths import Paths, resolve_paths, system_paths

if TYPE_CHECKING:
    from remoting.credentials import Asked

URI_VARIABLE: Final = "VIRTROUPE_URI"
ROOT_VARIABLE: Final = "VIRTROUPE_ROOT"


class Connecting:
    """A connection that is made when it is awaited or entered."""

    def __init__(
        self,
        uri: str | None,
        root: str | os.PathLike[str] | None,
        read_only: bool,
        program: str,
        wait_s: float,
        auth: Asked | None = None,
    ) -> None:
        self._uri = uri
        self._root = root
        self._read_only = read_only
        self._program = program
        self._wait_s = wait_s
        self._auth = auth
        self._conn: Connection | None = None

    def __await__(self) -> Generator[Any, None, Connection]:
        return self._connect().__await__()

    async def __aenter__(self) -> Connection:
        self._conn = await self._connect()
        return self._conn

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._conn is not None:
            await self._conn.aclose()

    async def _connect(self) -> Connection:
        root = self._root or os.environ.get(ROOT_VARIABLE)
        given = self._uri or os.environ.get(URI_VARIABLE)
        if given and self._root is None and leads_elsewhere(given):
            return await self._connect_daemon(given)
        paths = resolve_paths(Path(root)) if root else paths_in_reach()
        uri = given or default_uri(paths)
        scope = scope_of(uri)
        link = await open_link(paths, read_only=self._read_only, program=self._program, wait_s=self._wait_s)
        conn = Connection(link, uri, scope, read_only=self._read_only)
        try:
            await conn.open()
        except BaseException:
            await conn.aclose()
            raise
        return conn

    async def _connect_daemon(self, uri: str) -> Connection:
        from client.remote_link import open_daemon_link

        link = await open_daemon_link(uri, read_only=self._read_only, wait_s=self._wait_s, ask=self._auth)
        return Connection(link, uri, uri, read_only=self._read_only)


def paths_in_reach() -> Paths:
    """The user's own agent, else the system's where there is one: it may let this user in."""
    own = resolve_paths()
    system = system_paths()
    if own == system or os.access(own.clients_door, os.F_OK):
        return own
    return system if os.access(system.clients_door, os.F_OK) else own


def connect(
    uri: str | None = None,
    *,
    root: str | os.PathLike[str] | None = None,
    read_only: bool = False,
    program: str = "",
    wait_s: float = WAIT_S,
    auth: Asked | None = None,
) -> Connecting:
    """A connection to the driver that serves `uri`, at the agent whose folders are below `root`.

    Without `uri` the environment's VIRTROUPE_URI, else `qemu:///system` where QEMU is installed
    (`qemu:///session` at an ordinary user's agent), else `test:///default`.
    Without `root` the environment's VIRTROUPE_ROOT, else the user's own agent or, where that does not run, the
    system's. `wait_s` is how long to wait for an agent that is being restarted; one that is not there at all is an
    error at once.

    A URI with a transport or a host (`qemu+unix:///system?socket=...`, `qemu+ssh://host/system`) needs no agent:
    libvirt's own protocol is spoken to the daemon there. With `root` that agent's driver `remote` is asked to do so
    instead, which gives its events a journal. A daemon that wants a name and a password gets those of libvirt's
    authentication file, else what `auth` gives for the daemon's host: (name, password), or None to give up.

    Raises AgentUnreachable, InvalidArguments for a text that is no URI, NoConnection when no driver serves it, and what
    the driver says of it.
    """
    return Connecting(uri, root, read_only, program, wait_s, auth)
