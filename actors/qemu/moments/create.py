"""Taking snapshots of guests: within their images or in new ones, with their memory or without, running or off."""

from __future__ import annotations

import asyncio
import contextlib
import time
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Final

import msgspec

from actors.qemu import records
from actors.qemu.agent.asking import ask_agent, check_agent, thaw
from actors.qemu.block.chain import disk_of_target, images_of, path_of
from actors.qemu.block.keeping import keep_now
from actors.qemu.block.nodes import remove_file, run_job
from actors.qemu.ending import end_process
from actors.qemu.guest import Guest
from actors.qemu.host import QemuHost
from actors.qemu.moments import offline
from actors.qemu.moments.keeping import keep_moments
from actors.qemu.moments.making import (
    check_create_flags,
    check_halt,
    check_name,
    check_new,
    check_redefined,
    fit,
)
from actors.qemu.moments.overlays import check_places, open_overlays, overlays_of, put_overlays
from actors.qemu.pausing import go_on, pause, take_pause
from actors.qemu.records import Record
from actors.qemu.saved.cookie import cookie_of
from actors.qemu.saving import keep_memory
from actors.qemu.transient import check_all_lasting
from actors.runtime.calls import Calls
from actors.runtime.intents import Intent
from conf.domain.compat import check_compatible
from conf.domain.documents import write_domain
from conf.domain.domain import Domain
from conf.flags import XmlFlags
from conf.moment.alignment import is_external, kept_inside, put_image
from conf.moment.documents import EXTERNAL, NO, date, parse_snapshot, write_moment
from conf.moment.moment import Parent, Snapshot
from conf.moment.tree import MomentRecord
from schema.enums.domain_job import DomainJobOperation as Operation
from schema.enums.domain_snapshot import DomainSnapshotCreateFlags as Create
from schema.enums.domain_state import DomainPausedReason, DomainShutoffReason, DomainState
from schema.errors import OperationUnsupported, VirtError
from schema.objects import DomainRef, DomainSnapshotRef

calls: Calls[QemuHost] = Calls()

INTENT: Final = "snapshot"


@calls.handles(key="dom")
async def domain_snapshot_create_xml(host: QemuHost, dom: DomainRef, xml_desc: str, flags: int) -> DomainSnapshotRef:
    """Keeps a guest as it is at this moment; with HALT it ends, else it goes on as before.

    Nothing is left of it when it fails. Raises NoSuchDomain, XmlError and XmlDetailError, ConfigUnsupported and
    OperationUnsupported for what cannot be kept like that, OperationFailed for a name that is taken and when QEMU or
    qemu-img fails, DomainStateError for HALT of a transient guest, HostSystemError.
    """
    check_create_flags(flags)
    guest = host.guest(dom)
    check_halt(guest, flags)
    if not guest.is_active and guest.moments.checkpoints and not flags & Create.REDEFINE:
        # nobody would carry their bitmaps over
        raise OperationUnsupported("cannot perform block operations while checkpoint exists")
    definition = guest.live if guest.is_active else guest.config
    rules = host.rules(await host.emulator_for(definition.os.kind.arch, definition.devices.emulator))
    redefine = bool(flags & Create.REDEFINE)
    snapshot = parse_snapshot(xml_desc, rules, redefine=redefine, validate=bool(flags & Create.VALIDATE))
    if redefine:
        return await _redefine(host, guest, snapshot, flags)
    date(snapshot, int(time.time()))
    if not flags & Create.NO_METADATA:
        check_name(snapshot.name or "")
    fit(guest, snapshot, flags)
    if guest.is_active and snapshot.memory is not None and snapshot.memory.snapshot != NO:
        snapshot.cookie = cookie_of(guest).to_xml()
    name = snapshot.name or ""
    await host.runtime.in_thread(_check_places, snapshot, bool(flags & Create.REUSE_EXT))
    if not flags & Create.NO_METADATA:
        check_new(guest, name)
    current = guest.moments.current_snapshot
    snapshot.parent = Parent(name=current) if current is not None else None
    ref = DomainSnapshotRef(name, guest.ref)
    xml = write_moment(snapshot, secure=True)
    facts = {
        "uuid": guest.record.uuid,
        "name": name,
        "xml": xml,
        "keeps": not flags & Create.NO_METADATA,
        "active": guest.is_active,
        "halts": bool(flags & Create.HALT),
        "ran": guest.state is DomainState.RUNNING,
        "quiesces": bool(flags & Create.QUIESCE),
    }
    async with host.intents.change(INTENT, facts) as intent:
        if not guest.is_active:
            await _take_off(host, guest, snapshot, flags, intent)
        elif is_external(snapshot):
            await _take_external(host, guest, snapshot, flags, intent)
        else:
            await _take_internal(host, guest, snapshot, flags)
        if not flags & Create.NO_METADATA:
            await remember(host, guest, snapshot, xml)
        intent.result(ref)
    return ref


