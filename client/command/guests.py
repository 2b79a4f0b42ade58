"""Listing and describing guests."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from client.command.arguments import DomainArgument
from client.command.running import Session, speaks

if TYPE_CHECKING:
    from client.facts import DomainStateInfo
    from client.guests import Guest

app = typer.Typer()

_STATES = {"shutoff": "shut off", "shutdown": "in shutdown", "nostate": "no state", "blocked": "idle"}
_MEMORY_WORDS = {"actual_balloon": "actual"}


def state_words(state: DomainStateInfo) -> str:
    """A state as virsh words it; one that is not sure says since when."""
    if state.unknown:
        since = "" if state.age_s is None else f" for {state.age_s:.0f} s"
        return f"unknown{since}"
    name = state.state.name.lower()
    return _STATES.get(name, name)


def reason_words(state: DomainStateInfo) -> str:
    """The reason of a state in words."""
    from enum import IntEnum

    return state.reason.name.lower().replace("_", " ") if isinstance(state.reason, IntEnum) else str(state.reason)


def guest_object(guest: Guest) -> dict[str, object]:
    """A guest as JSON tells it."""
    return {
        "id": guest.id,
        "name": guest.name,
        "uuid": guest.uuid,
        "state": guest.state.state,
        "reason": guest.state.reason,
        "unknown": guest.state.unknown,
        "age_s": guest.state.age_s,
        "persistent": guest.persistent,
        "autostart": guest.autostart,
        "managed_save": guest.managed_save,
        "max_memory_kib": guest.max_memory_kib,
        "memory_kib": guest.memory_kib,
        "vcpus": guest.vcpus,
        "title": guest.title,
    }


@app.command("list")
@speaks
async def list_(
    session: Session,
    all_: Annotated[bool, typer.Option("--all", help="Those that are off as well.")] = False,
    inactive: Annotated[bool, typer.Option("--inactive", help="Only those that are off.")] = False,
    transient: Annotated[bool, typer.Option("--transient", help="Only those without a definition.")] = False,
    persistent: Annotated[bool, typer.Option("--persistent", help="Only those with a definition.")] = False,
    autostart: Annotated[bool, typer.Option("--autostart", help="Only those started with the host.")] = False,
    running: Annotated[bool, typer.Option("--state-running", help="Only running ones.")] = False,
    paused: Annotated[bool, typer.Option("--state-paused", help="Only paused ones.")] = False,
    shutoff: Annotated[bool, typer.Option("--state-shutoff", help="Only those that are off.")] = False,
    managed_save: Annotated[bool, typer.Option("--with-managed-save", help="Only those with one.")] = False,
    title: Annotated[bool, typer.Option("--title", help="Show titles.")] = False,
    names: Annotated[bool, typer.Option("--name", help="Names only.")] = False,
    uuids: Annotated[bool, typer.Option("--uuid", help="Uuids only.")] = False,
) -> None:
    """List guests: those that run, or all of them."""
    from schema.enums.connect import ConnectListAllDomainsFlags as Flags

    flags = 0
    if not all_:
        flags = int(Flags.INACTIVE if inactive else Flags.ACTIVE)
        if shutoff:
            flags = 0
    for wanted, flag in (
        (transient, Flags.TRANSIENT),
        (persistent, Flags.PERSISTENT),
        (autostart, Flags.AUTOSTART),
        (running, Flags.RUNNING),
        (paused, Flags.PAUSED),
        (shutoff, Flags.SHUTOFF),
        (managed_save, Flags.MANAGEDSAVE),
    ):
        flags |= int(flag) if wanted else 0
    guests = await (await session.connect()).list_guests(flags)
    if any(guest.state.unknown for guest in guests):
        sys.stderr.write("note: the driver is down, this was known last ('virtroupe status' says why)\n")
    if names or uuids:
        shown = [guest.name if names else str(guest.uuid) for guest in guests]
        session.show("".join(f"{item}\n" for item in shown), shown)
        return
    from client.command.output import table

    headings = ["Id", "Name", "State", "Title"] if title else ["Id", "Name", "State"]
    rows = [
        [
            "-" if guest.id is None else guest.id,
            guest.name,
            state_words(guest.state),
            *([guest.title or ""] if title else []),
        ]
        for guest in guests
    ]
    session.show(table(headings, rows), [guest_object(guest) for guest in guests])


async def _info(session: Session, domain: str) -> None:
    import asyncio

    from client.command.output import facts

    guest = await session.domain(domain)
    info, os_type, persistent, autostart, managed_save, state = await asyncio.gather(
        guest.info(),
        guest.os_type(),
        guest.is_persistent(),
        guest.autostart(),
        guest.has_managed_save(),
        guest.state(),
    )
    told = {
        "id": guest.id,
        "name": guest.name,
        "uuid": guest.uuid,
        "os_type": os_type,
        "state": state.state,
        "reason": state.reason,
        "unknown": state.unknown,
        "vcpus": info.vcpus,
        "cpu_time_ns": info.cpu_time_ns,
        "max_memory_kib": info.max_memory_kib,
        "memory_kib": info.memory_kib,
        "persistent": persistent,
        "autostart": autostart,
        "managed_save": managed_save,
    }
    words = facts(
        [
            ("Id", "-" if guest.id is None else guest.id),
            ("Name", guest.name),
            ("UUID", guest.uuid),
            ("OS Type", os_type),
            ("State", state_words(state)),
            ("CPU(s)", info.vcpus),
            ("CPU time", f"{info.cpu_time_ns / 1e9:.1f}s" if guest.id is not None else None),
            ("Max memory", f"{info.max_memory_kib} KiB"),
            ("Used memory", f"{info.memory_kib} KiB"),
            ("Persistent", _yes(persistent)),
            ("Autostart", "enable" if autostart else "disable"),
            ("Managed save", _yes(managed_save)),
        ]
    )
    session.show(words, told)


def _yes(value: bool) -> str:
    return "yes" if value else "no"


@app.command()
@speaks
async def info(session: Session, domain: DomainArgument) -> None:
    """Show what a guest has and is doing (virsh: dominfo)."""
    await _info(session, domain)


@app.command(hidden=True)
@speaks
async def dominfo(session: Session, domain: DomainArgument) -> None:
    """The same as info."""
    await _info(session, domain)


@app.command()
@speaks
async def domstate(
    session: Session,
    domain: DomainArgument,
    reason: Annotated[bool, typer.Option("--reason", help="And why.")] = False,
) -> None:
    """Show the state of a guest."""
    guest = await session.domain(domain)
    state = await guest.state()
    words = state_words(state) + (f" ({reason_words(state)})" if reason else "")
    told = {"name": guest.name, "state": state.state, "reason": state.reason, "unknown": state.unknown}
    session.show(words + "\n", {**told, "age_s": state.age_s})


@app.command()
@speaks
async def dumpxml(
    session: Session,
    domain: DomainArgument,
    inactive: Annotated[bool, typer.Option("--inactive", help="The definition of the next start.")] = False,
    security_info: Annotated[bool, typer.Option("--security-info", help="Passwords as well.")] = False,
    update_cpu: Annotated[bool, typer.Option("--update-cpu", help="The CPU as this host provides it.")] = False,
    migratable: Annotated[bool, typer.Option("--migratable", help="Fit for another host.")] = False,
) -> None:
    """Print the definition of a guest."""
    from schema.enums.domain import DomainXMLFlags as Flags

    flags = 0
    for wanted, flag in (
        (inactive, Flags.INACTIVE),
        (security_info, Flags.SECURE),
        (update_cpu, Flags.UPDATE_CPU),
        (migratable, Flags.MIGRATABLE),
    ):
        flags |= int(flag) if wanted else 0
    guest = await session.domain(domain)
    xml = await guest.xml(flags)
    session.show(xml if xml.endswith("\n") else xml + "\n", {"name": guest.name, "uuid": guest.uuid, "xml": xml})


@app.command()
@speaks
async def dommemstat(
    session: Session,
    domain: DomainArgument,
    period: Annotated[
        int | None, typer.Option("--period", metavar="SECONDS", help="First set how often the guest tells.")
    ] = None,
) -> None:
    """Show the counters of a guest's memory."""
    guest = await session.domain(domain)
    if period is not None:
        await guest.set_memory_stats_period(period)
    stats = await guest.memory_stats()
    told = {_MEMORY_WORDS.get(word, word): value for tag, value in stats.items() for word in [tag.name.lower()]}
    session.show("".join(f"{word} {value}\n" for word, value in told.items()), told)


@app.command(hidden=True)
@speaks
async def domuuid(session: Session, domain: DomainArgument) -> None:
    """Print the uuid of a guest."""
    guest = await session.domain(domain)
    session.show(f"{guest.uuid}\n", {"uuid": guest.uuid})


@app.command(hidden=True)
@speaks
async def domid(session: Session, domain: DomainArgument) -> None:
    """Print the id of a guest, '-' when it is off."""
    guest = await session.domain(domain)
    session.show(f"{'-' if guest.id is None else guest.id}\n", {"id": guest.id})


@app.command(hidden=True)
@speaks
async def domname(session: Session, domain: DomainArgument) -> None:
    """Print the name of a guest."""
    guest = await session.domain(domain)
    session.show(f"{guest.name}\n", {"name": guest.name})
