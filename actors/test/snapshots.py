"""Saved states of a guest, which lie in its own document."""

from __future__ import annotations

import time
from typing import Final

from actors.runtime.calls import Calls
from actors.test import rules, states
from actors.test.flags import check_flags, check_one_of
from actors.test.guest import Guest
from actors.test.host import TestHost, Told
from conf.moment import tree as moments
from conf.moment.documents import fit_snapshot, parse_snapshot, write_moment
from conf.moment.moment import Parent, Snapshot
from conf.moment.tree import MomentRecord
from conf.origin import told_by
from schema.enums.domain_snapshot import DomainSnapshotCreateFlags as Create
from schema.enums.domain_snapshot import DomainSnapshotDeleteFlags as Delete
from schema.enums.domain_snapshot import DomainSnapshotRevertFlags as Revert
from schema.enums.domain_snapshot import DomainSnapshotXMLFlags as XmlFlags
from schema.enums.domain_state import DomainState
from schema.errors import (
    ConfigUnsupported,
    DomainStateError,
    ErrorDomain,
    OperationUnsupported,
    RefusedDocument,
)
from schema.objects import DomainRef, DomainSnapshotRef

calls: Calls[TestHost] = Calls()

_CREATE: Final = int(
    Create.REDEFINE | Create.CURRENT | Create.HALT | Create.QUIESCE | Create.ATOMIC | Create.LIVE | Create.VALIDATE
)
_REVERT: Final = int(Revert.RUNNING | Revert.PAUSED | Revert.FORCE)
_WORDS: Final = {DomainState.RUNNING: "running", DomainState.PAUSED: "paused", DomainState.SHUTOFF: "shutoff"}


@calls.handles(key="dom")
async def domain_snapshot_create_xml(host: TestHost, dom: DomainRef, xml_desc: str, flags: int) -> DomainSnapshotRef:
    """Saves a guest's state; with HALT the guest ends.

    Raises NoSuchDomain, XmlError, ConfigUnsupported for disks that cannot be saved so, OperationFailed for a name that
    is taken, OperationUnsupported beside checkpoints, DomainStateError for HALT of a transient guest.
    """
    check_flags(flags, _CREATE, "testDomainSnapshotCreateXML")
    guest = host.guest(dom)
    redefine = bool(flags & Create.REDEFINE)
    if guest.record.checkpoints:
        raise OperationUnsupported("cannot create snapshot while checkpoint exists")
    if flags & Create.HALT and not guest.is_persistent:
        raise DomainStateError("cannot halt after transient domain snapshot")
    snapshot = parse_snapshot(xml_desc, rules.RULES, redefine=redefine, validate=bool(flags & Create.VALIDATE))
    if not redefine:
        _take(guest, snapshot)
    elif snapshot.domain is None:
        raise RefusedDocument("missing domain in snapshot", domain=ErrorDomain.DOMAIN_SNAPSHOT)
    name = snapshot.name = snapshot.name or str(int(time.time()))
    parent = snapshot.parent.name if snapshot.parent is not None else None
    record = MomentRecord(xml=write_moment(snapshot, secure=True), parent=parent, state=snapshot.state or "")
    draft = guest.draft()
    with told_by(ErrorDomain.DOMAIN):
        draft.set(snapshots=moments.added(guest.record.snapshots, name, record, redefine=redefine))
    told: tuple[Told, ...] = ()
    if not redefine or flags & Create.CURRENT:
        draft.set(current_snapshot=name)
    if flags & Create.HALT and guest.is_active and not redefine:
        draft.move(states.REVERT_OFF)
        told = Told.of(states.REVERT_OFF)
    ref = DomainSnapshotRef(name, DomainRef(guest.name, guest.uuid, draft.value("id")))
    await host.commit(draft, told, result=ref)
    return ref


