"""A connection to one monitor: commands go out pipelined, answers come back by id, events go to one listener.

Nothing here waits for a command before it sends the next one, so a handshake with ten questions costs one round trip.
A monitor that is silent holds up its own callers only: each waits on a future of its own, with its own limit.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, cast

from actors.qemu.monitor.protocol import (
    Answer,
    Data,
    Greeting,
    LocalMonitorError,
    Message,
    Notice,
    Refusal,
    RemoteMonitorError,
    Session,
)

Command = tuple[str, Data | None]


class MonitorGone(Exception):
    """The connection ended; whether the last commands were carried out is unknown."""


class CommandRefused(Exception):
    """QEMU did not carry out a command; `kind` is its error class, `reason` its text."""

    def __init__(self, command: str, kind: str, reason: str) -> None:
        super().__init__(f"internal error: unable to execute QEMU command '{command}': {reason}")
        self.command = command
        self.kind = kind
        self.reason = reason


class Monitor(asyncio.Protocol):
    """An open monitor. `gone` is done as soon as the connection has ended."""

    def __init__(self, on_notice: Callable[[Notice], None], on_gone: Callable[[], None]) -> None:
        self._session = Session()
        self._on_notice = on_notice
        self._on_gone = on_gone
        self._transport: asyncio.Transport | None = None
        self._waiting: dict[int, tuple[str, asyncio.Future[Any], float]] = {}
        self._closing = False
        self._side: socket.socket | None = None
        loop = asyncio.get_running_loop()
        self.greeting: asyncio.Future[Greeting] = loop.create_future()
        self.gone: asyncio.Future[str] = loop.create_future()
        self._loop = loop

    # --- what its owner uses -----------------------------------------------------------------------------------------

    def submit(self, commands: Iterable[Command]) -> list[asyncio.Future[Any]]:
        """Sends the commands in one write; each future ends in the command's value, CommandRefused or MonitorGone."""
        futures: list[asyncio.Future[Any]] = []
        out = bytearray()
        for name, arguments in commands:
            future: asyncio.Future[Any] = self._loop.create_future()
            # an answer nobody waits for any more (its caller was cancelled) is no fault
            future.add_done_callback(_retrieve)
            futures.append(future)
            if self.gone.done() or self._transport is None:
                future.set_exception(MonitorGone(f"the monitor is gone before '{name}'"))
                continue
            number, data = self._session.command(name, arguments)
            self._waiting[number] = (name, future, self._loop.time())
            out += data
        if out and self._transport is not None:
            self._transport.write(bytes(out))
        return futures

    async def execute(self, name: str, arguments: Data | None = None) -> Any:
        """The value of one command. Raises CommandRefused and MonitorGone."""
        (future,) = self.submit([(name, arguments)])
        return await future

    async def hand_over(self, name: str, descriptor: int) -> None:
        """Gives QEMU a copy of a descriptor under a name (`fd:NAME` in other commands then means it).

        Raises CommandRefused and MonitorGone.
        """
        await self._send_with("getfd", {"fdname": name}, descriptor)

    async def hand_over_set(self, descriptor: int, opaque: str, number: int | None = None) -> int:
        """Gives QEMU a copy of a descriptor that it opens as `/dev/fdset/NUMBER`; `opaque` is kept with it.

        Without `number` it becomes the first one of a new set. Gives the number. Raises CommandRefused, MonitorGone.
        """
        into = {} if number is None else {"fdset-id": number}
        return int((await self._send_with("add-fd", {**into, "opaque": opaque}, descriptor))["fdset-id"])

    async def execute_with(self, name: str, arguments: Data | None, descriptor: int) -> Any:
        """The value of one command that comes with a copy of a descriptor. Raises CommandRefused and MonitorGone."""
        return await self._send_with(name, arguments, descriptor)

    async def _send_with(self, name: str, arguments: Data | None, descriptor: int) -> Any:
        if self.gone.done() or self._transport is None or self._side is None:
            raise MonitorGone(f"the monitor is gone before '{name}'")
        while self._transport.get_write_buffer_size():
            # what waits in the transport was said before this
            await asyncio.sleep(0.001)
        number, data = self._session.command(name, arguments)
        future: asyncio.Future[Any] = self._loop.create_future()
        future.add_done_callback(_retrieve)
        self._waiting[number] = (name, future, self._loop.time())
        try:
            sent = socket.send_fds(self._side, [data], [descriptor])
        except OSError as exc:
            del self._waiting[number]
            raise MonitorGone(f"the monitor takes no descriptor: {exc.strerror}") from exc
        if sent < len(data):
            self._transport.write(data[sent:])
        return await future

    @property
    def next_number(self) -> int:
        """What the next command is marked with."""
        return self._session.next_number

    @property
    def is_open(self) -> bool:
        """Commands can be sent."""
        return self._transport is not None and not self.gone.done()

    @property
    def unanswered(self) -> list[str]:
        """The commands that QEMU has not answered yet, oldest first."""
        return [name for name, _, _ in self._waiting.values()]

    @property
    def silence_s(self) -> float:
        """How long QEMU has not answered what it was asked; 0 when it owes no answer."""
        for _, _, since in self._waiting.values():
            return self._loop.time() - since
        return 0.0

    def close(self) -> None:
        """Lets go; the guest is left as it is and the owner is not told."""
        self._closing = True
        if self._transport is not None:
            self._transport.abort()
        self._end("closed")

    def keep_side(self, side: socket.socket) -> None:
        """A second handle of the same connection, for what a transport cannot send."""
        self._side = side

    # --- asyncio.Protocol --------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's transports are no subclass of asyncio's

    def data_received(self, data: bytes) -> None:
        try:
            messages = self._session.receive(data)
        except (RemoteMonitorError, LocalMonitorError) as exc:
            self._end(str(exc))
            if self._transport is not None:
                self._transport.abort()
            return
        for message in messages:
            self._dispatch(message)

    def connection_lost(self, exc: Exception | None) -> None:
        self._end("the connection ended" if exc is None else str(exc))

    def _dispatch(self, message: Message) -> None:
        if isinstance(message, Notice):
            self._on_notice(message)
        elif isinstance(message, Greeting):
            if not self.greeting.done():
                self.greeting.set_result(message)
        elif isinstance(message, Answer):
            entry = self._waiting.pop(message.id, None)
            if entry is not None and not entry[1].done():
                entry[1].set_result(message.value)
        elif isinstance(message, Refusal) and message.id is not None:
            entry = self._waiting.pop(message.id, None)
            if entry is not None and not entry[1].done():
                entry[1].set_exception(CommandRefused(entry[0], message.kind, message.reason))

    def _end(self, why: str) -> None:
        if self.gone.done():
            return
        self.gone.set_result(why)
        self._session.close()
        if self._side is not None:
            self._side.close()
            self._side = None
        for name, future, _ in self._waiting.values():
            if not future.done():
                future.set_exception(MonitorGone(f"the monitor is gone during '{name}': {why}"))
        self._waiting.clear()
        if not self.greeting.done():
            self.greeting.cancel()
        if not self._closing:
            self._on_gone()


