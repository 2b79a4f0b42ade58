"""The side that a guest comes to: it goes on there or is given up, also when nobody says so."""

from __future__ import annotations

import asyncio
import time
from typing import Final

import msgspec

from actors.qemu import records, states
from actors.qemu.claims import ensure_leases
from actors.qemu.definitions import find_or_make, read_definition
from actors.qemu.ending import end_process
from actors.qemu.guest import Guest
from actors.qemu.host import QemuHost
from actors.qemu.live_processor import as_asked
from actors.qemu.migration.cookie import our_cookie, read_cookie, write_cookie
from actors.qemu.migration.cookie_document import MigrationCookie
from actors.qemu.migration.outcome import arrival_of, statistics_of
from actors.qemu.migration.parameters import MigrationParameters
from actors.qemu.migration.postcopy import (
    FOLLOWS,
    PHASES,
    STATUSES,
    failed,
    has_switched,
    wait_received,
    watch_in,
)
from actors.qemu.migration.storage import withdraw_disks
from actors.qemu.migration.tls import drop_credentials
from actors.qemu.records import Move
from conf.domain.documents import write_domain
from conf.flags import XmlFlags
from schema.enums.domain_event import DomainEventDefinedDetailType as Defined
from schema.enums.domain_event import DomainEventResumedDetailType as Resumed
from schema.enums.domain_event import DomainEventType as Event
from schema.enums.domain_job import DomainMigrateFlags as Flags
from schema.enums.domain_state import DomainPausedReason, DomainRunningReason, DomainShutoffReason, DomainState
from schema.errors import MigrateFinishOk, NoSuchDomain, OperationFailed, VirtError
from schema.objects import DomainRef

PATIENCE_S: Final = 60.0
"""How long a guest for which nothing comes waits here for the last call of its migration."""
_LOOK_S: Final = 2.0
_POLL_S: Final = 0.05
_WORD: Final = "migration in job"
_UNDECIDED: Final = ("waiting", "starting")


async def finish(
    host: QemuHost, name: str, params: MigrationParameters, cookie_in: bytes, flags: int, *, cancelled: bool
) -> tuple[DomainRef, bytes]:
    """The guest goes on here, or is given up; said again, it says the same again.

    Raises NoSuchDomain, OperationFailed when its memory did not come whole: then it has been given up.
    """
    cookie = read_cookie(cookie_in)
    guest = host.names.get(name)
    if flags & Flags.OFFLINE:
        return await _define(host, name, guest, cancelled=cancelled)
    if guest is None:
        raise NoSuchDomain(f"no domain with matching name '{name}'")
    async with host.runtime.mailbox(("domain", guest.key)).change():
        run = guest.run
        if run is None or run.move is None or run.move.way != "in":
            raise OperationFailed(f"domain '{name}' is not processing incoming migration")
        if run.move.phase == "running":
            return guest.ref, write_cookie(our_cookie(host, guest))
        if has_switched(guest):
            # it runs here, and only here can it go on
            if cancelled:
                raise failed("in")
            await wait_received(host, guest)
            return guest.ref, write_cookie(our_cookie(host, guest))
        if cancelled and not await is_over(host, guest):
            await discard(host, guest)
            raise MigrateFinishOk("the guest goes on where it came from")
        try:
            await let_go_on(host, guest, run.move, cookie, flags)
        except BaseException:
            move = guest.run.move if guest.run is not None else None
            if move is not None and move.phase in _UNDECIDED and not move.switched:
                await discard(host, guest)
            raise
        if cancelled:
            raise failed("in")
        if has_switched(guest):
            await wait_received(host, guest)
    return guest.ref, write_cookie(_last_cookie(host, guest))


def _last_cookie(host: QemuHost, guest: Guest) -> MigrationCookie:
    """What the other side is told last: also how the move went."""
    cookie = our_cookie(host, guest)
    if guest.completed_job is not None:
        cookie.statistics = statistics_of(guest.completed_job)
    return cookie


