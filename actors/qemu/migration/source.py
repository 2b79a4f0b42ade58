"""The side that a guest leaves: it describes the guest, sends its memory, and lets it go or takes it back."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Final

import msgspec

from actors.qemu import records, states
from actors.qemu.capabilities.model import Capabilities
from actors.qemu.claims import ensure_leases, release_leases
from actors.qemu.ending import end_process
from actors.qemu.guest import Guest
from actors.qemu.helpers.leavings import check_tpm_can_leave, config_of, drop_tpm_of_moved
from actors.qemu.host import QemuHost
from actors.qemu.job import Job, running_job
from actors.qemu.live_processor import as_asked
from actors.qemu.migration.checks import (
    KNOWN_FLAGS,
    check_addresses,
    check_can_leave,
    check_flags_together,
    check_is_safe,
    check_rdma,
)
from actors.qemu.migration.cookie import nbd_part, own_cookie, read_cookie, write_cookie
from actors.qemu.migration.cookie_document import MigrationCookie
from actors.qemu.migration.leaving import keep
from actors.qemu.migration.outcome import statistics_of
from actors.qemu.migration.parameters import MigrationParameters
from actors.qemu.migration.postcopy import (
    FOLLOWS,
    STATUSES,
    check_resumable,
    has_switched,
    is_all_sent,
    keep_job,
    note_break_out,
    note_switch,
    resend,
    wait_sent,
)
from actors.qemu.migration.settings import check_settings, configure
from actors.qemu.migration.storage import StorageCopy, capacities
from actors.qemu.migration.tls import check_destination, drop_credentials
from actors.qemu.pausing import pause
from actors.qemu.records import Move
from actors.qemu.rules import QemuRules
from conf.domain.compat import check_compatible
from conf.domain.documents import parse_domain, write_domain
from conf.domain.domain import Domain
from conf.flags import ParseFlags, XmlFlags
from schema.enums.domain_event import DomainEventResumedDetailType as Resumed
from schema.enums.domain_event import DomainEventSuspendedDetailType as Suspended
from schema.enums.domain_event import DomainEventType as Event
from schema.enums.domain_event import DomainEventUndefinedDetailType as Undefined
from schema.enums.domain_job import DomainJobOperation as Operation
from schema.enums.domain_job import DomainMigrateFlags as Flags
from schema.enums.domain_state import DomainPausedReason, DomainRunningReason, DomainShutoffReason, DomainState
from schema.errors import DomainStateError, InternalError, InvalidArguments, OperationFailed, VirtError

LEAVE: Final = "leave"
"""The intent of a guest that ends here because it runs elsewhere."""
_POLL_S: Final = 0.05
_WATCH_S: Final = 0.5
_WORD: Final = "migration out job"


def our_cookie(host: QemuHost, guest: Guest) -> MigrationCookie:
    """A cookie that says who we are, and what guest it is about."""
    definition = guest.live if guest.is_active else guest.config
    move = guest.run.move if guest.run is not None else None
    name = move.name if move is not None and move.way == "in" and move.name else definition.name
    return own_cookie(definition, name, host.state_folder)


async def begin(host: QemuHost, guest: Guest, params: MigrationParameters, flags: int) -> tuple[bytes, str]:
    """The first step: whether the guest can go, and the definition that the other side starts it with.

    Raises DomainStateError, InvalidArguments, ArgumentUnsupported, MigrateUnsafe, ConfigUnsupported for a definition of
    the caller's that the guest would not recognise itself in.
    """
    if flags & Flags.POSTCOPY_RESUME:
        check_flags_together(flags)
        check_resumable(guest, "out")
        return write_cookie(our_cookie(host, guest)), await _definition_for(host, as_asked(guest), params)
    check_begin(guest, params, flags)
    definition = guest.config if flags & Flags.OFFLINE and not guest.is_active else as_asked(guest)
    check_tpm_can_leave(host, definition)
    xml = await _definition_for(host, definition, params)
    cookie = our_cookie(host, guest)
    if flags & Flags.PERSIST_DEST and guest.is_persistent:
        cookie.persistent = await _persistent_for(host, guest, params)
    if flags & (Flags.NON_SHARED_DISK | Flags.NON_SHARED_INC) and guest.is_active:
        cookie.nbd = nbd_part(None, await capacities(guest, params, flags))
    if flags & Flags.CHANGE_PROTECTION:
        await keep(host, guest)
    return write_cookie(cookie), xml


def check_begin(guest: Guest, params: MigrationParameters, flags: int) -> None:
    """Raises as `begin` does."""
    if unknown := flags & ~KNOWN_FLAGS:
        raise InvalidArguments(f"unsupported flags (0x{unknown:x}) in function qemuDomainMigrateBegin3Params")
    check_flags_together(flags)
    check_addresses(params, flags)
    check_settings(params, flags)
    if not guest.is_active:
        if not flags & Flags.OFFLINE:
            raise DomainStateError("domain is not running")
    elif flags & Flags.OFFLINE:
        flags &= ~Flags.OFFLINE
    if flags & Flags.UNDEFINE_SOURCE and flags & Flags.OFFLINE and not guest.is_persistent:
        raise DomainStateError("cannot undefine transient domain")
    definition = guest.live if guest.is_active else guest.config
    check_can_leave(guest, definition, flags)
    check_is_safe(definition, params, flags)
    known = {disk.target.dev for disk in definition.devices.disks}
    for name in params.disks:
        if name not in known:
            raise InvalidArguments(f"disk {name} not found")


async def _rules(host: QemuHost, definition: Domain) -> QemuRules:
    return host.rules(await _capabilities(host, definition))


async def _definition_for(host: QemuHost, definition: Domain, params: MigrationParameters) -> str:
    target = definition
    if params.dest_xml is not None:
        rules = await _rules(host, definition)
        target = parse_domain(params.dest_xml, rules, ParseFlags.INACTIVE | ParseFlags.ABI_UPDATE)
        if target.name != definition.name:
            raise InvalidArguments("target domain name doesn't match source name")
        check_compatible(definition, target, with_current_memory=False)
    return write_domain(target, XmlFlags.SECURE | XmlFlags.INACTIVE | XmlFlags.MIGRATABLE)


async def _persistent_for(host: QemuHost, guest: Guest, params: MigrationParameters) -> Domain:
    config = guest.config
    if params.persist_xml is not None:
        rules = await _rules(host, config)
        target = parse_domain(params.persist_xml, rules, ParseFlags.INACTIVE | ParseFlags.ABI_UPDATE)
        check_compatible(config, target, with_current_memory=False)
        config = target
    return config


async def write_move(host: QemuHost, guest: Guest, move: Move | None) -> None:
    """Notes on disk how far the guest is on its way. Raises HostSystemError."""
    await host.write(guest, guest.running(move=move), completes=False)


async def send(
    host: QemuHost,
    guest: Guest,
    params: MigrationParameters,
    cookie_in: bytes,
    flags: int,
    move: Move,
    drain: Callable[[], Awaitable[None]] | None = None,
) -> bytes:
    """Sends the guest's memory, and its disks if asked for; afterwards it stands still and only the other side may run.

    `drain` waits for what carries the memory, if that is not QEMU alone.

    With post-copy it returns as soon as the guest runs over there; the rest of its memory follows.

    Raises OperationFailed, OperationAborted when it did not come to that: then it goes on here.
    """
    guest.need_run()
    uri = move.uri or ""
    qemu_uri(uri)
    check_destination(params, uri, flags)
    check_rdma(guest.live, uri, await _capabilities(host, guest.live), incoming=False)
    peer = read_cookie(cookie_in)
    async with AsyncExitStack() as undo:
        # whatever happens from here on, a successor of this process finds a guest on its way
        await write_move(host, guest, move)
        undo.push_async_callback(_take_back, host, guest, move)
        if move.ran and not flags & Flags.LIVE:
            await pause(host, guest, DomainPausedReason.MIGRATION, Suspended.MIGRATED)
        guest.expected.add("STOP")
        undo.callback(guest.expected.discard, "STOP")

        async def abort() -> None:
            await guest.ask("migrate_cancel")

        with running_job(guest, Operation.MIGRATION_OUT, _WORD, abort) as job:
            job.is_outgoing, job.may_post_copy = True, bool(flags & Flags.POSTCOPY)
            undo.push_async_callback(drop_credentials, guest)
            await configure(host, guest, params, flags, incoming=False)
            storage = StorageCopy(host, guest, params, flags, peer, uri)
            undo.push_async_callback(storage.give_up)
            await storage.copy(job)
            job.check()
            await guest.ask("migrate", {"uri": qemu_uri(uri), "detach": True})
            try:
                has_all = await _follow(guest, job, flags, storage)
            except asyncio.CancelledError:
                await asyncio.shield(asyncio.ensure_future(_cancel(guest)))
                raise
            if drain is not None:
                await drain()
        guest.expected.discard("STOP")
        if not has_all:
            undo.pop_all()
            keep_job(guest, job)
            await note_switch(host, guest, move)
            host.runtime.spawn(see_it_leave(host, guest, guest.id), f"the last memory of {guest.name}")
            return write_cookie(our_cookie(host, guest))
        await drop_credentials(guest)
        sent = msgspec.structs.replace(move, phase="sent")
        was_running = guest.state is DomainState.RUNNING
        record = guest.running(move=sent, state=int(DomainState.PAUSED), reason=int(DomainPausedReason.MIGRATION))
        await host.write(guest, record, completes=False)
        host.publish(guest, [states.suspended(guest, Suspended.MIGRATED)] if was_running else ())
        undo.pop_all()
    with contextlib.suppress(VirtError):
        await release_leases(host, guest)
    cookie = our_cookie(host, guest)
    cookie.statistics = statistics_of(job)
    return write_cookie(cookie)


def has_sent(move: Move) -> bool:
    """Whether the middle step is done, and the caller, who makes all steps, has only to be told so."""
    return move.way == "out" and move.phase == "sent" and move.peer is None


def qemu_uri(uri: str) -> str:
    """The other side's address as QEMU wants it. Raises InvalidArguments for one that is none."""
    scheme, _, rest = uri.partition(":")
    if scheme == "unix":
        return f"unix:{rest.removeprefix('//')}" if rest else _no_uri(uri)
    if scheme in ("tcp", "rdma"):
        place = rest.removeprefix("//").rstrip("/")
        if ":" in place:
            return f"{scheme}:{place}"
    return _no_uri(uri)


