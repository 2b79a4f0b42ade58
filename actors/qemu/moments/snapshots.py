"""What guests' snapshots are: their lists, documents, and who is whose child."""

from __future__ import annotations

from typing import Any

from actors.qemu.flags import check_flags
from actors.qemu.guest import Guest
from actors.qemu.host import QemuHost
from actors.runtime.calls import Calls
from conf.document import parse_document
from conf.flags import ParseFlags
from conf.moment import tree
from conf.moment.documents import write_moment
from conf.moment.moment import Parent, Snapshot
from conf.moment.tree import MomentRecord
from schema.enums.domain_snapshot import DomainSnapshotListFlags as Listed
from schema.enums.domain_snapshot import DomainSnapshotXMLFlags as XmlFlags
from schema.errors import NoSuchSnapshot
from schema.objects import DomainRef, DomainSnapshotRef

calls: Calls[QemuHost] = Calls()


@calls.handles()
def domain_snapshot_get_xml_desc(host: QemuHost, snap: DomainSnapshotRef, flags: int) -> str:
    """A saved state's document. Raises NoSuchDomain, NoSuchSnapshot."""
    check_flags(flags, int(XmlFlags.SECURE), "qemuDomainSnapshotGetXMLDesc")
    _, record = need_snapshot(host, snap)
    snapshot = read_snapshot(record)
    snapshot.parent = Parent(name=record.parent) if record.parent else None
    return write_moment(snapshot, secure=bool(flags & XmlFlags.SECURE))


@calls.handles()
def domain_list_all_snapshots(host: QemuHost, dom: DomainRef, need_results: int, flags: int) -> dict[str, Any]:
    """The saved states of a guest, parents first. Raises NoSuchDomain."""
    check_flags(flags, tree.SNAPSHOT_FILTERS | int(Listed.ROOTS), "qemuDomainListAllSnapshots")
    guest = host.guest(dom)
    known = guest.moments.snapshots
    names = tree.children(known, None) if flags & Listed.ROOTS else tree.descendants(known, None)
    return _listed(guest, tree.selected(known, names, flags), need_results)


@calls.handles()
def domain_snapshot_list_all_children(
    host: QemuHost, snapshot: DomainSnapshotRef, need_results: int, flags: int
) -> dict[str, Any]:
    """The saved states after one, parents first. Raises NoSuchDomain, NoSuchSnapshot."""
    check_flags(flags, tree.SNAPSHOT_FILTERS | int(Listed.DESCENDANTS), "qemuDomainSnapshotListAllChildren")
    guest, _ = need_snapshot(host, snapshot)
    known = guest.moments.snapshots
    after = tree.descendants if flags & Listed.DESCENDANTS else tree.children
    return _listed(guest, tree.selected(known, after(known, snapshot.name), flags), need_results)


@calls.handles()
def domain_snapshot_lookup_by_name(host: QemuHost, dom: DomainRef, name: str, flags: int) -> DomainSnapshotRef:
    """The saved state of that name. Raises NoSuchDomain, NoSuchSnapshot."""
    check_flags(flags, 0, "qemuDomainSnapshotLookupByName")
    ref = DomainSnapshotRef(name, host.guest(dom).ref)
    need_snapshot(host, ref)
    return ref


@calls.handles()
def domain_has_current_snapshot(host: QemuHost, dom: DomainRef, flags: int) -> int:
    """Whether a guest goes on from a saved state. Raises NoSuchDomain."""
    check_flags(flags, 0, "qemuDomainHasCurrentSnapshot")
    return int(host.guest(dom).moments.current_snapshot is not None)


@calls.handles()
def domain_snapshot_current(host: QemuHost, dom: DomainRef, flags: int) -> DomainSnapshotRef:
    """The saved state from which a guest goes on. Raises NoSuchDomain, NoSuchSnapshot."""
    check_flags(flags, 0, "qemuDomainSnapshotCurrent")
    guest = host.guest(dom)
    if guest.moments.current_snapshot is None:
        raise NoSuchSnapshot("the domain does not have a current snapshot")
    return DomainSnapshotRef(guest.moments.current_snapshot, guest.ref)


@calls.handles()
def domain_snapshot_get_parent(host: QemuHost, snap: DomainSnapshotRef, flags: int) -> DomainSnapshotRef:
    """The saved state before one. Raises NoSuchDomain, NoSuchSnapshot."""
    check_flags(flags, 0, "qemuDomainSnapshotGetParent")
    guest, record = need_snapshot(host, snap)
    if not record.parent:
        raise NoSuchSnapshot(f"snapshot '{snap.name}' does not have a parent")
    return DomainSnapshotRef(record.parent, guest.ref)


@calls.handles()
def domain_snapshot_is_current(host: QemuHost, snap: DomainSnapshotRef, flags: int) -> int:
    """Whether the guest goes on from this one. Raises NoSuchDomain, NoSuchSnapshot."""
    check_flags(flags, 0, "qemuDomainSnapshotIsCurrent")
    guest, _ = need_snapshot(host, snap)
    return int(guest.moments.current_snapshot == snap.name)


@calls.handles()
def domain_snapshot_has_metadata(host: QemuHost, snap: DomainSnapshotRef, flags: int) -> int:
    """Whether something is known of it besides what lies in the disks: always. Raises NoSuchDomain, NoSuchSnapshot."""
    check_flags(flags, 0, "qemuDomainSnapshotHasMetadata")
    need_snapshot(host, snap)
    return 1


def need_snapshot(host: QemuHost, snap: DomainSnapshotRef) -> tuple[Guest, MomentRecord]:
    """A guest and its snapshot. Raises NoSuchDomain, NoSuchSnapshot."""
    guest = host.guest(snap.dom)
    record = guest.moments.snapshots.get(snap.name)
    if record is None:
        raise NoSuchSnapshot(f"no domain snapshot with matching name '{snap.name}'")
    return guest, record


def _listed(guest: Guest, names: list[str], need_results: int) -> dict[str, Any]:
    refs = [DomainSnapshotRef(name, guest.ref) for name in names]
    return {"snapshots": refs if need_results else [], "ret": len(refs)}


def read_snapshot(record: MomentRecord) -> Snapshot:
    """A snapshot as it was written down: nothing in it is filled in or checked again."""
    return Snapshot.parse(
        parse_document(record.xml, name="domain_snapshot", root="domainsnapshot"), ParseFlags.INACTIVE
    )