async def let_go_on(host: QemuHost, guest: Guest, move: Move, cookie: MigrationCookie | None, flags: int) -> None:
    """The guest runs here from now on; with post-copy the rest of its memory follows.

    Raises OperationFailed when its memory did not come, ResourceBusy when another guest has its disks, and what QEMU
    refuses.
    """
    follows = await _memory_is_here(guest)
    move = msgspec.structs.replace(move, switched=move.switched or follows)
    if move.flags & (Flags.NON_SHARED_DISK | Flags.NON_SHARED_INC) and await guest.ask("query-block-exports"):
        await withdraw_disks(guest)
    await ensure_leases(host, guest, surely=True)
    record = guest.record
    told: list[states.Told] = []
    if flags & Flags.PERSIST_DEST and not guest.is_persistent:
        sent = cookie.persistent if cookie is not None else None
        xml = move.persists if sent is None else write_domain(sent, XmlFlags.INACTIVE | XmlFlags.SECURE)
        config = await _persistent(host, guest, xml)
        record = msgspec.structs.replace(record, xml=config, facts=record.facts)
        move = msgspec.structs.replace(move, makes=True)
        told.append(states.lifecycle(guest, Event.DEFINED, Defined.ADDED))
    runs = not flags & Flags.PAUSED
    arrival = DomainRunningReason.POSTCOPY if follows else DomainRunningReason.MIGRATED
    reason = int(arrival if runs else DomainPausedReason.USER)
    state = DomainState.RUNNING if runs else DomainState.PAUSED
    # on disk before it runs: a successor of this process must not take it for one that still waits
    arrived = msgspec.structs.replace(move, phase=FOLLOWS if follows else "running", makes=False)
    first = msgspec.structs.replace(move, phase="starting") if runs else arrived
    changes = {"move": first, "state": int(state), "reason": reason, "since": time.time()}
    record = msgspec.structs.replace(record, run=msgspec.structs.replace(guest.need_run(), **changes))
    before = guest.record
    await host.write(guest, record, completes=False)
    if runs:
        guest.expected.add("RESUME")
        try:
            await guest.ask("cont")
        except VirtError:
            await host.write(guest, before, completes=False)
            raise
        finally:
            guest.expected.discard("RESUME")
        guest.adopt(guest.running(move=arrived))
        host.keep_soon(guest)
        told.append(states.resumed(guest, Resumed.POSTCOPY if follows else Resumed.MIGRATED))
    else:
        told.append(states.suspended(guest))
    host.publish(guest, told)
    if cookie is not None and cookie.statistics is not None:
        guest.completed_job = arrival_of(cookie.statistics)
    if not follows:
        await drop_credentials(guest)


async def _memory_is_here(guest: Guest) -> bool:
    """Returns when the guest can run; whether some of its memory is still to follow then."""
    while True:
        status, migration = await guest.ask_all([("query-status", None), ("query-migrate", None)])
        if migration.get("status") == "failed":
            raise OperationFailed(f"{_WORD}: {migration.get('error-desc', 'unexpectedly failed')}")
        if migration.get("status") in STATUSES:
            return True
        if migration.get("status") == "completed" or status.get("status") != "inmigrate":
            return False
        await asyncio.sleep(_POLL_S)


async def _persistent(host: QemuHost, guest: Guest, xml: str | None) -> str:
    if xml is None:
        return write_domain(as_asked(guest), XmlFlags.SECURE | XmlFlags.INACTIVE)
    config = await read_definition(host, xml)
    config.name = guest.name
    return write_domain(config, XmlFlags.SECURE | XmlFlags.INACTIVE)


async def _define(host: QemuHost, name: str, guest: Guest | None, *, cancelled: bool) -> tuple[DomainRef, bytes]:
    """A guest that is off comes as its definition alone."""
    for key, xml in list(host.arrivals.items()):
        definition = await read_definition(host, xml)
        if guest is not None and guest.key != key:
            continue
        if guest is None and definition.name != name and len(host.arrivals) > 1:
            continue
        definition.name = name
        del host.arrivals[key]
        if cancelled:
            raise MigrateFinishOk("the guest goes on where it came from")
        async with host.runtime.mailbox(("domain", key)).change():
            found = find_or_make(host, definition)
            text = write_domain(definition, XmlFlags.INACTIVE | XmlFlags.SECURE)
            detail = Defined.UPDATED if found.is_persistent else Defined.ADDED
            record = msgspec.structs.replace(found.record, xml=text, facts=records.facts_of(definition))
            await host.write(found, record, completes=False, config=definition)
            host.add(found)
            host.publish(found, [states.lifecycle(found, Event.DEFINED, detail)])
            return found.ref, write_cookie(our_cookie(host, found))
    raise NoSuchDomain(f"no domain with matching name '{name}'")