def _no_uri(uri: str) -> str:
    raise InvalidArguments(f"unable to parse URI {uri}")


async def _follow(guest: Guest, job: Job, flags: int, storage: StorageCopy) -> bool:
    """Whether all of it was sent; if not, the guest runs over there and the rest follows."""
    while True:
        job.status = await guest.ask("query-migrate")
        state = job.status.get("status")
        if state == "completed":
            return True
        if state in ("failed", "cancelled"):
            job.check()
            raise OperationFailed(f"{_WORD}: {job.status.get('error-desc', 'unexpectedly failed')}")
        if state == "pre-switchover":
            await storage.finish()
            await guest.ask("migrate-continue", {"state": "pre-switchover"})
            continue
        if state in STATUSES:
            return False
        if flags & Flags.ABORT_ON_ERROR and guest.run is not None and guest.run.reason == DomainPausedReason.IOERROR:
            await _cancel(guest)
            raise OperationFailed(f"{_WORD}: failed due to I/O error")
        await asyncio.sleep(_POLL_S)


async def _cancel(guest: Guest) -> None:
    await guest.ask("migrate_cancel")
    for _ in range(100):
        if (await guest.ask("query-migrate")).get("status") in ("cancelled", "failed", "completed", None):
            return
        await asyncio.sleep(_POLL_S)


