"""The broker's ROUTERs: ZMTP over a listening unix socket, served in the broker's own loop.

libzmq serves a socket from a thread of its own. A call crosses the broker twice, so it would wake that thread and the
loop twice each, which costs more than everything else that is done for it. Whoever connects still speaks ZeroMQ, with
libzmq or without.

What is sent in one pass of the loop leaves in one write per connection, at `flush`.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final, Protocol

from broker.calls import FULL, GONE, SENT, Caller
from broker.door import Door
from broker.unsent import Unsent
from broker.wire import HEADER_LENGTH
from broker.zmtp import (
    GREETING_LENGTH,
    FrameReader,
    ZmtpError,
    answer_to_command,
    check_greeting,
    greeting,
    pack_three,
    ready_command,
    take_ready,
)

READ_BYTES: Final = 64 * 1024
READS_OF_THE_DEAD: Final = 16  # more than the kernel holds for a socket
STRANGER_FRAME_MAX: Final = 64 * 1024
STRANGERS_MAX: Final = 256  # connections of nobody who is granted
HANDSHAKE_WITHIN_S: Final = 10.0
UNSENT_MAX: Final = 64 * 1024 * 1024
PONGS_MAX: Final = 64

OnMessage = Callable[[Caller, bytes, bytes, bytes], None]


class Watching(Protocol):
    """The broker's loop, as far as sockets need it."""

    is_alone: bool
    """Whether all that came in this pass is one message: then what it causes is written before the books are kept."""

    def watch(self, fd: int, handler: Callable[[], None]) -> None:
        """Calls `handler` whenever the descriptor can be read, until `unwatch`."""

    def want_room(self, fd: int, wanted: bool) -> None:
        """Whether the handler is also called when the descriptor can be written."""

    def unwatch(self, fd: int) -> None:
        """Before the descriptor is closed."""

    def fault(self, exc: Exception) -> None:
        """What a message made go wrong here."""


class Connection:
    """A peer's ZeroMQ socket. `identity` is empty until it has said who it is."""

    __slots__ = (
        "_begun",
        "_is_full",
        "_reader",
        "_router",
        "_sock",
        "accepted_at",
        "fd",
        "identity",
        "is_planned",
        "unsent",
    )

    def __init__(self, router: Router, sock: socket.socket, now: float) -> None:
        self._router = router
        self._sock = sock
        self.fd = sock.fileno()
        self._begun = b""  # of a handshake
        self._reader: FrameReader | None = None  # from the handshake on
        self._is_full = False
        self.identity = b""
        self.accepted_at = now
        self.is_planned = False
        self.unsent = Unsent(sock)

    def ready(self) -> None:
        """Something can be read, or there is room for what could not be written."""
        if self.unsent.size:
            self.flush()
        self.read()

    def read(self) -> bool:
        """Takes what came; whether there may be more."""
        if self.fd < 0:
            return False
        try:
            data = self._sock.recv(READ_BYTES)
        except BlockingIOError:
            return False
        except OSError:
            data = b""
        if not data:
            self.close()
            return False
        router = self._router
        try:
            messages = self._shake_hands(data) if self._reader is None else self._reader.receive(data)
        except ZmtpError:
            router.malformed += 1
            self.close()
            return False
        if len(messages) != 1:
            router.watching.is_alone = False
        identity, granted, on_message = self.identity, router.granted, router.on_message
        for frames in messages:
            caller = granted.get(identity)
            if caller is None:
                router.strangers += 1
            elif len(frames) != 3 or len(frames[1]) != HEADER_LENGTH:
                router.malformed += 1
            else:
                router.received += 1
                try:
                    on_message(caller, frames[0], frames[1], frames[2])
                except Exception as exc:  # noqa: BLE001 - one message must not end the calls of everybody
                    router.watching.fault(exc)
        return True

    def allow(self, frame_max: int) -> None:
        """From now on frames may be so long."""
        assert self._reader is not None
        self._reader.frame_max = frame_max

    def flush(self) -> None:
        """Writes what was sent; the rest when there is room."""
        self.is_planned = False
        if self.fd < 0:
            return
        was_full = self._is_full
        try:
            full = not self.unsent.send()
        except OSError:
            self.unsent.clear()  # the reader sees the end
            full = False
        if full is not was_full:
            self._is_full = full
            self._router.watching.want_room(self.fd, full)

    def close(self) -> None:
        """Drops what is not sent yet."""
        if self.fd >= 0:
            self._router.watching.unwatch(self.fd)
            self.fd = -1
            self._sock.close()
            self.unsent.clear()
            self._router.forget(self)

    def _shake_hands(self, data: bytes) -> list[list[bytes]]:
        self._begun = data = self._begun + data
        if len(data) < GREETING_LENGTH:
            return []
        check_greeting(data[:GREETING_LENGTH])
        taken = take_ready(data[GREETING_LENGTH:])
        if taken is None:
            return []
        self._begun = b""
        self.identity, rest = taken
        router = self._router
        self._reader = FrameReader(STRANGER_FRAME_MAX, self._command)
        router.take_in(self)
        return self._reader.receive(rest)

    def _command(self, body: bytes) -> None:
        pong = answer_to_command(body)
        if pong is not None and len(self.unsent) < PONGS_MAX:
            self.unsent.append(pong)
            self._router.plan(self)


