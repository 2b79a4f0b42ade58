"""Starting a guest: from its definition to its first instruction.

The order is what makes it fast and safe. The intent is on disk before the process exists; the process is recorded while
QEMU builds the machine, which takes longer than the disk; all questions to the new monitor are one write, sent before
QEMU has even opened its eyes; only when everything has been answered is the guest let go.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import time
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import msgspec

from actors.qemu import notices, records
from actors.qemu.capabilities.model import Capabilities
from actors.qemu.claims import StartClaim, claim_for_start, hand_leases_over, holder_name, let_go
from actors.qemu.command.build import build_command
from actors.qemu.command.launch import MASTER_KEY, Launch
from actors.qemu.command.line import CommandLine
from actors.qemu.confining.limits import apply_limits, separate_processors
from actors.qemu.confining.start import confinement
from actors.qemu.firmware import default_folders, prepare_nvram
from actors.qemu.guest import Guest
from actors.qemu.helpers.crew import Crew
from actors.qemu.helpers.leavings import lose_tpm, loses_tpm
from actors.qemu.host import QemuHost
from actors.qemu.host_options import options_of, passwords_of, places_of
from actors.qemu.images import complete_chains
from actors.qemu.lending.guests import find_devices, lend_for_start
from actors.qemu.linking.scripts import run_scripts
from actors.qemu.live import balloon_commands, learn_ptys, password_commands, reboot_command, throttle_commands
from actors.qemu.live_processor import first_path, is_told, learn_processor, processor_questions
from actors.qemu.logs import last_words, log_of, open_log
from actors.qemu.memory_lock import apply_lock_limit
from actors.qemu.monitor.link import (
    Command,
    CommandRefused,
    Monitor,
    MonitorGone,
    connect_socket,
    listening_socket,
    open_monitor,
)
from actors.qemu.needs import KEY_BYTES, ask_ports
from actors.qemu.owning.identity import Identity, Owner, identity_of, note_identity
from actors.qemu.pid_files import note_pid
from actors.qemu.prepare import prepare_domain
from actors.qemu.process import GuestProcess, spawn_process
from actors.qemu.records import Move, Record, Run
from actors.qemu.resources import HostPorts, StartResources, find_render_node
from actors.qemu.scopes.starting import scope_for_start
from actors.qemu.traces import clear_run
from actors.qemu.transient import overlays_to_make, put_overlays, remove_files
from actors.qemu.tuning.applying import apply_tuning
from actors.qemu.tuning.groups import DEFAULT_PARTITION
from actors.runtime.context import find_call
from conf.domain.checks_interfaces import check_connection
from conf.domain.clock import LifecycleAction
from conf.domain.documents import write_domain
from conf.domain.domain import Domain
from conf.domain.resources import Resource
from schema.enums.domain_state import DomainPausedReason, DomainRunningReason, DomainShutoffReason, DomainState
from schema.errors import ConfigUnsupported, HostSystemError, InternalError, VirtError
from settings.paths import check_socket_length

NAME_IN_PATHS: Final = 20


@dataclass(frozen=True, slots=True)
class Wish:
    """How a guest is to be started."""

    paused: bool = False
    bound_to: str = ""
    """The connection that it ends with."""
    resets_nvram: bool = False
    incoming: Path | None = None
    """A file with the guest's memory."""
    reason: DomainRunningReason = DomainRunningReason.BOOTED
    move: Move | None = None
    result: Any = None
    """What the caller of a start is told, where that is not the guest."""


@dataclass(slots=True)
class Started:
    """A guest whose process runs: what is to be remembered of it."""

    run: Run
    live: Domain
    process: GuestProcess
    monitor: Monitor
    claim: StartClaim


