"""The connection to one guest's agent: one command at a time, each after a `guest-sync` of its own.

An agent answers without saying what. So every command is preceded by a number that the agent has to repeat; whatever
comes before that repetition belongs to a command that somebody gave up, and is dropped.
"""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Mapping
from typing import Any, Final, cast

from actors.qemu.agent.protocol import (
    AgentSession,
    Answer,
    Message,
    Refusal,
    RemoteAgentError,
    encode_command,
    encode_message,
)
from schema.enums.qemu import DomainQemuAgentCommandTimeout as Timeout
from schema.errors import AgentUnresponsive, InternalError

DEFAULT_S: Final = 5
"""How long an agent may take when nobody says otherwise."""
_WORD_MAX: Final = (1 << 53) - 1


def seconds_of(timeout: int) -> float | None:
    """A caller's limit in seconds; None for none."""
    if timeout == Timeout.BLOCK:
        return None
    return float(DEFAULT_S if timeout == Timeout.DEFAULT else timeout)


class AgentLink(asyncio.Protocol):
    """An open connection. `gone` is done as soon as it has ended."""

    def __init__(self) -> None:
        self._session = AgentSession()
        self._transport: asyncio.Transport | None = None
        self._messages: asyncio.Queue[Message] = asyncio.Queue()
        self._loop = asyncio.get_running_loop()
        self._last_sync = 0
        self.gone: asyncio.Future[str] = self._loop.create_future()

    @property
    def is_open(self) -> bool:
        """Commands can be sent."""
        return self._transport is not None and not self.gone.done()

    def close(self) -> None:
        """Lets go; whoever waits for an answer is told so."""
        if self._transport is not None:
            self._transport.abort()
        self._end("closed")

    async def call(self, name: str, arguments: Mapping[str, Any] | None = None, *, timeout: int) -> Answer:
        """The answer of one command; callers take turns.

        Raises AgentUnresponsive when it does not come, InternalError with the agent's reason when it refuses.
        """
        await self._sync(timeout)
        return await self._exchange(name, encode_command(name, arguments), timeout)

    async def call_raw(self, message: Mapping[str, Any], *, timeout: int) -> Answer:
        """The same of a message that the caller has put together."""
        await self._sync(timeout)
        return await self._exchange(str(message.get("execute", "")), encode_message(message), timeout)

    async def send(self, name: str, arguments: Mapping[str, Any] | None = None, *, timeout: int) -> None:
        """Says a command that an agent does not answer when it carries it out."""
        await self._sync(timeout)
        self._write(encode_command(name, arguments))

    def refusal(self, name: str) -> InternalError | None:
        """The refusal of such a command, if one has come."""
        while not self._messages.empty():
            message = self._messages.get_nowait()
            if isinstance(message, Refusal):
                return refused(name, message)
        return None

    async def _sync(self, timeout: int) -> None:
        # nobody waits for the agent for ever: that it is there at all shows within seconds
        limit_s = seconds_of(timeout if timeout >= 0 else int(Timeout.DEFAULT)) or 0.0
        number = max(self._last_sync + 1, int(time.time() * 1000) & _WORD_MAX)
        self._last_sync = number
        self._write(encode_command("guest-sync", {"id": number}))
        try:
            async with asyncio.timeout(limit_s):
                while True:
                    message = await self._next()
                    if isinstance(message, Answer) and message.value == number:
                        return
        except TimeoutError:
            raise AgentUnresponsive(
                f"guest agent didn't respond to synchronization within '{int(limit_s)}' seconds"
            ) from None

    async def _exchange(self, name: str, data: bytes, timeout: int) -> Answer:
        self._write(data)
        limit_s = seconds_of(timeout)
        try:
            async with asyncio.timeout(limit_s):
                message = await self._next()
        except TimeoutError:
            raise AgentUnresponsive(
                f"guest agent didn't respond to command within '{int(limit_s or 0)}' seconds"
            ) from None
        if isinstance(message, Refusal):
            raise refused(name, message)
        return message

    async def _next(self) -> Message:
        taking = asyncio.ensure_future(self._messages.get())
        try:
            waits: set[asyncio.Future[Any]] = {taking, self.gone}
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
            if taking.done():
                return taking.result()
        finally:
            taking.cancel()
        raise AgentUnresponsive("Guest agent disappeared while executing command")

    def _write(self, data: bytes) -> None:
        if not self.is_open or self._transport is None:
            raise AgentUnresponsive("Guest agent not available for now")
        self._transport.write(data)

    # --- asyncio.Protocol --------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        try:
            for message in self._session.receive(data):
                self._messages.put_nowait(message)
        except RemoteAgentError as exc:
            self._end(str(exc))
            if self._transport is not None:
                self._transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        self._end("the connection ended" if exc is None else str(exc))

    def _end(self, why: str) -> None:
        if not self.gone.done():
            self.gone.set_result(why)


def refused(name: str, message: Refusal) -> InternalError:
    """An agent's refusal as callers are told of it."""
    error = InternalError(f"unable to execute QEMU agent command '{name}': {message.reason}")
    error.expected = True
    return error


async def open_agent(connected: socket.socket) -> AgentLink:
    """An agent over a socket that is connected already, which it owns from then on."""
    connected.setblocking(False)
    _, link = await asyncio.get_running_loop().create_unix_connection(AgentLink, sock=connected)
    return link
