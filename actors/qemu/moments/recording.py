"""Checkpoints come and go: from each on, QEMU records what a running guest changes in its disks."""

from __future__ import annotations

import time
from typing import Any, Final

import msgspec

from actors.qemu.agent.asking import ask_agent, check_agent
from actors.qemu.agent.channel import agent_channel
from actors.qemu.block import bitmaps
from actors.qemu.block.bitmaps_live import ask_nodes, names, reopen
from actors.qemu.block.chain import disk_of_target, images_of
from actors.qemu.flags import check_flags
from actors.qemu.guest import Guest
from actors.qemu.host import QemuHost
from actors.qemu.live_processor import as_asked
from actors.qemu.moments.checkpoints import read_checkpoint
from actors.qemu.moments.keeping import keep_moments
from actors.qemu.moments.making import copied
from actors.qemu.transient import check_lasting
from actors.runtime.calls import Calls
from actors.runtime.intents import UnfinishedIntent
from conf.moment import tree
from conf.moment.alignment import align_checkpoint
from conf.moment.documents import BITMAP, date, parse_checkpoint, write_moment
from conf.moment.moment import Checkpoint, Parent
from conf.moment.tree import MomentRecord
from conf.schemas import has_schema
from schema.enums.domain_checkpoint import DomainCheckpointCreateFlags as Create
from schema.enums.domain_checkpoint import DomainCheckpointDeleteFlags as Delete
from schema.errors import (
    CheckpointInconsistent,
    ConfigUnsupported,
    InvalidArguments,
    OperationFailed,
    OperationUnsupported,
    UnsupportedFlags,
)
from schema.objects import DomainCheckpointRef, DomainRef

calls: Calls[QemuHost] = Calls()

INTENT: Final = "checkpoint"


@calls.handles(key="dom")
async def domain_checkpoint_create_xml(
    host: QemuHost, dom: DomainRef, xml_desc: str, flags: int
) -> DomainCheckpointRef:
    """Begins to record what a running guest changes in its disks.

    Raises NoSuchDomain, XmlError, ConfigUnsupported for disks that cannot be recorded, OperationUnsupported when the
    guest is off, OperationFailed for a name that is taken, CheckpointInconsistent for one that is made known again and
    has no recording.
    """
    check_flags(flags, int(Create.REDEFINE | Create.QUIESCE | Create.REDEFINE_VALIDATE), "qemuCheckpointCreateXML")
    guest = host.guest(dom)
    if flags & Create.QUIESCE and guest.is_active and agent_channel(guest.live) is None:
        raise UnsupportedFlags(int(Create.QUIESCE), "qemuCheckpointCreateXML")  # as libvirt, which never freezes here
    redefine = bool(flags & (Create.REDEFINE | Create.REDEFINE_VALIDATE))
    if not redefine and not guest.is_active:
        raise OperationUnsupported("cannot create checkpoint for inactive domain")
    definition = guest.live if guest.is_active else guest.config
    rules = host.rules(await host.emulator_for(definition.os.kind.arch, definition.devices.emulator))
    checkpoint = parse_checkpoint(
        xml_desc, rules, redefine=redefine, validate=has_schema("domaincheckpoint.rng")
    )  # libvirt has every such document agree with its schema
    if redefine:
        await _redefine(host, guest, checkpoint, flags)
        return DomainCheckpointRef(checkpoint.name or "", guest.ref)
    actions = prepare_checkpoint(guest, checkpoint)
    ref = DomainCheckpointRef(checkpoint.name or "", guest.ref)
    xml = write_moment(checkpoint, secure=True)
    quiesces = bool(flags & Create.QUIESCE)
    facts = {"uuid": guest.record.uuid, "name": checkpoint.name, "xml": xml, "quiesces": quiesces}
    async with host.intents.change(INTENT, facts) as intent:
        if quiesces:
            check_agent(guest)
            await ask_agent(host, guest, "guest-fsfreeze-freeze")
        try:
            if actions:
                await guest.ask("transaction", {"actions": actions})
        finally:
            if quiesces:
                await ask_agent(host, guest, "guest-fsfreeze-thaw")
        await remember_checkpoint(host, guest, checkpoint, xml)
        intent.result(ref)
    return ref


