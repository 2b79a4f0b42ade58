"""Bytes that wait for one socket to take them, in the order in which they were put there."""

from __future__ import annotations

import socket
from typing import Final

JOINED_MAX: Final = 128 * 1024  # below it one copy is cheaper than telling the kernel of many pieces
PARTS_AT_ONCE: Final = 256  # the kernel takes no more than 1024


class Unsent:
    """Filled at one end with `append`, emptied at the other with `send`."""

    __slots__ = ("_parts", "_sock", "size")

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._parts: list[bytes | memoryview] = []
        self.size = 0

    def __len__(self) -> int:
        """Pieces, not bytes: that is `size`."""
        return len(self._parts)

    def append(self, data: bytes) -> None:
        """Puts something behind what waits already."""
        self._parts.append(data)
        self.size += len(data)

    def clear(self) -> None:
        """Forgets all."""
        self._parts.clear()
        self.size = 0

    def send(self) -> bool:
        """Whether the kernel took everything; it takes what it has room for. Raises OSError when the socket is dead."""
        parts = self._parts
        if not parts:
            return True
        try:
            if self.size <= JOINED_MAX:
                data = parts[0] if len(parts) == 1 else b"".join(parts)
                sent = self._sock.send(data, socket.MSG_NOSIGNAL)
            else:
                sent = self._sock.sendmsg(parts[:PARTS_AT_ONCE], (), socket.MSG_NOSIGNAL)
        except BlockingIOError:
            return False
        self.size -= sent
        if not self.size:
            parts.clear()
            return True
        done = 0
        while sent >= len(parts[done]):
            sent -= len(parts[done])
            done += 1
        parts[done] = memoryview(parts[done])[sent:]
        del parts[:done]
        return False