async def _take_back(host: QemuHost, guest: Guest, move: Move) -> None:
    """It did not come to it: the guest goes on here as before. A guest that ended meanwhile stays so."""
    if guest.run is None:
        return
    try:
        await go_on(host, guest, ran=move.ran)
    except VirtError as exc:
        host.log.warning("a guest that was not moved does not go on", guest=guest.name, error=exc.message)


async def go_on(host: QemuHost, guest: Guest, *, ran: bool) -> None:
    """The guest is not on its way any more, and runs again if it did. Raises VirtError when it does not answer."""
    status = (await guest.ask("query-status")).get("status")
    stands = status != "running"
    if ran and stands:
        await ensure_leases(host, guest, surely=True)
        guest.expected.add("RESUME")
        try:
            await guest.ask("cont")
        finally:
            guest.expected.discard("RESUME")
    if guest.run is None:
        return
    changed = ran and guest.state is not DomainState.RUNNING
    record = guest.running(move=None)
    if changed:
        reason = int(DomainRunningReason.MIGRATION_CANCELED)
        record = guest.running(move=None, state=int(DomainState.RUNNING), reason=reason)
    await host.write(guest, record, completes=False)
    host.publish(guest, [states.resumed(guest, Resumed.MIGRATED)] if changed else ())


async def confirm(host: QemuHost, guest: Guest, flags: int, *, cancelled: bool) -> None:
    """The last step: the other side has the guest, so it ends here; or it has not, so it goes on here.

    Raises DomainStateError when there is no such migration, OperationFailed when the process does not end.
    """
    if guest.run is None:
        left = flags & Flags.OFFLINE or guest.record.off_reason == DomainShutoffReason.MIGRATED
        if left and not cancelled and flags & Flags.UNDEFINE_SOURCE:
            await undefine(host, guest)
        return
    move = guest.run.move
    if has_switched(guest):
        if cancelled:
            await note_break_out(host, guest)
            return
        await wait_sent(host, guest)
    if cancelled:
        if move is not None and move.way == "out":
            await go_on(host, guest, ran=move.ran)
        return
    if move is None or move.way != "out":
        raise InternalError(f"domain '{guest.name}' is not processing outgoing migration")
    async with host.intents.change(LEAVE, {"uuid": guest.record.uuid, "flags": flags}):
        await write_move(host, guest, msgspec.structs.replace(move, phase="gone"))
        await leave(host, guest, flags)


