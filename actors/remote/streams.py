"""A ticket's stream on one side, a daemon's on the other, and what is passed between them."""

from __future__ import annotations

import asyncio
import contextlib

from broker.stream import Stream
from remoting.stream import DaemonStream
from schema.errors import VirtError


async def serve_stream(ticket: Stream, far: DaemonStream) -> None:
    """Passes data and holes both ways until both sides are done. An error of one side is told to the other.

    Raises the daemon's error, which the client is told.
    """
    down = asyncio.create_task(_down(ticket, far))
    up = asyncio.create_task(_up(ticket, far))
    try:
        await _until_done(up, down)
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


async def _until_done(up: asyncio.Task[None], down: asyncio.Task[None]) -> None:
    # The client's end finishes the stream: an upload has no other sign. The daemon's end alone finishes a download or
    # a console whose guest is gone; the client then has nothing more to say.
    done, _ = await asyncio.wait({up, down}, return_when=asyncio.FIRST_COMPLETED)
    for task in done:
        task.result()


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