def _check_places(snapshot: Snapshot, reuses: bool) -> None:
    check_places(snapshot, reuses=reuses)


async def remember(host: QemuHost, guest: Guest, snapshot: Snapshot, xml: str) -> None:
    """The snapshot is the guest's current one. Raises HostSystemError."""
    moments = guest.moments
    record = MomentRecord(
        xml=xml,
        parent=snapshot.parent.name if snapshot.parent is not None else None,
        state=snapshot.state or "",
        external=is_external(snapshot),
    )
    name = snapshot.name or ""
    snapshots = {**moments.snapshots, name: record}
    await keep_moments(host, guest, msgspec.structs.replace(moments, snapshots=snapshots, current_snapshot=name))


async def _redefine(host: QemuHost, guest: Guest, snapshot: Snapshot, flags: int) -> DomainSnapshotRef:
    check_name(snapshot.name or "")
    check_redefined(guest, snapshot, flags)
    name = snapshot.name or ""
    moments = guest.moments
    old = moments.snapshots.get(name)
    if old is not None:
        from actors.qemu.moments.snapshots import read_snapshot

        known = read_snapshot(old).domain
        if snapshot.domain is None:
            snapshot.domain = known
        elif known is not None:
            check_compatible(known, snapshot.domain)
    record = MomentRecord(
        xml=write_moment(snapshot, secure=True),
        parent=snapshot.parent.name if snapshot.parent is not None else None,
        state=snapshot.state or "",
        external=is_external(snapshot),
    )
    changed = msgspec.structs.replace(moments, snapshots={**moments.snapshots, name: record})
    if flags & Create.CURRENT:
        changed = msgspec.structs.replace(changed, current_snapshot=name)
    await keep_moments(host, guest, changed)
    return DomainSnapshotRef(name, guest.ref)


# --- of a guest that is off ------------------------------------------------------------------------------------------


async def _take_off(host: QemuHost, guest: Guest, snapshot: Snapshot, flags: int, intent: Intent) -> None:
    config = guest.config
    if not is_external(snapshot):
        names = set(kept_inside(snapshot))
        disks = [disk for disk in config.devices.disks if disk.target.dev in names]
        await offline.each(disks, "-c", snapshot.name or "")
        return
    made: list[str] = []
    changed = config.copy()
    try:
        for asked in snapshot.disks:
            disk = disk_of_target(changed, asked.name)
            path, below = path_of(asked.source), path_of(disk.source) if disk is not None else None
            if asked.snapshot != EXTERNAL or disk is None or path is None or below is None:
                continue
            kind = (disk.driver.type if disk.driver is not None else None) or "raw"
            if not flags & Create.REUSE_EXT:
                made.append(path)
                await intent.note(made=list(made))
                form = (asked.driver.type if asked.driver is not None else None) or "qcow2"
                await offline.make_overlay(path, form, below, kind)
            put_image(disk, asked)
        await _keep_config(host, guest, changed)
    except BaseException:
        for path in made:
            await asyncio.shield(asyncio.ensure_future(host.runtime.in_thread(remove_file, path)))
        raise


async def _keep_config(host: QemuHost, guest: Guest, config: Domain) -> None:
    text = write_domain(config, XmlFlags.INACTIVE | XmlFlags.SECURE)
    record: Record = msgspec.structs.replace(guest.record, xml=text, facts=records.facts_of(config))
    await host.write(guest, record, config=config, completes=False)
    host.publish(guest)


