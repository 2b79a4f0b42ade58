"""Finding the guests that outlived the last process of this driver, and those that ended meanwhile.

No guest can hold up the start: each has a short while to answer, side by side with all others; one that does not is
taken as its document says, and is asked again in the background.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import time
from pathlib import Path
from typing import Any, Final
from uuid import UUID

import msgspec

from actors.qemu import notices, records, states
from actors.qemu.block.jobs import settle_soon
from actors.qemu.claims import take_up_claims
from actors.qemu.command.build import marker_of
from actors.qemu.ending import after_shutdown
from actors.qemu.guest import Guest
from actors.qemu.host import QemuHost
from actors.qemu.index import brief, read_documents, read_index
from actors.qemu.live import has_balloon
from actors.qemu.moments.keeping import load_moments
from actors.qemu.moments.settling import settle_snapshots
from actors.qemu.monitor.link import Command, CommandRefused, Monitor, MonitorGone, connect_socket, open_monitor
from actors.qemu.process import find_pids_by_argument, find_process
from actors.qemu.records import KeptText, Record
from actors.qemu.traces import clear_run, sweep_runs
from actors.qemu.transient import drop_overlays, remove_files
from actors.runtime.intents import UnfinishedIntent
from actors.runtime.objects import digest_of
from schema.enums.domain import DomainCreateFlags
from schema.enums.domain_state import DomainShutoffReason, DomainState
from schema.errors import HostSystemError, VirtError
from schema.table import need_procedure

ANSWER_S: Final = 0.15
"""How long the start waits for guests to say how they are."""
RETRY_S: Final = 0.5
RETRY_MAX_S: Final = 5.0


async def restore_guests(host: QemuHost) -> None:
    """Reads every guest's document and attaches to those that run."""
    host.load_ids()
    host.owners.read()
    digests = await _read_documents(host)
    load_moments(host)
    await _settle_intents(host)
    running = [guest for guest in host.guests.values() if guest.run is not None]
    if running:
        await asyncio.gather(*(_attach(host, guest) for guest in running))
    await _settle_saves(host)
    await _settle_plugs(host)
    await _settle_helpers(host)
    await settle_snapshots(host)
    _carry_on_reverts(host)
    await _sweep_folders(host)
    await take_up_claims(host)
    for guest in list(host.guests.values()):
        if guest.run is None and not guest.is_persistent:
            host.forget(guest)
            continue
        host.objects.restore(
            "domain",
            guest.key,
            guest.name,
            guest.summary(),
            digest=digests.get(guest.key, b"") if isinstance(guest.record.xml, KeptText) else _digest_of(guest.record),
        )


async def _read_documents(host: QemuHost) -> dict[bytes, bytes]:
    """Every guest that has a document is known then; gives the marks of definitions that were left on disk."""
    folder = host.store.path(records.FOLDER)
    old = read_index(host.index.path)
    try:
        found = read_documents(folder, old)
    except OSError as exc:
        raise HostSystemError(exc.errno or 0, f"cannot read '{folder}'") from exc
    for name, error in found.broken.items():
        host.log.error("a guest's document cannot be read", path=f"{records.FOLDER}/{name}", error=error)
        _keep_unreadable(host, name)
    digests, place = {}, str(folder)
    for known in found.known.values():
        guest = Guest(brief(known, place), host.scope)
        digests[guest.key] = known.digest
        host.add(guest)
    host.index.found = found
    host.index.is_current = found.read == 0 and len(old) == len(found.known)
    return digests


def _digest_of(record: Record) -> bytes:
    return digest_of((record.xml or "").encode())


def _keep_unreadable(host: QemuHost, path: str) -> None:
    """A guest whose document is broken is not gone: lists go on to show what was last known of it."""
    try:
        key = UUID(Path(path).stem).bytes
    except ValueError:
        return
    known = host.runtime.ledger.entries.get(("domain", host.scope, key))
    if known is not None:
        host.objects.restore("domain", key, known.name, known.summary, digest=known.digest)


async def _settle_intents(host: QemuHost) -> None:
    for intent in host.intents.open:
        if intent.kind == "start":
            await _settle_start(host, intent)
        elif intent.kind == "destroy":
            await _settle_destroy(host, intent)