async def resume(host: QemuHost, guest: Guest, params: MigrationParameters, uri: str) -> bytes:
    """Makes the connection anew that broke while memory followed. Raises DomainStateError, OperationFailed."""
    move = check_resumable(guest, "out")
    if params.postcopy_bandwidth is not None:
        await guest.ask("migrate-set-parameters", {"max-postcopy-bandwidth": params.postcopy_bandwidth << 20})
    await resend(guest, qemu_uri(uri))
    await note_switch(host, guest, msgspec.structs.replace(move, uri=uri))
    host.runtime.spawn(see_it_leave(host, guest, guest.id), f"the last memory of {guest.name}")
    return write_cookie(our_cookie(host, guest))


async def see_it_leave(host: QemuHost, guest: Guest, number: int) -> None:
    """Ends a guest here whose last memory is over there when nobody makes the last call."""
    while guest.run is not None and guest.id == number and guest.run.move is not None:
        if guest.run.move.phase != FOLLOWS:
            return
        try:
            if await is_all_sent(host, guest):
                async with host.runtime.mailbox(("domain", guest.key)).change("domain_migrate"):
                    if guest.run is not None and guest.id == number and has_switched(guest):
                        await confirm(host, guest, guest.run.move.flags if guest.run.move else 0, cancelled=False)
                return
        except VirtError as exc:
            host.log.info("a guest whose memory follows does not answer", guest=guest.name, error=exc.message)
        await asyncio.sleep(_WATCH_S)


async def _capabilities(host: QemuHost, definition: Domain) -> Capabilities:
    return await host.emulator_for(definition.os.kind.arch, definition.devices.emulator)


async def leave(host: QemuHost, guest: Guest, flags: int) -> None:
    """Ends the guest here, because it runs elsewhere. Raises OperationFailed when its process does not end."""
    guest.destroys = True
    await end_process(guest, force=True)
    await host.end(guest, DomainShutoffReason.MIGRATED, completes=False)
    if flags & Flags.UNDEFINE_SOURCE and guest.is_persistent:
        await undefine(host, guest)


async def undefine(host: QemuHost, guest: Guest) -> None:
    """Forgets a guest that has moved away. Raises HostSystemError."""
    told = [states.lifecycle(guest, Event.UNDEFINED, Undefined.REMOVED)]
    config = config_of(guest)
    await host.store.remove(records.path_of(guest.record.uuid), completes=False)
    drop_tpm_of_moved(host, guest.record.uuid, config)
    host.forget(guest)
    host.objects.drop("domain", guest.key, events=told, scope=host.scope)
