"""One connection to one broker: its lifeline and a DEALER behind it. When the broker ends, so does the link."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import zmq
from zmq.backend import Socket as Compiled

from broker.lifeline import knock, told_why
from broker.wire import PROLOGUE_MAX, WireError

NOBLOCK: Final = int(zmq.NOBLOCK)
SNDMORE: Final = int(zmq.SNDMORE) | NOBLOCK
EVENTS: Final = int(zmq.EVENTS)
POLLIN: Final = int(zmq.POLLIN)
HWM: Final = 65536
BREATH: Final = 128  # messages before the loop's other tasks get their turn

OnMessage = Callable[[bytes, bytes, bytes], None]
OnLost = Callable[[str], None]


class Link:
    """Open from `open` until `close` or until `on_lost` was called."""

    def __init__(
        self, context: zmq.Context[zmq.Socket[bytes]], lifeline: socket.socket, answer: dict[str, Any]
    ) -> None:
        """Raises WireError when the door's answer lacks something."""
        self.lifeline = lifeline
        try:
            self.routing_id: bytes = answer["id"]
            self.secret: bytes = answer["secret"]
            self.epoch = int(answer["epoch"])
            self.generation = int(answer["generation"])
            self.read_only = bool(answer["read_only"])
            self.heartbeat_s = float(answer["heartbeat_s"])
            self.message_max = int(answer["message_max"]) - PROLOGUE_MAX - 2
            self.last: tuple[int, int] = tuple(answer.get("last", (0, 0)))
            route = answer["route"]
        except (KeyError, TypeError, ValueError) as exc:
            raise WireError(f"the door's answer lacks {exc}") from exc
        self._loop = asyncio.get_running_loop()
        self._socket = context.socket(zmq.DEALER)
        self._socket.setsockopt(zmq.ROUTING_ID, self.routing_id)
        self._socket.setsockopt(zmq.SNDHWM, HWM)
        self._socket.setsockopt(zmq.RCVHWM, HWM)
        self._socket.setsockopt(zmq.RECONNECT_IVL, 10)  # for a full backlog; after a broker's end the link is closed
        self._socket.connect(f"ipc://{route}")
        self._fd = int(self._socket.getsockopt(zmq.FD))
        self._recv = Compiled.recv.__get__(self._socket)
        self._send = Compiled.send.__get__(self._socket)
        self._get = Compiled.get.__get__(self._socket)
        self._is_open = True
        self._is_planned = False
        self._on_message: OnMessage = lambda source, header, body: None
        self._on_lost: OnLost = lambda why: None

    @classmethod
    async def open(cls, context: zmq.Context[zmq.Socket[bytes]], door: Path, hello: dict[str, Any]) -> Link:
        """Raises OSError or WireError when there is no broker, VirtError when it refuses."""
        lifeline, answer = await knock(door, hello)
        try:
            return cls(context, lifeline, answer)
        except BaseException:
            lifeline.close()
            raise

    def start(self, on_message: OnMessage, on_lost: OnLost) -> None:
        """From now on messages are handed over: source, header and body."""
        self._on_message = on_message
        self._on_lost = on_lost
        self._loop.add_reader(self.lifeline.fileno(), self._lifeline_readable)
        self._loop.add_reader(self._fd, self._drain)
        self._plan_drain()

    def send(self, destination: bytes, header: bytes, body: bytes) -> bool:
        """Whether there was room for it."""
        if not self._is_open:
            return False
        send = self._send
        try:
            send(destination, SNDMORE)
        except zmq.Again:
            return False
        send(header, SNDMORE)
        send(body, NOBLOCK)
        # sending may eat the edge of what has come meanwhile
        if not self._is_planned and self._get(EVENTS) & POLLIN:
            self._plan_drain()
        return True

    def close_socket(self, linger_ms: int = 0) -> None:
        """Nothing is sent or received any more; what was sent has `linger_ms` to leave. The lifeline stays."""
        if self._is_open:
            self._is_open = False
            self._loop.remove_reader(self._fd)
            self._loop.remove_reader(self.lifeline.fileno())
            self._socket.close(linger=linger_ms)

    def close(self) -> None:
        """Lets go of everything at once."""
        self.close_socket()
        self.lifeline.close()

    def _plan_drain(self) -> None:
        self._is_planned = True
        self._loop.call_soon(self._drain_planned)

    def _drain_planned(self) -> None:
        self._is_planned = False
        self._drain()

    def _drain(self) -> None:
        if not self._is_open:
            return
        recv, get, on_message = self._recv, self._get, self._on_message
        try:
            for count in range(BREATH):
                # the broker's messages are three frames, always
                on_message(recv(NOBLOCK), recv(NOBLOCK), recv(NOBLOCK))
                # one look is cheaper than one failure; with many messages one failure is cheaper than many looks
                if not self._is_open or (count < 2 and not get(EVENTS) & POLLIN):
                    return
        except zmq.Again:
            return
        if not self._is_planned:
            self._plan_drain()

    def _lifeline_readable(self) -> None:
        try:
            data = self.lifeline.recv(65536)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if data:
            why = told_why(data)
            if not why:
                return
        else:
            why = ""
        # what the broker still said before it ended is worth more than a verdict
        self._drain()
        if self._is_open:
            self.close()
            self._on_lost(why)
