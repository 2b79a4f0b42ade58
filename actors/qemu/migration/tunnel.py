"""Memory that goes through the two drivers' own connection, where nothing else is let through between the hosts.

QEMU sends into a socket of ours, we send on as a stream of libvirt's, and the other side writes that into its QEMU.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from pathlib import Path
from typing import Final, Protocol, Self

from actors.qemu.console import ready
from actors.qemu.monitor.link import connect_socket, listening_socket
from broker.stream import Stream
from schema.errors import HostSystemError, OperationFailed, VirtError
from settings.paths import check_socket_length

_CHUNK: Final = 256 * 1024
_CONNECT_S: Final = 30.0
_POLL_S: Final = 0.05


class Outlet(Protocol):
    """What carries memory to the other side."""

    async def write(self, data: bytes) -> None:
        """Sends data of any length."""

    async def finish(self) -> None:
        """Ends it and waits until the other side has all of it."""

    async def abort(self) -> None:
        """Gives it up."""


class Tunnel:
    """The sending end: QEMU is told to send to `uri`. Raises HostSystemError when it cannot be made."""

    def __init__(self, path: Path, outlet: Outlet) -> None:
        self._path = path
        self._outlet = outlet
        self._pump: asyncio.Task[None] | None = None
        self.uri = f"unix://{path}"

    async def __aenter__(self) -> Self:
        try:
            check_socket_length(self._path)
            listener = listening_socket(self._path)
        except (OSError, ValueError) as exc:
            code = exc.errno if isinstance(exc, OSError) else 36  # ENAMETOOLONG
            raise HostSystemError(code or 0, f"Failed to bind socket to {self._path}") from exc
        listener.setblocking(False)
        self._pump = asyncio.ensure_future(self._carry(listener))
        return self

    async def __aexit__(self, *error: object) -> None:
        self._path.unlink(missing_ok=True)
        if self._pump is not None and not self._pump.done():
            self._pump.cancel()
            await asyncio.wait({self._pump})
            with contextlib.suppress(VirtError):
                await self._outlet.abort()

    async def drain(self) -> None:
        """Returns when the other side has everything. Raises what broke the connection."""
        if self._pump is not None:
            await self._pump

    async def _carry(self, listener: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        with contextlib.closing(listener):
            link, _ = await loop.sock_accept(listener)
        with contextlib.closing(link):
            link.setblocking(False)
            while data := await loop.sock_recv(link, _CHUNK):
                await self._outlet.write(data)
        await self._outlet.finish()


async def pour(stream: Stream, path: Path) -> None:
    """The receiving end: what comes is written into the QEMU that listens at a path.

    Raises HostSystemError when nobody listens there, OperationFailed when QEMU takes no more.
    """
    loop = asyncio.get_running_loop()
    end = loop.time() + _CONNECT_S
    while True:
        try:
            link = connect_socket(path)
            break
        except OSError as exc:
            if loop.time() > end:
                raise HostSystemError(exc.errno or 0, f"Failed to connect socket to '{path}'") from exc
            await asyncio.sleep(_POLL_S)
    path.unlink(missing_ok=True)
    with contextlib.closing(link):
        while data := await stream.read():
            view = memoryview(data)
            while view:
                await ready(link.fileno(), writing=True)
                try:
                    view = view[link.send(view) :]
                except BlockingIOError:
                    continue
                except OSError as exc:
                    raise OperationFailed(f"the emulator takes no more of the guest's memory: {exc.strerror}") from exc
    await stream.finish()
