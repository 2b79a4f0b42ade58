"""One connection to one broker: its lifeline and a DEALER behind it. When the broker ends, so does the link."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from broker.lifeline import ANSWER_WITHIN_S, knock, told_why
from broker.unsent import Unsent
from broker.wire import PROLOGUE_MAX, WireError
from broker.zmtp import GREETING_LENGTH, FrameReader, ZmtpError, check_greeting, greeting, pack_three, ready_command

READ_BYTES: Final = 256 * 1024
FRAME_MAX: Final = 256 * 1024 * 1024
UNSENT_MAX: Final = 64 * 1024 * 1024  # bytes that may wait for a broker that does not read
DRAIN_STEP_S: Final = 0.005

OnMessage = Callable[[bytes, bytes, bytes], None]
OnLost = Callable[[str], None]


class Link:
    """Open from `open` until `close` or until `on_lost` was called."""

    def __init__(self, lifeline: socket.socket, answer: dict[str, Any]) -> None:
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
            self._route = str(answer["route"])
        except (KeyError, TypeError, ValueError) as exc:
            raise WireError(f"the door's answer lacks {exc}") from exc
        self._loop = asyncio.get_running_loop()
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
        self._reader = FrameReader(FRAME_MAX)
        self._early: list[list[bytes]] = []  # messages that came with the end of the handshake
        self._unsent = Unsent(self._socket)
        self._is_open = True
        self._is_planned = False  # whether `_flush` will run by itself
        self._is_full = False  # whether the kernel has no room
        self._on_message: OnMessage = lambda source, header, body: None
        self._on_lost: OnLost = lambda why: None

    @classmethod
    async def open(cls, door: Path, hello: dict[str, Any]) -> Link:
        """Raises OSError or WireError when there is no broker, VirtError when it refuses."""
        lifeline, answer = await knock(door, hello)
        link: Link | None = None
        try:
            link = cls(lifeline, answer)
            async with asyncio.timeout(ANSWER_WITHIN_S):
                await link._shake_hands()
        except BaseException as exc:
            if link is not None:
                link._socket.close()
            lifeline.close()
            if isinstance(exc, TimeoutError):
                raise ConnectionError(f"the broker does not answer at '{door}'") from exc
            raise
        return link

    def start(self, on_message: OnMessage, on_lost: OnLost) -> None:
        """From now on messages are handed over: source, header and body."""
        self._on_message = on_message
        self._on_lost = on_lost
        self._loop.add_reader(self.lifeline.fileno(), self._lifeline_readable)
        self._loop.add_reader(self._socket.fileno(), self._readable)
        early, self._early = self._early, []
        for frames in early:
            if len(frames) == 3:
                on_message(frames[0], frames[1], frames[2])

    def send(self, destination: bytes, header: bytes, body: bytes) -> bool:
        """Whether there was room for it. What is sent in one turn of the loop leaves together."""
        return self.write(pack_three(destination, header, body))

    def write(self, data: bytes) -> bool:
        """Whether there was room for these bytes of the protocol."""
        if not self._is_open or self._unsent.size > UNSENT_MAX:
            return False
        self._unsent.append(data)
        if not self._is_planned:
            self._is_planned = True
            self._loop.call_soon(self._flush)
        return True

    async def drain(self, within_s: float) -> None:
        """Waits until what was sent has left, but no longer than that."""
        self._flush()
        end = self._loop.time() + within_s
        while self._is_open and self._unsent.size and self._loop.time() < end:
            await asyncio.sleep(DRAIN_STEP_S)

    def close(self) -> None:
        """Lets go; the lifeline last, because its end says that nothing more will come."""
        if self._is_open:
            self._is_open = False
            self._loop.remove_reader(self._socket.fileno())
            if self._is_full:
                self._loop.remove_writer(self._socket.fileno())
            self._loop.remove_reader(self.lifeline.fileno())
            self._socket.close()
            self.lifeline.close()

    async def _shake_hands(self) -> None:
        loop, sock = self._loop, self._socket
        await loop.sock_connect(sock, self._route)
        await loop.sock_sendall(sock, greeting() + ready_command(b"DEALER", self.routing_id))
        data = b""
        while len(data) < GREETING_LENGTH:
            data += await self._more()
        try:
            check_greeting(data[:GREETING_LENGTH])
            self._early += self._reader.receive(data[GREETING_LENGTH:])
            while not self._reader.commands:
                self._early += self._reader.receive(await self._more())
        except ZmtpError as exc:
            raise WireError(str(exc)) from exc

    async def _more(self) -> bytes:
        data = await self._loop.sock_recv(self._socket, READ_BYTES)
        if not data:
            raise ConnectionResetError("the broker closed the connection")
        return data

    def _flush(self) -> None:
        self._is_planned = self._is_full
        if not self._unsent.size or not self._is_open:
            return
        try:
            full = not self._unsent.send()
        except OSError:
            self._unsent.clear()  # the reader, or the lifeline, sees the end
            return
        if self._is_full is not full:
            self._is_full = self._is_planned = full
            if full:
                self._loop.add_writer(self._socket.fileno(), self._flush)
            else:
                self._loop.remove_writer(self._socket.fileno())

    def _readable(self) -> None:
        try:
            data = self._socket.recv(READ_BYTES)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._is_over("")
            return
        try:
            messages = self._reader.receive(data)
        except ZmtpError:
            self._is_over("")
            return
        on_message = self._on_message
        # what is answered at once leaves at the end of this, without another turn of the loop
        was_planned, self._is_planned = self._is_planned, True
        try:
            for frames in messages:
                if len(frames) == 3:
                    on_message(frames[0], frames[1], frames[2])
        finally:
            self._is_planned = was_planned
            if not was_planned:
                self._flush()

    def _lifeline_readable(self) -> None:
        try:
            data = self.lifeline.recv(65536)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        why = told_why(data) if data else ""
        if data and not why:
            return
        # what the broker still said before it ended is worth more than a verdict
        self._readable()
        self._is_over(why)

    def _is_over(self, why: str) -> None:
        if self._is_open:
            self.close()
            self._on_lost(why)