async def _settle_destroy(host: QemuHost, intent: UnfinishedIntent) -> None:
    """A guest that was to be destroyed: it is, now, unless it was only asked to end and has not done so."""
    guest = next((one for one in host.guests.values() if one.record.uuid == intent.data["uuid"]), None)
    run = guest.run if guest is not None else None
    if guest is not None and run is not None:
        process = find_process(run.pid, run.process)
        if process is not None:
            if not intent.data.get("force"):
                process.release()
                await intent.undo()
                return
            process.send(signal.SIGKILL)
            await process.wait(5.0)
            process.release()
        await note_end(host, guest, DomainShutoffReason.DESTROYED)
    await intent.finish()


async def _settle_plugs(host: QemuHost) -> None:
    from actors.qemu.hotplug.settle import settle_plugs

    await settle_plugs(host)


def _carry_on_reverts(host: QemuHost) -> None:
    from actors.qemu.moments.carrying import carry_on_reverts

    carry_on_reverts(host)


async def _settle_saves(host: QemuHost) -> None:
    from actors.qemu.saving import settle_restore, settle_save
    from actors.qemu.tuning.dumps import settle_dump

    for intent in host.intents.open:
        if intent.kind == "save":
            guest = next((one for one in host.guests.values() if one.record.uuid == intent.data["uuid"]), None)
            if await settle_save(host, guest, intent.data):
                await intent.finish()
            else:
                await intent.undo()
        elif intent.kind == "restore":
            guest = next((one for one in host.guests.values() if one.record.uuid == intent.data["uuid"]), None)
            if guest is not None and await settle_restore(host, guest, intent.data):
                returns = bool(intent.procedure) and bool(need_procedure(intent.procedure).ret)
                await intent.finish(guest.ref if returns else None)
            else:
                await intent.undo()
        elif intent.kind == "dump":
            guest = next((one for one in host.guests.values() if one.record.uuid == intent.data["uuid"]), None)
            try:
                await settle_dump(guest, Path(str(intent.data["path"])), ran=bool(intent.data["ran"]))
            except VirtError as exc:
                host.log.warning("a guest that was being dumped does not go on", error=exc.message)
            await intent.undo()


async def _settle_start(host: QemuHost, intent: UnfinishedIntent) -> None:
    """A start that the last process did not finish.

    A guest that has not run an instruction yet is taken back; one that runs is kept.
    """
    uuid, folder = str(intent.data["uuid"]), Path(str(intent.data["folder"]))
    guest = next((one for one in host.guests.values() if one.record.uuid == uuid), None)
    pids = find_pids_by_argument(marker_of(folder))
    run = guest.run if guest is not None and guest.run is not None and guest.run.folder == str(folder) else None
    lives = run is not None and find_process(run.pid, run.process) is not None
    # one that waits for its memory goes on where it came from
    waits = run is not None and run.move is not None
    # one that does not say how it is may have run for long
    if guest is not None and lives and not waits and await _status_of(folder) != "prelaunch":
        returns = bool(intent.procedure) and bool(need_procedure(intent.procedure).ret)
        await intent.finish(guest.ref if returns else None)
        return
    for pid in pids:
        found = find_process(pid)
        if found is not None:
            found.send(signal.SIGKILL)
            await found.wait(5.0)
            found.release()
    if guest is not None and run is not None:
        await note_end(host, guest, DomainShutoffReason.FAILED)
    remove_files(str(path) for path in intent.data.get("overlays", ()))
    await _clear(folder, str(intent.data["name"]))
    if intent.data.get("loses_tpm"):
        _lose_tpm(host, uuid)
    await intent.undo()


def _lose_tpm(host: QemuHost, uuid: str) -> None:
    from actors.qemu.helpers.leavings import lose_tpm

    lose_tpm(host, uuid)


async def _sweep_folders(host: QemuHost) -> None:
    """Folders of guests that ended just before the last process did go, but for those in which something still runs."""
    running = {guest.run.folder: guest.name for guest in host.guests.values() if guest.run is not None}
    alive = {Path(folder).name for folder in running}
    for folder in host.run_folder.glob("domain-*"):
        if find_pids_by_argument(marker_of(folder)):
            alive.add(folder.name)
        elif str(folder) not in running:
            await _clear(folder, "")
    sweep_runs(host.run_folder, alive, running.values())


async def _clear(folder: Path, name: str, partition: str = "", group: str = "") -> None:
    """Nothing of a guest's run is left, helpers of it included."""
    from actors.qemu.helpers.processes import clear_folder

    await clear_folder(folder)
    clear_run(folder, name, partition=partition, group=group)


