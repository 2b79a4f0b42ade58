"""A guest's memory in a file: saved, put to sleep by the host, restored.

A saved guest's file begins with a header and its definition, then comes QEMU's own stream.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import msgspec

from actors.qemu import records, states
from actors.qemu.definitions import find_or_make, read_definition
from actors.qemu.ending import end_process
from actors.qemu.flags import check_flags
from actors.qemu.guest import Guest
from actors.qemu.host import QemuHost
from actors.qemu.job import Job, running_job, sizes
from actors.qemu.job_events import tell_completed
from actors.qemu.live_processor import as_asked
from actors.qemu.monitor.link import CommandRefused, MonitorGone
from actors.qemu.notices import announce
from actors.qemu.pausing import go_on, pause
from actors.qemu.saved.cookie import cookie_of
from actors.qemu.saved.editing import changed_image
from actors.qemu.saved.header import IncompleteImage, SavedImage
from actors.qemu.saved.image import read_header, write_header
from actors.qemu.saved.streams import Stream, Way, format_of, reading, writing
from actors.qemu.start import Wish, start_guest
from actors.qemu.transient import check_all_lasting
from actors.qemu.tuning.dumps import follow_migration
from actors.runtime.calls import Calls
from actors.runtime.context import current_call
from actors.runtime.intents import Intent
from conf.domain.documents import write_domain
from conf.flags import XmlFlags
from schema.enums.domain import DomainSaveRestoreFlags as SaveFlags
from schema.enums.domain_event import DomainEventResumedDetailType as Resumed
from schema.enums.domain_event import DomainEventStartedDetailType as Started
from schema.enums.domain_event import DomainEventSuspendedDetailType as Suspended
from schema.enums.domain_job import DomainJobOperation as Operation
from schema.enums.domain_state import (
    DomainPausedReason,
    DomainRunningReason,
    DomainShutoffReason,
    DomainState,
)
from schema.errors import (
    DomainStateError,
    HostSystemError,
    HypervisorGone,
    InternalError,
    OperationFailed,
    VirtError,
)
from schema.objects import DomainRef

calls: Calls[QemuHost] = Calls()

_POLL_S: Final = 0.05
_KILL_S: Final = 5.0
_ANSWER_S: Final = 5.0
_FD_NAME: Final = "saved-memory"
_UNLIMITED: Final = 1 << 60
_FLAGS: Final = int(SaveFlags.BYPASS_CACHE | SaveFlags.RUNNING | SaveFlags.PAUSED)


async def _save(host: QemuHost, guest: Guest, path: Path, flags: int, intent: Intent, xml: str | None = None) -> None:
    """Writes a guest's memory to a file and ends it. Leaves the guest as it was when it fails.

    `xml` is another definition with which it is to wake.
    """
    if guest.need_run().jobs:
        raise DomainStateError("domain has active block job")
    check_all_lasting(guest.live)
    way = Way(format_of(host.config.qemu.save_image_format, "save"), bool(flags & SaveFlags.BYPASS_CACHE))
    was_running = guest.state is DomainState.RUNNING
    running = (was_running or bool(flags & SaveFlags.RUNNING)) and not flags & SaveFlags.PAUSED
    definition = _kept(guest)
    if xml is not None:
        definition = (await changed_image(host, SavedImage(definition, running, 0), xml)).xml
    try:
        if was_running:
            await pause(host, guest, DomainPausedReason.SAVE)
        await _write(guest, path, definition, running=running, way=way)
        # the file is whole: from here on the guest is in it, and goes on nowhere else
        await intent.note(saved=True)
    except BaseException:
        path.unlink(missing_ok=True)
        if was_running and guest.run is not None and guest.state is DomainState.PAUSED:
            await go_on(host, guest, DomainRunningReason.SAVE_CANCELED)
        raise


async def keep_memory(host: QemuHost, guest: Guest, path: Path, *, running: bool, operation: Operation) -> None:
    """Writes a guest's memory to a file from which it can be restored; the guest is paused then, and goes on existing.

    No file is left when this fails. Raises HostSystemError, OperationFailed.
    """
    way = Way(format_of(host.config.qemu.snapshot_image_format, "snapshot"))
    try:
        await _write(guest, path, _kept(guest), running=running, way=way, operation=operation)
    except BaseException:
        path.unlink(missing_ok=True)
        raise


def _kept(guest: Guest) -> str:
    """The definition that stands beside a guest's memory."""
    return write_domain(as_asked(guest), XmlFlags.SECURE | XmlFlags.INACTIVE | XmlFlags.MIGRATABLE)


