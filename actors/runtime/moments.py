"""What drivers with snapshots and checkpoints answer about them: lists, look-ups, and who is whose parent.

A driver's host says what there is (`KeepsMoments`) and registers `calls`; making, deleting and reverting are its own.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

from actors.runtime.calls import Calls
from actors.runtime.derived.flags import check_flags
from actors.runtime.host import Host
from conf.moment import tree
from conf.moment.tree import MomentRecord, Moments
from schema.enums.domain_checkpoint import DomainCheckpointListFlags as CheckpointListed
from schema.enums.domain_snapshot import DomainSnapshotListFlags as SnapshotListed
from schema.errors import NoSuchCheckpoint, NoSuchSnapshot
from schema.objects import DomainCheckpointRef, DomainRef, DomainSnapshotRef

_CHECKPOINT_FILTERS: Final = int(CheckpointListed.TOPOLOGICAL | CheckpointListed.LEAVES | CheckpointListed.NO_LEAVES)


class Kept(NamedTuple):
    """The snapshots, or the checkpoints, of a guest; `current` is the snapshot from which it goes on."""

    guest: DomainRef
    moments: Moments
    current: str | None


class KeepsMoments(Host):
    """The host of a driver whose guests have snapshots and checkpoints."""

    def snapshots_of(self, dom: DomainRef) -> Kept:
        """The guest's snapshots. Raises NoSuchDomain."""
        raise NotImplementedError

    def checkpoints_of(self, dom: DomainRef) -> Kept:
        """The guest's checkpoints. Raises NoSuchDomain."""
        raise NotImplementedError

    def need_snapshot(self, snap: DomainSnapshotRef) -> MomentRecord:
        """A snapshot. Raises NoSuchDomain, NoSuchSnapshot."""
        record = self.snapshots_of(snap.dom).moments.get(snap.name)
        if record is None:
            raise NoSuchSnapshot(f"no domain snapshot with matching name '{snap.name}'")
        return record

    def need_checkpoint(self, checkpoint: DomainCheckpointRef) -> MomentRecord:
        """A checkpoint. Raises NoSuchDomain, NoSuchCheckpoint."""
        record = self.checkpoints_of(checkpoint.dom).moments.get(checkpoint.name)
        if record is None:
            raise NoSuchCheckpoint(f"no domain checkpoint with matching name '{checkpoint.name}'")
        return record


calls: Calls[KeepsMoments] = Calls()


@calls.handles()
def domain_list_all_snapshots(host: KeepsMoments, dom: DomainRef, need_results: int, flags: int) -> dict[str, Any]:
    """The saved states of a guest, parents first. Raises NoSuchDomain."""
    check_flags(host, flags, tree.SNAPSHOT_FILTERS | int(SnapshotListed.ROOTS))
    kept = host.snapshots_of(dom)
    return _snapshots(kept, _first(kept.moments, flags & SnapshotListed.ROOTS), need_results, flags)


@calls.handles()
def domain_snapshot_list_all_children(
    host: KeepsMoments, snapshot: DomainSnapshotRef, need_results: int, flags: int
) -> dict[str, Any]:
    """The saved states after one, parents first. Raises NoSuchDomain, NoSuchSnapshot."""
    check_flags(host, flags, tree.SNAPSHOT_FILTERS | int(SnapshotListed.DESCENDANTS))
    host.need_snapshot(snapshot)
    kept = host.snapshots_of(snapshot.dom)
    names = _after(kept.moments, snapshot.name, flags & SnapshotListed.DESCENDANTS)
    return _snapshots(kept, names, need_results, flags)


@calls.handles()
def domain_snapshot_lookup_by_name(host: KeepsMoments, dom: DomainRef, name: str, flags: int) -> DomainSnapshotRef:
    """The saved state of that name. Raises NoSuchDomain, NoSuchSnapshot."""
    check_flags(host, flags, 0)
    ref = DomainSnapshotRef(name, dom)
    host.need_snapshot(ref)
    return ref


@calls.handles()
def domain_has_current_snapshot(host: KeepsMoments, dom: DomainRef, flags: int) -> int:
    """Whether a guest goes on from a saved state. Raises NoSuchDomain."""
    check_flags(host, flags, 0)
    return int(host.snapshots_of(dom).current is not None)


@calls.handles()
def domain_snapshot_current(host: KeepsMoments, dom: DomainRef, flags: int) -> DomainSnapshotRef:
    """The saved state from which a guest goes on. Raises NoSuchDomain, NoSuchSnapshot."""
    check_flags(host, flags, 0)
    kept = host.snapshots_of(dom)
    if kept.current is None:
        raise NoSuchSnapshot("the domain does not have a current snapshot")
    return DomainSnapshotRef(kept.current, kept.guest)