async def start_guest(host: QemuHost, guest: Guest, config: Domain, wish: Wish) -> None:
    """Starts a guest with a definition, which is copied. The caller holds its change lane, and announces the start.

    Nothing is left of it when this fails. Raises ConfigUnsupported for what QEMU cannot do, HostSystemError for what
    the host refuses, InternalError with QEMU's own words when it ends at once.
    """
    caps = await host.emulator_for(config.os.kind.arch, config.devices.emulator)
    number = await host.new_id()
    folder = host.run_folder / f"domain-{number}-{short_name(config.name)}"
    overlays = overlays_to_make(config)
    facts: dict[str, object] = {
        "uuid": guest.record.uuid,
        "name": config.name,
        "id": number,
        "folder": str(folder),
    }
    if overlays:
        facts["overlays"] = list(overlays.values())
    loses = facts["loses_tpm"] = loses_tpm(host, guest, config, arrives=wish.move is not None)
    try:
        async with host.intents.change("start", facts) as intent:
            with contextlib.ExitStack() as undo:
                if loses:
                    undo.callback(lose_tpm, host, guest.record.uuid)
                await _start(host, guest, config, caps, number, folder, wish)
                undo.pop_all()
            call = find_call()
            if call is not None and call.procedure.ret:
                intent.result(guest.ref if wish.result is None else wish.result)
    except HostSystemError as exc:
        if guest.run is None:
            raise
        # it runs: a successor of this process finds that out itself
        host.log.warning("the end of a start could not be written", guest=guest.name, error=exc.message)
    host.keep_soon(guest)


async def _start(
    host: QemuHost, guest: Guest, config: Domain, caps: Capabilities, number: int, folder: Path, wish: Wish
) -> None:
    async with AsyncExitStack() as undo:
        undo.callback(_tell_failure, host, guest)
        guest.held = []
        undo.callback(setattr, guest, "held", None)
        partition = config.resource.partition if config.resource is not None else None
        undo.callback(clear_run, folder, config.name, partition=partition or "")
        begun = await _launch(host, guest, config, caps, number, folder, wish, undo)
        undo.callback(begun.claim.close)
        undo.callback(_forget_process, guest)
        guest.monitor = begun.monitor
        host.watch(guest, begun.process)
        note_pid(host.run_folder, config.name, begun.run.pid)
        record = msgspec.structs.replace(guest.record, run=begun.run, name=config.name)
        # the disk is written while QEMU builds the machine
        table = host.emulators.processors().x86
        about_processor = (
            processor_questions(begun.live, table) if table is not None and is_told(begun.live, table) else []
        )
        questions = begun.monitor.submit([*_first_questions(begun.live), *about_processor])
        try:
            await host.write(guest, record, live=begun.live)
            undo.push_async_callback(_unwrite, host, guest)
            answers = await _answers(host, begun, questions, len(about_processor))
            await hand_leases_over(guest, begun.monitor, begun.claim)
        finally:
            for question in questions:
                question.cancel()
        changed = learn_ptys(begun.live, answers["query-chardev"])
        threads = tuple(int(one["thread-id"]) for one in answers["query-cpus-fast"])
        run = msgspec.structs.replace(begun.run, threads=threads)
        if "balloon" in answers:
            # the guest has given nothing back before its driver runs
            begun.live.current_memory_kib = int(answers["balloon"]["actual"]) // 1024
            changed = True
        if about_processor and table is not None:
            path = first_path(answers["query-cpus-fast"])
            asked = await learn_processor(begun.monitor, begun.live, table, path, answers["processor"])
            run, changed = msgspec.structs.replace(run, processor=asked or ""), True
        if changed:
            run = msgspec.structs.replace(run, xml=_live_xml(begun.live, number), facts=records.facts_of(begun.live))
        guest.adopt(msgspec.structs.replace(guest.record, run=run), live=begun.live)
        plugged = await _plug_processors(guest, begun.live)
        if plugged is not None:
            run = msgspec.structs.replace(
                run, threads=plugged, xml=_live_xml(begun.live, number), facts=records.facts_of(begun.live)
            )
            guest.adopt(msgspec.structs.replace(guest.record, run=run), live=begun.live)
        guest.perf = await apply_tuning(host, run, begun.live, begun.monitor)
        separate_processors(run.threads, host.config.qemu)
        await _settle(host, guest, begun.live, caps)
        if not wish.paused and wish.incoming is None:
            guest.expected.add("RESUME")
            try:
                await guest.ask("cont")
            finally:
                guest.expected.discard("RESUME")
            run = msgspec.structs.replace(run, state=int(DomainState.RUNNING), reason=int(wish.reason))
            guest.adopt(msgspec.structs.replace(guest.record, run=run), live=begun.live)
        undo.pop_all()


def short_name(name: str) -> str:
    """As much of a guest's name as paths can bear."""
    return name.replace("/", "_").encode()[:NAME_IN_PATHS].decode(errors="ignore")


