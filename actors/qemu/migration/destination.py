"""The side that a guest comes to: it makes a process that waits for its memory, and lets it go on or gives it up."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any, Final

import msgspec

from actors.qemu import records, states
from actors.qemu.claims import ensure_leases
from actors.qemu.definitions import find_or_make, read_definition
from actors.qemu.ending import end_process
from actors.qemu.guest import Guest
from actors.qemu.host import QemuHost
from actors.qemu.live_processor import as_asked
from actors.qemu.migration.checks import KNOWN_FLAGS, check_addresses, check_flags_together, check_rdma
from actors.qemu.migration.cookie import check_cookie, nbd_part, nbd_sizes, own_cookie, read_cookie, write_cookie
from actors.qemu.migration.cookie_document import MigrationCookie
from actors.qemu.migration.outcome import arrival_of
from actors.qemu.migration.parameters import MigrationParameters
from actors.qemu.migration.places import address_for, nbd_place
from actors.qemu.migration.postcopy import (
    FOLLOWS,
    PHASES,
    STATUSES,
    check_resumable,
    failed,
    has_switched,
    wait_received,
    watch_in,
)
from actors.qemu.migration.settings import check_settings, configure
from actors.qemu.migration.source import our_cookie
from actors.qemu.migration.storage import make_images, offer_disks, withdraw_disks
from actors.qemu.migration.tls import drop_credentials, tls_of
from actors.qemu.notices import announce
from actors.qemu.records import Move
from actors.qemu.start import Wish, start_guest
from conf.domain.documents import write_domain
from conf.domain.domain import Domain
from conf.flags import XmlFlags
from schema.enums.domain_event import DomainEventDefinedDetailType as Defined
from schema.enums.domain_event import DomainEventResumedDetailType as Resumed
from schema.enums.domain_event import DomainEventStartedDetailType as Started
from schema.enums.domain_event import DomainEventType as Event
from schema.enums.domain_job import DomainMigrateFlags as Flags
from schema.enums.domain_state import DomainPausedReason, DomainRunningReason, DomainShutoffReason, DomainState
from schema.errors import DomainStateError, InvalidArguments, NoSuchDomain, OperationFailed, VirtError
from schema.objects import DomainRef

PATIENCE_S: Final = 60.0
"""How long a guest for which nothing comes waits here for the last call of its migration."""
_LOOK_S: Final = 2.0
_POLL_S: Final = 0.05
_WORD: Final = "migration in job"
_UNDECIDED: Final = ("waiting", "starting")


async def prepare(
    host: QemuHost,
    xml: str,
    params: MigrationParameters,
    cookie_in: bytes,
    flags: int,
    *,
    is_tunnel: bool = False,
) -> tuple[bytes, str | None]:
    """Makes a process for the guest that waits for its memory; gives our cookie and where to send it.

    Raises InvalidArguments, InternalError for the same host, DomainStateError when the guest is active here,
    DomainExists, and what a start raises; nothing is left of it then.
    """
    if unknown := flags & ~KNOWN_FLAGS:
        raise InvalidArguments(f"unsupported flags (0x{unknown:x}) in function qemuDomainMigratePrepare3Params")
    check_flags_together(flags)
    # where a tunnel ends is our own doing
    check_addresses(params, flags & ~Flags.TUNNELLED if is_tunnel else flags)
    check_settings(params, flags)
    if flags & Flags.POSTCOPY_RESUME:
        return await _listen_again(host, xml, params, cookie_in)
    definition = await read_definition(host, xml, ran=True)
    cookie = check_cookie(cookie_in, definition, host.state_folder)
    origin = definition.name
    if params.dname:
        definition.name = params.dname
    async with (
        host.runtime.mailbox(("name", definition.name)).change(),
        host.runtime.mailbox(("domain", definition.uuid.bytes)).change(),
    ):
        guest = find_or_make(host, definition)
        if guest.is_active:
            raise DomainStateError(f"domain '{guest.name}' is already active")
        if flags & Flags.OFFLINE:
            config = cookie.persistent if cookie is not None and cookie.persistent is not None else definition
            host.arrivals[guest.key] = write_domain(config, XmlFlags.INACTIVE | XmlFlags.SECURE)
            return write_cookie(own_cookie(definition, origin, host.state_folder)), address_for(host, params)[1]
        return await _wait_here(host, guest, definition, params, cookie, flags, origin, is_tunnel)


async def _listen_again(
    host: QemuHost, xml: str, params: MigrationParameters, cookie_in: bytes
) -> tuple[bytes, str | None]:
    """The connection broke while memory followed: the guest here waits for it to be made anew."""
    definition = await read_definition(host, xml)
    check_cookie(cookie_in, definition, host.state_folder)
    guest = host.guests.get(definition.uuid.bytes)
    if guest is None:
        raise NoSuchDomain(f"no domain with matching name '{params.dname or definition.name}'")
    async with host.runtime.mailbox(("domain", guest.key)).change():
        check_resumable(guest, "in")
        listen, uri_out = address_for(host, params)
        await guest.ask("migrate-recover", {"uri": listen})
    return write_cookie(our_cookie(host, guest)), uri_out


async def _wait_here(
    host: QemuHost,
    guest: Guest,
    definition: Domain,
    params: MigrationParameters,
    cookie: MigrationCookie | None,
    flags: int,
    origin: str,
    is_tunnel: bool,
) -> tuple[bytes, str | None]:
    is_new = guest.key not in host.guests
    sizes = _sizes(cookie, flags)
    await make_images(host, definition, sizes)
    listen, uri_out = address_for(host, params)
    caps = await host.emulator_for(definition.os.kind.arch, definition.devices.emulator)
    check_rdma(definition, listen, caps, incoming=True)
    answer = own_cookie(definition, origin, host.state_folder)
    place: dict[str, Any] = {}
    if sizes:
        place = nbd_place(host, params)
        answer.nbd = nbd_part(int(place["data"]["port"]) if place["type"] == "inet" else None, sizes)
    data = write_cookie(answer)
    persists = None
    if flags & Flags.PERSIST_DEST and cookie is not None and cookie.persistent is not None:
        persists = write_domain(cookie.persistent, XmlFlags.INACTIVE | XmlFlags.SECURE)
    move = Move("in", "waiting", flags=flags, name=origin, persists=persists)
    host.add(guest)
    try:
        result = data if is_tunnel else {"cookie_out": data, "uri_out": uri_out}
        wish = Wish(paused=True, incoming=Path("migration"), move=move, result=result)
        await start_guest(host, guest, definition, wish)
        try:
            await configure(host, guest, params, flags, incoming=True)
            if sizes:
                tls = tls_of(params, flags)
                await offer_disks(guest, sizes, place, tls[0] if tls is not None else None)
            await guest.ask("migrate-incoming", {"uri": listen})
        except BaseException:
            guest.destroys, guest.held = True, None
            await end_process(guest, force=True)
            await host.end(guest, DomainShutoffReason.FAILED, completes=False)
            raise
    except BaseException:
        if is_new and host.guests.get(guest.key) is guest and not guest.is_persistent:
            host.forget(guest)
        raise
    guest.adopt(guest.running(state=int(DomainState.PAUSED), reason=int(DomainPausedReason.MIGRATION)))
    announce(host, guest, [states.started(guest, Started.MIGRATED)])
    host.runtime.spawn(give_up_late(host, guest, guest.id), f"arrival of {guest.name}")
    return data, uri_out


def _sizes(cookie: MigrationCookie | None, flags: int) -> dict[str, int]:
    return nbd_sizes(cookie) if flags & (Flags.NON_SHARED_DISK | Flags.NON_SHARED_INC) else {}


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
            continue
        if time.monotonic() < until:
            await asyncio.sleep(_LOOK_S)
            if move.phase == "waiting" and await _is_coming(guest, move):
                until = time.monotonic() + PATIENCE_S
        elif move.phase == "waiting":
            host.log.warning("a migration was not finished", guest=guest.name)
            await discard(host, guest)
        else:
            guest.adopt(guest.running(move=None))
            host.keep_soon(guest)


async def _is_coming(guest: Guest, move: Move) -> bool:
    """Whether the other side sends: memory, or disks before it."""
    try:
        status = (await guest.ask("query-migrate")).get("status")
        if status is None and move.flags & (Flags.NON_SHARED_DISK | Flags.NON_SHARED_INC):
            return bool(await guest.ask("query-block-exports"))
    except VirtError:
        return False
    if status == "completed" and move.flags & Flags.POSTCOPY:
        return True  # after a switch the other side cannot go on: what is here is the only copy
    return status not in (None, "none", "completed", "failed")


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
        if cancelled:
            await discard(host, guest)
            raise OperationFailed("migration was cancelled")
        try:
            await _go_on(host, guest, run.move, cookie, flags)
        except BaseException:
            if guest.run is not None and (guest.run.move is None or guest.run.move.phase in _UNDECIDED):
                await discard(host, guest)
            raise
    return guest.ref, write_cookie(our_cookie(host, guest))


async def _go_on(host: QemuHost, guest: Guest, move: Move, cookie: MigrationCookie | None, flags: int) -> None:
    follows = await _memory_is_here(guest)
    if move.flags & (Flags.NON_SHARED_DISK | Flags.NON_SHARED_INC):
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
    if follows:
        await wait_received(host, guest)
    else:
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
            raise OperationFailed("migration was cancelled")
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