async def give_up_late(host: QemuHost, guest: Guest, number: int) -> None:
    """A guest for which nobody makes the last call does not wait for ever; one that runs is soon like any other."""
    until = time.monotonic() + PATIENCE_S
    while guest.run is not None and guest.id == number:
        move = guest.run.move
        if move is None or move.way != "in":
            return
        if move.phase in PHASES:
            await watch_in(host, guest, number)
            until = time.monotonic() + PATIENCE_S
        elif time.monotonic() < until:
            await asyncio.sleep(_LOOK_S)
            if move.phase == "waiting" and await _is_coming(guest):
                until = time.monotonic() + PATIENCE_S
        elif move.phase in _UNDECIDED:
            host.log.warning("a migration was not finished", guest=guest.name)
            await _decide(host, guest, number)
            until = time.monotonic() + PATIENCE_S
        else:
            guest.adopt(guest.running(move=None))
            host.keep_soon(guest)


async def _decide(host: QemuHost, guest: Guest, number: int) -> None:
    """It ends here if it can go on where it came from; if it cannot, it goes on here though nobody has said so."""
    try:
        async with host.runtime.mailbox(("domain", guest.key)).change("domain_migrate"):
            move = guest.run.move if guest.run is not None and guest.id == number else None
            if move is None or move.phase not in _UNDECIDED:
                return
            if move.switched:
                await let_go_on(host, guest, move, None, move.flags)
            else:
                await discard(host, guest)
    except VirtError as exc:
        host.log.warning("a guest that has moved here does not go on", guest=guest.name, error=exc.message)


async def _is_coming(guest: Guest) -> bool:
    """Whether the other side sends: memory, or disks before it."""
    move = guest.run.move if guest.run is not None else None
    if move is None or move.switched:
        return False
    try:
        status = (await guest.ask("query-migrate")).get("status")
        if status is None and move.flags & (Flags.NON_SHARED_DISK | Flags.NON_SHARED_INC):
            return bool(await guest.ask("query-block-exports"))
    except VirtError:
        return False
    if status == "completed" and move.flags & Flags.POSTCOPY:
        return True  # it may have gone over, and then what is here is the only copy
    return status not in (None, "none", "completed", "failed")


def note_status(host: QemuHost, guest: Guest, status: str) -> None:
    """QEMU says how far a migration is."""
    if status in STATUSES:
        note_over(host, guest)


def note_over(host: QemuHost, guest: Guest) -> None:
    """Its memory follows it from now on: where it came from it cannot go on any more."""
    move = guest.run.move if guest.run is not None else None
    if move is not None and move.way == "in" and move.phase in _UNDECIDED and not move.switched:
        guest.adopt(guest.running(move=msgspec.structs.replace(move, switched=True)))
        host.keep_soon(guest)


async def is_over(host: QemuHost, guest: Guest) -> bool:
    """Whether its memory follows it, so that it can go on here alone. Raises as `Guest.ask` does."""
    if (await guest.ask("query-migrate")).get("status") in STATUSES:
        note_over(host, guest)
    return guest.run is not None and guest.run.move is not None and guest.run.move.switched


async def may_go_on_elsewhere(host: QemuHost, guest: Guest) -> bool:
    """Whether nothing is lost when it ends here, though nobody says so. Raises as `Guest.ask` does."""
    if await is_over(host, guest):
        return False
    move = guest.need_run().move
    is_whole = (await guest.ask("query-migrate")).get("status") == "completed"
    return move is None or not (is_whole and move.flags & Flags.POSTCOPY)


async def discard(host: QemuHost, guest: Guest) -> None:
    """Ends a process whose guest goes on where it came from."""
    guest.destroys = True
    move = guest.run.move if guest.run is not None else None
    try:
        await end_process(guest, force=True)
        if move is not None and move.makes:
            guest.adopt(msgspec.structs.replace(guest.record, xml=None))
        await host.end(guest, DomainShutoffReason.FAILED, completes=False)
    except VirtError as exc:
        host.log.warning("a guest that was not moved here did not end", guest=guest.name, error=exc.message)
