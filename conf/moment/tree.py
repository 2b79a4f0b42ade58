"""The tree that snapshots, or checkpoints, of a guest are: who is whose child, and what a deletion leaves."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Final

import msgspec

from schema.enums.domain_snapshot import DomainSnapshotListFlags as Listed
from schema.errors import OperationFailed


class MomentRecord(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A snapshot or checkpoint: its document, and what lists tell of it."""

    xml: str
    parent: str | None = None
    state: str = ""
    external: bool = False


Moments = Mapping[str, MomentRecord]

_DISK_ONLY: Final = "disk-snapshot"
_Test = Callable[[Moments, str], bool]
_GROUPS: Final[tuple[tuple[tuple[int, _Test], ...], ...]] = (
    ((Listed.METADATA, lambda m, n: True), (Listed.NO_METADATA, lambda m, n: False)),
    ((Listed.LEAVES, lambda m, n: not children(m, n)), (Listed.NO_LEAVES, lambda m, n: bool(children(m, n)))),
    (
        (Listed.INACTIVE, lambda m, n: m[n].state == "shutoff"),
        (Listed.ACTIVE, lambda m, n: m[n].state not in ("shutoff", _DISK_ONLY)),
        (Listed.DISK_ONLY, lambda m, n: m[n].state == _DISK_ONLY),
    ),
    ((Listed.INTERNAL, lambda m, n: not m[n].external), (Listed.EXTERNAL, lambda m, n: m[n].external)),
)
SNAPSHOT_FILTERS: Final = sum(int(flag) for group in _GROUPS for flag, _ in group) | int(Listed.TOPOLOGICAL)


def children(moments: Moments, name: str | None) -> list[str]:
    """The moments right after one, or (None) those without a parent."""
    return [one for one, record in moments.items() if record.parent == name or (name is None and not record.parent)]


def descendants(moments: Moments, name: str | None) -> list[str]:
    """All moments after one, each behind its parent."""
    found: list[str] = []
    for child in children(moments, name):
        found += [child, *descendants(moments, child)]
    return found


def selected(moments: Moments, names: Iterable[str], flags: int) -> list[str]:
    """Those that list flags of snapshots select."""
    wanted = [[test for flag, test in group if flags & flag] for group in _GROUPS]
    return [name for name in names if all(any(test(moments, name) for test in tests) for tests in wanted if tests)]


def added(moments: Moments, name: str, record: MomentRecord, *, redefine: bool) -> dict[str, MomentRecord]:
    """The tree with one more. Raises OperationFailed when it is there and is not to be made known again."""
    if name in moments and not redefine:
        raise OperationFailed(f"domain moment {name} already exists")
    return {**moments, name: record}


def without(moments: Moments, name: str) -> dict[str, MomentRecord]:
    """The tree without one, whose children are its parent's now. Their documents are told of it when they are read."""
    parent = moments[name].parent
    return {
        other: msgspec.structs.replace(record, parent=parent) if record.parent == name else record
        for other, record in moments.items()
        if other != name
    }


def without_branch(moments: Moments, name: str, *, keep_root: bool) -> dict[str, MomentRecord]:
    """The tree without all that follows one, and without itself unless it is to be kept."""
    gone = set(descendants(moments, name)) | (set() if keep_root else {name})
    return {other: record for other, record in moments.items() if other not in gone}
