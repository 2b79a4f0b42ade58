"""Bringing guests back to a snapshot: their disks, their memory if it was kept, and their definition."""

from __future__ import annotations

from typing import Final, Protocol

import msgspec

from actors.qemu import records, states
from actors.qemu.block.nodes import run_job
from actors.qemu.ending import end_process
from actors.qemu.flags import check_flags
from actors.qemu.guest import Guest, parse_live
from actors.qemu.host import QemuHost
from actors.qemu.moments import offline
from actors.qemu.moments.create import inside_nodes, job_of
from actors.qemu.moments.keeping import keep_moments
from actors.qemu.moments.records import encode as encode_moments
from actors.qemu.moments.snapshots import read_snapshot
from actors.qemu.notices import announce
from actors.qemu.start import Wish, start_guest
from actors.runtime.calls import Calls
from conf.domain.documents import write_domain
from conf.domain.domain import Domain
from conf.flags import ParseFlags, XmlFlags
from conf.moment.alignment import is_external, kept_inside
from conf.moment.moment import Snapshot
from schema.enums.domain_event import DomainEventDefinedDetailType as Defined
from schema.enums.domain_event import DomainEventResumedDetailType as Resumed
from schema.enums.domain_event import DomainEventStartedDetailType as Started
from schema.enums.domain_event import DomainEventSuspendedDetailType as Suspended
from schema.enums.domain_event import DomainEventType as Event
from schema.enums.domain_snapshot import DomainSnapshotRevertFlags as Revert
from schema.enums.domain_state import (
    DomainPausedReason,
    DomainRunningReason,
    DomainShutoffReason,
    DomainState,
)
from schema.errors import ConfigUnsupported, DomainStateError, InvalidArguments, SnapshotRevertRisky
from schema.objects import DomainSnapshotRef

calls: Calls[QemuHost] = Calls()

INTENT: Final = "revert"
_FLAGS: Final = int(Revert.RUNNING | Revert.PAUSED | Revert.FORCE | Revert.RESET_NVRAM)
_WITH_MEMORY: Final = ("running", "paused")


@calls.handles(key="snap")
async def domain_revert_to_snapshot(host: QemuHost, snap: DomainSnapshotRef, flags: int) -> None:
    """Brings a guest back to a snapshot; one that runs ends first.

    Raises NoSuchDomain, NoSuchSnapshot, ConfigUnsupported for an external one, DomainStateError when a transient guest
    would be gone, SnapshotRevertRisky when FORCE is needed, InternalError and OperationFailed when an image fails.
    """
    check_flags(flags, _FLAGS, "qemuDomainRevertToSnapshot")
    if flags & Revert.RUNNING and flags & Revert.PAUSED:
        error = InvalidArguments()
        error.message = (
            "Flags 'VIR_DOMAIN_SNAPSHOT_REVERT_RUNNING' and 'VIR_DOMAIN_SNAPSHOT_REVERT_PAUSED' are mutually exclusive"
        )
        raise error
    if host.intents.check_verdict():
        return
    guest, record = host.guest(snap.dom), host.need_snapshot(snap)
    snapshot = read_snapshot(record)
    _check(guest, snapshot, flags)
    has_memory = snapshot.state in _WITH_MEMORY
    runs = has_memory or bool(flags & (Revert.RUNNING | Revert.PAUSED))
    paused = bool(flags & Revert.PAUSED) or (has_memory and snapshot.state == "paused" and not flags & Revert.RUNNING)
    facts: dict[str, object] = {"uuid": guest.record.uuid, "name": snap.name, "runs": runs, "paused": paused}
    if not guest.is_persistent:
        # nothing else is left of it between its end and its new beginning
        facts["guest"] = records.encode(msgspec.structs.replace(guest.record, run=None))
        facts["moments"] = encode_moments(guest.moments)
    async with host.intents.change(INTENT, facts) as intent:
        await revert(host, guest, snap.name, intent, runs=runs, paused=paused)


class Noted(Protocol):
    """What is written down of a revert."""

    async def note(self, **facts: object) -> None:
        """Adds facts for whoever carries it on."""


async def revert(host: QemuHost, guest: Guest, name: str, intent: Noted, *, runs: bool, paused: bool) -> None:
    """All of its steps, whatever was done before. Raises InternalError, OperationFailed and what a start raises."""
    snapshot = read_snapshot(guest.moments.snapshots[name])
    has_memory = snapshot.state in _WITH_MEMORY
    if guest.is_active:
        known = guest.moments
        guest.destroys = True
        await end_process(guest, force=True)
        await host.end(guest, DomainShutoffReason.FROM_SNAPSHOT)
        host.add(guest)
        guest.moments = known
    config, live = _definitions(guest, snapshot)
    if not has_memory:
        await _revert_images(guest, snapshot, live)
    if config is not None and guest.is_persistent:
        await _keep_config(host, guest, config)
    if runs:
        await _start(host, guest, snapshot, live, intent, has_memory=has_memory, paused=paused)
    elif not guest.is_persistent:
        host.forget(guest)
        host.objects.drop("domain", guest.key, scope=host.scope)
        return
    else:
        off = msgspec.structs.replace(guest.record, off_reason=int(DomainShutoffReason.FROM_SNAPSHOT))
        await host.write(guest, off, completes=False)
    await remember(host, guest, name)


