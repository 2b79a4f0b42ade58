"""Defining guests and changing what they have."""

from __future__ import annotations

from typing import Annotated

import typer

from client.command.arguments import (
    ConfigOption,
    CurrentOption,
    DomainArgument,
    FileArgument,
    LiveOption,
    impact,
    kib_of,
    read_text,
)
from client.command.running import Session, speaks

app = typer.Typer()

SizeArgument = Annotated[str, typer.Argument(metavar="SIZE", help="KiB, or with a unit: 512MiB, 2G.")]
_MAXIMUM = 4


@app.command()
@speaks
async def define(
    session: Session,
    file: FileArgument,
    validate: Annotated[bool, typer.Option("--validate", help="Check it against the schema first.")] = False,
) -> None:
    """Define a guest from an XML file, or change its definition; does not start it."""
    xml = read_text(file)
    guest = await (await session.connect()).define(xml, 1 if validate else 0)
    session.done(f"'{guest.name}' is defined", name=guest.name, uuid=guest.uuid)


@app.command()
@speaks
async def create(
    session: Session,
    file: FileArgument,
    paused: Annotated[bool, typer.Option("--paused", help="Leave its processors stopped.")] = False,
    autodestroy: Annotated[bool, typer.Option("--autodestroy", help="End it with this connection.")] = False,
    validate: Annotated[bool, typer.Option("--validate", help="Check it against the schema first.")] = False,
    console: Annotated[bool, typer.Option("--console", help="Attach to the console.")] = False,
) -> int | None:
    """Start a guest from an XML file; it is gone when it ends."""
    from schema.enums.domain import DomainCreateFlags as Flags

    flags = Flags.NONE
    for wanted, flag in (
        (paused, Flags.START_PAUSED),
        (autodestroy, Flags.START_AUTODESTROY),
        (validate, Flags.START_VALIDATE),
    ):
        flags |= flag if wanted else Flags.NONE
    xml = read_text(file)
    guest = await (await session.connect()).create(xml, flags)
    state = "paused" if paused else "running"
    session.done(f"'{guest.name}' is {state}", name=guest.name, uuid=guest.uuid, id=guest.id, state=state)
    if console:
        from client.command.console import attach

        return await attach(guest, None, 0)
    return None


@app.command()
@speaks
async def undefine(
    session: Session,
    domain: DomainArgument,
    managed_save: Annotated[bool, typer.Option("--managed-save", help="Delete its managed save.")] = False,
    snapshots: Annotated[bool, typer.Option("--snapshots-metadata", help="Forget its snapshots.")] = False,
    checkpoints: Annotated[bool, typer.Option("--checkpoints-metadata", help="Forget its checkpoints.")] = False,
    nvram: Annotated[bool, typer.Option("--nvram", help="Delete its firmware variables.")] = False,
    keep_nvram: Annotated[bool, typer.Option("--keep-nvram", help="Keep its firmware variables.")] = False,
    tpm: Annotated[bool, typer.Option("--tpm", help="Delete its TPM's state.")] = False,
    keep_tpm: Annotated[bool, typer.Option("--keep-tpm", help="Keep its TPM's state.")] = False,
) -> None:
    """Forget the definition of a guest; a running one goes on without."""
    from schema.enums.domain import DomainUndefineFlags as Flags

    flags = 0
    for wanted, flag in (
        (managed_save, Flags.MANAGED_SAVE),
        (snapshots, Flags.SNAPSHOTS_METADATA),
        (checkpoints, Flags.CHECKPOINTS_METADATA),
        (nvram, Flags.NVRAM),
        (keep_nvram, Flags.KEEP_NVRAM),
        (tpm, Flags.TPM),
        (keep_tpm, Flags.KEEP_TPM),
    ):
        flags |= int(flag) if wanted else 0
    guest = await session.domain(domain)
    await guest.undefine(flags)
    session.done(f"'{guest.name}' is no longer defined", name=guest.name, uuid=guest.uuid)


@app.command()
@speaks
async def autostart(
    session: Session,
    domain: DomainArgument,
    disable: Annotated[bool, typer.Option("--disable", help="No longer.")] = False,
) -> None:
    """Start a guest whenever the host starts."""
    guest = await session.domain(domain)
    await guest.set_autostart(not disable)
    words = "is no longer started with the host" if disable else "is started with the host"
    session.done(f"'{guest.name}' {words}", name=guest.name, uuid=guest.uuid, autostart=not disable)


@app.command()
@speaks
async def setmem(
    session: Session,
    domain: DomainArgument,
    size: SizeArgument,
    live: LiveOption = False,
    config: ConfigOption = False,
    current: CurrentOption = False,
) -> None:
    """Set how much memory a guest has."""
    memory_kib = kib_of(size)
    flags = impact(live, config, current)
    guest = await session.domain(domain)
    await guest.set_memory(memory_kib, flags)
    session.done(f"'{guest.name}' is set to {memory_kib} KiB", name=guest.name, memory_kib=memory_kib)


@app.command()
@speaks
async def setmaxmem(
    session: Session,
    domain: DomainArgument,
    size: SizeArgument,
    live: LiveOption = False,
    config: ConfigOption = False,
    current: CurrentOption = False,
) -> None:
    """Set how much memory a guest can have."""
    memory_kib = kib_of(size)
    flags = impact(live, config, current)
    guest = await session.domain(domain)
    await guest.set_memory(memory_kib, flags | _MAXIMUM)
    session.done(f"'{guest.name}' can have {memory_kib} KiB", name=guest.name, max_memory_kib=memory_kib)


@app.command()
@speaks
async def setvcpus(
    session: Session,
    domain: DomainArgument,
    count: Annotated[int, typer.Argument(min=1, help="How many.")],
    maximum: Annotated[bool, typer.Option("--maximum", help="How many it can have; with --config.")] = False,
    live: LiveOption = False,
    config: ConfigOption = False,
    current: CurrentOption = False,
) -> None:
    """Set how many processors a guest has."""
    flags = impact(live, config, current)
    guest = await session.domain(domain)
    await guest.set_vcpus(count, flags | (_MAXIMUM if maximum else 0))
    session.done(f"'{guest.name}' is set to {count} CPUs", name=guest.name, vcpus=count, maximum=maximum)
