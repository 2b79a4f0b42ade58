"""Displays of guests on other hosts' daemons: the client's socket on one side, the daemon's on the other."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import stat
from typing import Final

from actors.remote.far_side import FarSide
from schema.errors import InternalError, ResourceBusy

DISPLAYS_MAX: Final = 128
_PIECE: Final = 65536


async def join(side: FarSide, ours: list[int], theirs: list[int]) -> None:
    """Passes bytes between the client's socket and the daemon's until one of them ends.

    Both are taken. Raises InternalError when the daemon gave none, ResourceBusy.
    """
    with contextlib.ExitStack() as undo:
        for fd in theirs:
            undo.callback(os.close, fd)
        if len(theirs) != 1 or not all(stat.S_ISSOCK(os.fstat(fd).st_mode) for fd in (ours[0], theirs[0])):
            raise InternalError("a display needs a socket on both sides")
        if len(side.displays) >= DISPLAYS_MAX:
            raise ResourceBusy(f"{DISPLAYS_MAX} displays of '{side.scope}' are open already")
        undo.pop_all()
    client, daemon = socket.socket(fileno=ours.pop(0)), socket.socket(fileno=theirs.pop())
    task = asyncio.create_task(_pass_all(client, daemon), name="display of another host")
    side.displays.add(task)
    task.add_done_callback(side.displays.discard)


async def _pass_all(client: socket.socket, daemon: socket.socket) -> None:
    with client, daemon:
        client.setblocking(False)
        daemon.setblocking(False)
        both = {asyncio.create_task(_pass(client, daemon)), asyncio.create_task(_pass(daemon, client))}
        try:
            await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in both:
                task.cancel()
            await asyncio.gather(*both, return_exceptions=True)


async def _pass(source: socket.socket, sink: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    with contextlib.suppress(OSError):
        while data := await loop.sock_recv(source, _PIECE):
            await loop.sock_sendall(sink, data)