async def _launch(
    host: QemuHost,
    guest: Guest,
    config: Domain,
    caps: Capabilities,
    number: int,
    folder: Path,
    wish: Wish,
    undo: AsyncExitStack,
) -> Started:
    live = config.copy()
    if live.devices.disks:
        await host.runtime.in_thread(complete_chains, live)
    overlays = overlays_to_make(live)
    undo.callback(remove_files, overlays.values())
    await put_overlays(live, overlays)
    options = options_of(host)
    needs = await ask_ports(live, host.needed, folder, options)
    await find_devices(host, live, cold=wish.incoming is None and wish.move is None)
    for interface in live.devices.interfaces:
        check_connection(interface)
    rules = host.rules(caps)
    ports = HostPorts(host.ports)
    undo.callback(ports.give_back)
    places = places_of(host, folder)
    processors = await host.runtime.in_thread(host.emulators.processors)
    prepare_domain(live, rules, places, ports, find_render_node, processors=processors)
    if os.geteuid() == 0 and (live.resource is None or live.resource.partition is None):
        # where its control groups are once it has limits
        resource = live.resource = live.resource or Resource()
        resource.partition = DEFAULT_PARTITION
    identity = identity_of(live, host.config.qemu)
    note_identity(live, identity)
    prepare_nvram(live, reset=wish.resets_nvram, folders=default_folders())
    await lend_for_start(host, guest, live, holder_name(guest.record.uuid, number), undo)
    resources = StartResources(folder, guest.fd_groups, needs)
    undo.callback(resources.undo)
    with contextlib.ExitStack() as ours:
        ours.callback(resources.close)
        _make_folder(folder)
        _give_to(identity, folder)
        crew = Crew(host, config.name, folder, _other(identity))
        undo.push_async_callback(crew.end)
        resources.ends = await crew.start(live, incoming=wish.incoming is not None or wish.move is not None)
        path = folder / "monitor.sock"
        _check_path(path)
        listener = listening_socket(path)
        ours.callback(listener.close)
        launch = Launch(live, caps, options, folder, resources, listener.fileno(), guest_id=number)
        if wish.incoming is not None:
            launch.incoming = "defer"
        line = build_command(launch)
        log = open_log(host, config.name, line)
        connected = connect_socket(path)
        ours.callback(connected.close)
        await run_scripts(live.devices.interfaces)
        claim = await claim_for_start(host, guest, live, number, identity, locks=wish.move is None)
        ours.callback(claim.close)
        undo.push_async_callback(let_go, host, guest.record.uuid, number)
        process = _spawn(host, live, line, log, folder, [listener.fileno(), *resources.inherited], identity)
        undo.push_async_callback(_kill, process)
        apply_lock_limit(process.pid, live)
        apply_limits(process.pid, host.config.qemu)
        group = await scope_for_start(host, live, number, process.pid, folder)
        ours.pop_all()
        resources.close()
        listener.close()
    monitor = await open_monitor(
        connected,
        lambda notice: notices.on_notice(host, guest, notice),
        lambda: notices.on_gone(host, guest),
    )
    undo.callback(monitor.close)
    now = time.time()
    run = Run(
        id=number,
        pid=process.pid,
        start_ticks=process.identity.start_ticks,
        boot=process.identity.boot,
        folder=str(folder),
        emulator=caps.emulator,
        xml=_live_xml(live, number),
        facts=records.facts_of(live),
        state=int(DomainState.PAUSED),
        reason=int(DomainPausedReason.USER if wish.paused else DomainPausedReason.STARTING_UP),
        since=now,
        started=now,
        bound_to=wish.bound_to,
        move=wish.move,
        partition=(live.resource.partition if live.resource is not None else None) or "",
        group=group,
    )
    if crew.roles:
        crew.serve(guest)
    return Started(run, live, process, monitor, claim)


