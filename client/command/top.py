"""Guests and drivers at work, in one picture that keeps itself current."""

from __future__ import annotations

import asyncio
import sys
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from client.command.console import keys, stop_on_signals
from client.command.running import Session, speaks

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Table

    from client.connection import Connection
    from client.guests import Guest

app = typer.Typer()

ASK_S: Final = 2.0
"""How long one guest may take to tell of itself before its line goes without."""

AT_ONCE: Final = 256
"""Guests that are asked at the same time."""

_STATE_STYLES: Final = {"running": "green", "ready": "green", "paused": "yellow", "degraded": "bold red"}


@dataclass(slots=True)
class Look:
    """What was seen at one moment."""

    uri: str
    at: float
    guests: list[Guest] = field(default_factory=list)
    cpu_ns: dict[str, int] = field(default_factory=dict)
    cpu_percent: dict[str, float] = field(default_factory=dict)
    memory_kib: dict[str, int] = field(default_factory=dict)
    status: dict[str, Any] = field(default_factory=dict)
    trouble: str | None = None


@app.command()
@speaks
async def top(
    session: Session,
    once: Annotated[bool, typer.Option("--once", help="Show it once, for scripts.")] = False,
    interval: Annotated[float, typer.Option("--interval", "-d", min=0.2, metavar="SECONDS", help="How often.")] = 2.0,
    all_: Annotated[bool, typer.Option("--all", help="Guests that are off as well.")] = False,
) -> None:
    """Watch guests and drivers at work; q ends it."""
    conn = await session.connect()
    if once or session.json:
        first = await look(conn, all_, None)
        if once and not session.json:
            await asyncio.sleep(min(interval, 0.5))
            first = await look(conn, all_, first)
        session.show(_text(first), _object(first))
        return
    await _watch(conn, all_, interval)


async def look(conn: Connection, all_: bool, before: Look | None) -> Look:
    """What is to be seen now; CPU shares are those since the look `before`."""
    from client.errors import VirtError
    from schema.enums.connect import ConnectListAllDomainsFlags as Flags

    now = Look(conn.uri, time.monotonic())
    listed, status = await asyncio.gather(
        conn.list_guests(0 if all_ else Flags.ACTIVE, timeout=ASK_S),
        conn.status(timeout=ASK_S),
        return_exceptions=True,
    )
    for told in (listed, status):
        if isinstance(told, VirtError):
            now.trouble = told.message
        elif isinstance(told, BaseException):
            raise told
    if isinstance(status, dict):
        now.status = status
    if isinstance(listed, list):
        now.guests = listed
    elif before is not None:
        now.guests = before.guests
    turn = asyncio.Semaphore(AT_ONCE)
    running = [guest for guest in now.guests if guest.id is not None]
    await asyncio.gather(*(_consumption(conn, guest, now, before, turn) for guest in running))
    return now


async def _consumption(conn: Connection, guest: Guest, now: Look, before: Look | None, turn: asyncio.Semaphore) -> None:
    from client.domain import Domain
    from client.errors import VirtError
    from schema.objects import DomainRef

    key = str(guest.uuid)
    async with turn:
        try:
            info = await Domain(conn, DomainRef(guest.name, guest.uuid.bytes)).info(timeout=ASK_S)
        except VirtError:
            return
    now.cpu_ns[key] = info.cpu_time_ns
    now.memory_kib[key] = info.memory_kib
    if before is not None and key in before.cpu_ns and now.at > before.at:
        spent = max(0, info.cpu_time_ns - before.cpu_ns[key])
        now.cpu_percent[key] = spent / (now.at - before.at) / 1e7


async def _watch(conn: Connection, all_: bool, interval: float) -> None:
    from rich.console import Console
    from rich.live import Live

    screen = Console()
    quitting = asyncio.ensure_future(_quit_key())
    stop_on_signals(quitting)
    seen: Look | None = None
    try:
        with _cbreak(), Live(console=screen, screen=True, auto_refresh=False) as live:
            while not quitting.done():
                seen = await look(conn, all_, seen)
                live.update(_picture(seen, screen.height), refresh=True)
                await asyncio.wait({quitting}, timeout=interval if seen.cpu_percent or not seen.cpu_ns else 0.3)
    finally:
        quitting.cancel()
        await asyncio.gather(quitting, return_exceptions=True)


async def _quit_key() -> None:
    if not sys.stdin.isatty():
        await asyncio.get_running_loop().create_future()
    async for data in keys(sys.stdin.fileno()):
        if b"q" in data or b"Q" in data:
            return


