"""A ticket's stream on one side, a daemon's on the other, and what is passed between them."""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import secrets
import socket
from collections.abc import Awaitable, Callable
from typing import Any, Final

from broker.stream import Stream
from broker.wire import TOKEN_LENGTH
from remoting.stream import DaemonStream
from schema.errors import VirtError

TICKET_S: Final = 30.0


End = Callable[[], Awaitable[None]]
Keep = Callable[[asyncio.Task[None]], None]

DOWN_ONLY: Final = frozenset(("storage_vol_download", "domain_screenshot"))
"""Calls whose stream ends when the daemon has sent all, whatever the client says before."""


async def serve_stream(ticket: Stream, far: DaemonStream, procedure: str) -> None:
    """Passes data and holes both ways until the stream is done. An error of one side is told to the other.

    Raises the daemon's error, which the client is told.
    """
    down = asyncio.create_task(_down(ticket, far))
    up = asyncio.create_task(_up(ticket, far))
    try:
        await _until_done({down} if procedure in DOWN_ONLY else {up, down}, up)
        await far.finish()
        await ticket.finish()
    except BaseException:
        with contextlib.suppress(VirtError):
            await far.abort()
        raise
    finally:
        for task in (up, down):
            task.cancel()
        await asyncio.gather(up, down, return_exceptions=True)


async def _until_done(deciding: set[asyncio.Task[None]], up: asyncio.Task[None]) -> None:
    # The client's end finishes an upload, which has no other sign, and a console that it leaves. The daemon's end
    # finishes a download, or a console whose guest is gone; the client then has nothing more to say.
    waiting = deciding | {up}
    while waiting:
        done, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
        if done & deciding:
            return


async def _down(ticket: Stream, far: DaemonStream) -> None:
    while (item := await far.read()) is not None:
        if isinstance(item, int):
            await ticket.write_hole(item)
        else:
            await ticket.write(item)


async def _up(ticket: Stream, far: DaemonStream) -> None:
    while (item := await ticket.read_frame()) is not None:
        if isinstance(item, int):
            await far.write_hole(item)
        elif item:
            await far.write(item)


def offer(far: DaemonStream, procedure: str, end: End, keep: Keep) -> dict[str, Any]:
    """A ticket for a daemon's stream, for who expects one: it can be taken up once, within TICKET_S.

    `end` is called behind the stream's end, `keep` holds on to the task that serves it.
    """
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK)
    path = f"\0virtroupe-{secrets.token_hex(16)}"  # a name without a file
    listener.bind(path)
    listener.listen(1)
    token = secrets.token_bytes(TOKEN_LENGTH)
    keep(asyncio.create_task(_serve_taker(listener, token, far, procedure, end)))
    return {"path": path, "token": token}


async def _serve_taker(listener: socket.socket, token: bytes, far: DaemonStream, procedure: str, end: End) -> None:
    try:
        await _wait_for_taker(listener, token, far, procedure)
    finally:
        await end()


async def _wait_for_taker(listener: socket.socket, token: bytes, far: DaemonStream, procedure: str) -> None:
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(TICKET_S):
            sock, _ = await loop.sock_accept(listener)
            shown = b""
            while len(shown) < len(token) and (piece := await loop.sock_recv(sock, len(token) - len(shown))):
                shown += piece
    except (TimeoutError, OSError):
        await far.abort()
        return
    finally:
        listener.close()
    if not hmac.compare_digest(shown, token):
        sock.close()
        await far.abort()
        return
    async with Stream(sock) as ticket:
        try:
            await serve_stream(ticket, far, procedure)
        except VirtError as exc:
            await ticket.abort(exc)
        except ConnectionError:
            pass  # the taker went away, which is how consoles end