def prepare_checkpoint(guest: Guest, checkpoint: Checkpoint) -> list[dict[str, Any]]:
    """Completes a new checkpoint; gives the actions that begin its recordings.

    Raises OperationFailed for a name that is taken, ConfigUnsupported for disks that cannot be recorded.
    """
    date(checkpoint, int(time.time()))
    name = checkpoint.name or ""
    known = guest.moments
    if name in known.checkpoints:
        raise OperationFailed(f"domain moment {name} already exists")
    align_checkpoint(checkpoint, guest.live)
    actions: list[dict[str, Any]] = []
    for asked in checkpoint.disks:
        disk = disk_of_target(guest.live, asked.name)
        if asked.checkpoint != BITMAP or disk is None:
            continue
        check_lasting(disk)
        if asked.bitmap != name:
            raise ConfigUnsupported(f"bitmap for disk '{asked.name}' must match checkpoint name '{name}'")
        top = images_of(disk)[0]
        if top.format != "qcow2":
            raise ConfigUnsupported(f"checkpoint for disk {asked.name} unsupported for storage type {top.format}")
        actions.append(bitmaps.add(top.format_node, asked.bitmap or name, persistent=True, disabled=False))
    current = known.current_checkpoint
    checkpoint.parent = Parent(name=current) if current is not None else None
    checkpoint.domain = copied(as_asked(guest))
    return actions


async def remember_checkpoint(host: QemuHost, guest: Guest, checkpoint: Checkpoint, xml: str) -> None:
    """The checkpoint is the guest's current one. Raises HostSystemError."""
    moments, name = guest.moments, checkpoint.name or ""
    parent = checkpoint.parent.name if checkpoint.parent is not None else None
    known = {**moments.checkpoints, name: MomentRecord(xml=xml, parent=parent)}
    await keep_moments(host, guest, msgspec.structs.replace(moments, checkpoints=known, current_checkpoint=name))


async def _redefine(host: QemuHost, guest: Guest, checkpoint: Checkpoint, flags: int) -> None:
    known, name = guest.moments.checkpoints, checkpoint.name or ""
    parent = checkpoint.parent.name if checkpoint.parent is not None else None
    if parent is not None and parent not in known:
        raise InvalidArguments(f"parent {parent} for moment {name} not found")
    if parent == name:
        raise InvalidArguments(f"cannot set moment {name} as its own parent")
    if checkpoint.domain is not None and checkpoint.domain.uuid.bytes != guest.key:
        raise InvalidArguments(f"definition for checkpoint {name} must use uuid {guest.record.uuid}")
    if checkpoint.domain is None and name in known:
        checkpoint.domain = read_checkpoint(known[name]).domain
    if checkpoint.domain is not None:
        align_checkpoint(checkpoint, checkpoint.domain)
    if flags & Create.REDEFINE_VALIDATE:
        await _validate(guest, checkpoint)
    record = MomentRecord(xml=write_moment(checkpoint, secure=True), parent=parent)
    moments = guest.moments
    changed = msgspec.structs.replace(moments, checkpoints={**known, name: record})
    if moments.current_checkpoint is None or parent == moments.current_checkpoint:
        # it goes on from the youngest that is known
        changed = msgspec.structs.replace(changed, current_checkpoint=name)
    await keep_moments(host, guest, changed)


async def _validate(guest: Guest, checkpoint: Checkpoint) -> None:
    if not guest.is_active:
        raise OperationUnsupported("cannot validate checkpoint of inactive domain")
    nodes = await ask_nodes(guest)
    for asked in checkpoint.disks:
        if asked.checkpoint != BITMAP:
            continue
        disk = disk_of_target(guest.live, asked.name)
        if disk is None or not bitmaps.is_valid(nodes, names(images_of(disk)), asked.bitmap or ""):
            raise CheckpointInconsistent(f"missing or broken bitmap '{asked.bitmap}' for disk '{asked.name}'")