async def _write(
    guest: Guest, path: Path, xml: str, *, running: bool, way: Way, operation: Operation = Operation.SAVE
) -> None:
    """QEMU writes its stream behind the header; the file is whole, and on disk, when this ends well."""

    async def cancel() -> None:
        await guest.ask("migrate_cancel")

    cookie = cookie_of(guest).to_xml()
    offset = write_header(path, xml, running=running, complete=False, cookie=cookie, compression=way.form)
    async with writing(path, offset, way) as stream:
        await _hand_over(guest, stream)
        with running_job(guest, operation, "snapshot job", cancel) as job:
            await guest.ask_all(
                [
                    ("migrate-set-parameters", {"max-bandwidth": _UNLIMITED}),
                    ("migrate", {"uri": f"fd:{_FD_NAME}", "detach": True}),
                ]
            )
            await follow_migration(guest, job, _report)
    write_header(path, xml, running=running, complete=True, cookie=cookie, compression=way.form)


def _report(job: Job) -> None:
    size = sizes(job)
    current_call().progress(size["memory_processed"], size["memory_total"], "saving memory")


async def _hand_over(guest: Guest, stream: Stream) -> None:
    try:
        await guest.need_monitor().hand_over(_FD_NAME, stream.descriptor)
    except CommandRefused as exc:
        raise InternalError(f"unable to execute QEMU command 'getfd': {exc.reason}") from exc
    except MonitorGone as exc:
        raise HypervisorGone(f"the guest '{guest.name}' ended: {exc}") from exc
    finally:
        stream.close()


async def _end_saved(host: QemuHost, guest: Guest) -> None:
    guest.destroys = True
    await end_process(guest, force=True)
    tell_completed(host, guest)
    await host.end(guest, DomainShutoffReason.SAVED)


def _facts(guest: Guest, path: Path) -> dict[str, Any]:
    return {"uuid": guest.record.uuid, "path": str(path), "ran": guest.state is DomainState.RUNNING}


async def _end_now(host: QemuHost, guest: Guest, reason: DomainShutoffReason) -> None:
    """Ends a guest while the driver starts."""
    from actors.qemu.attach import note_end

    process = guest.process
    if process is not None:
        guest.destroys = True
        process.send(signal.SIGKILL)
        await process.wait(_KILL_S)
        process.release()
        guest.process, guest.destroys = None, False
    if guest.monitor is not None:
        guest.monitor.close()
        guest.monitor = None
    await note_end(host, guest, reason)


async def settle_restore(host: QemuHost, guest: Guest, data: Mapping[str, object]) -> bool:
    """What a guest is whose memory the last process was having read; whether it is restored.

    Where QEMU has all of it, the guest goes on; where not, it ends, and its file is as it was.
    """
    if guest.run is None:
        return False
    try:
        async with asyncio.timeout(_ANSWER_S):
            migration, status = await guest.ask_all([("query-migrate", None), ("query-status", None)])
            is_whole = migration.get("status") == "completed"
            if is_whole and data["runs"] and not status.get("running"):
                await guest.ask("cont")
    except (VirtError, TimeoutError):
        is_whole = False
    if not is_whole:
        await _end_now(host, guest, DomainShutoffReason.FAILED)
        return False
    state, reason = _state_restored(runs=bool(data["runs"]))
    record = guest.running(state=int(state), reason=reason)
    if data["managed"]:
        record = msgspec.structs.replace(record, managed_save=False)
    await host.write(guest, record, completes=False)
    if data["managed"]:
        Path(str(data["path"])).unlink(missing_ok=True)
    return True


def _state_restored(*, runs: bool) -> tuple[DomainState, int]:
    if runs:
        return DomainState.RUNNING, int(DomainRunningReason.RESTORED)
    return DomainState.PAUSED, int(DomainPausedReason.MIGRATION)


