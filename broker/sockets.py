"""The broker's ZeroMQ sockets: three ROUTERs and one XPUB, with the calls that the hot path makes bound once.

pyzmq's `Socket` is a layer over the compiled class; its methods cost as much as what they call. A message is four
frames, and after each it is checked whether another one follows.
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
        self.received = self.strangers = self.malformed = self.full = 0
        self._recv = Compiled.recv.__get__(self.socket)
        self._send = Compiled.send.__get__(self.socket)
        self._get = Compiled.get.__get__(self.socket)

    def has_more(self) -> bool:
        """Whether `receive` would find something."""
        return bool(self._get(EVENTS) & POLLIN)

    def receive(self) -> tuple[Caller, bytes, bytes, bytes] | None:
        """The next message of somebody who is granted; None for one that is dropped. Raises zmq.Again."""
        recv, get = self._recv, self._get
        source = recv(NOBLOCK)
        destination = recv(NOBLOCK)
        if get(RCVMORE):
            header = recv(NOBLOCK)
            if get(RCVMORE):
                body = recv(NOBLOCK)
                if not get(RCVMORE):
                    caller = self.granted.get(source)
                    if caller is None:
                        self.strangers += 1
                        return None
                    if len(header) == HEADER_LENGTH:
                        self.received += 1
                        return caller, destination, header, body
        while get(RCVMORE):
            recv(NOBLOCK)
        self.malformed += 1
        return None

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