class _cbreak:  # noqa: N801 - used like a function
    """Keys come one by one and unseen; afterwards the terminal is as it was."""

    def __enter__(self) -> None:
        self._before: list[Any] | None = None
        if sys.stdin.isatty():
            import termios
            import tty

            self._before = termios.tcgetattr(sys.stdin.fileno())
            tty.setcbreak(sys.stdin.fileno())

    def __exit__(self, *unused: object) -> None:
        if self._before is not None:
            import termios

            termios.tcsetattr(sys.stdin.fileno(), termios.TCSADRAIN, self._before)


GUEST_HEADINGS: Final = ("Id", "Name", "State", "CPU %", "CPUs", "Memory")
ACTOR_HEADINGS: Final = ("Actor", "State", "Pid", "Epoch", "Calls", "Waiting", "Memory", "Restarts", "Why")


def guest_rows(seen: Look) -> list[list[str]]:
    """The table of guests."""
    from client.command.guests import state_words
    from client.command.output import size

    return [
        [
            "-" if guest.id is None else str(guest.id),
            guest.name,
            state_words(guest.state),
            f"{seen.cpu_percent[key]:.1f}" if (key := str(guest.uuid)) in seen.cpu_percent else "-",
            "-" if guest.vcpus is None else str(guest.vcpus),
            size(seen.memory_kib.get(key, guest.memory_kib if guest.id is not None else None)),
        ]
        for guest in seen.guests
    ]


def actor_rows(seen: Look) -> list[list[str]]:
    """The table of actors."""
    from client.command.output import size

    rows = []
    for name, actor in sorted((seen.status.get("actors") or {}).items()):
        told = {key: "-" if value is None else str(value) for key, value in actor.items()}
        rows.append(
            [
                name,
                told.get("state", "-"),
                told.get("pid", "-"),
                told.get("epoch", "-"),
                told.get("calls", "-"),
                told.get("waiting", "-"),
                size(actor.get("rss_kib")),
                told.get("restarts", "-"),
                "" if told.get("why") in (None, "-") else told["why"],
            ]
        )
    return rows


def _headline(seen: Look) -> str:
    running = sum(1 for guest in seen.guests if guest.id is not None)
    clients = seen.status.get("clients")
    told = f"{seen.uri}  guests: {running} running, {len(seen.guests)} shown"
    if clients is not None:
        told += f"  clients: {len(clients) if isinstance(clients, list | dict) else clients}"
    return told + (f"  ({seen.trouble})" if seen.trouble else "")


def _text(seen: Look) -> str:
    from client.command.output import table

    return f"{_headline(seen)}\n\n{table(GUEST_HEADINGS, guest_rows(seen))}\n{table(ACTOR_HEADINGS, actor_rows(seen))}"


def _picture(seen: Look, height: int) -> RenderableType:
    from rich.console import Group
    from rich.text import Text

    actors = actor_rows(seen)
    guests = guest_rows(seen)
    # the actors are few and always shown; guests that do not fit are counted
    room = max(1, height - len(actors) - 9)
    hidden = len(guests) - room
    parts: list[RenderableType] = [
        Text.assemble(("virtroupe ", "bold"), _headline(seen), (f"  {time.strftime('%H:%M:%S')}  q ends", "dim")),
        _rich_table(GUEST_HEADINGS, guests[:room]),
    ]
    if hidden > 0:
        parts.append(Text(f" and {hidden} more", "dim"))
    return Group(*parts, _rich_table(ACTOR_HEADINGS, actors))


def _rich_table(headings: tuple[str, ...], rows: list[list[str]]) -> Table:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    from client.command.output import printable

    drawn = Table(box=box.SIMPLE_HEAD, pad_edge=False, expand=False)
    for heading in headings:
        right = heading in ("CPU %", "CPUs", "Memory", "Pid", "Epoch", "Calls", "Waiting", "Restarts")
        drawn.add_column(heading, justify="right" if right else "left", no_wrap=heading != "Why")
    for row in rows:
        drawn.add_row(*(Text(printable(cell), _STATE_STYLES.get(cell, "")) for cell in row))
    return drawn


def _object(seen: Look) -> dict[str, object]:
    from client.command.guests import guest_object

    return {
        "uri": seen.uri,
        "trouble": seen.trouble,
        "guests": [
            guest_object(guest)
            | {"cpu_time_ns": seen.cpu_ns.get(str(guest.uuid)), "cpu_percent": seen.cpu_percent.get(str(guest.uuid))}
            for guest in seen.guests
        ],
        "actors": seen.status.get("actors") or {},
    }