async def remember(host: QemuHost, guest: Guest, name: str) -> None:
    """The last step: this is the snapshot that the guest is at. Raises HostSystemError."""
    await keep_moments(host, guest, msgspec.structs.replace(guest.moments, current_snapshot=name))
    if guest.is_persistent:
        host.publish(guest, [states.lifecycle(guest, Event.DEFINED, Defined.FROM_SNAPSHOT)])


def _check(guest: Guest, snapshot: Snapshot, flags: int) -> None:
    has_memory = snapshot.state in _WITH_MEMORY
    wants_run = bool(flags & (Revert.RUNNING | Revert.PAUSED))
    if not guest.is_persistent and not has_memory and not wants_run:
        raise DomainStateError("transient domain needs to request run or pause to revert to inactive snapshot")
    if is_external(snapshot):
        raise ConfigUnsupported("revert to external snapshot not supported yet")
    if snapshot.domain is None:
        raise SnapshotRevertRisky(f"snapshot '{snapshot.name}' lacks domain '{guest.name}' rollback info")
    if flags & Revert.FORCE:
        return
    if guest.is_active and not has_memory and wants_run:
        raise SnapshotRevertRisky("must respawn guest to start inactive snapshot")
    if guest.record.managed_save and not has_memory:
        raise SnapshotRevertRisky(
            "snapshot without memory state, removal of existing managed saved state strongly "
            "recommended to avoid corruption"
        )


def _definitions(guest: Guest, snapshot: Snapshot) -> tuple[Domain | None, Domain]:
    """The configuration and the definition to run with, as they were; the name is the guest's of today."""
    assert snapshot.domain is not None
    live = snapshot.domain.copy()
    live.name = guest.name
    if snapshot.inactive_domain is None:
        return live.copy(), live
    text = snapshot.inactive_domain.to_xml(XmlFlags.INACTIVE | XmlFlags.SECURE)
    config = parse_live(
        text.replace("<inactiveDomain", "<domain", 1).replace("</inactiveDomain>", "</domain>"), ParseFlags.INACTIVE
    )
    config.name = guest.name
    return config, live


async def _revert_images(guest: Guest, snapshot: Snapshot, domain: Domain) -> None:
    names = set(kept_inside(snapshot))
    disks = [disk for disk in domain.devices.disks if disk.target.dev in names]
    await offline.each(disks, "-a", snapshot.name or "")


async def _keep_config(host: QemuHost, guest: Guest, config: Domain) -> None:
    text = write_domain(config, XmlFlags.INACTIVE | XmlFlags.SECURE)
    record = msgspec.structs.replace(guest.record, xml=text, facts=records.facts_of(config))
    await host.write(guest, record, config=config, completes=False)


async def _start(
    host: QemuHost, guest: Guest, snapshot: Snapshot, live: Domain, intent: Noted, *, has_memory: bool, paused: bool
) -> None:
    """Starts the guest, with the memory of the snapshot if it has one; tells of it in libvirt's order."""
    await start_guest(host, guest, live, Wish(paused=True))
    try:
        if has_memory:
            nodes = inside_nodes(guest, snapshot)
            arguments = {"tag": snapshot.name, "vmstate": nodes[0], "devices": nodes}
            await run_job(guest, job_of(snapshot.name or ""), "snapshot-load", arguments)
        # from here on it is the guest of the snapshot, and is not made anew
        await intent.note(reverted=guest.id)
        if not paused:
            await let_run(guest)
    except BaseException:
        guest.destroys, guest.held = True, None
        await end_process(guest, force=True)
        await host.end(guest, DomainShutoffReason.FAILED)
        raise
    _tell_start(host, guest, has_memory=has_memory, paused=paused)


async def let_run(guest: Guest) -> None:
    """It runs from now on. Raises as `Guest.ask` does."""
    guest.expected.add("RESUME")
    try:
        await guest.ask("cont")
    finally:
        guest.expected.discard("RESUME")


def state_after(*, has_memory: bool, paused: bool) -> tuple[DomainState, int]:
    """What a guest is that has started from a snapshot."""
    if paused:
        return DomainState.PAUSED, int(DomainPausedReason.FROM_SNAPSHOT)
    return DomainState.RUNNING, int(DomainRunningReason.FROM_SNAPSHOT if has_memory else DomainRunningReason.BOOTED)


def _tell_start(host: QemuHost, guest: Guest, *, has_memory: bool, paused: bool) -> None:
    began = states.started(guest, Started.FROM_SNAPSHOT)
    if paused:
        told = [began, states.suspended(guest, Suspended.FROM_SNAPSHOT)]
    elif has_memory:
        told = [began, states.resumed(guest, Resumed.FROM_SNAPSHOT)]
    else:
        told = [states.resumed(guest), began]
    state, reason = state_after(has_memory=has_memory, paused=paused)
    guest.adopt(guest.running(state=int(state), reason=reason))
    announce(host, guest, told)
    host.keep_soon(guest)