@calls.handles(key="snap")
async def domain_revert_to_snapshot(host: TestHost, snap: DomainSnapshotRef, flags: int) -> None:
    """Brings a guest back to a saved state; one that runs ends first.

    Raises NoSuchDomain, NoSuchSnapshot, DomainStateError when a transient guest would be gone.
    """
    check_flags(flags, _REVERT, "testDomainRevertToSnapshot")
    check_one_of(
        flags,
        *(int(Revert.RUNNING), "VIR_DOMAIN_SNAPSHOT_REVERT_RUNNING"),
        *(int(Revert.PAUSED), "VIR_DOMAIN_SNAPSHOT_REVERT_PAUSED"),
    )
    guest, record = host.guest(snap.dom), host.need_snapshot(snap)
    runs = bool(flags & (Revert.RUNNING | Revert.PAUSED)) or record.state != "shutoff"
    if not runs and not guest.is_persistent:
        raise DomainStateError("transient domain needs to request run or pause to revert to inactive snapshot")
    saved = parse_snapshot(record.xml, rules.RULES, redefine=True).domain
    definition = saved if saved is not None else guest.current.copy()
    draft = guest.draft()
    told = Told.of(states.REVERT_OFF) if guest.is_active else ()
    if runs:
        draft.run(rules.started(definition), host.world.next_id(), states.REVERT)
        told += Told.of(states.REVERT)
        if flags & Revert.PAUSED or (not flags & Revert.RUNNING and record.state == "paused"):
            draft.move(states.REVERT_PAUSED)
            told += Told.of(states.REVERT_PAUSED)
    else:
        draft.move(states.REVERT_OFF)
    if guest.is_persistent:
        draft.define(definition)
    draft.set(current_snapshot=snap.name)
    await host.commit(draft, told)


@calls.handles(key="snap")
async def domain_snapshot_delete(host: TestHost, snap: DomainSnapshotRef, flags: int) -> None:
    """Forgets a saved state; its children become its parent's, or are forgotten too. Raises NoSuchSnapshot."""
    check_flags(flags, int(Delete.CHILDREN | Delete.CHILDREN_ONLY), "testDomainSnapshotDelete")
    guest, record = host.guest(snap.dom), host.need_snapshot(snap)
    known = guest.record.snapshots
    current = guest.record.current_snapshot
    if flags & (Delete.CHILDREN | Delete.CHILDREN_ONLY):
        left = moments.without_branch(known, snap.name, keep_root=bool(flags & Delete.CHILDREN_ONLY))
        fallback = snap.name if flags & Delete.CHILDREN_ONLY else record.parent
    else:
        left = moments.without(known, snap.name)
        fallback = record.parent
    draft = guest.draft()
    draft.set(snapshots=left, current_snapshot=current if current in left or current is None else fallback)
    await host.commit(draft)


@calls.handles()
def domain_snapshot_get_xml_desc(host: TestHost, snap: DomainSnapshotRef, flags: int) -> str:
    """A saved state's document. Raises NoSuchDomain, NoSuchSnapshot."""
    check_flags(flags, int(XmlFlags.SECURE), "testDomainSnapshotGetXMLDesc")
    record = host.need_snapshot(snap)
    snapshot = parse_snapshot(record.xml, rules.RULES, redefine=True)
    snapshot.parent = Parent(name=record.parent) if record.parent else None
    return write_moment(snapshot, secure=bool(flags & XmlFlags.SECURE))


def _take(guest: Guest, snapshot: Snapshot) -> None:
    """Fills in what a new snapshot is of."""
    current = guest.record.current_snapshot
    snapshot.parent = Parent(name=current) if current is not None else None
    snapshot.creation_time = int(time.time())
    snapshot.state = _WORDS.get(DomainState(guest.record.state), "running")
    if len(snapshot.disks) > len(guest.current.devices.disks):
        raise ConfigUnsupported("too many disk snapshot requests for domain", domain=ErrorDomain.DOMAIN_SNAPSHOT)
    with told_by(ErrorDomain.DOMAIN_SNAPSHOT):
        fit_snapshot(snapshot, guest.current, active=guest.is_active)
    snapshot.domain = guest.current.copy()
