"""Recordings of what a guest has changed since a checkpoint (QEMU's dirty bitmaps), along a chain of images.

A checkpoint's recording goes on under the same name in each image that is put on top of another, so what has changed
since then is the union over the chain. Nothing here talks to QEMU: in goes what it tells of its nodes, out come the
actions of a transaction.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

WRITES: Final = "libvirt-tmp-activewrite"
"""What the guest writes between the end of a copy and the pivot to it."""

Action = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Bitmap:
    """One recording in one node."""

    name: str
    recording: bool
    busy: bool
    persistent: bool
    inconsistent: bool
    granularity: int
    dirty: int


@dataclass(frozen=True, slots=True)
class NodeBitmaps:
    """The recordings in a node, in QEMU's order; `is_old` says that its format cannot keep any."""

    bitmaps: tuple[Bitmap, ...]
    is_old: bool

    def find(self, name: str) -> Bitmap | None:
        """The recording of that name."""
        return next((one for one in self.bitmaps if one.name == name), None)


Nodes = Mapping[str, NodeBitmaps]
_NOTHING: Final = NodeBitmaps((), False)


def read_nodes(told: Iterable[Mapping[str, Any]]) -> dict[str, NodeBitmaps]:
    """The recordings of all nodes, from `query-named-block-nodes`."""
    found: dict[str, NodeBitmaps] = {}
    for node in told:
        bitmaps = tuple(
            Bitmap(
                name=str(one["name"]),
                recording=bool(one.get("recording")),
                busy=bool(one.get("busy")),
                persistent=bool(one.get("persistent")),
                inconsistent=bool(one.get("inconsistent")),
                granularity=int(one.get("granularity", 0)),
                dirty=int(one.get("count", 0)),
            )
            for one in node.get("dirty-bitmaps", ())
            if one.get("name")
        )
        image = node.get("image") or {}
        specific = image.get("format-specific") or {}
        compat = (specific.get("data") or {}).get("compat") if specific.get("type") == "qcow2" else None
        found[str(node.get("node-name"))] = NodeBitmaps(bitmaps, compat == "0.10")
    return found


def is_valid(nodes: Nodes, chain: Sequence[str], name: str) -> bool:
    """A recording is whole: in an unbroken run of images down the chain, and good in each of them."""
    found = has_ended = False
    for node in chain:
        bitmap = nodes.get(node, _NOTHING).find(name)
        if bitmap is None:
            has_ended = has_ended or found
            continue
        if has_ended or bitmap.inconsistent or not bitmap.persistent or not bitmap.recording:
            return False
        found = True
    return found


def add(node: str, name: str, *, persistent: bool, disabled: bool, granularity: int = 0) -> Action:
    """A new recording."""
    data: dict[str, Any] = {"node": node, "name": name, "persistent": persistent, "disabled": disabled}
    if granularity:
        data["granularity"] = granularity
    return {"type": "block-dirty-bitmap-add", "data": data}


def remove(node: str, name: str) -> Action:
    """A recording goes."""
    return {"type": "block-dirty-bitmap-remove", "data": {"node": node, "name": name}}


def merge(node: str, name: str, sources: Sequence[tuple[str, str]]) -> Action:
    """A recording takes over others."""
    bitmaps = [{"node": one, "name": other} for one, other in sources]
    return {"type": "block-dirty-bitmap-merge", "data": {"node": node, "target": name, "bitmaps": bitmaps}}


def for_backup(nodes: Nodes, chain: Sequence[str], since: str, target: str, name: str) -> list[Action]:
    """What has changed since a checkpoint as one recording `name` in `target`; nothing when it has no recording."""
    return _merged(nodes, chain, target, since, name)


def after_commit(nodes: Nodes, gone: Sequence[str], base: str, *, is_active: bool) -> list[Action]:
    """The recordings of images that were committed go on in the one that they were committed to."""
    actions = [action for name in _whole(nodes, gone) for action in _merged(nodes, gone, base, name, None, is_active)]
    return [*actions, remove(base, WRITES)] if is_active else actions


def after_copy(nodes: Nodes, copied: Sequence[str], chain: Sequence[str], mirror: str) -> list[Action]:
    """The recordings of images that were copied go on in the copy."""
    names = _whole(nodes, chain)
    return [action for name in names for action in _merged(nodes, copied, mirror, name, None, True)] + [
        remove(mirror, WRITES)
    ]


def _whole(nodes: Nodes, chain: Sequence[str]) -> list[str]:
    """The recordings of the top image that are whole, the last one first."""
    if not chain:
        return []
    top = nodes.get(chain[0], _NOTHING).bitmaps
    return [one.name for one in reversed(top) if is_valid(nodes, chain, one.name)]


def _merged(
    nodes: Nodes, chain: Sequence[str], target: str, name: str, other: str | None, with_writes: bool = False
) -> list[Action]:
    first = nodes.get(chain[0], _NOTHING).find(name) if chain else None
    if first is None:
        return []
    actions: list[Action] = []
    if other is not None or nodes.get(target, _NOTHING).find(name) is None:
        kept = other is None
        actions.append(add(target, other or name, persistent=kept, disabled=not kept, granularity=first.granularity))
    sources: list[tuple[str, str]] = []
    for node in chain:
        if nodes.get(node, _NOTHING).find(name) is None:
            break
        sources.append((node, name))
    if with_writes:
        sources.append((target, WRITES))
    return [*actions, merge(target, other or name, sources)]


def for_deletion(nodes: Nodes, chain: Sequence[str], name: str) -> tuple[list[Action], list[str]]:
    """A recording goes from all images, and which of them must be opened for writing for that, the deepest first."""
    actions: list[Action] = []
    reopened: list[str] = []
    for place, node in enumerate(chain):
        if nodes.get(node, _NOTHING).find(name) is not None:
            actions.append(remove(node, name))
            if place:
                reopened.insert(0, node)
    return actions, reopened


def for_overlay(nodes: Nodes, top: str, overlay: str) -> list[Action]:
    """The recordings of the top image go on in the image that is put on it."""
    found = nodes.get(top, _NOTHING).bitmaps
    return [
        add(overlay, one.name, persistent=True, disabled=False, granularity=one.granularity)
        for one in found
        if not one.inconsistent and one.persistent and one.recording
    ]
