"""Streams on the driver's side: a reply names a ticket, and whoever shows its token once is served.

One socket serves all tickets of an actor. A token is random, valid once and for a short time, so the socket itself may
be reachable by every user: clients of other users have to get at it.
"""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import secrets
import socket
import traceback
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from broker.stream import Stream
from broker.wire import TOKEN_LENGTH
from schema.errors import InternalError, VirtError
from settings.paths import check_socket_length
from util.structured_log import StructuredLog

TICKET_S: Final = 30.0
TICKETS_MAX: Final = 1024
TOKEN_TIMEOUT_S: Final = 5.0

Serve = Callable[[Stream], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Streamed:
    """What a handler with a stream returns: who serves it, and the call's own result.

    `serve` ends the stream itself, by `finish` or `abort`; what it raises is sent as an error.
    """

    serve: Serve
    result: Any = None


class Tickets:
    """The tickets of one actor that were not taken up yet, and the streams that run."""

    def __init__(self, folder: Path, log: StructuredLog, on_failure: Callable[[BaseException], None]) -> None:
        self._folder = folder
        self._log = log
        self._on_failure = on_failure
        self._waiting: dict[bytes, tuple[Serve, asyncio.TimerHandle]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._socket: socket.socket | None = None
        self.path = folder / "s.sock"

    @property
    def count(self) -> int:
        """Streams that run."""
        return len(self._tasks)

    def issue(self, streamed: Streamed) -> dict[str, Any]:
        """A ticket for a stream. Raises InternalError when too many are open, or the socket cannot be bound."""
        if len(self._waiting) >= TICKETS_MAX:
            raise InternalError("too many streams wait to be taken up")
        try:
            self._listen()
        except (OSError, ValueError) as exc:
            raise InternalError(f"cannot open the socket for streams: {exc}") from exc
        token = secrets.token_bytes(TOKEN_LENGTH)
        timer = asyncio.get_running_loop().call_later(TICKET_S, self._waiting.pop, token, None)
        self._waiting[token] = (streamed.serve, timer)
        return {"path": str(self.path), "token": token}

    async def close(self) -> None:
        """Ends all streams; the other ends see that this process vanished."""
        for _, timer in self._waiting.values():
            timer.cancel()
        self._waiting.clear()
        if self._socket is not None:
            asyncio.get_running_loop().remove_reader(self._socket)
            self._socket.close()
            with contextlib.suppress(OSError):
                self.path.unlink()
        for task in list(self._tasks):
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=1.0)

    def _listen(self) -> None:
        if self._socket is not None:
            return
        check_socket_length(self.path)
        self._folder.mkdir(mode=0o711, parents=True, exist_ok=True)
        for folder in (self._folder, self._folder.parent):
            folder.chmod(0o711)
        with contextlib.suppress(FileNotFoundError):
            self.path.unlink()  # of a predecessor: this process holds the role's lock
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK)
        try:
            sock.bind(str(self.path))
            self.path.chmod(0o666)
            sock.listen(128)
        except OSError:
            sock.close()
            raise
        self._socket = sock
        asyncio.get_running_loop().add_reader(sock, self._accept, sock)

    def _accept(self, listener: socket.socket) -> None:
        try:
            sock, _ = listener.accept()
        except OSError:
            return
        sock.setblocking(False)
        task = asyncio.get_running_loop().create_task(self._welcome(sock))
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (exc := task.exception()) is not None:
            self._on_failure(exc)

    async def _welcome(self, sock: socket.socket) -> None:
        try:
            async with asyncio.timeout(TOKEN_TIMEOUT_S):
                serve = await self._taken_up(sock)
        except (OSError, TimeoutError):
            serve = None
        if serve is None:
            sock.close()
            return
        async with Stream(sock) as stream:
            await self._serve(serve, stream)

    async def _taken_up(self, sock: socket.socket) -> Serve | None:
        loop = asyncio.get_running_loop()
        token = b""
        while len(token) < TOKEN_LENGTH:
            piece = await loop.sock_recv(sock, TOKEN_LENGTH - len(token))
            if not piece:
                return None
            token += piece
        for known in self._waiting:
            if hmac.compare_digest(known, token):
                serve, timer = self._waiting.pop(known)
                timer.cancel()
                return serve
        return None

    async def _serve(self, serve: Serve, stream: Stream) -> None:
        try:
            await serve(stream)
        except VirtError as exc:
            await stream.abort(exc)
        except ConnectionError:
            return  # the client went away, which is how consoles end
        except Exception as exc:  # noqa: BLE001 - the other end is told, whatever it was
            self._log.error("a stream failed", error=f"{type(exc).__name__}: {exc}", traceback=traceback.format_exc())
            await stream.abort(InternalError(f"the stream failed: {type(exc).__name__}"))