async def _status_of(folder: Path) -> str | None:
    try:
        connected = connect_socket(folder / "monitor.sock")
    except OSError:
        return None
    monitor = await open_monitor(connected, lambda notice: None, lambda: None)
    try:
        async with asyncio.timeout(1.0):
            _, future = monitor.submit([("qmp_capabilities", None), ("query-status", None)])
            return str((await future)["status"])
    except (TimeoutError, MonitorGone, CommandRefused, KeyError, TypeError):
        return None
    finally:
        monitor.close()


async def _attach(host: QemuHost, guest: Guest) -> None:
    run = guest.need_run()
    process = find_process(run.pid, run.process)
    if process is None:
        await _ended_meanwhile(host, guest)
        return
    host.watch(guest, process)
    await _take_over_helpers(host, guest)
    host.ports.update(_ports_of(guest))
    try:
        await asyncio.wait_for(connect_monitor(host, guest, starting=True), ANSWER_S)
    except TimeoutError:
        host.log.warning("a guest does not answer", guest=guest.name, pid=process.pid)
        _drop_monitor(guest)
        reconnect_soon(host, guest)
    except (OSError, MonitorGone, VirtError) as exc:
        host.log.warning("a guest's monitor cannot be reached", guest=guest.name, error=str(exc))
        _drop_monitor(guest)
        reconnect_soon(host, guest)


async def _take_over_helpers(host: QemuHost, guest: Guest) -> None:
    from actors.qemu.helpers.crew import take_over

    await take_over(host, guest)


async def _settle_helpers(host: QemuHost) -> None:
    from actors.qemu.helpers.crew import settle_crews

    await settle_crews(host)


def _ports_of(guest: Guest) -> set[int]:
    ports: set[int] = set()
    try:
        graphics = guest.live.devices.graphics
    except VirtError:
        return ports  # its document says nothing that can be understood; the guest itself is none the worse
    for one in graphics:
        ports |= {port for port in (one.port, one.tls_port, one.websocket) if port and port > 0}
    return ports


async def _ended_meanwhile(host: QemuHost, guest: Guest) -> None:
    """A guest that ended while nobody looked: it crashed, unless the host itself went down."""
    run = guest.need_run()
    reason = DomainShutoffReason.CRASHED
    if guest.state is DomainState.SHUTDOWN:
        reason = DomainShutoffReason.SHUTDOWN
    elif run.boot != _boot():
        reason = DomainShutoffReason.UNKNOWN
    await note_end(host, guest, reason)


async def note_end(host: QemuHost, guest: Guest, reason: DomainShutoffReason) -> None:
    """A guest's process is gone; while the driver starts nobody can be told yet."""
    run = guest.need_run()
    record: Record = msgspec.structs.replace(guest.record, run=None, off_reason=int(reason), off_since=time.time())
    try:
        if guest.is_persistent:
            await host.store.write(records.path_of(record.uuid), records.encode(record))
        else:
            await host.store.remove(records.path_of(record.uuid))
    except VirtError as exc:
        host.log.warning("the end of a guest could not be written", guest=guest.name, error=exc.message)
    from actors.qemu.helpers.parting import part

    await part(host, guest, run)
    with contextlib.suppress(VirtError):
        drop_overlays(guest.live.devices.disks)
    await _clear(Path(run.folder), record.name, run.partition, run.group)
    guest.adopt(record)


def _boot() -> str:
    from actors.qemu.process import boot_id

    return boot_id()


def _drop_monitor(guest: Guest) -> None:
    if guest.monitor is not None:
        guest.monitor.close()
        guest.monitor = None


_QUESTIONS: Final[tuple[Command, ...]] = (
    ("qmp_capabilities", None),
    ("query-uuid", None),
    ("query-status", None),
)


