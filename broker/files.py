"""Open files that are to go with a call: held here until the call has its outcome, for whoever shows the ticket.

A driver fetches them; so does its next incarnation when it dies meanwhile. `actors/runtime/files.py` is the other end.
"""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import os
import secrets
import socket
from collections.abc import AsyncIterator, Sequence
from typing import Any, Final

from broker.stream import Stream
from broker.wire import TOKEN_LENGTH

TOKEN_S: Final = 5.0
BACKLOG: Final = 8


@contextlib.asynccontextmanager
async def offered_files(fds: Sequence[int]) -> AsyncIterator[dict[str, Any]]:
    """The ticket for these descriptors, which are closed at the end. Raises OSError."""
    loop = asyncio.get_running_loop()
    token = secrets.token_bytes(TOKEN_LENGTH)
    # A name without a file: nothing is left behind by who dies, and every driver's user can reach it.
    path = f"\0virtroupe-{secrets.token_hex(16)}"
    serving: set[asyncio.Task[None]] = set()
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK) as listener:
            listener.bind(path)
            listener.listen(BACKLOG)
            accepting = loop.create_task(_accept(listener, token, fds, serving))
            try:
                yield {"path": path, "token": token, "count": len(fds)}
            finally:
                for task in (accepting, *serving):
                    task.cancel()
                await asyncio.gather(accepting, *serving, return_exceptions=True)
    finally:
        for fd in fds:
            os.close(fd)


async def _accept(listener: socket.socket, token: bytes, fds: Sequence[int], serving: set[asyncio.Task[None]]) -> None:
    loop = asyncio.get_running_loop()
    while True:
        sock, _ = await loop.sock_accept(listener)
        task = loop.create_task(_serve(sock, token, fds))
        serving.add(task)
        task.add_done_callback(serving.discard)


async def _serve(sock: socket.socket, token: bytes, fds: Sequence[int]) -> None:
    loop = asyncio.get_running_loop()
    sock.setblocking(False)
    async with Stream(sock) as stream:
        with contextlib.suppress(OSError, TimeoutError):
            async with asyncio.timeout(TOKEN_S):
                shown = b""
                while len(shown) < TOKEN_LENGTH:
                    piece = await loop.sock_recv(sock, TOKEN_LENGTH - len(shown))
                    if not piece:
                        return
                    shown += piece
                if hmac.compare_digest(shown, token):
                    for fd in fds:
                        await stream.write_descriptor(fd)
                    await stream.finish()
