"""The gateway: accepts libvirt's clients and joins them to the broker."""

from __future__ import annotations

import asyncio
import os
import pwd
import socket
import struct
from collections.abc import Callable, Coroutine
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from broker.peer import Peer
from gateway.access.access import load_access
from gateway.access.guard import GuardedConnection
from gateway.admin.client import AdminClient
from gateway.auth.proofs import Proofs
from gateway.connection import Connection
from gateway.documents import Documents
from gateway.feed import PLATFORM, Feed
from gateway.forwarding import Forwarder
from gateway.link import Link, MakeLink, ReadBuffer
from gateway.listening import Listening
from gateway.outbox import Outbox
from gateway.replica import SourceState
from gateway.routes import Routes, Specials
from gateway.scopes import Scopes
from gateway.shared_reads import SharedReads
from gateway.specials import auth, connect, events
from gateway.subscriptions import Subscriptions
from schema.access_policy import UNKNOWN_PERSON
from schema.body import pack_args, unpack_result
from schema.enums.admin import ClientTransport
from schema.errors import VirtError
from schema.table import need_procedure
from settings.config import Config
from settings.drivers import available_drivers, default_uris
from util.structured_log import StructuredLog

if TYPE_CHECKING:
    from gateway.entrances import Entrances

_credentials = struct.Struct("iII")
ACCEPTS_AT_ONCE: Final = 64
ACCEPT_AGAIN_S: Final = 0.1
SWEEP_S: Final = 1.0
HELD_TOTAL_MAX: Final = 512 << 20  # what is held for all clients, in both directions; beyond it the slowest have to go
PROVE_S: Final = 330.0  # a person may have to type a password