async def settle_save(host: QemuHost, guest: Guest | None, data: dict[str, Any]) -> bool:
    """What is left of a save that the last process did not finish; whether it was done nevertheless.

    A guest that is still there goes on as if nobody had asked, and the unfinished file goes.
    """
    path = Path(str(data["path"]))
    if data.get("saved") and guest is not None and guest.run is not None:
        await _end_now(host, guest, DomainShutoffReason.SAVED)
    if guest is None or guest.run is None:
        try:
            read_header(path)
        except VirtError:
            path.unlink(missing_ok=True)
            return False
        if guest is not None and guest.is_persistent:
            is_managed = path == host.managed_save_path(guest)
            record = msgspec.structs.replace(
                guest.record, off_reason=int(DomainShutoffReason.SAVED), managed_save=is_managed
            )
            await host.write(guest, record)
        return True
    path.unlink(missing_ok=True)
    if data.get("ran") and guest.monitor is not None and guest.monitor.is_open:
        try:
            await guest.ask("migrate_cancel")
            await guest.ask("cont")
        except VirtError as exc:
            host.log.warning("a guest that was being saved does not go on", guest=guest.name, error=exc.message)
        else:
            guest.adopt(guest.running(state=int(DomainState.RUNNING), reason=int(DomainRunningReason.SAVE_CANCELED)))
    return False


@calls.handles(key="dom")
async def domain_save_flags(host: QemuHost, dom: DomainRef, to: str, dxml: str | None, flags: int) -> None:
    """Writes a guest's memory to a file and ends it.

    Raises NoSuchDomain, DomainStateError when it is off, HostSystemError and OperationFailed when the file cannot be
    written; the guest goes on then.
    """
    check_flags(flags, _FLAGS, "qemuDomainSaveFlags")
    guest = host.guest(dom)
    guest.need_run()
    async with host.intents.change("save", _facts(guest, Path(to))) as intent:
        await _save(host, guest, Path(to), flags, intent, dxml)
        await _end_saved(host, guest)


@calls.handles(key="dom")
async def domain_managed_save(host: QemuHost, dom: DomainRef, flags: int) -> None:
    """Puts a guest to sleep: its next start goes on where it was.

    Raises NoSuchDomain, DomainStateError when it is off or transient, HostSystemError and OperationFailed.
    """
    check_flags(flags, _FLAGS, "qemuDomainManagedSave")
    guest = host.guest(dom)
    guest.need_run()
    if not guest.is_persistent:
        raise DomainStateError("cannot do managed save for transient domain")
    path = host.managed_save_path(guest)
    async with host.intents.change("save", _facts(guest, path)) as intent:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        await _save(host, guest, path, flags, intent)
        guest.adopt(msgspec.structs.replace(guest.record, managed_save=True))
        await _end_saved(host, guest)


@calls.handles(key="dom")
async def domain_managed_save_remove(host: QemuHost, dom: DomainRef, flags: int) -> None:
    """Forgets a guest's saved memory. Raises NoSuchDomain, HostSystemError."""
    check_flags(flags, 0, "qemuDomainManagedSaveRemove")
    guest = host.guest(dom)
    try:
        host.managed_save_path(guest).unlink(missing_ok=True)
    except OSError as exc:
        raise HostSystemError(exc.errno or 0, "Failed to remove managed save file") from exc
    if guest.record.managed_save:
        await host.write(guest, msgspec.structs.replace(guest.record, managed_save=False))
        host.publish(guest)


async def _forget_managed(host: QemuHost, guest: Guest) -> None:
    await host.write(guest, msgspec.structs.replace(guest.record, managed_save=False), completes=False)
    host.managed_save_path(guest).unlink(missing_ok=True)