def _retrieve(future: asyncio.Future[Any]) -> None:
    if not future.cancelled():
        future.exception()


async def open_monitor(
    connected: socket.socket, on_notice: Callable[[Notice], None], on_gone: Callable[[], None]
) -> Monitor:
    """A monitor over a socket that is connected already; the socket is owned by it from then on."""
    loop = asyncio.get_running_loop()
    connected.setblocking(False)
    side = connected.dup()
    try:
        _, monitor = await loop.create_unix_connection(lambda: Monitor(on_notice, on_gone), sock=connected)
    except BaseException:
        side.close()
        raise
    monitor.keep_side(side)
    return monitor


def connect_socket(path: Path) -> socket.socket:
    """A socket connected to a monitor's path. Raises OSError at once when nobody listens there.

    It cannot block: a unix socket's connect waits only for room in the listener's queue, and then fails instead.
    """
    link = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    link.setblocking(False)
    try:
        link.connect(str(path))
    except OSError:
        link.close()
        raise
    return link


def listening_socket(path: Path) -> socket.socket:
    """A monitor's socket before QEMU runs: QEMU inherits it, and whoever connects meanwhile waits in its queue."""
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    try:
        path.unlink(missing_ok=True)
        listener.bind(str(path))
        listener.listen(4)
    except OSError:
        listener.close()
        raise
    return listener
