"""The state of the remote driver's process: one far side for each scope that was ever opened."""

from __future__ import annotations

import asyncio
import hashlib
import os
from typing import Final

from actors.remote.far_side import FarSide
from actors.runtime.context import current_call, find_call
from actors.runtime.host import Host
from actors.runtime.runtime import Runtime
from remoting.connection import DaemonConnection, connect_daemon
from rpc.uri import LOCAL_POWER, UriError, parse_remote_uri
from schema.errors import InvalidArguments, InvalidConnection, OperationDenied

SCOPES: Final = "scopes"
SCOPES_MAX: Final = 256


class RemoteHost(Host):
    """Given to every handler."""

    def __init__(self, runtime: Runtime) -> None:
        super().__init__(runtime)
        self._sides: dict[str, FarSide] = {}
        self._opening: dict[str, asyncio.Lock] = {}

    async def start(self) -> None:
        """Takes the scopes of the last process over. Their objects are as they were told until the daemons answer."""
        for path in self.store.list(SCOPES):
            data = self.store.read(path)
            if data is not None:
                scope = data.decode()
                self._sides[scope] = FarSide(self.runtime, scope)
        for count, entry in enumerate(list(self.runtime.ledger.entries.values())):
            if entry.scope in self._sides:
                self.objects.restore(entry.type, entry.key, entry.name, entry.summary, digest=entry.digest)
            if count % 256 == 0:
                await asyncio.sleep(0)
        for side in self._sides.values():
            side.start(None)

    async def stop(self) -> None:
        """Ends all connections."""
        await asyncio.gather(*(side.stop() for side in self._sides.values()))

    def side(self) -> FarSide:
        """The far side of the call that is answered. Raises InvalidConnection when its scope was never opened."""
        scope = current_call().scope
        side = self._sides.get(scope)
        if side is None:
            raise InvalidConnection(f"'{scope}' was not opened")
        return side

    def side_of(self, scope: str) -> FarSide:
        """The far side of a scope that was opened."""
        return self._sides[scope]

    async def open(self, scope: str) -> None:
        """Makes sure that the daemon of a scope is connected.

        Raises InvalidArguments for a text that leads nowhere, OperationDenied for one that this caller may not open,
        and what the daemon, or the way to it, answers.
        """
        async with self._opening.setdefault(scope, asyncio.Lock()):
            side = self._sides.get(scope)
            if side is not None:
                await side.connection()
                return
            self._check(scope)
            conn = await connect_daemon(scope)
            try:
                await self.store.write(f"{SCOPES}/{hashlib.sha256(scope.encode()).hexdigest()[:32]}", scope.encode())
            except BaseException:
                await conn.aclose()
                raise
            self._begin(scope, conn)
        await self._sides[scope].compared()

    def _begin(self, scope: str, conn: DaemonConnection) -> None:
        side = self._sides[scope] = FarSide(self.runtime, scope)
        side.start(conn)

    def _check(self, scope: str) -> None:
        # This process has rights of its own (keys, sockets): who may not change anything may not use them.
        try:
            uri = parse_remote_uri(scope)
        except UriError as exc:
            raise InvalidArguments(str(exc)) from exc
        call = find_call()
        caller = {} if call is None else call.caller
        if call is not None and call.read_only:
            raise OperationDenied(f"a read-only connection cannot open '{scope}', which nobody has opened yet")
        own = (0, os.geteuid())
        if not LOCAL_POWER.isdisjoint(uri.parameters) and caller.get("uid") not in own:
            named = ", ".join(sorted(LOCAL_POWER.intersection(uri.parameters)))
            raise OperationDenied(f"'{scope}' names files or programs of this host ({named}): only its own user may")
        if len(self._sides) >= SCOPES_MAX:
            raise OperationDenied(f"{SCOPES_MAX} daemons are known already")