def _live_xml(live: Domain, number: int) -> str:
    from conf.flags import XmlFlags

    return write_domain(live, XmlFlags.SECURE, id=number)


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        key = folder / MASTER_KEY
        descriptor = os.open(key, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        try:
            os.write(descriptor, secrets.token_bytes(KEY_BYTES))
        finally:
            os.close(descriptor)
    except OSError as exc:
        raise HostSystemError(exc.errno or 0, f"cannot create directory '{folder}'") from exc


def _check_path(path: Path) -> None:
    try:
        check_socket_length(path)
    except ValueError as exc:
        raise ConfigUnsupported(str(exc)) from exc


def _give_to(identity: Identity | None, folder: Path) -> None:
    if identity is None or identity.process == Owner(0, 0):
        return
    try:
        for path in (folder, *folder.iterdir()):
            os.chown(path, identity.process.uid, identity.process.gid)
        # the way to it is open to those who know it
        folder.parent.chmod(0o711)
    except OSError as exc:
        raise HostSystemError(exc.errno or 0, f"cannot give '{folder}' to the guest's user") from exc


def _other(identity: Identity | None) -> tuple[int, int] | None:
    """Who the guest's process becomes; nothing changes for who is root and stays it."""
    if identity is None or identity.process == Owner(0, 0):
        return None
    return identity.process.uid, identity.process.gid


def _spawn(
    host: QemuHost,
    live: Domain,
    line: CommandLine,
    log: Path,
    folder: Path,
    inherit: list[int],
    identity: Identity | None,
) -> GuestProcess:
    _give_to(identity, folder)
    other = _other(identity)
    try:
        return spawn_process(
            line.words,
            environment=line.environment,
            log=log,
            inherit=inherit,
            user=other,
            groups=() if other is None or identity is None else identity.groups,
            confine=confinement(host.config.qemu, live, folder, identity),
        )
    except OSError as exc:
        raise InternalError(f"cannot execute binary {line.words[0]}: {exc.strerror or exc}") from exc


async def _kill(process: GuestProcess) -> None:
    import signal

    process.send(signal.SIGKILL)
    await process.wait(5.0)


def _forget_process(guest: Guest) -> None:
    guest.process = guest.monitor = guest.leases = None
    guest.expected.clear()
    if guest.perf is not None:
        guest.perf.close()
        guest.perf = None


def _failed(guest: Guest) -> Record:
    """What is kept of a guest that is off because its start failed."""
    record: Record = msgspec.structs.replace(
        guest.record, run=None, off_reason=int(DomainShutoffReason.FAILED), off_since=time.time()
    )
    return record


def _tell_failure(host: QemuHost, guest: Guest) -> None:
    guest.adopt(_failed(guest))
    if guest.record.xml is not None:
        host.publish(guest)


async def _unwrite(host: QemuHost, guest: Guest) -> None:
    record = _failed(guest)
    path = records.path_of(record.uuid)
    try:
        if record.xml is not None:
            await host.store.write(path, records.encode(record))
        else:
            await host.store.remove(path)
    except VirtError as exc:
        host.log.warning("a start that failed could not be taken back on disk", guest=guest.name, error=exc.message)
    guest.adopt(record)


def _first_questions(live: Domain) -> list[Command]:
    return [
        ("qmp_capabilities", None),
        ("query-chardev", None),
        ("query-cpus-fast", None),
        *balloon_commands(live),
    ]


async def _answers(
    host: QemuHost, begun: Started, questions: list[asyncio.Future[object]], about_processor: int
) -> dict[str, Any]:
    names = ["qmp_capabilities", "query-chardev", "query-cpus-fast"]
    answers: dict[str, Any] = {"processor": []}
    for place, question in enumerate(questions):
        # of the balloon's answers the last one counts
        name = names[place] if place < len(names) else "balloon"
        if place >= len(questions) - about_processor:
            name = "processor"
        try:
            answer = await question
        except CommandRefused as exc:
            if name != "processor":
                raise InternalError(f"unable to execute QEMU command '{exc.command}': {exc.reason}") from exc
            answer = None
        except MonitorGone as exc:
            await begun.process.wait(1.0)
            said = last_words(log_of(host, begun.live.name))
            raise InternalError(f"process exited while connecting to monitor: {said}") from exc
        if name == "processor":
            answers[name].append(answer)
        else:
            answers[name] = answer
    return answers


async def _plug_processors(guest: Guest, live: Domain) -> tuple[int, ...] | None:
    from actors.qemu.hotplug.vcpus import plug_listed

    return await plug_listed(guest, live)


async def _settle(host: QemuHost, guest: Guest, live: Domain, caps: Capabilities) -> None:
    """Sets what no command line can: limits of disks, passwords of displays."""
    commands = [*throttle_commands(live), *password_commands(live, passwords_of(host))]
    if live.on_reboot is LifecycleAction.DESTROY and caps.has("set-action"):
        commands.append(reboot_command(live.on_reboot))
    if commands:
        await guest.ask_all(commands)
