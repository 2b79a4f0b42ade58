"""What happens, line by line, as it happens."""

from __future__ import annotations

import asyncio
import sys
import time
from typing import TYPE_CHECKING, Annotated, Any

import typer

from client.command.arguments import complete_domain
from client.command.running import Session, speaks

if TYPE_CHECKING:
    from broker.wire import Cursor
    from client.connection import Connection
    from client.event import Event, Resync
    from client.events import EventStream

app = typer.Typer()

INTERNAL = frozenset({"changed", "epoch"})
"""Events that keep replicas true; people see them with --all."""

BEGIN = "begin"


@app.command()
@speaks
async def events(
    session: Session,
    after: Annotated[
        str | None, typer.Option("--after", metavar="CURSOR", help="Go on behind a cursor; 'begin' is the oldest.")
    ] = None,
    domain: Annotated[
        str | None, typer.Option("--domain", metavar="GUEST", help="Only this one.", autocompletion=complete_domain)
    ] = None,
    kind: Annotated[
        list[str] | None, typer.Option("--kind", metavar="KIND", help="Only such events (lifecycle, reboot, ...).")
    ] = None,
    everywhere: Annotated[bool, typer.Option("--everywhere", help="Of all drivers.")] = False,
    all_: Annotated[bool, typer.Option("--all", help="Internal events as well.")] = False,
    count: Annotated[int | None, typer.Option("--count", min=1, help="End after so many.")] = None,
    timeout: Annotated[float | None, typer.Option("--timeout", metavar="SECONDS", help="End after so long.")] = None,
    no_follow: Annotated[bool, typer.Option("--no-follow", help="End where the journal ends now.")] = False,
    loop: Annotated[bool, typer.Option("--loop", hidden=True)] = False,
) -> None:
    """Show what happens, live; goes on across restarts of anything."""
    from client.events import BEGINNING

    conn = await session.connect()
    stream = conn.events(
        BEGINNING if after == BEGIN else after,
        kinds=kind,
        objects=None if domain is None else await _keys(conn, domain),
        everywhere=everywhere,
    )
    end = await conn.cursor() if no_follow else None
    shown = frozenset() if all_ or kind else INTERNAL
    try:
        async with stream, asyncio.timeout(timeout):
            await _follow(session, stream, shown, count, end)
    except TimeoutError:
        pass
    finally:
        if stream.cursor is not None and not session.json and sys.stdout.isatty():
            sys.stderr.write(f"\nGo on with: virtroupe events --after {stream.cursor}\n")


async def _follow(
    session: Session, stream: EventStream, hidden: frozenset[str], count: int | None, end: Cursor | None
) -> None:
    from client.command.output import printable, to_json, write
    from client.event import Resync

    left = count
    while end is None or stream.cursor is None or stream.cursor < end:
        if end is None:
            item = await anext(stream)
        elif (found := await _next_before(stream, end)) is None:
            return
        else:
            item = found
        if not isinstance(item, Resync) and item.kind in hidden:
            continue
        if session.json:
            write(to_json(item_object(item), indent=None) + "\n")
        else:
            write(printable(item_words(item)) + "\n")
        if left is not None:
            left -= 1
            if left == 0:
                return


async def _next_before(stream: EventStream, end: Cursor) -> Event | Resync | None:
    # what lies before the end may all be passed over by the filters, and then nothing is yielded
    waiting = asyncio.ensure_future(anext(stream))
    try:
        while not waiting.done():
            await asyncio.wait({waiting}, timeout=0.05)
            if not waiting.done() and stream.cursor is not None and stream.cursor >= end:
                return None
        return waiting.result()
    finally:
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)


async def _keys(conn: Connection, domain: str) -> set[str | bytes]:
    from client.errors import NoSuchDomain

    try:
        return {(await conn.domain(domain)).ref.uuid}
    except NoSuchDomain:
        return {domain}  # it may be defined later


def item_object(item: Event | Resync) -> dict[str, Any]:
    """An event, or a resync, as JSON tells it."""
    from client.event import Resync

    if isinstance(item, Resync):
        return {
            "cursor": str(item.cursor),
            "kind": "resync",
            "lost": [str(cursor) for cursor in item.lost],
            "unknown": item.unknown,
            "objects": [
                {
                    "source": known.source,
                    "type": known.type,
                    "name": known.name,
                    "uuid": known.uuid,
                    "version": known.version,
                    "summary": known.summary,
                }
                for known in item.objects
            ],
        }
    about = item.object
    told: dict[str, Any] = {
        "cursor": str(item.cursor),
        "time": item.time,
        "kind": item.kind,
        "type": about.type if about else None,
        "name": about.name if about else None,
        "uuid": about.uuid if about else None,
    }
    if (lifecycle := item.lifecycle) is not None:
        told["event"], told["detail"] = lifecycle
    return told | {
        "data": item.data,
        "version": item.version,
        "source": item.source,
        "epoch": item.epoch,
        "seq": item.seq,
        "origin": item.origin,
        "who": item.who,
        "call": item.call,
        "trace": item.trace,
        "scope": item.scope,
    }


def item_words(item: Event | Resync) -> str:
    """An event, or a resync, as a line for people."""
    from client.event import Resync
    from client.lifecycle import word_of

    if isinstance(item, Resync):
        unknown = f"; not known: {', '.join(item.unknown)}" if item.unknown else ""
        return f"history before {item.cursor} is lost; {len(item.objects)} objects exist now{unknown}"
    moment = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(item.time)) + f".{int(item.time % 1 * 1000):03d}"
    about = item.object
    name = item.source if about is None else about.name if about.type == "domain" else f"{about.type} {about.name}"
    if (lifecycle := item.lifecycle) is not None:
        return f"{moment}  {name}  {word_of(lifecycle[0])} {word_of(lifecycle[1])}"
    kind = item.kind.removeprefix("domain_event_").replace("_", " ")
    details = " ".join(f"{key}={value}" for key, value in item.data.items() if key not in _REFERENCES)
    return f"{moment}  {name}  {kind} {details}".rstrip()


_REFERENCES = frozenset({"dom", "net", "pool", "dev", "secret"})
