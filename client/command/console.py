"""A guest's console in this terminal: raw, ^] leaves, restarts of the driver pass by unseen."""

from __future__ import annotations

import asyncio
import os
import signal
import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from enum import Enum
from typing import TYPE_CHECKING, Annotated, Final

import typer

from client.command.arguments import DomainArgument
from client.command.running import INTERRUPTED, Session, speaks

if TYPE_CHECKING:
    from client.console import Console
    from client.domain import Domain

app = typer.Typer()

ESCAPE: Final = b"\x1d"
CHUNK: Final = 65536


@app.command()
@speaks
async def console(
    session: Session,
    domain: DomainArgument,
    device: Annotated[str | None, typer.Argument(metavar="DEVICE", help="The alias of another one.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Take it from whoever has it.")] = False,
    safe: Annotated[bool, typer.Option("--safe", help="Only where sharing is prevented.")] = False,
) -> int:
    """Attach to the console of a guest; ^] leaves."""
    guest = await session.domain(domain)
    return await attach(guest, device, (1 if force else 0) | (2 if safe else 0))


async def attach(guest: Domain, device: str | None, flags: int) -> int:
    """Joins this terminal and the guest's console until one of them ends."""
    async with await guest.console(device, flags) as opened:
        if sys.stdin.isatty():
            sys.stderr.write(f"The console of '{guest.name}'; ^] leaves.\n")
            sys.stderr.flush()
        with raw_terminal():
            ending = await _joined(opened)
        over = f"The console of '{guest.name}' is over." if ending is Ending.OVER else ""
        sys.stderr.write(f"\n{over}\n" if over else "\n")
    return INTERRUPTED if ending is Ending.STOPPED else 0


class Ending(Enum):
    """Why a console was left."""

    LEFT = "the user wanted to"
    OVER = "the guest ended"
    STOPPED = "a signal came"


async def _joined(opened: Console) -> Ending:
    showing = asyncio.ensure_future(_show(opened))
    typing = asyncio.ensure_future(_type(opened))
    stop_on_signals(showing, typing)
    try:
        await asyncio.wait({showing, typing}, return_when=asyncio.FIRST_COMPLETED)
        if typing.done() and not typing.cancelled() and typing.exception() is None and not typing.result():
            await asyncio.wait({showing})  # the input is at its end, the guest may have more to say
        for task in (showing, typing):
            if task.done() and not task.cancelled() and (error := task.exception()) is not None:
                raise error
        if showing.cancelled() or typing.cancelled():
            return Ending.STOPPED
        return Ending.OVER if showing.done() else Ending.LEFT
    finally:
        for task in (showing, typing):
            task.cancel()
        await asyncio.gather(showing, typing, return_exceptions=True)


def stop_on_signals(*tasks: asyncio.Future[None] | asyncio.Future[bool]) -> None:
    """A signal that would end this process ends the tasks, so that the terminal becomes usable again."""
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, lambda: [task.cancel() for task in tasks])


async def _show(opened: Console) -> None:
    while data := await opened.read():
        write_all(sys.stdout.fileno(), data)


async def _type(opened: Console) -> bool:
    """Whether the user left, as opposed to the input ending."""
    async for data in keys(sys.stdin.fileno()):
        before, escape, _ = data.partition(ESCAPE)
        if before:
            await opened.write(before)
        if escape:
            return True
    return False


class keys:  # noqa: N801 - used like a function
    """What is typed, as it comes, read by the loop itself."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        # a plain file cannot be waited for, and need not be
        self._is_file = stat.S_ISREG(os.fstat(fd).st_mode)

    def __aiter__(self) -> keys:
        return self

    async def __anext__(self) -> bytes:
        if not self._is_file:
            await self._readable()
        try:
            data = os.read(self._fd, CHUNK)
        except BlockingIOError:
            return await self.__anext__()
        if not data:
            raise StopAsyncIteration
        return data

    async def _readable(self) -> None:
        loop = asyncio.get_running_loop()
        ready = asyncio.Event()
        try:
            loop.add_reader(self._fd, ready.set)
        except PermissionError:
            return  # /dev/null and its like are always ready
        try:
            await ready.wait()
        finally:
            loop.remove_reader(self._fd)


def write_all(fd: int, data: bytes) -> None:
    """Writes everything, also where the terminal takes it in pieces."""
    view = memoryview(data)
    while view:
        try:
            view = view[os.write(fd, view) :]
        except BlockingIOError:
            continue


@contextmanager
def raw_terminal() -> Iterator[None]:
    """The terminal passes every key on; afterwards it is as it was. Nothing when the input is no terminal."""
    if not sys.stdin.isatty():
        yield
        return
    import termios
    import tty

    fd = sys.stdin.fileno()
    before = termios.tcgetattr(fd)
    try:
        tty.setraw(fd)
        yield
    finally:
        termios.tcsetattr(fd, termios.TCSADRAIN, before)
