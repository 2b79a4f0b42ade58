"""The bytes of a guest's console, across restarts of its driver, and the reading of other streams."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Any, Final, Protocol, Self

from client.errors import DomainStateError, DriverGone, NoSuchDomain, ResourceBusy, VirtError

REOPEN_S: Final = 15.0
"""How long a driver may take to offer the console again."""

RETRY_S: Final = 0.1
FINISH_S: Final = 0.5


class Stream(Protocol):
    """One end of a ticket's stream (`broker.stream.Stream`)."""

    async def read(self) -> bytes: ...
    async def write(self, data: bytes) -> None: ...
    async def finish(self) -> None: ...
    def close(self) -> None: ...


Opening = Callable[[], Awaitable[dict[str, Any] | None]]
Taking = Callable[[dict[str, Any]], Awaitable[Stream]]


async def take_up(ticket: dict[str, Any]) -> Stream:
    """The stream that a ticket is for."""
    from broker.stream import open_ticket

    return await open_ticket(ticket)


async def read_stream(ticket: dict[str, Any] | None, taking: Taking = take_up) -> bytes:
    """Everything that a stream holds, to its end.

    Raises the VirtError that the other side ends it with, and DriverGone when it breaks off.
    """
    if ticket is None:
        return b""
    stream = await taking(ticket)
    parts = []
    try:
        while data := await stream.read():
            parts.append(data)
    except (OSError, EOFError) as exc:
        raise DriverGone("stream", "it broke off before its end") from exc
    finally:
        stream.close()
    return b"".join(parts)


class Console:
    """A console: what the guest prints can be read, what is written the guest sees.

    When the driver restarts, the console is opened again; what the guest printed in between is in the guest's own
    device or lost, as on a serial line. Reading and writing may be done by two tasks.
    """

    def __init__(self, stream: Stream, open_: Opening, taking: Taking) -> None:
        self._stream = stream
        self._open = open_
        self._taking = taking
        self._turn = 0
        self._reopening = asyncio.Lock()
        self._over = False
        self.reopened = 0

    @classmethod
    async def open(cls, open_: Opening, taking: Taking = take_up) -> Self:
        """Opens a console with a call that answers a ticket."""
        return cls(await _taken(open_, taking), open_, taking)

    async def read(self) -> bytes:
        """What the guest printed since the last time, at least one byte; empty when the console is over.

        Raises a VirtError when the driver ends the stream with one, or does not come back.
        """
        while not self._over:
            turn = self._turn
            try:
                data = await self._stream.read()
            except (OSError, EOFError):
                await self._again(turn)
                continue
            if not data:
                self._over = True
            return data
        return b""

    async def write(self, data: bytes) -> None:
        """Types something; nothing happens once the console is over.

        Raises a VirtError when the driver does not come back.
        """
        while not self._over:
            turn = self._turn
            try:
                await self._stream.write(data)
            except (OSError, EOFError):
                await self._again(turn)
                continue
            return

    async def aclose(self) -> None:
        """Leaves the console; the guest does not notice."""
        self._over = True
        try:
            async with asyncio.timeout(FINISH_S):
                await self._stream.finish()
        except (OSError, TimeoutError):
            pass  # the other side is gone, or does not listen
        finally:
            self._stream.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def _again(self, turn: int) -> None:
        async with self._reopening:
            if self._turn != turn or self._over:
                return
            self._stream.close()
            try:
                async with asyncio.timeout(REOPEN_S):
                    self._stream = await self._reopened()
            except (DomainStateError, NoSuchDomain):
                self._over = True  # the guest ended as well
                return
            except TimeoutError:
                raise DriverGone("console", f"it was not offered again within {REOPEN_S:.0f} s") from None
            self._turn += 1
            self.reopened += 1

    async def _reopened(self) -> Stream:
        while True:
            try:
                return await _taken(self._open, self._taking)
            except (ResourceBusy, OSError, EOFError):
                # the dead driver's end, or a ticket of a driver that has died since
                await asyncio.sleep(RETRY_S)


async def _taken(open_: Opening, taking: Taking) -> Stream:
    ticket = await open_()
    if ticket is None:
        raise VirtError("the driver answered without a stream")
    return await taking(ticket)