async def connect_monitor(host: QemuHost, guest: Guest, *, starting: bool = False) -> None:
    """Connects to a running guest's monitor and takes over what changed meanwhile.

    Raises OSError and MonitorGone when it cannot be reached, VirtError when it is another guest's.
    """
    connected = connect_socket(guest.folder / "monitor.sock")
    monitor = await open_monitor(
        connected, lambda notice: notices.on_notice(host, guest, notice), lambda: notices.on_gone(host, guest)
    )
    guest.monitor = monitor
    questions = list(_QUESTIONS)
    if has_balloon(guest.live):
        questions.append(("query-balloon", None))
    answers = await _all(monitor, questions)
    if str((answers[1] or {}).get("UUID", "")).lower() != guest.record.uuid:
        _drop_monitor(guest)
        raise MonitorGone(f"the monitor of guest '{guest.name}' is another guest's")
    if len(answers) > 3 and answers[3] is not None:
        _take_balloon(guest, int(answers[3]["actual"]) // 1024)
    _take_status(host, guest, str((answers[2] or {}).get("status", "")), starting=starting)
    if not starting:
        settle_soon(host, guest)


async def _all(monitor: Monitor, questions: list[Command]) -> list[Any]:
    answers: list[Any] = []
    for future in monitor.submit(questions):
        try:
            answers.append(await future)
        except CommandRefused:
            answers.append(None)
    return answers


def _take_balloon(guest: Guest, actual_kib: int) -> None:
    guest.balloon_kib = actual_kib
    live = guest.live
    live.current_memory_kib = actual_kib
    facts = msgspec.structs.replace(guest.facts, mem=actual_kib)
    guest.adopt(guest.running(facts=facts), live=live)


def _take_status(host: QemuHost, guest: Guest, status: str, *, starting: bool) -> None:
    run = guest.need_run()
    state, reason = states.state_of_status(status, guest.state, run.reason)
    if status == "shutdown":
        guest.got_shutdown = True
        host.runtime.spawn(after_shutdown(host, guest), f"shutdown of {guest.name}")
    if state is guest.state or (status == "shutdown" and run.reboots):
        return
    if starting:
        guest.adopt(guest.running(state=int(state), reason=int(reason), since=time.time()))
        return
    told = []
    if state is DomainState.PAUSED:
        told.append(states.suspended(guest))
    elif state is DomainState.RUNNING:
        told.append(states.resumed(guest))
    elif state is DomainState.SHUTDOWN:
        told.append(states.shut_down(guest, None))
    host.change_state(guest, state, reason, told, origin="unknown")


def reconnect_soon(host: QemuHost, guest: Guest) -> None:
    """Tries to reach a running guest's monitor in the background until it answers or the guest ends."""
    host.runtime.spawn(_reconnect(host, guest), f"reconnect {guest.name}")


async def _reconnect(host: QemuHost, guest: Guest) -> None:
    process, wait_s = guest.process, RETRY_S
    while process is not None and guest.process is process and process.is_alive and guest.run is not None:
        try:
            await asyncio.wait_for(connect_monitor(host, guest), 60.0)
            host.log.info("a guest answers again", guest=guest.name)
            await _look_after(host, guest)
            return
        except TimeoutError:
            _drop_monitor(guest)
        except (OSError, MonitorGone, VirtError):
            _drop_monitor(guest)
        if await process.wait(wait_s):
            return
        wait_s = min(wait_s * 2, RETRY_MAX_S)


async def _look_after(host: QemuHost, guest: Guest) -> None:
    from actors.qemu.hotplug.settle import look_after

    await look_after(host, guest)


async def ask_status(host: QemuHost, guest: Guest) -> None:
    """Takes over a guest's state from its monitor; one that does not answer within a second is left as it is."""
    monitor = guest.monitor
    if monitor is None:
        return
    try:
        async with asyncio.timeout(1.0):
            (status,) = await _all(monitor, [("query-status", None)])
    except (TimeoutError, MonitorGone):
        return
    _take_status(host, guest, str((status or {}).get("status", "")), starting=False)


async def start_flagged(host: QemuHost) -> None:
    """Starts the guests that are to start with the host, once for each boot of the host.

    Not with the agent: a restart of it must not bring up what somebody shut down meanwhile.
    """
    marker, key = host.run_folder / "autostarted", _boot()
    try:
        if marker.read_text(encoding="ascii") == key:
            return
    except OSError:
        pass
    from actors.qemu.lifecycle import boot

    await asyncio.sleep(0)  # until start() has returned nothing can be told
    host.run_folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    try:
        marker.write_text(key, encoding="ascii")
    except OSError as exc:
        host.log.error("guests are not started: it cannot be noted that they were", error=str(exc))
        return
    flags = DomainCreateFlags.START_BYPASS_CACHE if host.config.qemu.auto_start_bypass_cache else 0
    for guest in list(host.guests.values()):
        if guest.record.autostart and not guest.is_active:
            async with host.runtime.mailbox(("domain", guest.key)).change("autostart"):
                if guest.is_active or host.guests.get(guest.key) is not guest:
                    continue
                try:
                    await boot(host, guest, flags)
                except VirtError as exc:
                    host.log.error("a guest did not start with the agent", guest=guest.name, error=exc.message)
            if host.config.qemu.autostart_delay_s > 0:
                await asyncio.sleep(host.config.qemu.autostart_delay_s)