class Gateway:
    """Everything that the connections share."""

    def __init__(self, peer: Peer, config: Config, log: StructuredLog) -> None:
        self.loop = asyncio.get_running_loop()
        self.clock = self.loop.time
        self.log = log
        self.settings = config.gateway
        self.fresh_s = config.gateway.fresh_s
        self.read_buffer = ReadBuffer()
        self.subscriptions = Subscriptions()
        self.outbox = Outbox(self.loop)
        self.cached_reads = 0
        self.tasks: set[asyncio.Task[None]] = set()
        self.connections: set[Connection] = set()
        self.admin_clients: set[AdminClient] = set()
        self.max_clients = config.gateway.max_clients
        self.max_greetings = config.gateway.max_greetings
        self.greetings = 0  # clients that have not proved yet who they are: TLS's
        self.unproved: set[Connection] = set()  # and those that are connections already
        self.proofs = Proofs(config.gateway, log)
        self.reload_tls: Callable[[], None] | None = None
        policy = config.gateway.access_policy
        self.access = load_access(Path(policy), log, log_allowed=config.gateway.access_log_all) if policy else None
        self._clients_seen = 0
        self._peer = peer
        self._users: dict[int, str] = {}
        self._serving = False
        specials = Specials()
        auth.add_to(specials)
        connect.add_to(specials)
        events.add_to(specials)
        self.routes = Routes(specials)
        self.documents = Documents(peer, self.clock, config.gateway.documents_settle_s)
        self.feed = Feed(
            peer,
            deliver=self.subscriptions.deliver,
            on_lost=self._on_lost,
            on_domain=self.documents.changed,
            clock=self.clock,
            log=log.info,
        )
        names = {driver.name for driver in available_drivers(config)}
        defaults = tuple(uri for name, uri in default_uris(os.geteuid()) if name in names)
        self.scopes = Scopes(peer, self.feed.view, self.feed.remembers, defaults, log.info)
        self.shared_reads = SharedReads(self.loop)
        self.forwarder = Forwarder(
            peer, self.feed, read_wait_s=config.gateway.read_wait_s, fresh_s=config.gateway.fresh_s
        )

    async def serve(self, listening: Listening, entrances: Entrances | None = None) -> None:
        """Accepts clients until it is cancelled; then their connections are closed."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self.feed.run())
            group.create_task(self.documents.run())
            group.create_task(self._learn_states())
            group.create_task(self._sweep())
            self._serving = True
            self.listen(listening.read_write, self.admit)
            self.listen(listening.read_only, partial(self.admit, read_only=True))
            if entrances is not None:
                entrances.open(self)
            self._watch_holder(listening)
            try:
                await asyncio.get_running_loop().create_future()
            finally:
                self._serving = False
                if entrances is not None:
                    entrances.close(self)
                self.loop.remove_reader(listening.read_write.fileno())
                self.loop.remove_reader(listening.read_only.fileno())
                if listening.lifeline is not None:
                    self.loop.remove_reader(listening.lifeline.fileno())
                for client in tuple(self.connections):
                    client.disconnect()
                for admin in tuple(self.admin_clients):
                    admin.disconnect()
                self.proofs.close()
                await self.feed.aclose()

    def spawn(self, call: Coroutine[Any, Any, None]) -> None:
        """Runs a call, which says `finished` at its end; what fails in it, it answers and logs itself."""
        self.tasks.add(self.loop.create_task(call))

    def finished(self) -> None:
        """The call that runs now is answered."""
        task = asyncio.current_task()
        if task is not None:
            self.tasks.discard(task)

    def forget(self, connection: Connection) -> None:
        """A connection is closed."""
        self.connections.discard(connection)
        self.unproved.discard(connection)
        self.outbox.forget(connection)

    # --- clients ---

    def listen(self, listener: socket.socket, admit: Callable[[socket.socket], None]) -> None:
        """Hands everybody who connects there to `admit`, as long as the gateway serves."""
        if listener.fileno() != -1 and self._serving:
            self.loop.add_reader(listener.fileno(), self._accept, listener, admit)

    def _accept(self, listener: socket.socket, admit: Callable[[socket.socket], None]) -> None:
        for _ in range(ACCEPTS_AT_ONCE):
            try:
                sock, _ = listener.accept()
            except (BlockingIOError, InterruptedError):
                return
            except OSError as exc:
                # Out of descriptors, most likely: the listener stays readable, so it is left alone for a while.
                self.log.error("cannot accept a client", error=str(exc))
                self.loop.remove_reader(listener.fileno())
                self.loop.call_later(ACCEPT_AGAIN_S, self.listen, listener, admit)
                return
            sock.setblocking(False)
            admit(sock)

    def has_room(self) -> bool:
        """Whether one more client may come; when not, that is logged."""
        if len(self.connections) + self.greetings < self.max_clients:
            return True
        self.log.warning("too many clients", limit=self.max_clients)
        return False

    def admit(self, sock: socket.socket, read_only: bool = False) -> None:
        """Serves who connected to a unix socket."""
        if not self.has_room():
            sock.close()
            return
        caller = self.caller_of(sock)
        self.add_client(sock, {**caller, "read_only": read_only}, ClientTransport.UNIX)

    def add_client(
        self,
        sock: socket.socket,
        caller: dict[str, Any],
        transport: ClientTransport,
        make_link: MakeLink = Link,
        strength: int = 0,
    ) -> None:
        """Serves a client, of whom it is known who it is, or whose socket asks it to prove that.

        `strength` is how strongly its transport encrypts.
        """
        try:
            proof = self.proofs.owed_by(caller, transport, sock, strength)
        except OSError:
            sock.close()  # it is gone already
            return
        others = self.greetings - (transport is ClientTransport.TLS) + len(self.unproved)
        if proof is not None and others >= self.max_greetings:
            self.log.warning("too many clients that have not proved who they are", limit=self.max_greetings)
            sock.close()
            return
        make: Callable[..., Connection] = Connection
        if self.access is not None:
            judge = self.access.judge_for(caller) if proof is None else UNKNOWN_PERSON
            if judge is not None:
                make = partial(GuardedConnection, access=self.access, judge=judge)
        number = self.new_client_number()
        connection = make(
            self, sock, caller=caller, number=number, transport=transport, make_link=make_link, proof=proof
        )
        self.connections.add(connection)
        if proof is not None:
            self.unproved.add(connection)

    def new_client_number(self) -> int:
        """A number that no client had before."""
        self._clients_seen += 1
        return self._clients_seen

    def caller_of(self, sock: socket.socket) -> dict[str, Any]:
        """Who is at the other end of a unix socket, by the kernel's word."""
        credentials = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _credentials.size)
        pid, uid, gid = _credentials.unpack(credentials)
        user = self._user(uid)
        return {"uid": uid, "gid": gid, "pid": pid, "user": user, "read_only": False, "via": "libvirt", "name": ""}

    @property
    def calls_under_way(self) -> int:
        """Calls that are not answered yet."""
        return len(self.tasks) + self.forwarder.in_flight

    def _user(self, uid: int) -> str:
        name = self._users.get(uid)
        if name is None:
            try:
                name = pwd.getpwuid(uid).pw_name
            except KeyError:
                name = str(uid)
            self._users[uid] = name
        return name

    async def _sweep(self) -> None:
        interval = self.settings.keepalive_interval_s
        while True:
            await asyncio.sleep(min(SWEEP_S, interval / 4) if interval > 0 else SWEEP_S)
            now = self.clock()
            self._shed_slow_clients()
            for unproved in tuple(self.unproved):
                if now - unproved.came_at > PROVE_S:
                    self.log.warning("a client did not prove in time who it is", pid=unproved.caller["pid"])
                    unproved.disconnect()
            for connection in tuple(self.connections) if interval > 0 else ():
                if connection.wants_keepalive:
                    connection.check_alive(now, interval, self.settings.keepalive_count)

    def _shed_slow_clients(self) -> None:
        """Each client is bounded, but there are many: those who hold most have to go when it is too much together."""
        total = sum(connection.held for connection in self.connections)
        if total <= HELD_TOTAL_MAX:
            return
        for slow in sorted(self.connections, key=lambda connection: connection.held, reverse=True):
            if total <= HELD_TOTAL_MAX // 2:
                break
            total -= slow.held
            who = {"uid": slow.caller["uid"], "pid": slow.caller["pid"], "unread": slow.link.buffered}
            self.log.warning("too much is held for slow clients; one is disconnected", held=slow.held, **who)
            slow.disconnect()

    # --- what the broker says ---

    async def _learn_states(self) -> None:
        """Which drivers there are, for states are published only when they change."""
        row = need_procedure("broker_status")
        try:
            reply = await self._peer.call("broker", row.name, pack_args(row, {}))
        except VirtError as exc:
            self.log.warning("the broker does not tell its state", error=exc.message)
            return
        status = unpack_result(row, reply.body).status
        for name, actor in status.get("actors", {}).items():
            replica = self.feed.replica(name)
            if not replica.known and name not in PLATFORM:
                replica.set_state(actor.get("state", "stopped"))
                if replica.state is SourceState.DEGRADED:
                    self.feed.view(name, "")

    def _on_lost(self, source: str) -> None:
        """Events are lost for good: who waits for them is disconnected, so that it knows."""
        for sink in self.subscriptions.sinks_of(source):
            if isinstance(sink, Connection):
                self.log.warning("a client misses events and is disconnected", source=source, pid=sink.caller["pid"])
                sink.link.abort()

    # --- the holder of the sockets ---

    def _watch_holder(self, listening: Listening) -> None:
        if listening.lifeline is not None:
            lifeline = listening.lifeline
            lifeline.setblocking(False)
            self.loop.add_reader(lifeline.fileno(), self._holder_spoke, listening, lifeline)

    def _holder_spoke(self, listening: Listening, lifeline: socket.socket) -> None:
        try:
            if lifeline.recv(64):
                return
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            pass
        self.loop.remove_reader(lifeline.fileno())
        self.log.warning("the process that holds the sockets is gone; another is started")
        listening.start_holder()
        self._watch_holder(listening)
