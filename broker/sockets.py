"""The broker's XPUB, where whoever subscribed hears of events.

libzmq serves it: its filtering and its bounded queues are wanted here, and publishing costs a call nothing.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Final

import zmq
from zmq.backend import Socket as Compiled

NOBLOCK: Final = int(zmq.NOBLOCK)
SNDMORE: Final = int(zmq.SNDMORE) | NOBLOCK
SUBSCRIBER_HWM: Final = 4096
SUBSCRIPTION_MAX: Final = 1024


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
    if stat.S_IMODE(path.stat().st_mode) != mode:
        os.chmod(path, mode)  # noqa: PTH101 - the same call, without a second object
