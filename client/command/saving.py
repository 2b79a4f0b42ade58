"""Saving guests and letting them go on, and pictures of their screens."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from client.command.arguments import DomainArgument, read_text
from client.command.running import Session, speaks

app = typer.Typer()

RunningOption = Annotated[bool, typer.Option("--running", help="Let it run when restored.")]
PausedOption = Annotated[bool, typer.Option("--paused", help="Leave it paused when restored.")]
BypassOption = Annotated[bool, typer.Option("--bypass-cache", help="Go past the host's cache.")]
XmlOption = Annotated[str | None, typer.Option("--xml", metavar="FILE", help="An altered definition to go on with.")]
HostFile = Annotated[str, typer.Argument(metavar="FILE", help="A file on the host.")]


def _flags(running: bool, paused: bool, bypass_cache: bool) -> int:
    if running and paused:
        raise typer.BadParameter("--running excludes --paused")
    return (2 if running else 0) | (4 if paused else 0) | (1 if bypass_cache else 0)


@app.command()
@speaks
async def save(
    session: Session,
    domain: DomainArgument,
    file: HostFile,
    running: RunningOption = False,
    paused: PausedOption = False,
    bypass_cache: BypassOption = False,
    xml: XmlOption = None,
) -> None:
    """Write the memory of a guest to a file and end it; 'restore' goes on from there."""
    flags = _flags(running, paused, bypass_cache)
    document = None if xml is None else read_text(xml)
    guest = await session.domain(domain)
    await guest.save(file, xml=document, flags=flags)
    path = Path(file).absolute()
    session.done(f"'{guest.name}' is saved in '{path}'", name=guest.name, uuid=guest.uuid, file=str(path))


@app.command()
@speaks
async def restore(
    session: Session,
    file: HostFile,
    running: RunningOption = False,
    paused: PausedOption = False,
    bypass_cache: BypassOption = False,
    xml: XmlOption = None,
) -> None:
    """Let a guest go on that 'save' wrote to a file."""
    flags = _flags(running, paused, bypass_cache)
    document = None if xml is None else read_text(xml)
    await (await session.connect()).restore(file, xml=document, flags=flags)
    path = Path(file).absolute()
    session.done(f"The guest in '{path}' goes on", file=str(path))


@app.command()
@speaks
async def managedsave(
    session: Session,
    domain: DomainArgument,
    running: RunningOption = False,
    paused: PausedOption = False,
    bypass_cache: BypassOption = False,
) -> None:
    """Save a guest so that its next start goes on from there."""
    flags = _flags(running, paused, bypass_cache)
    guest = await session.domain(domain)
    await guest.managed_save(flags)
    session.done(f"'{guest.name}' is saved, and goes on with its next start", name=guest.name, uuid=guest.uuid)


@app.command("managedsave-remove")
@speaks
async def managedsave_remove(session: Session, domain: DomainArgument) -> None:
    """Delete what 'managedsave' saved: the next start boots."""
    guest = await session.domain(domain)
    await guest.remove_managed_save()
    session.done(f"'{guest.name}' boots with its next start", name=guest.name, uuid=guest.uuid)


@app.command()
@speaks
async def screenshot(
    session: Session,
    domain: DomainArgument,
    file: Annotated[Path | None, typer.Argument(metavar="FILE", help="Where to; by default named after it.")] = None,
    screen: Annotated[int, typer.Option("--screen", help="Which screen.")] = 0,
) -> None:
    """Take a picture of a guest's screen."""
    guest = await session.domain(domain)
    mime, picture = await guest.screenshot(screen)
    ending = mime.rpartition("/")[2].removeprefix("x-").replace("portable-pixmap", "ppm")
    path = file or Path(f"{guest.name}.{ending}")
    try:
        path.write_bytes(picture)
    except OSError as exc:
        raise typer.BadParameter(f"cannot write '{path}': {exc.strerror}") from exc
    told = {"name": guest.name, "file": str(path), "mime": mime, "bytes": len(picture)}
    session.done(f"The screen of '{guest.name}' is in '{path}' ({mime})", **told)