async def restore_managed(host: QemuHost, guest: Guest, wish: Wish, *, past_cache: bool) -> bool:
    """Starts a guest from its saved memory, which is used up by it; whether that was whole.

    Raises as a start does, OperationFailed.
    """
    path, paused = host.managed_save_path(guest), wish.paused
    try:
        image = read_header(path)
    except IncompleteImage:
        # a save that did not come to its end is no loss: the guest went on meanwhile
        host.log.warning("an incomplete saved memory is thrown away", guest=guest.name, path=str(path))
        await _forget_managed(host, guest)
        return False
    runs = image.was_running and not paused
    async with host.intents.change("restore", _restore_facts(guest, path, runs=runs, managed=True)) as intent:
        await _restore(host, guest, path, image, wish, runs=runs, past_cache=past_cache)
        guest.adopt(msgspec.structs.replace(guest.record, managed_save=False))
        await host.store.write(records.path_of(guest.record.uuid), records.encode(guest.record), completes=False)
        path.unlink(missing_ok=True)
        intent.result(guest.ref)
    _tell_restored(host, guest)
    return True


def _restore_facts(guest: Guest, path: Path, *, runs: bool, managed: bool) -> dict[str, object]:
    return {"uuid": guest.record.uuid, "path": str(path), "runs": runs, "managed": managed}


async def _restore(
    host: QemuHost, guest: Guest, path: Path, image: SavedImage, wish: Wish, *, runs: bool, past_cache: bool
) -> None:
    definition = await read_definition(host, image.xml, ran=True)
    await start_guest(host, guest, definition, replace(wish, paused=True, incoming=path))
    try:
        async with reading(path, image.offset, Way(image.compression, past_cache)) as stream:
            await _hand_over(guest, stream)
            await guest.ask("migrate-incoming", {"uri": f"fd:{_FD_NAME}"})
            await _wait_for_memory(guest)
        if runs:
            guest.expected.add("RESUME")
            try:
                await guest.ask("cont")
            finally:
                guest.expected.discard("RESUME")
        state, reason = _state_restored(runs=runs)
        guest.adopt(guest.running(state=int(state), reason=reason))
    except BaseException:
        guest.destroys, guest.held = True, None
        await end_process(guest, force=True)
        await host.end(guest, DomainShutoffReason.FAILED)
        raise


async def _wait_for_memory(guest: Guest) -> None:
    while True:
        status = await guest.ask("query-status")
        if status.get("status") != "inmigrate":
            break
        migration = await guest.ask("query-migrate")
        if migration.get("status") == "failed":
            raise OperationFailed("the saved memory could not be read")
        await asyncio.sleep(_POLL_S)
    migration = await guest.ask("query-migrate")
    if migration.get("status") == "failed":
        raise OperationFailed("the saved memory could not be read")


def _tell_restored(host: QemuHost, guest: Guest) -> None:
    told = [states.started(guest, Started.RESTORED)]
    if guest.state is DomainState.RUNNING:
        told.append(states.resumed(guest, Resumed.UNPAUSED))
    else:
        told.append(states.suspended(guest, Suspended.RESTORED))
    announce(host, guest, told)


@calls.handles()
async def domain_restore_flags(host: QemuHost, from_: str, dxml: str | None, flags: int) -> None:
    """Starts a guest from a file that holds its memory.

    Raises OperationFailed for a file that is none, DomainStateError when the guest is active, and what a start raises.
    """
    check_flags(flags, _FLAGS | int(SaveFlags.RESET_NVRAM), "qemuDomainRestoreFlags")
    path = Path(from_)
    image = read_header(path)
    if dxml:
        image = await changed_image(host, image, dxml)
    definition = await read_definition(host, image.xml, ran=True)
    async with (
        host.runtime.mailbox(("name", definition.name)).change(),
        host.runtime.mailbox(("domain", definition.uuid.bytes)).change(),
    ):
        guest = find_or_make(host, definition)
        if guest.is_active:
            raise DomainStateError(f"domain '{guest.name}' is already active")
        is_new = guest.key not in host.guests
        host.add(guest)
        runs = (image.was_running or bool(flags & SaveFlags.RUNNING)) and not flags & SaveFlags.PAUSED
        try:
            async with host.intents.change("restore", _restore_facts(guest, path, runs=runs, managed=False)):
                wish = Wish(resets_nvram=bool(flags & SaveFlags.RESET_NVRAM))
                past_cache = bool(flags & SaveFlags.BYPASS_CACHE)
                await _restore(host, guest, path, image, wish, runs=runs, past_cache=past_cache)
        except BaseException:
            if is_new:
                host.forget(guest)
            raise
        _tell_restored(host, guest)
