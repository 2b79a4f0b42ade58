"""The peer's end of a door: the hello, the lifeline behind it, and the thread that writes heartbeats.

Heartbeats come from a thread of their own and carry how long ago the loop last made progress: a loop that is stuck
does not stop them, but shows in them, and a process that is stopped sends none.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import threading
import time
from pathlib import Path
from typing import Any, Final

from broker.wire import DOOR_MAX, WireError, pack_door, take_door, unpack_value
from schema.errors import VirtError, from_wire

ANSWER_WITHIN_S: Final = 5.0
_PAGE_KIB: Final = os.sysconf("SC_PAGE_SIZE") // 1024


async def knock(door: Path, hello: dict[str, Any]) -> tuple[socket.socket, dict[str, Any]]:
    """Says hello; the open lifeline and the broker's answer.

    Raises OSError or WireError when nobody answers, VirtError when the broker refuses.
    """
    loop = asyncio.get_running_loop()
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
    try:
        async with asyncio.timeout(ANSWER_WITHIN_S):
            await loop.sock_connect(sock, os.fspath(door))
            await loop.sock_sendall(sock, pack_door(hello))
            buffer = bytearray()
            while (answer := take_door(buffer)) is None:
                data = await loop.sock_recv(sock, DOOR_MAX)
                if not data:
                    raise ConnectionResetError(f"the broker closed '{door}' without an answer")
                buffer += data
    except TimeoutError as exc:
        sock.close()
        raise ConnectionError(f"the broker does not answer at '{door}'") from exc
    except BaseException:
        sock.close()
        raise
    if "error" in answer:
        sock.close()
        raise refusal(answer["error"])
    return sock, answer


def refusal(values: Any) -> VirtError:
    """The error of a refusal, whatever it looks like."""
    try:
        return from_wire(values)
    except (VirtError, TypeError) as exc:
        raise WireError("the broker's refusal is not an error record") from exc


class Heartbeat:
    """A thread that tells the broker, twice a second, that this process and its loop live."""

    def __init__(self, sock: socket.socket, every_s: float) -> None:
        self._sock = sock
        self._every_s = every_s
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._number = 0
        self.progress_at = time.monotonic()
        self.seq = 0
        self.depth = 0
        self._thread = threading.Thread(target=self._run, name="heartbeat", daemon=True)

    def start(self) -> None:
        """Begins at once."""
        self._thread.start()

    def bye(self) -> None:
        """Says that the end which follows is in order."""
        with self._lock, contextlib.suppress(OSError):
            self._sock.send(pack_door({"bye": True}), socket.MSG_NOSIGNAL)

    def stop(self) -> None:
        """Ends the thread; the socket stays open."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(timeout=1.0)

    def _run(self) -> None:
        while not self._stop.is_set():
            if not self._beat():
                return
            self._stop.wait(self._every_s)

    def _beat(self) -> bool:
        self._number += 1
        message = pack_door(
            {
                "beat": self._number,
                "progress_s": time.monotonic() - self.progress_at,
                "seq": self.seq,
                "depth": self.depth,
                "rss_kib": _rss_kib(),
            }
        )
        with self._lock:
            try:
                self._sock.send(message, socket.MSG_NOSIGNAL)
            except BlockingIOError:
                return True  # a broker that stands still is not told the same thing twice
            except OSError:
                return False
        return True


def _rss_kib() -> int:
    # as bytes: a process that gave up its rights may not be able to load even a codec any more
    try:
        with open("/proc/self/statm", "rb") as file:  # noqa: PTH123
            return int(file.read().split()[1]) * _PAGE_KIB
    except (OSError, ValueError, IndexError):
        return 0


def told_why(data: bytes) -> str:
    """Why the broker fences this process, if that is what came through the lifeline."""
    with contextlib.suppress(WireError, AttributeError):
        return str(unpack_value(data[4:]).get("fenced", ""))
    return ""