# --- of a running guest ----------------------------------------------------------------------------------------------


async def _take_internal(host: QemuHost, guest: Guest, snapshot: Snapshot, flags: int) -> None:
    """Memory and disks go into the images; the guest stands still meanwhile."""
    check_all_lasting(guest.live)
    ran = guest.state is DomainState.RUNNING
    nodes = inside_nodes(guest, snapshot)
    if ran:
        await pause(host, guest, DomainPausedReason.SNAPSHOT)
    try:
        arguments = {"tag": snapshot.name, "vmstate": nodes[0], "devices": nodes}
        await run_job(guest, job_of(snapshot.name or ""), "snapshot-save", arguments)
    except BaseException:
        if ran and guest.run is not None:
            with contextlib.suppress(VirtError):
                await asyncio.shield(asyncio.ensure_future(go_on(host, guest)))
        raise
    if flags & Create.HALT:
        await halt(host, guest)
    elif ran:
        await go_on(host, guest)


def job_of(name: str) -> str:
    """The name of QEMU's job that keeps or brings back a snapshot."""
    return "snapshot-" + name.encode().hex()[:64]


def inside_nodes(guest: Guest, snapshot: Snapshot) -> list[str]:
    """The nodes of a running guest's disks that keep a snapshot within."""
    names = kept_inside(snapshot)
    return [
        images_of(disk)[0].format_node for disk in guest.live.devices.disks if disk.target.dev in names and disk.source
    ]


async def halt(host: QemuHost, guest: Guest) -> None:
    """The guest ends; subscribers hear that a snapshot is the reason."""
    guest.destroys = True
    await end_process(guest, force=True)
    await host.end(guest, DomainShutoffReason.FROM_SNAPSHOT)


async def _take_external(host: QemuHost, guest: Guest, snapshot: Snapshot, flags: int, intent: Intent) -> None:
    """All disks go on in new images at the same moment, to which the memory in its file belongs."""
    memory = snapshot.memory
    with_memory = memory is not None and memory.snapshot == EXTERNAL and memory.file is not None
    if with_memory:
        check_all_lasting(guest.live)
    ran = guest.state is DomainState.RUNNING
    overlays = overlays_of(guest, snapshot)
    await intent.note(
        overlays=[[one.disk, one.image.index, one.image.path or ""] for one in overlays],
        reuses=bool(flags & Create.REUSE_EXT),
        memory=memory.file if with_memory and memory is not None else "",
    )
    stands = False
    frozen = False
    async with AsyncExitStack() as undo:
        if flags & Create.QUIESCE:
            check_agent(guest)
            await ask_agent(host, guest, "guest-fsfreeze-freeze")
            undo.push_async_callback(thaw, host, guest)
            frozen = True
        undo.push_async_callback(_back_to_work, host, guest, ran)
        actions = await open_overlays(host, guest, overlays, reuses=bool(flags & Create.REUSE_EXT), undo=undo)
        if with_memory and memory is not None:
            if ran and not flags & Create.LIVE:
                await pause(host, guest, DomainPausedReason.SNAPSHOT)
            guest.expected.add("STOP")
            try:
                await keep_memory(host, guest, Path(memory.file or ""), running=ran, operation=Operation.SNAPSHOT)
            finally:
                guest.expected.discard("STOP")
            undo.callback(remove_file, memory.file or "")
            take_pause(host, guest, DomainPausedReason.SNAPSHOT)
            stands = True
        if actions:
            await guest.ask("transaction", {"actions": actions})
        undo.pop_all()
    config = put_overlays(guest, overlays)
    await keep_now(host, guest, config=config)
    host.publish(guest)
    if frozen:
        await thaw(host, guest)
    if flags & Create.HALT:
        await halt(host, guest)
    elif stands and ran:
        await go_on(host, guest)


async def _back_to_work(host: QemuHost, guest: Guest, ran: bool) -> None:
    """The snapshot failed: a guest that ran goes on."""
    if ran and guest.run is not None and guest.state is DomainState.PAUSED:
        with contextlib.suppress(VirtError):
            await go_on(host, guest)