# --- the end of checkpoints ------------------------------------------------------------------------------------------


@calls.handles(key="checkpoint")
async def domain_checkpoint_delete(host: QemuHost, checkpoint: DomainCheckpointRef, flags: int) -> None:
    """Ends a checkpoint's recordings, with or without those after it; its children become its parent's.

    Raises NoSuchDomain, NoSuchCheckpoint, OperationUnsupported when the guest is off, InternalError when QEMU refuses.
    """
    check_flags(flags, int(Delete.CHILDREN | Delete.METADATA_ONLY | Delete.CHILDREN_ONLY), "qemuDomainCheckpointDelete")
    host.need_checkpoint(checkpoint)
    guest = host.guest(checkpoint.dom)
    metadata_only = bool(flags & Delete.METADATA_ONLY)
    if not guest.is_active and not metadata_only:
        raise OperationUnsupported("cannot delete checkpoint for inactive domain")
    known = guest.moments.checkpoints
    with_children = bool(flags & (Delete.CHILDREN | Delete.CHILDREN_ONLY))
    gone = [] if flags & Delete.CHILDREN_ONLY else [checkpoint.name]
    if with_children:
        gone += tree.descendants(known, checkpoint.name)
    async with host.intents.change("checkpoint-delete", {"uuid": guest.record.uuid, "names": gone}):
        for name in reversed(gone):
            if not metadata_only:
                await _end_recordings(host, guest, read_checkpoint(guest.moments.checkpoints[name]))
            await _forget(host, guest, name)


async def _end_recordings(host: QemuHost, guest: Guest, checkpoint: Checkpoint) -> None:
    nodes = await ask_nodes(guest)
    actions: list[dict[str, Any]] = []
    reopened = []
    for asked in checkpoint.disks:
        disk = disk_of_target(guest.live, asked.name)
        if asked.checkpoint != BITMAP or disk is None or asked.bitmap is None:
            continue
        images = images_of(disk)
        found, to_open = bitmaps.for_deletion(nodes, names(images), asked.bitmap)
        actions += found
        reopened += [(disk, images, place) for place, one in enumerate(images) if one.format_node in to_open]
    if not actions:
        return
    try:
        for disk, images, place in reversed(reopened):
            await reopen(host, guest, disk, images, place, writable=True)
        await guest.ask("transaction", {"actions": actions})
    finally:
        for disk, images, place in reopened:
            await reopen(host, guest, disk, images, place, writable=False)


async def _forget(host: QemuHost, guest: Guest, name: str) -> None:
    moments = guest.moments
    parent = moments.checkpoints[name].parent
    current = parent if moments.current_checkpoint == name else moments.current_checkpoint
    left = tree.without(moments.checkpoints, name)
    await keep_moments(host, guest, msgspec.structs.replace(moments, checkpoints=left, current_checkpoint=current))


async def settle_checkpoint(host: QemuHost, guest: Guest, intent: UnfinishedIntent) -> None:
    """A checkpoint that the last process was at: QEMU says whether its recordings began."""
    xml, name = str(intent.data["xml"]), str(intent.data["name"])
    checkpoint = read_checkpoint(MomentRecord(xml=xml))
    if guest.monitor is None or not guest.monitor.is_open:
        await intent.undo()
        return
    nodes = await ask_nodes(guest)
    for asked in checkpoint.disks:
        disk = disk_of_target(guest.live, asked.name)
        if asked.checkpoint != BITMAP or disk is None:
            continue
        found = nodes.get(images_of(disk)[0].format_node)
        if found is None or found.find(asked.bitmap or "") is None:
            await intent.undo()
            return
    if name not in guest.moments.checkpoints:
        await remember_checkpoint(host, guest, checkpoint, xml)
    await intent.finish(DomainCheckpointRef(name, guest.ref))