class Router:
    """A path, those who are connected there, and those who may use it."""

    def __init__(
        self,
        path: Path,
        mode: int,
        name: str,
        watching: Watching,
        on_message: OnMessage,
        *,
        message_max: int,
        hwm: int,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Binds `path`. `hwm` messages may wait for a peer that does not read. Raises OSError."""
        self.watching = watching
        self.on_message = on_message
        self.message_max = message_max
        self.granted: dict[bytes, Caller] = {}
        self.received = self.strangers = self.malformed = self.full = 0
        self.planned: list[Connection] = []
        self._hwm = hwm
        self._clock = clock
        self._door = Door(path, mode, name)
        self._connected: dict[bytes, Connection] = {}
        self._others: dict[Connection, None] = {}
        watching.watch(self._door.fileno(), self._accept)

    def send(self, routing_id: bytes, source: bytes, header: bytes, body: bytes) -> int:
        """SENT, FULL when the peer does not read, GONE when it is not connected."""
        connection = self._connected.get(routing_id)
        if connection is None:
            return GONE
        unsent = connection.unsent
        if len(unsent) >= self._hwm or unsent.size > UNSENT_MAX:
            self.full += 1
            return FULL
        unsent.append(pack_three(source, header, body))
        if self.watching.is_alone:
            connection.flush()
        elif not connection.is_planned:
            connection.is_planned = True
            self.planned.append(connection)
        return SENT

    def plan(self, connection: Connection) -> None:
        """There is something to be written at the next `flush`."""
        if not connection.is_planned:
            connection.is_planned = True
            self.planned.append(connection)

    def flush(self) -> None:
        """Writes what was sent since the last time."""
        planned, self.planned = self.planned, []
        for connection in planned:
            connection.flush()

    def read_rest(self, routing_id: bytes) -> None:
        """Takes what a peer still said before it ended."""
        connection = self._connected.get(routing_id)
        self.watching.is_alone = False  # an event and its reply may come in two pieces
        if connection is not None:
            for _ in range(READS_OF_THE_DEAD):
                if not connection.read():
                    return

    def grant(self, caller: Caller) -> None:
        """From now on this peer's messages count."""
        self.granted[caller.routing_id] = caller
        connection = self._connected.get(caller.routing_id)
        if connection is not None:  # a socket that came back by itself, before its owner was at the door
            self._others.pop(connection, None)
            connection.allow(self.message_max)

    def revoke(self, caller: Caller) -> None:
        """From now on they do not."""
        self.granted.pop(caller.routing_id, None)
        connection = self._connected.get(caller.routing_id)
        if connection is not None:
            self._others[connection] = None

    def take_in(self, connection: Connection) -> None:
        """From now on this is the connection of its id; a former one is closed."""
        former = self._connected.get(connection.identity)
        if former is not None:
            former.close()
        self._connected[connection.identity] = connection
        if connection.identity in self.granted:
            self._others.pop(connection, None)
            connection.allow(self.message_max)

    def forget(self, connection: Connection) -> None:
        """A connection is closed."""
        self._others.pop(connection, None)
        if self._connected.get(connection.identity) is connection:
            del self._connected[connection.identity]

    def drop_silent(self, now: float) -> None:
        """Closes connections that do not say who they are."""
        for connection in list(self._others):
            if not connection.identity and now - connection.accepted_at > HANDSHAKE_WITHIN_S:
                connection.close()

    def close(self) -> None:
        """Closes everything; drops what is not sent yet."""
        self.watching.unwatch(self._door.fileno())
        self._door.close()
        for connection in [*self._connected.values(), *self._others]:
            connection.close()

    def _accept(self) -> None:
        now = self._clock()
        while (sock := self._door.take()) is not None:
            if len(self._others) >= STRANGERS_MAX:
                next(iter(self._others)).close()
            connection = Connection(self, sock, now)
            self._others[connection] = None
            self.watching.watch(connection.fd, connection.ready)
            connection.unsent.append(greeting() + ready_command(b"ROUTER", b""))
            self.plan(connection)
