"""The read model of one source: its objects as the last event left them, and whether they may be told as true.

Pure: it is fed snapshots, event records and signs of life, and asked. It may be believed while the source is ready, was
heard of lately, and nothing is missing between what it last said and what was applied here. After a restart that holds
only when the new incarnation has said how far it came: what changed while it was down is an event, too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from gateway.domains import DomainView
from gateway.hosts import HOST_TYPES, ObjectView


class SourceState(StrEnum):
    """What the registry says of a driver."""

    STOPPED = "stopped"
    STARTING = "starting"
    READY = "ready"
    RESTARTING = "restarting"
    DEGRADED = "degraded"
    DISABLED = "disabled"


class Applied(StrEnum):
    """What became of a record."""

    NEW = "new"
    OLD = "old"
    GAP = "gap"


@dataclass(slots=True)
class View:
    """What one connection name shows of a source."""

    replica: Replica
    scope: str
    domains: DomainView = field(default_factory=DomainView)
    hosts: dict[str, ObjectView] = field(default_factory=lambda: {type_: ObjectView(type_) for type_ in HOST_TYPES})

    @property
    def is_empty(self) -> bool:
        """Whether there is no object."""
        return not self.domains.by_uuid and not any(objects.by_key for objects in self.hosts.values())

    def clear(self) -> None:
        """Forgets all."""
        self.domains.clear()
        for objects in self.hosts.values():
            objects.clear()

    def put(self, type_: str, key: bytes, name: str, version: int, summary: Mapping[str, Any]) -> None:
        """Takes an object as it is now; types that are not kept are ignored."""
        if type_ == "domain":
            self.domains.put(key, name, version, summary)
        elif type_ in self.hosts:
            self.hosts[type_].put(key, name, summary)

    def drop(self, type_: str, key: bytes) -> None:
        """Forgets an object that is gone."""
        if type_ == "domain":
            self.domains.drop(key)
        elif type_ in self.hosts:
            self.hosts[type_].drop(key)


def key_bytes(key: bytes | str) -> bytes:
    """A key in the form that events carry."""
    return key.encode() if isinstance(key, str) else key


class Replica:
    """What is known of one source."""

    __slots__ = (
        "epoch",
        "heard_at",
        "known",
        "mark",
        "promised_epoch",
        "promised_seq",
        "readers",
        "seq",
        "serves",
        "source",
        "state",
        "views",
    )

    def __init__(self, source: str) -> None:
        self.source = source
        self.state = SourceState.STOPPED
        self.known = False  # whether there ever was a snapshot
        self.epoch = 0
        self.seq = 0
        self.promised_epoch = 0
        self.promised_seq = 0
        self.mark = 0  # the greatest sequence number that any reply told
        self.heard_at = float("-inf")
        self.views: dict[str, View] = {}
        self.serves: frozenset[str] = frozenset()  # the procedures that the driver answers
        self.readers: Mapping[bytes, Callable[[View, bytes], bytes | None]] = {}  # by the call's header

    def view(self, scope: str) -> View:
        """What a connection name shows; it keeps its identity over snapshots."""
        view = self.views.get(scope)
        if view is None:
            view = self.views[scope] = View(self, scope)
        return view

    def is_current(self, now: float, fresh_s: float) -> bool:
        """Whether reads may be answered from here."""
        return (
            self.state is SourceState.READY
            and self.known
            and now - self.heard_at <= fresh_s
            and self.promised_epoch == self.epoch
            and self.seq >= self.promised_seq
            and self.seq >= self.mark
        )

    @property
    def is_unknown(self) -> bool:
        """Whether what is known is only what was last known: the driver is given up for now."""
        return self.state is SourceState.DEGRADED and self.known

    @property
    def misses_events(self) -> bool:
        """Whether the source has said more than was applied here."""
        return self.known and (self.promised_epoch != self.epoch or self.seq < self.promised_seq)

    def set_state(self, state: str) -> None:
        """Takes the registry's word. A state unknown here counts as one in which nothing is believed."""
        try:
            self.state = SourceState(state)
        except ValueError:
            self.state = SourceState.STOPPED

    def promise(self, epoch: int, seq: int, now: float) -> None:
        """Takes a sign of life: the source is ready, and the journal holds its events up to `seq`."""
        if epoch < self.promised_epoch:
            return
        self.state = SourceState.READY
        self.heard_at = now
        self.promised_epoch = epoch
        self.promised_seq = max(self.promised_seq, seq)

    def told(self, seq: int) -> None:
        """A reply told a caller of everything up to `seq`; no later read may show less."""
        self.mark = max(self.mark, seq)

    def load(self, epoch: int, seq: int, objects: Iterable[Mapping[str, Any]], now: float) -> None:
        """Takes a snapshot in place of everything known."""
        for view in self.views.values():
            view.clear()
        for item in objects:
            key = key_bytes(item["key"])
            self.view(item["scope"]).put(item["type"], key, item["name"], item["version"], item["summary"])
        self.known = True
        self.epoch, self.seq = epoch, seq
        self.mark = min(self.mark, seq)  # a source that lost its state starts over
        self.promised_epoch = max(self.promised_epoch, epoch)
        self.promised_seq = seq if self.promised_epoch == epoch else self.promised_seq
        self.state = SourceState.READY
        self.heard_at = now

    def take_over(self, other: Replica) -> None:
        """Takes what another replica of this source knows; its state stays, and so do its views."""
        for scope, known in other.views.items():
            view = self.view(scope)
            view.domains, view.hosts = known.domains, known.hosts
        self.known = True
        self.epoch, self.seq = other.epoch, other.seq

    def apply(self, record: Mapping[str, Any], now: float) -> Applied:
        """Takes an event record, if it is the next one."""
        seq: int = record["seq"]
        if seq <= self.seq:
            return Applied.OLD
        if seq != self.seq + 1:
            return Applied.GAP
        self.seq = seq
        self.epoch = record["epoch"]
        self.heard_at = now
        changed = record["object"]
        if changed is not None:
            type_, key, name = changed
            view = self.view(record["scope"])
            if record["summary"] is None:
                view.drop(type_, key_bytes(key))
            else:
                view.put(type_, key_bytes(key), name, record["version"], record["summary"])
        return Applied.NEW
