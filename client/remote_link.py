"""A link without an agent: libvirt's own protocol straight to a daemon, so that the library works on a stock libvirtd.

It looks to a `Connection` like the agent's broker. What only an agent has (idempotency keys, its status, a journal that
outlives a connection) is refused or told as a `Resync`.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final, NamedTuple

from broker.wire import Cursor
from client.errors import DeadlinePassed, InvalidArguments, UnsupportedCall
from client.remote_events import SOURCE, History, Listener
from remoting.connection import DaemonConnection, connect_daemon
from remoting.credentials import Asked
from remoting.objects import KINDS, FarObject, objects_in, read_all, read_object
from remoting.relay import offer
from schema.body import event_data, pack_result, unpack_args
from schema.errors import HypervisorGone, VirtError
from schema.model import Event, Procedure
from schema.table import all_events, need_procedure

BACKOFF_FIRST_S: Final = 0.1
BACKOFF_MAX_S: Final = 10.0
TOLD_MAX: Final = 4096
_REGISTER: Final = {
    "domain": "connect_domain_event_callback_register_any",
    "network": "connect_network_event_register_any",
    "storage_pool": "connect_storage_pool_event_register_any",
    "node_device": "connect_node_device_event_register_any",
    "secret": "connect_secret_event_register_any",
}


class Answered(NamedTuple):
    """How a call ended well."""

    source: str
    epoch: int
    seq: int
    body: bytes
    ticket: dict[str, Any] | None


class DaemonLink:
    """The connection to a daemon, made again when it breaks."""

    def __init__(self, uri: str, *, read_only: bool, wait_s: float, ask: Asked | None = None) -> None:
        self._uri = uri
        self._ask = ask
        self._streams: set[asyncio.Task[None]] = set()
        self._read_only = read_only
        self._wait_s = wait_s
        self._conn: DaemonConnection | None = None
        self._connecting = asyncio.Lock()
        self._history = History()
        self._told: asyncio.Queue[tuple[Event, dict[str, Any]]] = asyncio.Queue()
        self._teller: asyncio.Task[None] | None = None
        self._is_closed = False

    # --- calls ---

    async def open(self) -> DaemonConnection:
        """The connection, made if there is none. Raises what `connect_daemon` raises."""
        async with self._connecting:
            if self._is_closed:
                raise HypervisorGone(f"the connection to '{self._uri}' was closed here")
            if self._conn is None or not self._conn.is_open:
                if self._conn is not None:
                    await self._conn.aclose()
                self._conn = await connect_daemon(
                    self._uri, read_only=self._read_only, timeout_s=self._wait_s, ask=self._ask
                )
                self._history.restart()
                self._conn.on_event = self._hear
                if self._teller is not None:
                    await self._register(self._conn)
            return self._conn

    async def call(
        self,
        destination: str,
        procedure: str,
        body: bytes,
        *,
        scope: str = "",
        key: bytes | str | None = None,
        deadline_s: float | None = 60.0,
        idempotency_key: str | None = None,
        trace: str | None = None,
    ) -> Answered:
        """One call to the daemon.

        Raises the daemon's error, HypervisorGone when the connection breaks, InvalidArguments for an idempotency key.
        """
        if idempotency_key is not None:
            raise InvalidArguments("a daemon of libvirt's knows no idempotency keys")
        row = need_procedure(procedure)
        conn = await self.open()
        ticket = None
        if procedure in ("connect_open", "connect_close"):
            result: Any = None
        elif procedure == "actor_snapshot":
            result = await self._snapshot(conn)
        elif row.stream is not None:
            result, ticket = await self._open_stream(conn, row, unpack_args(row, body), deadline_s)
        else:
            result = await conn.ask(row, unpack_args(row, body), timeout=deadline_s)
        return Answered(SOURCE, 1, self._history.seq, pack_result(row, result), ticket)

    async def _open_stream(
        self, conn: DaemonConnection, row: Procedure, args: Any, deadline_s: float | None
    ) -> tuple[Any, dict[str, Any]]:
        """A stream over a connection of its own, so that one that nobody reads holds up no call.

        A test driver with a file remembers its objects for one connection alone: its streams share it.
        """
        is_shared = conn.uri.driver == "test" and conn.uri.path != "/default"
        own = conn
        if not is_shared:
            own = await connect_daemon(
                self._uri, read_only=self._read_only, timeout_s=self._wait_s, keepalive_s=0, ask=self._ask
            )

        async def end() -> None:
            if not is_shared:
                await own.aclose()

        try:
            result, stream = await own.open_stream(row, args, timeout=deadline_s)
        except BaseException:
            await end()
            raise
        return result, offer(stream, row.name, end, self._keep)

    def _keep(self, task: asyncio.Task[None]) -> None:
        self._streams.add(task)
        task.add_done_callback(self._streams.discard)

    def _hear(self, event: Event, data: dict[str, Any]) -> None:
        if self._told.qsize() >= TOLD_MAX:
            # more happens than can be looked at: streams of events get a Resync, which tells what became of it
            while not self._told.empty():
                self._told.get_nowait()
            self._history.restart()
        self._told.put_nowait((event, data))

    async def _snapshot(self, conn: DaemonConnection) -> dict[str, Any]:
        seq = self._history.seq
        found: list[FarObject] = []
        for type_ in KINDS:
            found += await read_all(conn, type_, self._uri) or []
        return {
            "epoch": 1,
            "seq": seq,
            "objects": [
                {
                    "type": item.type,
                    "key": item.key if isinstance(item.key, bytes) else item.key.encode(),
                    "name": item.name,
                    "version": self._history.version(item.type, item.key),
                    "summary": item.summary,
                    "scope": self._uri,
                }
                for item in found
            ],
        }

    async def aclose(self) -> None:
        """Ends the connection."""
        self._is_closed = True
        if self._teller is not None:
            self._teller.cancel()
            await asyncio.gather(self._teller, return_exceptions=True)
        for task in self._streams:
            task.cancel()
        await asyncio.gather(*self._streams, return_exceptions=True)
        if self._conn is not None:
            await self._conn.aclose()

    # --- events ---

    async def head(self) -> Cursor:
        """Where the history ends. Raises DeadlinePassed while the daemon is out of reach."""
        await self._begin_telling()
        if self._conn is None or not self._conn.is_open:
            raise DeadlinePassed(f"'{self._uri}' is out of reach")
        return self._history.head

    def replay(self, after: Cursor, sources: Sequence[str] | None = None) -> AsyncIterator[tuple[Cursor, bytes]]:
        """The events behind a cursor."""
        return self._history.replay(after, sources)

    @asynccontextmanager
    async def listen(self, sources: Sequence[str] | None) -> AsyncIterator[Listener]:
        """What happens, as it happens."""
        await self._begin_telling()
        async with self._history.listen() as listener:
            yield listener

    async def _begin_telling(self) -> None:
        if self._teller is None:
            conn = await self.open()
            if self._teller is None:
                self._teller = asyncio.create_task(self._tell(), name="daemon events")
                await self._register(conn)

    async def _register(self, conn: DaemonConnection) -> None:
        await asyncio.gather(*(self._register_one(conn, event) for event in all_events()))

    async def _register_one(self, conn: DaemonConnection, event: Event) -> None:
        name = _REGISTER.get(event.family)
        if event.event_id is not None and name is not None:
            argument = need_procedure(name).args[1].name
            with contextlib.suppress(VirtError):  # what the daemon's driver does not tell nobody hears of
                await conn.call(name, {"eventID": event.event_id, argument: None}, timeout=self._wait_s)

    async def _tell(self) -> None:
        pause = BACKOFF_FIRST_S
        while True:
            try:
                conn = await self.open()
                pause = BACKOFF_FIRST_S
                await self._tell_of(conn)
                await asyncio.sleep(BACKOFF_FIRST_S)
            except VirtError:
                await asyncio.sleep(pause)
                pause = min(pause * 2, BACKOFF_MAX_S)

    async def _tell_of(self, conn: DaemonConnection) -> None:
        """Passes on what one connection tells, until it ends."""
        while conn.is_open:
            getting = asyncio.ensure_future(self._told.get())
            ends: set[asyncio.Future[Any]] = {getting, conn.closed}
            try:
                await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
                if not getting.done():
                    return
                event, data = getting.result()
            finally:
                getting.cancel()
            about = objects_in(data.values())
            if not about:
                continue
            type_, key = about[0]
            ref = next(value for value in data.values() if objects_in([value]))
            name = getattr(ref, "name", "") or (key.hex() if isinstance(key, bytes) else key)
            now = await _now(conn, type_, key, self._uri)
            self._history.add(event.name, event_data(event.name, data), self._uri, (type_, key, name), now)


async def _now(conn: DaemonConnection, type_: str, key: bytes | str, scope: str) -> FarObject | None:
    try:
        return await read_object(conn, type_, key, scope)
    except (HypervisorGone, DeadlinePassed):
        raise
    except UnsupportedCall:
        return None


async def open_daemon_link(uri: str, *, read_only: bool, wait_s: float, ask: Asked | None = None) -> DaemonLink:
    """A link to the daemon that a URI names; `ask` is asked for a name and a password that no file has.

    Raises InvalidArguments for a text that leads nowhere, RpcError when nobody answers there, AuthFailed, and what the
    daemon refuses the URI with.
    """
    link = DaemonLink(uri, read_only=read_only, wait_s=wait_s, ask=ask)
    await link.open()
    return link