@calls.handles()
def domain_snapshot_get_parent(host: KeepsMoments, snap: DomainSnapshotRef, flags: int) -> DomainSnapshotRef:
    """The saved state before one. Raises NoSuchDomain, NoSuchSnapshot."""
    check_flags(host, flags, 0)
    parent = host.need_snapshot(snap).parent
    if not parent:
        raise NoSuchSnapshot(f"snapshot '{snap.name}' does not have a parent")
    return DomainSnapshotRef(parent, host.snapshots_of(snap.dom).guest)


@calls.handles()
def domain_snapshot_is_current(host: KeepsMoments, snap: DomainSnapshotRef, flags: int) -> int:
    """Whether the guest goes on from this one. Raises NoSuchDomain, NoSuchSnapshot."""
    check_flags(host, flags, 0)
    host.need_snapshot(snap)
    return int(host.snapshots_of(snap.dom).current == snap.name)


@calls.handles()
def domain_snapshot_has_metadata(host: KeepsMoments, snap: DomainSnapshotRef, flags: int) -> int:
    """Whether something is known of it besides what lies in the disks: always. Raises NoSuchDomain, NoSuchSnapshot."""
    check_flags(host, flags, 0)
    host.need_snapshot(snap)
    return 1


@calls.handles()
def domain_list_all_checkpoints(host: KeepsMoments, dom: DomainRef, need_results: int, flags: int) -> dict[str, Any]:
    """The checkpoints of a guest, parents first. Raises NoSuchDomain."""
    check_flags(host, flags, _CHECKPOINT_FILTERS | int(CheckpointListed.ROOTS))
    kept = host.checkpoints_of(dom)
    return _checkpoints(kept, _first(kept.moments, flags & CheckpointListed.ROOTS), need_results, flags)


@calls.handles()
def domain_checkpoint_list_all_children(
    host: KeepsMoments, checkpoint: DomainCheckpointRef, need_results: int, flags: int
) -> dict[str, Any]:
    """The checkpoints after one, parents first. Raises NoSuchDomain, NoSuchCheckpoint."""
    check_flags(host, flags, _CHECKPOINT_FILTERS | int(CheckpointListed.DESCENDANTS))
    host.need_checkpoint(checkpoint)
    kept = host.checkpoints_of(checkpoint.dom)
    names = _after(kept.moments, checkpoint.name, flags & CheckpointListed.DESCENDANTS)
    return _checkpoints(kept, names, need_results, flags)


@calls.handles()
def domain_checkpoint_lookup_by_name(host: KeepsMoments, dom: DomainRef, name: str, flags: int) -> DomainCheckpointRef:
    """The checkpoint of that name. Raises NoSuchDomain, NoSuchCheckpoint."""
    check_flags(host, flags, 0)
    ref = DomainCheckpointRef(name, dom)
    host.need_checkpoint(ref)
    return ref


@calls.handles()
def domain_checkpoint_get_parent(
    host: KeepsMoments, checkpoint: DomainCheckpointRef, flags: int
) -> DomainCheckpointRef:
    """The checkpoint before one. Raises NoSuchDomain, NoSuchCheckpoint."""
    check_flags(host, flags, 0)
    parent = host.need_checkpoint(checkpoint).parent
    if not parent:
        raise NoSuchCheckpoint(f"checkpoint '{checkpoint.name}' does not have a parent")
    return DomainCheckpointRef(parent, host.checkpoints_of(checkpoint.dom).guest)


def _first(moments: Moments, roots: int) -> list[str]:
    return tree.children(moments, None) if roots else tree.descendants(moments, None)


def _after(moments: Moments, name: str, descendants: int) -> list[str]:
    return tree.descendants(moments, name) if descendants else tree.children(moments, name)


def _snapshots(kept: Kept, names: list[str], need_results: int, flags: int) -> dict[str, Any]:
    refs = [DomainSnapshotRef(name, kept.guest) for name in tree.selected(kept.moments, names, flags)]
    return {"snapshots": refs if need_results else [], "ret": len(refs)}


def _checkpoints(kept: Kept, names: list[str], need_results: int, flags: int) -> dict[str, Any]:
    chosen = tree.selected(kept.moments, names, flags & ~int(CheckpointListed.TOPOLOGICAL))
    refs = [DomainCheckpointRef(name, kept.guest) for name in chosen]
    return {"checkpoints": refs if need_results else [], "ret": len(refs)}
