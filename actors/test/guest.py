"""One guest of this driver: its record, its parsed definitions, and a draft of its next record.

Nothing is parsed before it is needed: a start with ten thousand guests reads their records only.
"""

from __future__ import annotations

import time
from typing import Any
from uuid import UUID

import msgspec

from actors.test import rules
from actors.test.flags import impact, one_impact
from actors.test.records import DomainRecord
from actors.test.states import Move, check_active, is_active
from conf.domain.domain import Domain
from schema.enums.domain import DomainModificationImpact as Impact
from schema.objects import DomainRef
from schema.summaries import DomainSummary

OS_TYPE = "linux"  # libvirt's test driver says so of every guest, whatever its definition says


class Guest:
    """A guest as it is now."""

    __slots__ = ("_config", "_live", "is_known", "record", "scope", "uuid")

    def __init__(self, scope: str, record: DomainRecord) -> None:
        self.scope = scope
        self.uuid = UUID(record.uuid).bytes
        self.record = record
        self.is_known = False  # is one of its scope's, or was
        self._live: Domain | None = None
        self._config: Domain | None = None

    @property
    def name(self) -> str:
        return self.record.name

    @property
    def is_active(self) -> bool:
        return is_active(self.record.state)

    @property
    def is_persistent(self) -> bool:
        return self.record.config is not None

    @property
    def ref(self) -> DomainRef:
        return DomainRef(self.record.name, self.uuid, self.record.id)

    @property
    def live(self) -> Domain:
        """The running guest's definition; not to be changed."""
        if self._live is None:
            assert self.record.live is not None
            self._live = rules.read_live(self.record.live)
        return self._live

    @property
    def config(self) -> Domain:
        """The definition for its next start; not to be changed."""
        if self._config is None:
            assert self.record.config is not None
            self._config = rules.read_config(self.record.config)
        return self._config

    @property
    def current(self) -> Domain:
        """The definition in force."""
        return self.live if self.is_active else self.config

    def one(self, flags: int) -> Domain:
        """The definition that a read with AFFECT flags looks at.

        Raises InvalidArguments for both flags, DomainStateError when the guest has no such definition.
        """
        which = one_impact(flags, active=self.is_active, persistent=self.is_persistent)
        return self.live if which & Impact.LIVE else self.config

    def check_active(self) -> None:
        """Raises DomainStateError for a guest that is off."""
        check_active(self.record.state)

    def draft(self) -> Draft:
        """The beginning of a change."""
        return Draft(self)

    def adopt(self, draft: Draft, record: DomainRecord) -> None:
        """The draft's record is on disk, so it is what the guest is."""
        self._live = draft.changed_live or (self._live if record.live == self.record.live else None)
        self._config = draft.changed_config or (self._config if record.config == self.record.config else None)
        self.record = record

    def summary(self) -> DomainSummary:
        """What lists and states answer."""
        record = self.record
        facts = record.facts
        summary = DomainSummary(
            id=record.id,
            state=record.state,
            reason=record.reason,
            persistent=self.is_persistent,
            autostart=record.autostart,
            managed_save=record.managed_save,
            os_type=OS_TYPE,
            max_mem=facts.max_mem,
            mem=facts.mem,
            vcpus=facts.vcpus,
            title=facts.title,
            scope=self.scope,
            snapshots=len(record.snapshots),
            checkpoints=len(record.checkpoints),
            since=record.since,
        )
        if facts.tags:
            summary["tags"] = list(facts.tags)
        return summary


class Draft:
    """A guest's next record, made step by step; nothing is real before the host committed it."""

    __slots__ = ("_values", "changed_config", "changed_live", "gone", "guest")

    def __init__(self, guest: Guest) -> None:
        self.guest = guest
        self.changed_live: Domain | None = None
        self.changed_config: Domain | None = None
        self.gone = False
        self._values: dict[str, Any] = {}

    def set(self, **values: Any) -> None:
        """Changes fields of the record."""
        self._values.update(values)

    def value(self, name: str) -> Any:
        """A field as the draft has it."""
        return self._values.get(name, getattr(self.guest.record, name))

    @property
    def live(self) -> Domain:
        """A copy of the running guest's definition, to be changed."""
        if self.changed_live is None:
            self.changed_live = self.guest.live.copy()
        return self.changed_live

    @property
    def config(self) -> Domain:
        """A copy of the definition for the next start, to be changed."""
        if self.changed_config is None:
            self.changed_config = self.guest.config.copy()
        return self.changed_config

    def definitions(self, flags: int) -> list[Domain]:
        """Copies of the definitions that a change with AFFECT flags concerns, the running guest's first.

        Raises DomainStateError when the guest has no such definition.
        """
        which = impact(flags, active=self.guest.is_active, persistent=self.guest.is_persistent)
        chosen = [self.live] if which & Impact.LIVE else []
        return [*chosen, self.config] if which & Impact.CONFIG else chosen

    def one(self, flags: int) -> Domain:
        """A copy of the one definition that the flags mean. Raises as `Guest.one` does."""
        which = one_impact(flags, active=self.guest.is_active, persistent=self.guest.is_persistent)
        return self.live if which & Impact.LIVE else self.config

    def define(self, config: Domain) -> None:
        """A new definition for the next start."""
        self.changed_config = config

    def run(self, live: Domain, new_id: int, move: Move) -> None:
        """The guest starts with `live`."""
        self.changed_live = live
        self.set(id=new_id, last_id=new_id, managed_save=False)
        self.move(move)

    def forget_config(self) -> None:
        """The guest becomes transient; one that is off is gone."""
        self.set(config=None)
        self.gone = not is_active(self.value("state"))

    def move(self, move: Move) -> None:
        """Another state; a transient guest that ends is gone."""
        if (move.state, move.reason) != (self.value("state"), self.value("reason")):
            self.set(state=int(move.state), reason=int(move.reason), since=time.time())
        if move.ends:
            self.changed_live = None
            self.set(id=-1, live=None, frozen=[])
            self.gone = not self.guest.is_persistent

    def record(self) -> DomainRecord:
        """The record that would be real after the commit."""
        values = dict(self._values)
        if self.changed_live is not None:
            values["live"] = rules.write_live(self.changed_live, self.value("id"))
        if self.changed_config is not None:
            values["config"] = rules.write_config(self.changed_config)
        active = is_active(self.value("state"))
        changed = self.changed_live if active else self.changed_config
        if changed is not None or active != self.guest.is_active:
            in_force = changed or (self.guest.live if active else self.guest.config)
            values["name"] = in_force.name
            values["facts"] = rules.facts_of(in_force)
        return msgspec.structs.replace(self.guest.record, **values)
