"""Starting and ending guests."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

from client.command.arguments import DomainArgument
from client.command.running import Session, speaks

app = typer.Typer()


class Mode(StrEnum):
    """The ways to ask a guest to stop."""

    ACPI = "acpi"
    AGENT = "agent"
    INITCTL = "initctl"
    SIGNAL = "signal"
    PARAVIRT = "paravirt"


_MODES = {Mode.ACPI: 1, Mode.AGENT: 2, Mode.INITCTL: 4, Mode.SIGNAL: 8, Mode.PARAVIRT: 16}
ModeOption = Annotated[Mode | None, typer.Option("--mode", help="How to ask the guest; by default as fits best.")]


@app.command()
@speaks
async def start(
    session: Session,
    domain: DomainArgument,
    paused: Annotated[bool, typer.Option("--paused", help="Leave its processors stopped.")] = False,
    autodestroy: Annotated[bool, typer.Option("--autodestroy", help="End it with this connection.")] = False,
    bypass_cache: Annotated[bool, typer.Option("--bypass-cache", help="Read a managed save past the cache.")] = False,
    force_boot: Annotated[bool, typer.Option("--force-boot", help="Discard a managed save.")] = False,
    console: Annotated[bool, typer.Option("--console", help="Attach to the console.")] = False,
) -> int | None:
    """Start a guest that is defined and off."""
    from schema.enums.domain import DomainCreateFlags as Flags

    flags = Flags.NONE
    for wanted, flag in (
        (paused, Flags.START_PAUSED),
        (autodestroy, Flags.START_AUTODESTROY),
        (bypass_cache, Flags.START_BYPASS_CACHE),
        (force_boot, Flags.START_FORCE_BOOT),
    ):
        flags |= flag if wanted else Flags.NONE
    guest = await session.domain(domain)
    await guest.start(flags)
    state = "paused" if paused else "running"
    session.done(f"'{guest.name}' is {state}", name=guest.name, uuid=guest.uuid, id=guest.id, state=state)
    if console:
        from client.command.console import attach

        return await attach(guest, None, 0)
    return None


@app.command()
@speaks
async def shutdown(session: Session, domain: DomainArgument, mode: ModeOption = None) -> None:
    """Ask a guest to shut down."""
    guest = await session.domain(domain)
    await guest.shutdown(_MODES[mode] if mode else 0)
    session.done(f"'{guest.name}' was asked to shut down", name=guest.name, uuid=guest.uuid)


@app.command()
@speaks
async def reboot(session: Session, domain: DomainArgument, mode: ModeOption = None) -> None:
    """Ask a guest to boot anew."""
    guest = await session.domain(domain)
    await guest.reboot(_MODES[mode] if mode else 0)
    session.done(f"'{guest.name}' was asked to boot anew", name=guest.name, uuid=guest.uuid)


@app.command()
@speaks
async def reset(session: Session, domain: DomainArgument) -> None:
    """Press the reset button of a guest."""
    guest = await session.domain(domain)
    await guest.reset()
    session.done(f"'{guest.name}' was reset", name=guest.name, uuid=guest.uuid)


@app.command()
@speaks
async def destroy(
    session: Session,
    domain: DomainArgument,
    graceful: Annotated[bool, typer.Option("--graceful", help="Fail rather than kill it.")] = False,
) -> None:
    """End a guest at once, as by pulling the plug."""
    guest = await session.domain(domain)
    await guest.destroy(1 if graceful else 0)
    session.done(f"'{guest.name}' is off", name=guest.name, uuid=guest.uuid, state="shutoff")


@app.command()
@speaks
async def suspend(session: Session, domain: DomainArgument) -> None:
    """Stop the processors of a guest."""
    guest = await session.domain(domain)
    await guest.suspend()
    session.done(f"'{guest.name}' is paused", name=guest.name, uuid=guest.uuid, state="paused")


@app.command()
@speaks
async def resume(session: Session, domain: DomainArgument) -> None:
    """Let the processors of a guest run again."""
    guest = await session.domain(domain)
    await guest.resume()
    session.done(f"'{guest.name}' is running", name=guest.name, uuid=guest.uuid, state="running")
