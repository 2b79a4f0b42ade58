"""The broker's ZeroMQ sockets: three ROUTERs and one XPUB, with the calls that the hot path makes bound once.

pyzmq's `Socket` is a layer over the compiled class; its methods cost as much as what they call. Asking whether another
frame follows costs more than receiving one, so a message is taken to be four frames. One that is not shows itself: a
header has sixteen bytes and a granted id never has, nor does anybody else know one. Where an id stands in a place that
is not its own, the message before was too short and the next begins there: nobody can make another's message vanish.
"""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Final

import zmq
from zmq.backend import Socket as Compiled

from broker.calls import FULL, GONE, SENT, Caller
from broker.wire import HEADER_LENGTH

NOBLOCK: Final = int(zmq.NOBLOCK)
SNDMORE: Final = int(zmq.SNDMORE) | NOBLOCK
EVENTS: Final = int(zmq.EVENTS)
POLLIN: Final = int(zmq.POLLIN)
RCVMORE: Final = int(zmq.RCVMORE)
ID_MAX: Final = 255  # ZeroMQ's own bound of a routing id
SUBSCRIBER_HWM: Final = 4096
SUBSCRIPTION_MAX: Final = 1024

Message = tuple[bytes, bytes, bytes, bytes]


class Router:
    """A ROUTER and those who may use it."""

    def __init__(
        self, context: zmq.Context[zmq.Socket[bytes]], path: Path, mode: int, *, message_max: int, hwm: int
    ) -> None:
        """Binds `path`. Raises zmq.ZMQError."""
        self.socket = context.socket(zmq.ROUTER)
        self.socket.setsockopt(zmq.ROUTER_MANDATORY, 1)
        self.socket.setsockopt(zmq.ROUTER_HANDOVER, 1)
        self.socket.setsockopt(zmq.MAXMSGSIZE, message_max)
        self.socket.setsockopt(zmq.SNDHWM, hwm)
        self.socket.setsockopt(zmq.RCVHWM, hwm)
        self.socket.setsockopt(zmq.BACKLOG, 1024)
        self.socket.setsockopt(zmq.LINGER, 0)
        self.socket.bind(f"ipc://{path}")
        path.chmod(mode)
        self.fd = int(self.socket.getsockopt(zmq.FD))
        self.granted: dict[bytes, Caller] = {}
        self.is_dirty = True  # something may have come without the descriptor saying so
        self.is_signalled = False
        self.received = self.strangers = self.malformed = self.full = 0
        self._begun: bytes | None = None  # the id that begins the next message, when it was read too early
        self._recv = Compiled.recv.__get__(self.socket)
        self._send = Compiled.send.__get__(self.socket)
        self._get = Compiled.get.__get__(self.socket)

    def signal(self) -> None:
        """The descriptor says that something has come."""
        self.is_dirty = self.is_signalled = True

    def has_more(self) -> bool:
        """Whether `receive` would find something."""
        return bool(self._get(EVENTS) & POLLIN)

    def receive(self) -> tuple[Caller, bytes, bytes, bytes] | None:
        """The next message of somebody who is granted; None for one that is dropped. Raises zmq.Again."""
        recv, granted = self._recv, self.granted
        source = self._begun or recv(NOBLOCK)
        self._begun = None
        caller = granted.get(source)
        if caller is None:
            self.strangers += 1
            self._skip()
            return None
        try:
            destination = recv(NOBLOCK)
            if destination in granted:
                self._resume_at(destination)
                return None
            header = recv(NOBLOCK)
            if len(header) != HEADER_LENGTH:
                self._resume_at(header)
                return None
            body = recv(NOBLOCK)
        except zmq.Again:
            self.malformed += 1  # it was too short, and nothing stood behind it
            return None
        if len(body) <= ID_MAX and body in granted:
            self._resume_at(body)
            return None
        self.received += 1
        return caller, destination, header, body

    def _resume_at(self, frame: bytes) -> None:
        self.malformed += 1
        if frame in self.granted:
            self._begun = frame
        else:
            self._skip()

    def _skip(self) -> None:
        while self._get(RCVMORE):
            self._recv(NOBLOCK)

    def send(self, routing_id: bytes, source: bytes, header: bytes, body: bytes) -> int:
        """SENT, FULL when the peer does not read, GONE when it is not connected."""
        self.is_dirty = True
        send = self._send
        try:
            send(routing_id, SNDMORE)
        except zmq.Again:
            self.full += 1
            return FULL
        except zmq.ZMQError as exc:
            if exc.errno == errno.EHOSTUNREACH:
                return GONE
            raise
        send(source, SNDMORE)
        send(header, SNDMORE)
        send(body, NOBLOCK)
        return SENT

    def close(self) -> None:
        """Drops what is not sent yet."""
        self.socket.close(linger=0)


class Publisher:
    """The XPUB. A subscriber that does not read loses messages here, notices the gap and replays."""

    def __init__(self, context: zmq.Context[zmq.Socket[bytes]], path: Path, mode: int) -> None:
        self.socket = context.socket(zmq.XPUB)
        self.socket.setsockopt(zmq.SNDHWM, SUBSCRIBER_HWM)
        self.socket.setsockopt(zmq.MAXMSGSIZE, SUBSCRIPTION_MAX)
        self.socket.setsockopt(zmq.BACKLOG, 1024)
        self.socket.setsockopt(zmq.LINGER, 0)
        self.socket.bind(f"ipc://{path}")
        path.chmod(mode)
        self.fd = int(self.socket.getsockopt(zmq.FD))
        self.is_dirty = True
        self.published = 0
        self._send = Compiled.send.__get__(self.socket)
        self._recv = Compiled.recv.__get__(self.socket)

    def publish(self, source: bytes, position: bytes, body: bytes) -> None:
        """Never waits."""
        self.is_dirty = True
        self.published += 1
        self._send(source, SNDMORE)
        self._send(position, SNDMORE)
        self._send(body, NOBLOCK)

    def receive(self) -> bytes:
        """The next subscription. Raises zmq.Again."""
        message: bytes = self._recv(NOBLOCK)
        return message

    def close(self) -> None:
        """Drops what is not sent yet."""
        self.socket.close(linger=0)


def make_folder(path: Path, mode: int) -> None:
    """A folder of this mode, whatever the umask. Raises OSError."""
    path.mkdir(parents=True, exist_ok=True)
    os.chmod(path, mode)  # noqa: PTH101 - the same call, without a second object
