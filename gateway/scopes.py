"""The connection names that libvirt's clients have open, and who answers for each.

A name is opened at its driver for every connection, because only the driver knows whether it can be; while the driver
is given up, a name under which something is known is opened without it. When the last connection closes, the driver
hears of that; who opens the name again waits until it has.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final, Protocol

from broker.peer import Outcome, Reply
from broker.wire import CallPrologue
from gateway.faults import domain_of_driver
from gateway.replica import View
from schema.body import pack_args, unpack_result
from schema.errors import DriverDegraded, ErrorCode, NoConnection, VirtError
from schema.table import need_procedure
from settings.drivers import NoDriverForUri, actor_for, driver_for_uri, lacks_secondary

Caller = dict[str, Any]
NAMES_MAX: Final = 4096


class Calling(Protocol):
    """The way to the drivers."""

    async def call(
        self,
        destination: str,
        procedure: str,
        body: bytes,
        *,
        scope: str = "",
        key: bytes | str | None = None,
        deadline_s: float | None = 60.0,
        trace: str | None = None,
        caller: dict[str, Any] | None = None,
        urgent: bool = False,
    ) -> Reply:
        """One call, as `broker.peer.Peer.call`."""

    def begin_call(
        self,
        outcome: Outcome,
        destination: str,
        prologue: CallPrologue,
        body: bytes,
        *,
        deadline_s: float | None = 60.0,
        urgent: bool = False,
    ) -> object:
        """One call, as `broker.peer.Peer.begin_call`."""


class Scope:
    """A connection name that is open."""

    __slots__ = ("_destinations", "closing", "connections", "driver", "error_domain", "uri", "view")

    def __init__(self, uri: str, driver: str, view: View) -> None:
        self.uri = uri
        self.driver = driver
        self.view = view
        self.error_domain = domain_of_driver(driver)
        self.connections = 0
        self.closing: asyncio.Task[None] | None = None
        self._destinations: dict[str, str] = {}

    def destination(self, served_by: str) -> str:
        """The actor that answers the procedures of a kind here."""
        name = self._destinations.get(served_by)
        if name is None:
            name = self._destinations[served_by] = actor_for(served_by, self.uri)
        return name

    def lacks(self, served_by: str) -> bool:
        """Whether those procedures belong to an actor that is not installed: this host has none of its objects."""
        return lacks_secondary(served_by, self.uri)


class Scopes:
    """All names that are open."""

    def __init__(
        self,
        peer: Calling,
        view: Callable[[str, str], View],
        remembers: Callable[[str, str], Awaitable[bool]],
        default_uris: tuple[str, ...],
        log: Callable[..., None],
    ) -> None:
        self._peer = peer
        self._view = view
        self._remembers = remembers
        self._default_uris = default_uris
        self._log = log
        self._open: dict[str, Scope] = {}
        self._canonical: dict[str, str] = {}

    async def open(self, name: str | None, flags: int, caller: Caller) -> Scope:
        """Opens a name for one more connection.

        Raises NoConnection when no driver answers it, and whatever its driver refuses it with.
        """
        if name:
            return await self._open_uri(name, name, flags, caller)
        error: VirtError | None = None
        for uri in self._default_uris:
            try:
                return await self._open_uri(uri, "", flags, caller)
            except VirtError as exc:
                error = exc
        raise error or NoConnection()

    async def _open_uri(self, uri: str, name: str, flags: int, caller: Caller) -> Scope:
        try:
            driver = driver_for_uri(uri)
        except NoDriverForUri as exc:
            raise NoConnection(uri) from exc
        scope = self._open.get(self._canonical.get(uri, uri))
        while scope is not None and scope.closing is not None:
            await asyncio.shield(scope.closing)
            scope = self._open.get(self._canonical.get(uri, uri))
        if scope is not None:
            scope.connections += 1  # before anything is waited for: the last other connection may close meanwhile
        try:
            try:
                await self._ask(driver, "connect_open", {"name": name or uri, "flags": flags}, uri, caller)
                canonical = self._canonical.get(uri) or await self._learn_name(driver, uri, caller)
            except DriverDegraded:
                canonical = self._canonical.get(uri, uri)
                if not await self._remembers(driver, canonical):
                    raise
        except BaseException:
            if scope is not None:
                self.close(scope, caller)
            raise
        if scope is None:
            scope = self._open.get(canonical)
            if scope is None:
                scope = self._open[canonical] = Scope(canonical, driver, self._view(driver, canonical))
            scope.connections += 1
        return scope

    async def _learn_name(self, driver: str, uri: str, caller: Caller) -> str:
        """The name that the driver itself has for what a client opened."""
        answer = await self._ask(driver, "connect_get_uri", {}, uri, caller)
        if len(self._canonical) >= NAMES_MAX:
            self._canonical.clear()
        self._canonical[uri] = str(answer.uri)
        return self._canonical[uri]

    async def _ask(self, driver: str, procedure: str, args: Mapping[str, object], uri: str, caller: Caller) -> Any:
        row = need_procedure(procedure)
        reply = await self._peer.call(
            driver, procedure, pack_args(row, args), scope=uri, deadline_s=60.0, caller=caller, urgent=True
        )
        return unpack_result(row, reply.body)

    def close(self, scope: Scope, caller: Caller) -> asyncio.Task[None] | None:
        """One connection less. When it was the last, the driver is told; the task ends when it knows."""
        scope.connections -= 1
        if scope.connections > 0 or self._open.get(scope.uri) is not scope:
            return scope.closing
        scope.closing = asyncio.ensure_future(self._close(scope, caller))
        return scope.closing

    async def _close(self, scope: Scope, caller: Caller) -> None:
        try:
            await self._ask(scope.driver, "connect_close", {}, scope.uri, caller)
        except VirtError as exc:
            if exc.code != ErrorCode.NO_SUPPORT:
                self._log("a driver did not take the end of its last connection", scope=scope.uri, error=exc.message)
        finally:
            scope.closing = None
            if scope.connections <= 0 and self._open.get(scope.uri) is scope:
                del self._open[scope.uri]
