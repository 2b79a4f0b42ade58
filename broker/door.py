"""The doors: plain sockets where everyone comes in, and the lifelines that stay open behind them.

A door only moves bytes and asks the kernel who is there; whether somebody is let in is decided by whoever gave it
`on_hello`. It never waits: a peer that does not take its answer is cut off.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from broker.admission import Credentials
from broker.wire import WireError, pack_door, take_door

HELLO_WITHIN_S: Final = 2.0
STRANGERS_MAX: Final = 256  # connections that have not said hello yet
READS_AT_ONCE: Final = 4
_READ_BYTES: Final = 65536
_SO_PEERGROUPS: Final = 59
_ucred = struct.Struct("iII")


class Lifeline:
    """One connection through a door; open as long as both ends live."""

    __slots__ = ("_buffer", "accepted_at", "credentials", "door", "fd", "is_open", "owner", "said_hello", "sock")

    def __init__(self, sock: socket.socket, door: Door, credentials: Credentials, now: float) -> None:
        self.sock = sock
        self.fd = sock.fileno()
        self.door = door
        self.credentials = credentials
        self.accepted_at = now
        self.said_hello = False
        self.is_open = True
        self.owner: Any = None  # whom it was granted to
        self._buffer = bytearray()

    def read(self) -> tuple[list[dict[str, Any]], bool]:
        """Whole messages that have come, and whether the peer is gone. Raises WireError."""
        messages: list[dict[str, Any]] = []
        gone = False
        for _ in range(READS_AT_ONCE):
            try:
                data = self.sock.recv(_READ_BYTES)
            except BlockingIOError:
                break
            except OSError:
                data = b""
            gone = not data
            self._buffer += data
            while (message := take_door(self._buffer)) is not None:
                messages.append(message)
            if gone or len(data) < _READ_BYTES:
                break
        return messages, gone

    def write(self, message: dict[str, Any]) -> bool:
        """Whether the peer took the whole message at once."""
        data = pack_door(message)
        try:
            return self.sock.send(data, socket.MSG_NOSIGNAL) == len(data)
        except OSError:
            return False

    def close(self) -> None:
        """Cuts it."""
        if self.is_open:
            self.is_open = False
            self.sock.close()


class Door:
    """A listening socket."""

    def __init__(self, path: Path, mode: int, name: str) -> None:
        """Binds `path` anew. Raises OSError."""
        self.name = name
        self.path = path
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
        path.unlink(missing_ok=True)
        self.sock.bind(os.fspath(path))
        path.chmod(mode)
        self.sock.listen(1024)
        self._spare = os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC)

    def fileno(self) -> int:
        """For epoll."""
        return self.sock.fileno()

    def accept(self, now: float) -> Lifeline | None:
        """The next peer that knocks."""
        sock = self.take()
        return None if sock is None else Lifeline(sock, self, peer_credentials(sock), now)

    def take(self) -> socket.socket | None:
        """The socket of the next one that connects."""
        try:
            sock, _ = self.sock.accept()
        except OSError as exc:
            if exc.errno in (errno.EMFILE, errno.ENFILE):
                self._turn_away()
            return None
        sock.setblocking(False)
        return sock

    def close(self) -> None:
        """Nobody else comes in."""
        self.sock.close()
        os.close(self._spare)

    def _turn_away(self) -> None:
        # without a descriptor for whoever waits, the door would be readable for ever
        os.close(self._spare)
        try:
            self.sock.accept()[0].close()
        except OSError:
            pass
        self._spare = os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC)


def peer_credentials(sock: socket.socket) -> Credentials:
    """The kernel's word about the process that connected."""
    pid, uid, gid = _ucred.unpack(sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _ucred.size))
    try:
        data = sock.getsockopt(socket.SOL_SOCKET, _SO_PEERGROUPS, 4096)
    except OSError:
        data = b""
    groups = frozenset(struct.unpack(f"{len(data) // 4}I", data))
    return Credentials(pid, uid, gid, groups)


class Lifelines:
    """All open connections by descriptor; tells what comes through them."""

    def __init__(
        self,
        *,
        watch: Callable[[int], None],
        on_hello: Callable[[Lifeline, dict[str, Any]], None],
        on_message: Callable[[Lifeline, dict[str, Any]], None],
        on_gone: Callable[[Lifeline, str], None],
    ) -> None:
        """`watch` makes the loop wait for a descriptor; a closed one needs no word."""
        self._watch = watch
        self._on_hello = on_hello
        self._on_message = on_message
        self._on_gone = on_gone
        self._open: dict[int, Lifeline] = {}
        self._strangers: dict[int, Lifeline] = {}
        self.accepted = self.refused = 0

    def __len__(self) -> int:
        return len(self._open)

    def knock(self, door: Door, now: float) -> None:
        """Lets in whoever waits at the door."""
        while (lifeline := door.accept(now)) is not None:
            if len(self._strangers) >= STRANGERS_MAX:
                oldest = next(iter(self._strangers.values()))
                self.cut(oldest)
                self.refused += 1
            self.accepted += 1
            self._open[lifeline.fd] = self._strangers[lifeline.fd] = lifeline
            self._watch(lifeline.fd)

    def read(self, fd: int) -> None:
        """Something can be read."""
        lifeline = self._open.get(fd)
        if lifeline is None:
            return
        try:
            messages, gone = lifeline.read()
        except WireError as exc:
            self.refused += 1
            self._end(lifeline, str(exc))
            return
        for message in messages:
            if not lifeline.is_open:
                return
            if lifeline.said_hello:
                self._on_message(lifeline, message)
            else:
                lifeline.said_hello = True
                self._strangers.pop(fd, None)
                self._on_hello(lifeline, message)
        if gone and lifeline.is_open:
            self._end(lifeline, "its process ended or let go of the lifeline")

    def cut(self, lifeline: Lifeline) -> None:
        """Closes a connection without a word to `on_gone`."""
        self._open.pop(lifeline.fd, None)
        self._strangers.pop(lifeline.fd, None)
        lifeline.close()

    def drop_silent(self, now: float) -> None:
        """Cuts those that came in and said nothing."""
        for lifeline in list(self._strangers.values()):
            if now - lifeline.accepted_at > HELLO_WITHIN_S:
                self.refused += 1
                self.cut(lifeline)

    def close(self) -> None:
        """Cuts all."""
        for lifeline in list(self._open.values()):
            self.cut(lifeline)

    def _end(self, lifeline: Lifeline, why: str) -> None:
        self.cut(lifeline)
        self._on_gone(lifeline, why)
