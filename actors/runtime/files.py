"""Open files that came with a call: fetched from where the caller holds them, with SCM_RIGHTS, past the broker.

The caller holds them until the call has its outcome, so a call that is sent again, to the next incarnation of its
driver, has its files again.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator
from typing import Any, Final

from actors.runtime.context import current_call
from broker.stream import open_ticket
from broker.wire import WireError
from schema.errors import InternalError, InvalidMessage, OperationFailed

FILES_MAX: Final = 32
FETCH_S: Final = 10.0


@contextlib.asynccontextmanager
async def call_files() -> AsyncIterator[list[int]]:
    """The descriptors that belong to the call which is being answered, in the caller's order; none where it sent none.

    They are closed at the end: who keeps one takes it out of the list. Raises OperationFailed when they cannot be had.
    """
    ticket = current_call().files
    fds = [] if ticket is None else await _fetch(ticket)
    try:
        yield fds
    finally:
        for fd in fds:
            os.close(fd)


@contextlib.asynccontextmanager
async def call_file() -> AsyncIterator[list[int]]:
    """The same for a call to which one file belongs. Raises InternalError when it came without."""
    async with call_files() as fds:
        if not fds:
            raise InternalError("No FD available at slot 0")
        yield fds


async def _fetch(ticket: dict[str, Any]) -> list[int]:
    count = ticket.get("count")
    if not isinstance(count, int) or not 0 <= count <= FILES_MAX:
        raise InvalidMessage("a ticket for files says how many there are")
    with contextlib.ExitStack() as undo:
        fds: list[int] = []
        try:
            async with asyncio.timeout(FETCH_S), await open_ticket(ticket) as stream:
                while len(fds) < count:
                    fds.append(await stream.read_descriptor())
                    undo.callback(os.close, fds[-1])
        except (OSError, WireError, TimeoutError) as exc:
            raise OperationFailed(f"the files that belong to the call cannot be had: {exc}") from exc
        undo.pop_all()
    return fds
